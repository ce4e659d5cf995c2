"""The student's functions and classes: used if they work, else replaced by the package's own.

An exercise never blocks the cells below it. The student's function is used as soon as it is
written, unless it raises or its last check was red: then the package's function is used instead,
and a badge says so. Running the cell again gives the new version a chance.
"""

from __future__ import annotations

import functools
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import nn

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.display import Note, show
from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.source import is_bare_stub, source_of

__all__ = ["FILE", "Failure", "StudentFunction", "exercise", "find_student", "forget_students"]

FILE = "my_blendmask.py"  # what `own_model` joins green answers into


@dataclass(frozen=True)
class Failure:
    """The place and the reason of an error in a student's function."""

    error: str
    line_number: int  # 0 if the error was not in the student's code
    line: str
    place: str = "your cell"
    advice: str = ""

    def __str__(self) -> str:
        where = f" in line {self.line_number} of {self.place}: {self.line}"
        text = f"{self.error}{where}" if self.line_number else self.error
        return f"{text}. {self.advice}" if self.advice else text


class StudentFunction:
    """A student's version of an exercise, called like the function or class it wraps.

    Attributes:
        definition: the exercise.
        function: the student's function or class.
        is_written: False while the body is a bare stub.
        is_refused: True after a red check; the model answer then stands in.
        failure: its last error and the place of it, or None.
    """

    def __init__(self, definition: Exercise, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self.definition = definition
        self.function = function
        self.is_written = not _is_stub(function)
        self.is_refused = False
        self.failure: Failure | None = None
        self._said: set[str] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The student's result, or the package's if there is none."""
        if not self.is_written:
            self._say_once("amber", "not written yet")
        elif self.is_refused:
            self._say_once("red", "the last check was red")
        else:
            try:
                return self._guarded(self.function(*args, **kwargs), args, kwargs)
            except Exception as error:  # whatever the student's code raises
                self._say_why(error)
        return self.definition.solution(*args, **kwargs)

    def _guarded(self, result: Any, args: Any, kwargs: Any) -> Any:
        """The result; if it is a module, its `forward` is guarded and blocks nothing either."""
        if isinstance(result, nn.Module) and isinstance(self.function, type):
            forward = functools.partial(self._forward, result, result.forward, args, kwargs)
            object.__setattr__(result, "forward", forward)
        return result

    def _forward(
        self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any, *inputs: Any
    ) -> Any:
        try:
            return forward(*inputs)
        except Exception as error:  # whatever the student's code raises
            self._say_why(error)
        other = self.definition.solution(*args, **kwargs).train(module.training)
        return torch.func.functional_call(other, own_tensors(module), inputs)

    def _say_why(self, error: Exception) -> None:
        if says_not_written(error):
            self._say_once("amber", "not finished yet")
        else:
            self.failure = find_failure(error, self.function)
            # The error's text may have other numbers in every step of a training.
            self._say_once("red", str(self.failure), about=self.failure.line)

    def __deepcopy__(self, memo: object) -> StudentFunction:
        return self

    def _say_once(self, status: Any, reason: str, *, about: str = "") -> None:
        """Show a badge only once per reason, because training loops make thousands of calls."""
        if (about or reason) not in self._said:
            self._said.add(about or reason)
            exercise_id, name = self.definition.id, self.definition.name
            line = f"{name}: {reason}. The package's piece stands in; everything below works."
            show(Note(status, f"Exercise {exercise_id}", (line,)))


def own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


_students: dict[str, StudentFunction] = {}


def exercise(exercise_id: str) -> Callable[[Callable[..., Any]], StudentFunction]:
    """Mark a function as the student's answer: `@exercise("09.2")`.

    Args:
        exercise_id: chapter and number.

    Returns:
        A decorator whose result is called like the function itself.

    Raises:
        ValueError: there is no such exercise.
    """
    definition = find_exercise(exercise_id)

    def decorate(function: Callable[..., Any]) -> StudentFunction:
        student = StudentFunction(definition, function)
        _students[exercise_id] = student
        return student

    return decorate


def find_student(exercise_id: str) -> StudentFunction | None:
    """The latest version of the student's function in this process, or None."""
    return _students.get(exercise_id)


def forget_students() -> None:
    """Forget all answers, as a restart of the kernel would."""
    _students.clear()


def find_failure(error: Exception, function: Callable[..., Any]) -> Failure:
    """The last line of the student's own code in the error's traceback."""
    methods = vars(function).values() if isinstance(function, type) else [function]
    codes = (getattr(method, "__code__", None) for method in methods)
    code: CodeType | None = next((each for each in codes if each is not None), None)
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename:
            number, file = frame.lineno or 0, frame.filename
            line = linecache.getline(file, number).strip()
            if Path(file).name == FILE:
                return Failure(text, number, line, FILE)
            return Failure(text, number, line, advice=_advice(error))
    return Failure(text, 0, "")


def _advice(error: Exception) -> str:
    """Advice about an unknown name, as all names are after a restart of the kernel."""
    if type(error) is not NameError:  # nor an UnboundLocalError, which is a slip in the function
        return ""
    return f"If a cell above defines {error.name}, run it first"


def says_not_written(error: Exception) -> bool:
    """Whether the code itself raises the NotImplementedError; torch raises it for wrong dtypes."""
    if not isinstance(error, NotImplementedError):
        return False
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return not line or line.startswith("raise")


def _is_stub(function: Callable[..., Any]) -> bool:
    try:
        return is_bare_stub(source_of(function))
    except (OSError, TypeError, SyntaxError, ValueError):
        return False  # there is no source; calling the function will tell
