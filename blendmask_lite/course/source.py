"""Source code of exercises, the package's and the student's: stubs, solutions, and stand-ins.

Stubs are derived from solutions and recognised; a student's function runs where it works, and is
stood in for where it does not.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.display import Note, show
from blendmask_lite.course.exercises import find_exercise

__all__ = [
    "Failure",
    "StudentFunction",
    "exercise",
    "exercises_in",
    "find_student",
    "forget_students",
    "graded_source",
    "is_bare_stub",
    "replace_exercise",
    "solution_source",
    "stub_source",
]


NOT_WRITTEN = "raise NotImplementedError"
GRADED = ("### BEGIN SOLUTION", "### END SOLUTION")  # what nbgrader cuts out
KEPT_COMMENT = "# Step"


def solution_source(function: Callable[..., Any]) -> str:
    """The function's source, without indentation and decorators, ending without a newline."""
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    definition = _first_function(source)
    return "\n".join(source.splitlines()[definition.lineno - 1 :])


def stub_source(function: Callable[..., Any]) -> str:
    """The solution without its body: signature, docstring, comments "# Step ...", and a raise."""
    head, body = _head_and_body(function)
    return "\n".join([*head, *_steps(body), f"    {NOT_WRITTEN}"])


def graded_source(function: Callable[..., Any]) -> str:
    """The solution with its body between nbgrader's markers; the steps stay outside of them."""
    head, body = _head_and_body(function)
    begin, end = (f"    {marker}" for marker in GRADED)
    return "\n".join([*head, *_steps(body), begin, *body, end])


def is_bare_stub(source: str) -> bool:
    """Whether the body does nothing yet: `...`, `pass`, an empty return, or the raise."""
    definition = _first_function(textwrap.dedent(source))
    return all(_does_nothing(statement) for statement in definition.body)


def replace_exercise(cell: str, exercise_id: str, replacement: str) -> str:
    """A notebook cell with one decorated exercise replaced; other code of the cell stays.

    Args:
        cell: the cell's source.
        exercise_id: which `@exercise(...)` to replace.
        replacement: decorator and function.

    Returns:
        The new source; the cell unchanged if it does not define this exercise.
    """
    for node in ast.parse(cell).body:
        if isinstance(node, ast.FunctionDef) and exercise_id in _exercise_ids(node):
            lines = cell.splitlines()
            first = node.decorator_list[0].lineno - 1
            lines[first : node.end_lineno] = replacement.splitlines()
            return "\n".join(lines)
    return cell


def exercises_in(cell: str) -> dict[str, str]:
    """The exercises that a cell defines: {id: source of decorator and function}."""
    found = {}
    for node in ast.parse(cell).body:
        if isinstance(node, ast.FunctionDef):
            lines = cell.splitlines()
            for exercise_id in _exercise_ids(node):
                first = node.decorator_list[0].lineno - 1
                found[exercise_id] = "\n".join(lines[first : node.end_lineno])
    return found


def _head_and_body(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Lines of signature and docstring, and those of what follows."""
    source = solution_source(function)
    first = _first_function(source).body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    end_of_head = (first.end_lineno or first.lineno) if has_docstring else first.lineno - 1
    lines = source.splitlines()
    return lines[:end_of_head], lines[end_of_head:]


def _steps(body: Sequence[str]) -> list[str]:
    return [line for line in body if line.strip().startswith(KEPT_COMMENT)]


def _exercise_ids(node: ast.FunctionDef) -> list[str]:
    calls = [call for call in node.decorator_list if isinstance(call, ast.Call) and call.args]
    return [
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "exercise"
        and isinstance(call.args[0], ast.Constant)
    ]


def _first_function(source: str) -> ast.FunctionDef:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            return node
    raise ValueError(f"no function in {source[:60]!r}")


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Return):
        value = statement.value
        return value is None or (isinstance(value, ast.Constant) and value.value in (None, ...))
    if isinstance(statement, ast.Raise) and statement.exc is not None:
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return False


@dataclass(frozen=True)
class Failure:
    """Where and how a student's function raised."""

    error: str
    line_number: int
    line: str

    def __str__(self) -> str:
        where = f" in line {self.line_number} of your cell: {self.line}" if self.line_number else ""
        return f"{self.error}{where}"


class StudentFunction:
    """A student's version of an exercise, called like the function it wraps.

    Attributes:
        definition: the exercise.
        function: what the student wrote.
        is_written: False while the body is a bare stub.
        is_refused: True after a red check; the package's piece then stands in.
    """

    def __init__(self, definition: Exercise, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.definition = definition
        self.function = function
        self.is_written = not _is_stub(function)
        self.is_refused = False
        self._said: set[str] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The student's result, or the package's where there is none."""
        if not self.is_written:
            self._say_once("amber", "not written yet")
        elif self.is_refused:
            self._say_once("red", "the last check was red")
        else:
            try:
                return self.function(*args, **kwargs)
            except Exception as error:  # whatever the student's code raises
                if says_not_written(error):
                    self._say_once("amber", "not written to its end yet")
                else:
                    self._say_once("red", str(find_failure(error, self.function)))
        return self.definition.reference(*args, **kwargs)

    def _say_once(self, status: Any, reason: str) -> None:
        """A badge for each reason, not for each call: training loops call thousands of times."""
        if reason not in self._said:
            self._said.add(reason)
            exercise_id, name = self.definition.id, self.definition.name
            line = f"{name}: {reason}. The package's piece stands in; everything below works."
            show(Note(status, f"Exercise {exercise_id}", (line,)))


_students: dict[str, StudentFunction] = {}


def exercise(exercise_id: str) -> Callable[[Callable[..., Any]], StudentFunction]:
    """Mark a function as the student's answer: `@exercise("09.2")`.

    Args:
        exercise_id: chapter and number.

    Returns:
        A decorator; what it returns is called like the function itself.

    Raises:
        ValueError: no such exercise.
    """
    definition = find_exercise(exercise_id)

    def decorate(function: Callable[..., Any]) -> StudentFunction:
        student = StudentFunction(definition, function)
        _students[exercise_id] = student
        return student

    return decorate


def find_student(exercise_id: str) -> StudentFunction | None:
    """The latest version that ran in this process, or None."""
    return _students.get(exercise_id)


def forget_students() -> None:
    """Start anew, as after a restart of the kernel."""
    _students.clear()


def find_failure(error: Exception, function: Callable[..., Any]) -> Failure:
    """The last line of the student's own code that the error came through."""
    code: CodeType | None = getattr(function, "__code__", None)
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename:
            number = frame.lineno or 0
            return Failure(text, number, linecache.getline(frame.filename, number).strip())
    return Failure(text, 0, "")


def says_not_written(error: Exception) -> bool:
    """Whether code says `raise NotImplementedError`; torch raises the same for a wrong dtype."""
    if not isinstance(error, NotImplementedError):
        return False
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return not line or line.startswith("raise")


def _is_stub(function: Callable[..., Any]) -> bool:
    try:
        return is_bare_stub(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError, ValueError):
        return False  # no source at hand: a raise inside of it tells later
