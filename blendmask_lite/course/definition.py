"""What an exercise is: task, solution, cases, hints, and the answers that students get wrong.

One file per chapter in `course/exercises/` holds the definitions. Solutions are ordinary functions;
most wrong answers are solutions with a piece of their code replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator

from blendmask_lite.course.source import changed, solution_source, stub_source

__all__ = ["Case", "Exercise", "WrongAnswer"]


class Case:
    """One set of arguments that an answer is tried on.

    Args:
        what: what the case is, for the student: "one object, two bases, 2 x 2 -> 4 x 4".
        arguments: positional arguments of the student's function.
    """

    def __init__(self, what: str, *arguments: Any) -> None:
        self.what, self.arguments = what, arguments


@dataclass(frozen=True)
class WrongAnswer:
    """A mistake that students make, and what to tell them.

    Attributes:
        mistake: what stands in place of the solution's code, as {code: replacement}; or a
            function, if the mistake is another way altogether. The result is of the right shape
            and type, finite, and yet different from the reference in at least one case.
        message: names the mistake and points at the way out, without giving the code away.
    """

    mistake: Mapping[str, str] | Callable[..., Any]
    message: str

    def function(self, solution: Callable[..., Any]) -> Callable[..., Any]:
        """The wrong answer to the exercise that has this solution."""
        return self.mistake if callable(self.mistake) else changed(solution, self.mistake)


@dataclass(frozen=True)
class Exercise:
    """A piece of the network for the student to write.

    Attributes:
        id: chapter and number, "09.2".
        title: what is to be built, a few words.
        minutes: time that most students need.
        difficulty: 1 (one line, given in the text) to 5 (an afternoon).
        solution: a model answer with the name and the signature that the student sees. Its
            docstring states the task. Comments that start with "# Step" are kept in the stub.
        reference: the package's own piece with the same signature; it judges and stands in.
        make_cases: cases from a seeded generator, small and checkable by hand first.
        wrong_answers: at least two.
        hints: three steps, from a question to nearly the code.
        result_axes: letters of the result's axes, "N, K, R, R"; empty if it is no tensor.
        tolerance: largest absolute difference that still counts as equal, and relative to the
            expected value.
    """

    id: str
    title: str
    minutes: int
    difficulty: int
    solution: Callable[..., Any]
    reference: Callable[..., Any]
    make_cases: Callable[[Generator], Sequence[Case]]
    wrong_answers: tuple[WrongAnswer, ...]
    hints: tuple[str, str, str]
    result_axes: str = ""
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d", self.id):
            raise ValueError(f'id = {self.id!r}: must be chapter and number, such as "09.2"')
        if not 1 <= self.difficulty <= 5:
            raise ValueError(f"{self.id}: difficulty = {self.difficulty}: must be 1 to 5")
        if len(self.hints) != 3:
            raise ValueError(f"{self.id}: {len(self.hints)} hints: must be 3")
        if len(self.wrong_answers) < 2:
            raise ValueError(f"{self.id}: {len(self.wrong_answers)} wrong answers: at least 2")

    @property
    def chapter(self) -> str:
        """Two digits, "09"."""
        return self.id.split(".")[0]

    @property
    def name(self) -> str:
        """Name of the function that the student writes."""
        return self.solution.__name__

    @property
    def solution_cell(self) -> str:
        """The notebook's exercise, solved: decorator and function."""
        return f'@exercise("{self.id}")\n{solution_source(self.solution)}'

    @property
    def stub_cell(self) -> str:
        """The notebook's exercise as students open it: decorator, signature, docstring, steps."""
        return f'@exercise("{self.id}")\n{stub_source(self.solution)}'
