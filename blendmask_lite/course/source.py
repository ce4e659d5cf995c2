"""Source code of exercises: getting solutions as text, and making and recognising stubs.

Stubs are never written by hand: a stub is the solution without its body.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

__all__ = [
    "changed",
    "exercises_in",
    "graded_source",
    "is_bare_stub",
    "replace_exercise",
    "solution_source",
    "source_of",
    "stub_source",
]

NOT_WRITTEN = "raise NotImplementedError"
GRADED = ("### BEGIN SOLUTION", "### END SOLUTION")  # markers of what nbgrader cuts out
KEPT_COMMENT = "# Step"
CALL_OF_PARENT = "super().__init__()"  # stays in a stub, too
Definition = ast.FunctionDef | ast.ClassDef


def source_of(thing: Callable[..., Any]) -> str:
    """The source of a function or class, also if a class was defined in a notebook's cell.

    Raises:
        OSError, TypeError: the thing was not defined in a file or a cell.
    """
    if not isinstance(thing, type):
        return textwrap.dedent(inspect.getsource(thing))
    # `inspect` looks for a class in its module's file, and a notebook has none.
    for method in vars(thing).values():
        if inspect.isfunction(method):
            text = "".join(linecache.getlines(method.__code__.co_filename))
            found = [each for each in _classes_in(text) if each.name == thing.__name__]
            if found:
                begins = [found[-1].lineno, *(each.lineno for each in found[-1].decorator_list)]
                return "\n".join(text.splitlines()[min(begins) - 1 : found[-1].end_lineno])
    return textwrap.dedent(inspect.getsource(thing))


@lru_cache(maxsize=64)
def _classes_in(text: str) -> tuple[ast.ClassDef, ...]:
    return tuple(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))


def solution_source(function: Callable[..., Any]) -> str:
    """The source of a function or class, without indentation and decorators.

    It ends without a newline.
    """
    source = source_of(function).rstrip()
    definition = _first_definition(source)
    return "\n".join(source.splitlines()[definition.lineno - 1 :])


def stub_source(function: Callable[..., Any]) -> str:
    """The solution without its body: signature, docstring, comments "# Step ...", and a raise.

    For a class, the bodies of its methods are left out.
    """
    return _without_bodies(function, lambda steps, body, indent: [*steps, f"{indent}{NOT_WRITTEN}"])


def graded_source(function: Callable[..., Any]) -> str:
    """The solution with its body between nbgrader's markers; the steps stay outside."""

    def marked(steps: Sequence[str], body: Sequence[str], indent: str) -> list[str]:
        begin, end = (f"{indent}{marker}" for marker in GRADED)
        return [*steps, begin, *body, end]

    return _without_bodies(function, marked)


def _without_bodies(
    function: Callable[..., Any],
    other: Callable[[Sequence[str], Sequence[str], str], list[str]],
) -> str:
    """The source with `other(steps, body, indentation)` in place of every body."""
    source = solution_source(function)
    lines, definition = source.splitlines(), _first_definition(source)
    result: list[str] = []
    written = 0
    for node in _functions(definition):
        end = _end_of_head(node)
        body = lines[end : node.end_lineno]
        if body and body[0].strip() == CALL_OF_PARENT:
            end, body = end + 1, body[1:]
        indent = " " * (node.col_offset + 4)
        result += [*lines[written:end], *other(_steps(body), body, indent)]
        written = node.end_lineno or end
    return "\n".join([*result, *lines[written:]])


def changed(function: Callable[..., Any], changes: Mapping[str, str]) -> Callable[..., Any]:
    """The function or class with pieces of its body replaced, one change after another.

    Raises:
        ValueError: the body has no such piece.
    """
    source = solution_source(function)
    lines, end = source.splitlines(), _end_of_head(_first_definition(source))
    body = "\n".join(lines[end:])
    for piece, replacement in changes.items():
        if piece not in body:
            raise ValueError(f"{function.__name__}: its body has no {piece!r}")
        body = body.replace(piece, replacement)
    names = dict(vars(sys.modules[function.__module__]))
    exec("\n".join([*lines[:end], body]), names)
    return names[function.__name__]


def is_bare_stub(source: str) -> bool:
    """Whether the bodies do nothing yet: only `...`, `pass`, an empty return, or the raise."""
    definition = _first_definition(textwrap.dedent(source))
    return all(
        _does_nothing(statement) for each in _functions(definition) for statement in each.body
    )


def replace_exercise(cell: str, exercise_id: str, replacement: str) -> str:
    """A notebook cell with the decorator and function of one exercise replaced.

    A cell that does not define the exercise is returned unchanged.
    """
    if exercise_id not in (places := _places(cell)):
        return cell
    lines = cell.splitlines()
    lines[places[exercise_id]] = replacement.splitlines()
    return "\n".join(lines)


def exercises_in(cell: str) -> dict[str, str]:
    """The exercises that a cell defines: {id: source of decorator and function}."""
    lines = cell.splitlines()
    return {exercise_id: "\n".join(lines[place]) for exercise_id, place in _places(cell).items()}


def _places(cell: str) -> dict[str, slice]:
    """The lines of each exercise that a cell defines."""
    places = {}
    for node in ast.parse(cell).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for exercise_id in _exercise_ids(node):
                places[exercise_id] = slice(node.decorator_list[0].lineno - 1, node.end_lineno)
    return places


def _functions(definition: Definition) -> list[ast.FunctionDef]:
    """The function itself, or the methods of the class."""
    if isinstance(definition, ast.FunctionDef):
        return [definition]
    return [node for node in definition.body if isinstance(node, ast.FunctionDef)]


def _end_of_head(definition: Definition) -> int:
    """Number of lines of the source that signature and docstring take."""
    first = definition.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or first.lineno) if has_docstring else first.lineno - 1


def _steps(body: Sequence[str]) -> list[str]:
    return [line for line in body if line.strip().startswith(KEPT_COMMENT)]


def _exercise_ids(node: Definition) -> list[str]:
    calls = [call for call in node.decorator_list if isinstance(call, ast.Call) and call.args]
    return [
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "exercise"
        and isinstance(call.args[0], ast.Constant)
    ]


def _first_definition(source: str) -> Definition:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return node
    raise ValueError(f"no function or class in {source[:60]!r}")


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        is_call = ast.unparse(statement) == CALL_OF_PARENT
        return is_call or isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Return):
        value = statement.value
        return value is None or (isinstance(value, ast.Constant) and value.value in (None, ...))
    if isinstance(statement, ast.Raise) and statement.exc is not None:
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return False
