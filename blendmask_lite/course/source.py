"""Source code of exercises: getting solutions as text, and making and recognising stubs.

Stubs are never written by hand: a stub is the solution without its body.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "changed",
    "exercises_in",
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
    """The solution with its body between nbgrader's markers; the steps stay outside."""
    head, body = _head_and_body(function)
    begin, end = (f"    {marker}" for marker in GRADED)
    return "\n".join([*head, *_steps(body), begin, *body, end])


def changed(function: Callable[..., Any], changes: Mapping[str, str]) -> Callable[..., Any]:
    """The function with pieces of its body replaced, one change after another.

    Raises:
        ValueError: the body has no such piece.
    """
    head, lines = _head_and_body(function)
    body = "\n".join(lines)
    for piece, replacement in changes.items():
        if piece not in body:
            raise ValueError(f"{function.__name__}: its body has no {piece!r}")
        body = body.replace(piece, replacement)
    names = dict(function.__globals__)
    exec("\n".join([*head, body]), names)
    return names[function.__name__]


def is_bare_stub(source: str) -> bool:
    """Whether the body does nothing yet: `...`, `pass`, an empty return, or the raise."""
    definition = _first_function(textwrap.dedent(source))
    return all(_does_nothing(statement) for statement in definition.body)


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
        if isinstance(node, ast.FunctionDef):
            for exercise_id in _exercise_ids(node):
                places[exercise_id] = slice(node.decorator_list[0].lineno - 1, node.end_lineno)
    return places


def _head_and_body(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The lines of signature and docstring, and the lines below them."""
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
