"""Storage of green answers: the source of each one, and everything it uses from its notebook.

They are in a JSON file beside the progress file, so they survive a restart of the kernel and do
not depend on the folder in which a notebook runs. Nothing in it is ever thrown away: an answer
that is replaced by a newer one becomes one of its earlier versions.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock, Timeout

from blendmask_lite.course.progress import progress_path
from blendmask_lite.course.source import source_of
from blendmask_lite.files import write_atomically

__all__ = ["Answer", "answers_lock", "answers_path", "capture", "keep_answer", "load_answers"]


@dataclass(frozen=True)
class Answer:
    """A green answer as it stood in the notebook."""

    name: str  # name of the student's function or class
    source: str  # its source, without the decorator
    # What it uses from the notebook: name -> statement that imports it,
    imports: dict[str, str] = field(default_factory=dict)
    # name -> source of a helper function or a constant, in the order of their use,
    helpers: dict[str, str] = field(default_factory=dict)
    # name -> id of another exercise.
    answers: dict[str, str] = field(default_factory=dict)
    problem: str = ""  # a name whose origin was not found
    earlier: tuple[str, ...] = ()  # sources of earlier green versions, newest last


def answers_path() -> Path | None:
    """The file with the green answers, or None if no progress is kept."""
    path = progress_path()
    return None if path is None else path.with_name(f"{path.stem}_answers.json")


def load_answers() -> dict[str, Answer]:
    """Green answers by exercise id; empty if there is no readable file."""
    path = answers_path()
    if path is None:
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Answer(**{**entry, "earlier": tuple(entry["earlier"])})
            for name, entry in entries.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


@contextmanager
def answers_lock() -> Iterator[None]:
    """Inside the `with` block, no other notebook changes the answers or the file made of them.

    Raises:
        OSError: the folder cannot be written to, or another notebook holds the lock for too long.
    """
    path = answers_path()
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=5):
            yield
    except Timeout as error:
        raise OSError(f"{path}: another notebook is writing it") from error


def keep_answer(exercise_id: str, answer: Answer) -> None:
    """Add a green answer to the file; call it inside `answers_lock`.

    An unreadable file is kept under another name. An answer with a problem is kept as an earlier
    version of an answer without one.
    """
    path = answers_path()
    assert path is not None
    kept = load_answers()
    if path.exists() and not kept and path.stat().st_size > len("{}"):
        path.replace(_unused(path.with_name(f"{path.stem}_unreadable.json")))
    before = kept.get(exercise_id)
    earlier = () if before is None else before.earlier
    if before is not None:
        if answer.problem and not before.problem:
            before, answer = answer, before
        if before.source != answer.source:
            earlier = (*(one for one in earlier if one != before.source), before.source)
    kept[exercise_id] = replace(answer, earlier=earlier)
    content = {name: asdict(each) for name, each in sorted(kept.items())}
    write_atomically(path, json.dumps(content, indent=1).encode())


def _unused(path: Path) -> Path:
    """The path itself, or with the first number added that gives an unused name."""
    numbered = (path.with_stem(f"{path.stem}_{number}") for number in range(2, 10_000))
    return path if not path.exists() else next(each for each in numbered if not each.exists())


def capture(function: Callable[..., Any]) -> Answer:
    """Take an answer out of its notebook, with everything that it uses there.

    Args:
        function: the student's function or class, defined in a cell or a file.

    Raises:
        TypeError: the function is a lambda, whose source is the statement around it.
    """
    if function.__name__ == "<lambda>":
        raise TypeError("it is a lambda; write it as a function, with def")
    found = _Found(function)
    source = _without_mark(source_of(function).rstrip())
    found.look_at(source)
    return Answer(
        name=function.__name__,
        source=source,
        imports=found.imports,
        helpers=found.helpers,
        answers=found.answers,
        problem=found.problem,
    )


def _without_mark(source: str) -> str:
    """The source without the decorator that makes it an answer; other decorators stay."""
    lines = source.splitlines()
    definition = ast.parse(source).body[0]
    for node in reversed(getattr(definition, "decorator_list", [])):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("exercise", "task"):
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


class _Found:
    """The origins of the names that a piece of code uses."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        first = function
        if isinstance(function, type):
            methods = [each for each in vars(function).values() if inspect.isfunction(each)]
            first = methods[0] if methods else function
        self.names: dict[str, Any] = getattr(first, "__globals__", {})
        code = getattr(first, "__code__", None)
        self.file: str = code.co_filename if code is not None else ""
        self.imports: dict[str, str] = {}
        self.helpers: dict[str, str] = {}
        self.answers: dict[str, str] = {}
        self.problem = ""
        self._seen = {function.__name__}

    def look_at(self, source: str) -> None:
        for name in _global_names(source):
            if name in self._seen or (name not in self.names and hasattr(builtins, name)):
                continue
            self._seen.add(name)
            if name in self.names:  # otherwise only an annotation uses it, and nobody defined it
                self._find(name, self.names[name])

    def _find(self, name: str, value: Any) -> None:
        exercise_id = _exercise_of(value)
        if exercise_id is not None:
            self.answers[name] = exercise_id
            return
        statement = self._import_of(name, value)
        if statement is not None:
            self.imports[name] = statement
            return
        source = self._source_of(name, value)
        if source is None:
            self.problem = self.problem or name
            return
        self.look_at(source)  # what the helper needs comes before the helper
        self.helpers[name] = source

    def _import_of(self, name: str, value: Any) -> str | None:
        if isinstance(value, ModuleType):
            package, _, last = value.__name__.rpartition(".")
            start = f"from {package} import {last}" if package else f"import {last}"
            return start if last == name else f"{start} as {name}"
        if not callable(value) and not _is_plain(value):
            for module in [each for each in sys.modules if each.startswith("blendmask_lite.")]:
                if vars(sys.modules[module]).get(name) is value:  # a constant of the package
                    return f"from {module} import {name}"
        own, origin = getattr(value, "__name__", None), getattr(value, "__module__", None)
        if not isinstance(own, str) or origin in ("__main__", self.function.__module__):
            return None
        for place in (origin, "torch", "torch.nn.functional", "math", "numpy"):
            if isinstance(place, str) and _attribute(place, own) is value:
                statement = f"from {place} import {own}"
                return statement if own == name else f"{statement} as {name}"
        return None

    def _source_of(self, name: str, value: Any) -> str | None:
        """The source of a helper function, class or constant."""
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__name__ == name:
            with suppress(OSError, TypeError):
                return source_of(value).rstrip()
        # A constant, or what `inspect` does not find, such as a dataclass or a cached function
        text = "".join(linecache.getlines(self.file))
        try:
            statements = ast.parse(text).body
        except SyntaxError:
            statements = []
        for statement in reversed(statements):
            if name in _names_defined(statement):
                decorators = getattr(statement, "decorator_list", [])
                first = min(each.lineno for each in (statement, *decorators))
                return "\n".join(text.splitlines()[first - 1 : statement.end_lineno])
        return f"{name} = {value!r}" if _is_plain(value) else None


def _global_names(source: str) -> list[str]:
    """The names that a piece of code reads and does not itself bind, in order of appearance."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and _binds(node)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    read = [node for node in nodes if isinstance(node, ast.Name) and not _binds(node)]
    read.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(node.id for node in read if node.id not in bound))


def _names_defined(statement: ast.stmt) -> list[str]:
    """The names that a definition or an assignment binds."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [each.id for each in targets if isinstance(each, ast.Name)]
    return []


def _binds(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store | ast.Del)


def _exercise_of(value: Any) -> str | None:
    """The id of the exercise that a student's function or a model answer belongs to."""
    definition = getattr(value, "definition", None)
    if definition is not None and hasattr(definition, "make_cases"):
        return str(definition.id)
    task = vars(value).get("task") if hasattr(value, "__dict__") else None
    return str(task["id"]) if isinstance(task, dict) and "id" in task else None


def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (int, float, str, bool)
