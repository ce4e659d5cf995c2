"""Checking answers: `check("09.2")`, `hint("09.2")` and `solution("09.2")`.

For a wrong answer, the check shows the first difference from the expected result, in type, shape
or values.
"""

from __future__ import annotations

import copy
import inspect
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.course.answers import load_answers
from blendmask_lite.course.definition import Case, Exercise
from blendmask_lite.course.display import Note, Status, show
from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.own_model import keep_and_compose
from blendmask_lite.course.progress import load_progress, record
from blendmask_lite.course.student import find_failure, find_student, says_not_written

__all__ = ["CheckResult", "check", "first_difference", "hint", "judge", "solution"]


@dataclass(frozen=True)
class CheckResult:
    """The verdict on an answer.

    Attributes:
        exercise_id: such as "09.2".
        status: green (equal in all cases), amber (not written yet), red (differs, or raised).
        lines: the reason in words; for red, the first difference.
        seed: repeats the same cases with `check("09.2", seed=...)`.
        arguments: the arguments of the first failing case, to try by hand.
    """

    exercise_id: str
    status: Status
    lines: tuple[str, ...]
    seed: int
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"CheckResult({self.exercise_id} {self.status})"

    def _ipython_display_(self) -> None:
        """Display nothing, because `check` has already shown the result."""


def check(exercise_id: str, *, seed: int | None = None) -> CheckResult:
    """Compare the student's latest answer with the package, show the verdict and record it.

    Args:
        exercise_id: chapter and number.
        seed: seed of the random cases; every check draws new ones by default.

    Returns:
        The verdict that was shown.

    Raises:
        ValueError: there is no such exercise.
    """
    definition = find_exercise(exercise_id)
    seed = secrets.randbelow(10_000) if seed is None else seed
    student = find_student(exercise_id)
    if student is None or not student.is_written:
        kind = "class" if isinstance(definition.solution, type) else "def"
        above = f"{kind} {definition.name}"
        line = f'run a cell first that has the line @exercise("{exercise_id}") above "{above}"'
        if student is not None:
            line = "not written yet; the package's piece stands in, everything below works"
        result = CheckResult(exercise_id, "amber", (line, _stuck(exercise_id)), seed)
    else:
        result = judge(definition, student.function, seed=seed)
        student.is_refused = result.status == "red"
    if result.status == "green" and student is not None:
        record(exercise_id, is_solved=True, attempts=1)
        result = replace(
            result, lines=(*result.lines, *keep_and_compose(exercise_id, student.function))
        )
    elif exercise_id in load_answers():
        result = replace(result, lines=(*result.lines, "your last green answer is kept"))
    if result.status == "red":
        record(exercise_id, attempts=1)
    about = {"exercise": exercise_id, "status": result.status}
    show(Note(result.status, f"{exercise_id} {definition.title}", result.lines, about=about))
    return result


def judge(definition: Exercise, function: Callable[..., Any], *, seed: int) -> CheckResult:
    """Try a function on an exercise's cases, without showing or recording anything.

    The first failing case is reported, whatever later cases return or raise.
    """
    cases = definition.make_cases(torch.Generator().manual_seed(seed))
    called = definition.called(function)
    answers: list[Any] = []  # one per case; if an exception was raised, the exception
    failing: tuple[Case, tuple[str, ...]] | None = None
    for number, case in enumerate(cases, start=1):
        arguments = copy.deepcopy(case.arguments)
        try:
            answers.append(called(*arguments))
        except Exception as error:  # whatever the student's code raises
            if failing is None and says_not_written(error):
                line = "not finished yet; the package's piece stands in"
                return CheckResult(definition.id, "amber", (line, _stuck(definition.id)), seed)
            answers.append(error)
        if failing is None:
            problem = _find_problem(definition, function, case, arguments, answers[-1])
            if problem:
                failing = case, (f"case {number}, {case.what}:", *problem)
    if failing is None:
        lines = (f"equal to the package in {len(cases)} cases (seed {seed})",)
        return CheckResult(definition.id, "green", lines, seed)
    message = _recognise(definition, cases, answers)
    return _red(definition, (*message, *failing[1]), seed, failing[0])


def _find_problem(
    definition: Exercise,
    function: Callable[..., Any],
    case: Case,
    arguments: Sequence[Any],
    answer: Any,
) -> tuple[str, ...]:
    if isinstance(answer, Exception):
        return (str(find_failure(answer, function)),)
    expected = definition.reference(*copy.deepcopy(case.arguments))
    difference = first_difference(
        expected,
        answer,
        tolerance=definition.tolerance,
        axes=definition.result_axes,
        names=definition.result_names,
    )
    if difference:
        return difference
    pairs = zip(case.arguments, arguments, strict=True)
    if any(isinstance(before, Tensor) and not before.equal(after) for before, after in pairs):
        return ("The result is right, but the function changes its arguments in place.",)
    return _gradient_problem(definition, function, case) if definition.gradients else ()


def _gradient_problem(
    definition: Exercise, function: Callable[..., Any], case: Case
) -> tuple[str, ...]:
    solution = definition.called(definition.solution)
    names = list(inspect.signature(solution).parameters)
    places = [names.index(name) for name in definition.gradients]
    expected = _gradients(solution, case, places)  # the reference may freeze some parameters
    try:
        gradients = _gradients(definition.called(function), case, places)
    except Exception as error:  # whatever the student's code raises
        return ("The result is right, but it has no gradient:", str(find_failure(error, function)))
    for name, one, other in zip(definition.gradients, expected, gradients, strict=True):
        if one.any() and not other.any():
            return (
                f"The result is right, but no gradient reaches {name}, so that nothing would be "
                "learned from it. Do .detach(), .item(), .data or torch.no_grad() cut it off?",
            )
        difference = first_difference(one, other, tolerance=1e-3)
        if difference:
            return (f"The result is right, but the gradient for {name} is not:", *difference)
    return ()


@torch.enable_grad()
def _gradients(function: Callable[..., Any], case: Case, places: Sequence[int]) -> list[Tensor]:
    """Gradients of a weighted sum of the results with respect to the arguments at `places`.

    These arguments are shifted slightly, because correct answers may differ exactly at a tie or
    limit.
    """
    generator = torch.Generator().manual_seed(0)
    arguments = list(copy.deepcopy(case.arguments))
    for place in places:
        noise = torch.rand(arguments[place].shape, generator=generator)
        moved = arguments[place] * (1 + 1e-3 * noise) + 1e-4 * noise
        arguments[place] = moved.requires_grad_()
    results = [each for each in _tensors_in(function(*arguments)) if each.is_floating_point()]
    leaves = [arguments[place] for place in places]
    weighted = [(each * torch.rand(each.shape, generator=generator)).sum() for each in results]
    total = sum(weighted, torch.zeros(()))
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


def _tensors_in(result: Any) -> list[Tensor]:
    """The tensors of a result, which may be one, or a list, tuple or dict of them."""
    if isinstance(result, Tensor):
        return [result]
    # The order of a dict's entries says nothing.
    parts = [result[key] for key in sorted(result)] if isinstance(result, dict) else result
    is_container = isinstance(result, dict | list | tuple)
    return [tensor for part in parts for tensor in _tensors_in(part)] if is_container else []


def _recognise(
    definition: Exercise, cases: Sequence[Case], answers: Sequence[Any]
) -> tuple[str, ...]:
    """The message of the stored wrong answer that gives the student's results in every case."""
    for wrong in definition.wrong_answers:
        function = definition.called(wrong.function(definition.solution))
        if all(
            _is_same(function, case, answer, definition.tolerance)
            for case, answer in zip(cases, answers, strict=True)
        ):
            return (wrong.message,)
    return ()


def _is_same(function: Callable[..., Any], case: Case, answer: Any, tolerance: float) -> bool:
    try:
        expected = function(*copy.deepcopy(case.arguments))
    except Exception as error:  # the stored mistake raises in this case
        return type(error) is type(answer)
    return not isinstance(answer, Exception) and not first_difference(
        expected, answer, tolerance=tolerance
    )


def _red(definition: Exercise, lines: Sequence[str], seed: int, case: Case) -> CheckResult:
    again = f'check("{definition.id}", seed={seed}) repeats this; its .arguments are the inputs'
    lines = (*lines, again, _stuck(definition.id))
    return CheckResult(definition.id, "red", lines, seed, case.arguments)


def _stuck(exercise_id: str) -> str:
    return f'stuck? course.hint("{exercise_id}") helps in three steps'


_hints_given: dict[str, int] = {}


def hint(exercise_id: str, step: int | None = None) -> None:
    """Show the next of three hints, or a given one.

    Args:
        exercise_id: chapter and number.
        step: 1 to 3; by default, each call goes one step further.

    Raises:
        ValueError: there is no such exercise or step.
    """
    definition = find_exercise(exercise_id)
    if step is None:
        step = min(_hints_given.get(exercise_id, 0) + 1, len(definition.hints))
    if not 1 <= step <= len(definition.hints):
        raise ValueError(f"hint {step}: {exercise_id} has hints 1 to {len(definition.hints)}")
    _hints_given[exercise_id] = step
    record(exercise_id, hints=step)
    more = "" if step < len(definition.hints) else f'The code: course.solution("{exercise_id}")'
    lines = tuple(line for line in (definition.hints[step - 1], more) if line)
    show(Note("info", f"Hint {step} of {len(definition.hints)} for {exercise_id}", lines))


def solution(exercise_id: str) -> None:
    """Show the model answer; progress records if it was seen before the exercise was solved.

    Raises:
        ValueError: there is no such exercise.
    """
    definition = find_exercise(exercise_id)
    entry = load_progress().get(exercise_id)
    if entry is None or not entry.is_solved:
        record(exercise_id, saw_solution=True)
    title = f"Solution of {exercise_id}: {definition.title}"
    show(Note("info", title, code=definition.solution_cell))


def first_difference(
    expected: Any,
    got: Any,
    *,
    tolerance: float = 1e-4,
    axes: str = "",
    names: Sequence[str] = (),
) -> tuple[str, ...]:
    """The first difference between two results, as lines for the student; empty if there is none.

    Types are compared first, then shapes, then dtypes, then values in row-major order.

    Args:
        expected: tensor, number, string, or a list, tuple or dict of such values.
        got: result of the student's function.
        tolerance: largest allowed difference, absolute or relative to the expected value.
        axes: letters for a tensor's axes in the messages, such as "N, K, R, R".
        names: names of the parts of a tuple in the messages, such as "boxes" and "scores".
    """
    if got is None and expected is not None:
        return ("The function returns None: is a `return` missing?",)
    if isinstance(expected, Tensor):
        letters = [letter.strip() for letter in axes.split(",")] if axes else []
        return _tensor_difference(expected, got, tolerance, letters)
    if isinstance(expected, dict):
        return _dict_difference(expected, got, tolerance, axes)
    if isinstance(expected, list | tuple):
        return _sequence_difference(expected, got, tolerance, axes, names)
    if isinstance(expected, bool | str) or expected is None:
        return () if type(got) is type(expected) and got == expected else _pair(expected, got)
    return _number_difference(expected, got, tolerance)


def _tensor_difference(
    expected: Tensor, got: Any, tolerance: float, letters: Sequence[str]
) -> tuple[str, ...]:
    if not isinstance(got, Tensor):
        return _kind("tensor", got)
    if got.shape != expected.shape:
        named = f"  ({', '.join(letters)})" if letters else ""
        return (
            f"expected shape {tuple(expected.shape)}{named}",
            f"your shape     {tuple(got.shape)}",
        )
    if got.dtype != expected.dtype:
        return (f"expected dtype {expected.dtype}", f"your dtype     {got.dtype}")
    return _value_difference(expected.detach(), got.detach(), tolerance, letters)


def _value_difference(
    expected: Tensor, got: Tensor, tolerance: float, letters: Sequence[str]
) -> tuple[str, ...]:
    is_wrong = expected != got
    if expected.is_floating_point():
        is_wrong = ~torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not is_wrong.any():
        return ()
    index = tuple(int(i) for i in is_wrong.nonzero()[0])
    where = _name_index(index, letters)
    wrong, total = int(is_wrong.sum()), is_wrong.numel()
    lines = [
        f"first difference at {where}" if index else "the value differs",
        f"expected {_number(expected[index])}",
        f"yours    {_number(got[index])}",
        f"{wrong} of {total} values differ",
    ]
    if got.is_floating_point() and not got.isfinite().all():
        bad = int((~got.isfinite()).sum())
        lines.append(f"{bad} of your values are not finite (inf or nan)")
    return tuple(lines)


def _dict_difference(
    expected: dict[Any, Any], got: Any, tolerance: float, axes: str
) -> tuple[str, ...]:
    if not isinstance(got, dict):
        return _kind("dict", got)
    if set(got) != set(expected):
        return _pair(sorted(map(str, expected)), sorted(map(str, got)), "keys ")
    for key, value in expected.items():
        lines = first_difference(value, got[key], tolerance=tolerance, axes=axes)
        if lines:
            return (f"entry {key!r}:", *lines)
    return ()


def _sequence_difference(
    expected: Sequence[Any], got: Any, tolerance: float, axes: str, names: Sequence[str]
) -> tuple[str, ...]:
    if not isinstance(got, list | tuple):
        return _kind(type(expected).__name__, got)
    if len(got) != len(expected):
        return _pair(len(expected), len(got), "length ")
    for position, (one, other) in enumerate(zip(expected, got, strict=True)):
        lines = first_difference(one, other, tolerance=tolerance, axes=axes)
        if lines:
            if names:
                return (f"result {position + 1} of {len(names)}, {names[position]}:", *lines)
            return (f"entry {position}:", *lines)
    return ()


def _number_difference(expected: Any, got: Any, tolerance: float) -> tuple[str, ...]:
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, int | float):
        return _kind("number", got)
    if abs(got - expected) <= tolerance * (1 + abs(expected)):
        return ()
    return _pair(expected, got)


def _kind(expected: str, got: Any) -> tuple[str, ...]:
    return (f"The result should be a {expected}; yours is a {type(got).__name__}.",)


def _pair(expected: Any, got: Any, what: str = "") -> tuple[str, ...]:
    return (f"expected {what}{expected!r}", f"yours    {what}{got!r}")


def _number(value: Tensor) -> str:
    return f"{value.item():.6g}" if value.is_floating_point() else str(value.item())


def _name_index(index: tuple[int, ...], letters: Sequence[str]) -> str:
    """(0, 1, 3, 2) with N, K, R, R -> "object N 0, base K 1, row 3, column 2"."""
    if len(letters) != len(index):
        return f"index {list(index)}" if index else ""
    names = [WORDS.get(letter, letter) for letter in letters]
    if letters[-2:] in (["R", "R"], ["M", "M"], ["H", "W"]):
        names[-2:] = ["row", "column"]
    return f"{', '.join(f'{n} {i}' for n, i in zip(names, index, strict=True))}: {list(index)}"


WORDS = {"B": "image", "C": "class", "L": "location", "N": "object", "K": "base"}
