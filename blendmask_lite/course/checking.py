"""Judges answers: `check("09.2")`, `hint("09.2")` and `solution("09.2")`."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blendmask_lite.course.compare import first_difference
from blendmask_lite.course.definition import Case, Exercise
from blendmask_lite.course.display import Note, Status, show
from blendmask_lite.course.progress import load_progress, record
from blendmask_lite.course.registry import find_exercise
from blendmask_lite.course.source import solution_source
from blendmask_lite.course.student import find_failure, find_student, says_not_written

__all__ = ["CheckResult", "check", "hint", "judge", "solution"]


@dataclass(frozen=True)
class CheckResult:
    """The verdict on an answer.

    Attributes:
        exercise_id: such as "09.2".
        status: green (equal in all cases), amber (not written yet), red (differs, or raised).
        lines: the reason in words; on red the first difference.
        seed: repeats the same cases: `check("09.2", seed=...)`.
        arguments: the arguments of the first failing case, to try them by hand.
    """

    exercise_id: str
    status: Status
    lines: tuple[str, ...]
    seed: int
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"CheckResult({self.exercise_id} {self.status})"

    def _ipython_display_(self) -> None:
        """Nothing: `check` has already shown it."""


def check(exercise_id: str, *, seed: int | None = None) -> CheckResult:
    """Compare the student's latest answer with the package, show the verdict and keep it.

    Args:
        exercise_id: chapter and number.
        seed: of the random cases; without one every check draws new cases.

    Returns:
        The verdict that was shown.

    Raises:
        ValueError: no such exercise.
    """
    definition = find_exercise(exercise_id)
    seed = secrets.randbelow(10_000) if seed is None else seed
    student = find_student(exercise_id)
    if student is None:
        line = f'run the cell that begins with @exercise("{exercise_id}") first'
        result = CheckResult(exercise_id, "amber", (line,), seed)
    elif not student.is_written:
        line = "not written yet; the package's piece stands in, everything below works"
        result = CheckResult(exercise_id, "amber", (line,), seed)
    else:
        result = judge(definition, student.function, seed=seed)
        student.is_refused = result.status == "red"
    if result.status == "green":
        record(exercise_id, is_solved=True, attempts=1)
    elif result.status == "red":
        record(exercise_id, attempts=1)
    about = {"exercise": exercise_id, "status": result.status}
    show(Note(result.status, f"{exercise_id} {definition.title}", result.lines, about=about))
    return result


def judge(definition: Exercise, function: Callable[..., Any], *, seed: int) -> CheckResult:
    """Try a function on an exercise's cases, without showing or keeping anything."""
    cases = definition.make_cases(torch.Generator().manual_seed(seed))
    answers: list[Any] = []
    problem: tuple[str, ...] = ()
    failing: Case | None = None
    for number, case in enumerate(cases, start=1):
        arguments = copy.deepcopy(case.arguments)
        try:
            answer = function(*arguments)
        except Exception as error:  # whatever the student's code raises
            if says_not_written(error):
                line = "not written to its end yet; the package's piece stands in"
                return CheckResult(definition.id, "amber", (line,), seed)
            failure = str(find_failure(error, function))
            return _red(definition, (f"case {number}, {case.what}:", failure), seed, case)
        answers.append(answer)
        if failing is None:
            problem = _find_problem(definition, case, arguments, answer)
            if problem:
                failing, problem = case, (f"case {number}, {case.what}:", *problem)
    if failing is None:
        lines = (f"equal to the package in {len(cases)} cases (seed {seed})",)
        return CheckResult(definition.id, "green", lines, seed)
    message = _recognise(definition, cases, answers)
    return _red(definition, (*message, *problem), seed, failing)


def _find_problem(
    definition: Exercise, case: Case, arguments: Sequence[Any], answer: Any
) -> tuple[str, ...]:
    expected = definition.reference(*copy.deepcopy(case.arguments))
    difference = first_difference(
        expected, answer, tolerance=definition.tolerance, axes=definition.result_axes
    )
    if difference:
        return difference
    if _is_changed(case.arguments, arguments):
        return ("The result is right, but the function changes its arguments in place.",)
    return ()


def _is_changed(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether a tensor among the arguments was written to."""
    pairs = zip(before, after, strict=True)
    return any(isinstance(one, torch.Tensor) and not one.equal(two) for one, two in pairs)


def _recognise(
    definition: Exercise, cases: Sequence[Case], answers: Sequence[Any]
) -> tuple[str, ...]:
    """The message of the stored wrong answer that gives the student's results in every case."""
    for wrong in definition.wrong_answers:
        expected = (wrong.function(*copy.deepcopy(case.arguments)) for case in cases)
        if not any(
            first_difference(one, other, tolerance=definition.tolerance)
            for one, other in zip(expected, answers, strict=True)
        ):
            return (wrong.message,)
    return ()


def _red(definition: Exercise, lines: Sequence[str], seed: int, case: Case) -> CheckResult:
    again = f'check("{definition.id}", seed={seed}) repeats this; its .arguments are the inputs'
    return CheckResult(definition.id, "red", (*lines, again), seed, case.arguments)


_hints_given: dict[str, int] = {}


def hint(exercise_id: str, step: int | None = None) -> None:
    """Show the next of three hints, or a given one.

    Args:
        exercise_id: chapter and number.
        step: 1 to 3; without it each call goes one step further.

    Raises:
        ValueError: no such exercise, or no such step.
    """
    definition = find_exercise(exercise_id)
    if step is None:
        step = min(_hints_given.get(exercise_id, 0) + 1, len(definition.hints))
    if not 1 <= step <= len(definition.hints):
        raise ValueError(f"hint {step}: {exercise_id} has hints 1 to {len(definition.hints)}")
    _hints_given[exercise_id] = step
    record(exercise_id, hints=step)
    more = "" if step < len(definition.hints) else f'The code: solution("{exercise_id}")'
    lines = tuple(line for line in (definition.hints[step - 1], more) if line)
    show(Note("info", f"Hint {step} of {len(definition.hints)} for {exercise_id}", lines))


def solution(exercise_id: str) -> None:
    """Show a model answer; the student's progress notes whether it was looked at before solving.

    Raises:
        ValueError: no such exercise.
    """
    definition = find_exercise(exercise_id)
    entry = load_progress().get(exercise_id)
    if entry is None or not entry.is_solved:
        record(exercise_id, saw_solution=True)
    code = solution_source(definition.solution)
    show(Note("info", f"Solution of {exercise_id}: {definition.title}", code=code))
