"""Do the exercises' cases see mistakes? Changes every solution in small ways and checks them.

A mutant is a solution with one small mistake, of the kinds in `KINDS`. A mutant that is judged
green survives: then a case is missing, or the mutant is equivalent, which is written down with its
reason in tests/equivalent_mutants.json.

    python tools/mutate_exercises.py             # all of them
    python tools/mutate_exercises.py 03 09.2     # a chapter, an exercise
    python tools/mutate_exercises.py --sample 5  # every fifth
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blendmask_lite.course.checking import judge
from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import all_exercises, find_exercise
from blendmask_lite.course.source import solution_source
from blendmask_lite.terminal import counter

EQUIVALENT = Path(__file__).parent.parent / "tests" / "equivalent_mutants.json"
SECONDS = 5  # of CPU time; a mutant that takes longer runs without end, and is seen
SEEDS = (0, 1)  # of the cases; students get new ones with every check


@dataclass(frozen=True)
class Mutant:
    """A solution with one mistake.

    Attributes:
        exercise_id: such as "09.2".
        kind: of the mistake, a name in `KINDS`.
        change: "before -> after", the lines of code that differ.
        source: of the whole function.
    """

    exercise_id: str
    kind: str
    change: str
    source: str

    @property
    def key(self) -> str:
        """Names it in the list of equivalent ones."""
        return f"{self.exercise_id} {self.kind}: {self.change}"


# A kind takes a node of the syntax tree and gives what may stand in its place.
Kind = Callable[[ast.AST], Iterator[ast.AST]]

COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SIGNS = {ast.Add: ast.Sub, ast.Sub: ast.Add}
PRODUCTS = {ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv}
LOGIC = {ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
REDUCTIONS = {
    "sum": "mean",
    "mean": "sum",
    "amax": "amin",
    "amin": "amax",
    "max": "min",
    "min": "max",
    "argmax": "argmin",
    "argmin": "argmax",
    "maximum": "minimum",
    "minimum": "maximum",
    "any": "all",
    "all": "any",
}
ROUNDINGS = {
    "floor": "ceil",
    "ceil": "floor",
    "round": "floor",
    "trunc": "ceil",
    "int": "float",
    "long": "float",
}
LIMITS = ("clamp", "clamp_", "clip", "relu", "abs", "clamp_min", "clamp_max")
SYMMETRIC = ("min", "max", "minimum", "maximum", "transpose", "box_iou")  # f(a, b) is f(b, a)
SMALL = 1e-3  # constants below are taken for epsilons


def comparison(node: ast.AST) -> Iterator[ast.AST]:
    """< becomes <=, or turns around."""
    if isinstance(node, ast.Compare):
        for operator in COMPARISONS.get(type(node.ops[0]), ()):
            yield _with(node, ops=[operator(), *node.ops[1:]])


def sign(node: ast.AST) -> Iterator[ast.AST]:
    """A plus becomes a minus, a minus goes."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in SIGNS:
        yield _with(node, op=SIGNS[type(node.op)]())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand


def product(node: ast.AST) -> Iterator[ast.AST]:
    """A product becomes a quotient, and the other way round."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in PRODUCTS:
        yield _with(node, op=PRODUCTS[type(node.op)]())
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield node.left


def constant(node: ast.AST) -> Iterator[ast.AST]:
    """A number changes a little, or to twice itself."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if abs(node.value) >= SMALL or node.value == 0:
            yield ast.Constant(node.value + 1)
        if node.value not in (0, 1) and abs(node.value) >= SMALL:
            yield ast.Constant(node.value * 2)


def axis(node: ast.AST) -> Iterator[ast.AST]:
    """dim=1 becomes dim=0, dim=-1 becomes dim=-2."""
    if isinstance(node, ast.keyword) and node.arg in ("dim", "dims", "axis", "start_dim"):
        value = _number(node.value)
        if value is not None:
            yield _with(node, value=ast.Constant(value - 1 if value != 0 else 1))


def detach(node: ast.AST) -> Iterator[ast.AST]:
    """A result or a value between loses its gradient."""
    if isinstance(node, ast.Return | ast.Assign) and node.value is not None:
        if isinstance(
            node.value, ast.Tuple | ast.List | ast.Constant | ast.ListComp | ast.DictComp
        ):
            return
        yield _with(node, value=ast.Call(ast.Name("cut_off", ast.Load()), [node.value], []))


def dropped_term(node: ast.AST) -> Iterator[ast.AST]:
    """A + b becomes a, or b."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        yield node.left
        yield node.right


def order_of_calls(node: ast.AST) -> Iterator[ast.AST]:
    """x.f().g() becomes x.g().f(), and f(a, b) becomes f(b, a)."""
    inner = node.func.value if _is_method(node) else None  # type: ignore[attr-defined]
    if isinstance(node, ast.Call) and inner is not None and _is_method(inner):
        first = ast.Call(_with(node.func, value=inner.func.value), node.args, node.keywords)
        yield ast.Call(_with(inner.func, value=first), inner.args, inner.keywords)
    is_symmetric = isinstance(node, ast.Call) and _name(node.func) in SYMMETRIC
    if isinstance(node, ast.Call) and len(node.args) >= 2 and not is_symmetric:
        if not any(isinstance(each, ast.Starred) for each in node.args[:2]):
            yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])


def reduction(node: ast.AST) -> Iterator[ast.AST]:
    """Sum becomes mean, the largest the smallest."""
    yield from _renamed(node, REDUCTIONS)


def rounding(node: ast.AST) -> Iterator[ast.AST]:
    """Floor becomes ceil, a whole number is none any more."""
    yield from _renamed(node, ROUNDINGS)
    if _is_method(node) and node.func.attr in ROUNDINGS:  # type: ignore[attr-defined]
        yield node.func.value  # type: ignore[attr-defined]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "round":
        yield node.args[0]


def missing_clamp(node: ast.AST) -> Iterator[ast.AST]:
    """A limit goes, whole or one end of it."""
    if not (_is_method(node) and node.func.attr in LIMITS):  # type: ignore[attr-defined]
        return
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    is_function = isinstance(node.func.value, ast.Name) and node.func.value.id in ("F", "torch")
    yield node.args[0] if is_function and node.args else node.func.value
    if len(node.keywords) > 1:
        for place in range(len(node.keywords)):
            yield _with(node, keywords=node.keywords[:place] + node.keywords[place + 1 :])


def epsilon(node: ast.AST) -> Iterator[ast.AST]:
    """A tiny number becomes zero, or not so tiny."""
    if isinstance(node, ast.Constant) and type(node.value) is float and 0 < node.value < SMALL:
        yield ast.Constant(0.0)
        yield ast.Constant(node.value * 1e4)


def off_by_one(node: ast.AST) -> Iterator[ast.AST]:
    """A slice or a range begins or ends one later."""
    if isinstance(node, ast.Slice):
        for end in ("lower", "upper"):
            if (value := getattr(node, end)) is not None:
                yield _with(node, **{end: ast.BinOp(value, ast.Add(), ast.Constant(1))})
    is_range = isinstance(node, ast.Call) and ast.unparse(node.func) in ("range", "torch.arange")
    if is_range and node.args:  # type: ignore[attr-defined]
        first, *rest = node.args  # type: ignore[attr-defined]
        yield _with(node, args=[ast.BinOp(first, ast.Sub(), ast.Constant(1)), *rest])


def logic(node: ast.AST) -> Iterator[ast.AST]:
    """And becomes or; a "not" goes."""
    if isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in LOGIC:
        yield _with(node, op=LOGIC[type(node.op)]())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield node.operand


def switch(node: ast.AST) -> Iterator[ast.AST]:
    """True becomes False."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)


def condition(node: ast.AST) -> Iterator[ast.AST]:
    """An if always holds, or never."""
    if isinstance(node, ast.If | ast.IfExp):
        yield _with(node, test=ast.Constant(True))
        yield _with(node, test=ast.Constant(False))


def dropped_step(node: ast.AST) -> Iterator[ast.AST]:
    """A statement that changes something is left out."""
    if isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


KINDS: dict[str, Kind] = {
    "comparison": comparison,
    "sign": sign,
    "product": product,
    "constant": constant,
    "axis": axis,
    "detach": detach,
    "dropped term": dropped_term,
    "order of calls": order_of_calls,
    "reduction": reduction,
    "rounding": rounding,
    "missing clamp": missing_clamp,
    "epsilon": epsilon,
    "off by one": off_by_one,
    "logic": logic,
    "switch": switch,
    "condition": condition,
    "dropped step": dropped_step,
}


def mutants_of(definition: Exercise) -> list[Mutant]:
    """All mutants of a solution, each source once."""
    source = solution_source(definition.solution)
    tree = ast.parse(source)
    original = ast.unparse(tree)
    seen = {original}
    found = []
    for number, node in enumerate(_body_nodes(tree)):
        for kind, mutate in KINDS.items():
            if mutate is detach and not definition.gradients:
                continue
            for place in range(len(list(mutate(node)))):
                changed = copy.deepcopy(tree)
                target = _body_nodes(changed)[number]
                other = list(mutate(target))[place]
                _replace(changed, target, other)
                text = ast.unparse(ast.fix_missing_locations(changed))
                if text not in seen:
                    seen.add(text)
                    found.append(Mutant(definition.id, kind, _change(original, text), text))
    return found


def is_seen(mutant: Mutant, seeds: Sequence[int] = SEEDS) -> bool | None:
    """Whether the exercise's check finds the mistake, or never comes to an end.

    None if the mutant is the solution: what it cuts off has no gradient.
    """
    definition = find_exercise(mutant.exercise_id)
    was_cut = False

    def cut_off(value: Any) -> Any:
        nonlocal was_cut
        if isinstance(value, torch.Tensor) and value.requires_grad:
            was_cut = True
            return value.detach()
        return value

    names = {**vars(sys.modules[definition.solution.__module__]), "cut_off": cut_off}
    try:
        exec(compile(mutant.source, "<mutant>", "exec"), names)
    except (SyntaxError, ValueError):
        return True
    function = names[definition.name]
    signal.signal(signal.SIGPROF, _stop)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        if any(judge(definition, function, seed=seed).status != "green" for seed in seeds):
            return True
        return None if mutant.kind == "detach" and not was_cut else False
    except _TooLong:
        return True
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def read_equivalent() -> dict[str, str]:
    """Key of an equivalent mutant -> why nobody can tell it from the solution."""
    content: dict[str, str] = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return content


class _TooLong(BaseException):  # no Exception: `judge` reports these as the student's
    pass


def _stop(*_: Any) -> None:
    raise _TooLong


def _body_nodes(tree: ast.Module) -> list[ast.AST]:
    """Nodes of the function's body, or of the class's, without its docstring, in a fixed order."""
    [definition] = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [node for statement in definition.body[1:] for node in ast.walk(statement)]


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                for place, item in enumerate(value):
                    if item is old:
                        value[place] = new


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _renamed(node: ast.AST, names: dict[str, str]) -> Iterator[ast.AST]:
    if isinstance(node, ast.Attribute) and node.attr in names:
        yield _with(node, attr=names[node.attr])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
        yield _with(node, func=ast.Name(names[node.func.id], ast.Load()))


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def _is_method(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)


def _number(node: ast.AST) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None


def _change(before: str, after: str) -> str:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    kept = [line for line in lines if line[0] in "-+"]
    old, new = ("; ".join(line[2:].strip() for line in kept if line[0] == sign) for sign in "-+")
    return f"{old} -> {new}"


def main() -> int:
    """Print what survives and is not known as equivalent; 1 if there is such a mutant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", metavar="ID", help="chapters or exercises")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every N-th mutant")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [
        exercise
        for exercise in all_exercises()
        if not options.only or any(exercise.id.startswith(each) for each in options.only)
    ]
    mutants = [mutant for exercise in chosen for mutant in mutants_of(exercise)][:: options.sample]
    equivalent = read_equivalent()
    survivors, counts = [], Counter[str]()
    progress = counter("mutants")
    for done, mutant in enumerate(mutants, start=1):
        seen = is_seen(mutant)
        progress(done, len(mutants))
        if seen is None:
            continue
        known = mutant.key in equivalent
        counts["made"] += 1
        counts["killed" if seen else "equivalent" if known else "survived"] += 1
        if not seen and not known:
            survivors.append(mutant)
        elif seen and known:
            print(f"listed as equivalent, and yet seen: {mutant.key}")
    for mutant in survivors:
        print(f"survived: {mutant.key}")
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
