"""The definition of an exercise: task, solution, cases, hints, and typical wrong answers.

The definitions are in `course/exercises/`, one file per chapter. Solutions are ordinary functions;
most wrong answers are solutions in which a piece of code is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from torch import Generator

from blendmask_lite.course.source import changed, solution_source, stub_source

__all__ = ["Case", "Exercise", "WrongAnswer", "task"]

F = TypeVar("F", bound=Callable[..., Any])


def task(exercise_id: str, title: str, *, minutes: int, difficulty: int) -> Callable[[F], F]:
    """Mark a function or class as the model answer of an exercise.

    Args:
        exercise_id: chapter and number, "09.2".
        title: what the student builds, in a few words.
        minutes: time that most students need.
        difficulty: 1 (one line, given in the text) to 5 (an afternoon).

    Raises:
        ValueError: there is no such id or difficulty.
    """
    if not re.fullmatch(r"\d\d\.\d", exercise_id):
        raise ValueError(f'id = {exercise_id!r}: must be chapter and number, such as "09.2"')
    if not 1 <= difficulty <= 5:
        raise ValueError(f"{exercise_id}: difficulty = {difficulty}: must be 1 to 5")
    words = {"id": exercise_id, "title": title, "minutes": minutes, "difficulty": difficulty}

    def mark(function: F) -> F:
        setattr(function, "task", words)  # noqa: B010  (a function has no such attribute to mypy)
        return function

    return mark


class Case:
    """One set of arguments that an answer is tried on.

    Args:
        what: description for the student, such as "one object, two bases, 2 x 2 -> 4 x 4".
        arguments: positional arguments for the student's function.
    """

    def __init__(self, what: str, *arguments: Any) -> None:
        self.what, self.arguments = what, arguments


@dataclass(frozen=True)
class WrongAnswer:
    """A mistake that students make, and the message for it."""

    # Changes to the solution's code as {code: replacement}, or a function if the mistake is to use
    # another method. The result has the right shape and type, is finite, and differs from the
    # reference in at least one case.
    mistake: Mapping[str, str] | Callable[..., Any]
    message: str  # names the mistake and points to a way out, but does not give away the code

    def function(self, solution: Callable[..., Any]) -> Callable[..., Any]:
        """This wrong answer as a function, made from the exercise's solution."""
        return self.mistake if callable(self.mistake) else changed(solution, self.mistake)


@dataclass(frozen=True)
class Exercise:
    """A piece of the network for the student to write."""

    id: str = field(init=False)
    title: str = field(init=False)
    minutes: int = field(init=False)
    difficulty: int = field(init=False)
    # The model answer, marked by `task`, with the name and signature that the student sees. Its
    # docstring states the task, and the stub keeps its comments "# Step ...".
    solution: Callable[..., Any]
    # The package's own function, which answers are compared with: called with a case's arguments.
    reference: Callable[..., Any]
    # Cases from a seeded generator; the first ones are small enough to check by hand.
    make_cases: Callable[[Generator], Sequence[Case]]
    wrong_answers: tuple[WrongAnswer, ...]  # at least two
    hints: tuple[str, str, str]  # three steps, from a question to almost the code
    result_axes: str = ""  # letters of a tensor's axes, "N, K, R, R"
    result_names: tuple[str, ...] = ()  # name of each result, if there are several
    appendix: str = ""  # name of its notebook, without suffix; by default the chapter's
    gradients: tuple[str, ...] = ()  # arguments whose gradients are compared, too
    # Largest difference that counts as equal, absolute or relative to the expected value.
    tolerance: float = 1e-4
    # Called with an answer and a case's arguments if the answer is a class or a generator, not a
    # function of these arguments itself.
    use: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self.solution)["task"].items():
            object.__setattr__(self, name, value)
        if len(self.hints) != 3:
            raise ValueError(f"{self.id}: {len(self.hints)} hints: must be 3")
        if len(self.wrong_answers) < 2:
            raise ValueError(f"{self.id}: {len(self.wrong_answers)} wrong answers: at least 2")

    def called(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """An answer as a function of a case's arguments."""
        return answer if self.use is None else partial(self.use, answer)

    @property
    def chapter(self) -> str:
        """The chapter's two digits, "09"."""
        return self.id.split(".")[0]

    @property
    def name(self) -> str:
        """The name of the function or class that the student writes."""
        return self.solution.__name__

    @property
    def solution_cell(self) -> str:
        """The solved exercise for the notebook: decorator and code."""
        return f'@exercise("{self.id}")\n{solution_source(self.solution)}'

    @property
    def stub_cell(self) -> str:
        """The exercise as students get it: decorator, signature, docstring, and steps."""
        return f'@exercise("{self.id}")\n{stub_source(self.solution)}'
