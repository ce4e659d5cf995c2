"""`my_blendmask.py`: the student's green answers, joined into one model that can be trained.

The file consists of the kept answers in the order of the chapters, of the few lines that join them
(`glue.py`), and of the package's pieces for exercises that are not solved yet. It lies beside the
notebooks. If they are not found from the working directory, or their folder is read-only, it lies
beside the kept answers. The file is written again after every green check; a file that a student
has changed is moved aside, never overwritten.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import itertools
import linecache
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from blendmask_lite.course import glue
from blendmask_lite.course.answers import (
    Answer,
    answers_lock,
    answers_path,
    capture,
    keep_answer,
    load_answers,
)
from blendmask_lite.course.display import Note, Table, show
from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.modules import new_name
from blendmask_lite.course.student import FILE, StudentFunction
from blendmask_lite.files import require_folder, write_atomically
from blendmask_lite.model.blendmask import BlendMask

__all__ = [
    "PARTS",
    "MyParts",
    "compose",
    "keep_and_compose",
    "load_file",
    "my_blendmask",
    "my_model",
    "my_parts",
    "my_path",
    "own_name",
    "parts_that_raised",
    "stand_in",
]

# The exercises that are parts of the model, in the order of the file.
PARTS = (
    *("02.3", "02.5", "02.6"),  # merging two levels, block, pyramid
    *("03.1", "03.2", "03.3", "03.4"),  # locations, distances, center sampling, assignment
    *("04.1", "04.2", "04.3", "04.4"),  # focal loss, centerness, box and centerness loss
    *("05.1", "05.2", "05.5", "05.6"),  # decoding, suppression, head, detector
    "06.5",  # bases
    *("07.1", "07.2", "07.3"),  # sampling, bin centers, RoIAlign
    *("08.1", "08.2", "08.3", "08.4", "08.5"),  # attentions where they are needed
    *("09.1", "09.2", "09.3"),  # the blender
    "10.5",  # masks
    *("11.1", "11.2", "11.5"),  # true masks, mask loss, all losses and their divisors
    *("12.1", "12.3", "12.5"),  # batch, loop, flip
)
GLUE: tuple[Callable[..., Any], ...] = (glue.Backbone, glue.Predictions, glue.MyBlendMask)
# Beginnings of names in the package's model that differ from those in the exercises.
RENAMED = {
    "head.shared_tower.": "head.tower.",
    "bottom.pyramid.": "bottom.",
    "semantic_head.layers.": "semantic_head.",
    "top_layer.conv.": "top_layer.",
}


def stand_in(exercise_id: str) -> Callable[..., Any]:
    """The package's piece for an exercise that is not solved yet, with its name and arguments."""
    return find_exercise(exercise_id).solution


# ------------------------------------------------------------------ the text


@dataclass
class _Text:
    """The contents of the file."""

    answers: Mapping[str, Answer]
    imports: dict[str, str] = field(default_factory=dict)  # name -> statement
    defined: dict[str, str] = field(default_factory=dict)  # name -> source
    pieces: list[str] = field(default_factory=list)

    def add(self, answer: Answer, title: str, *, name: str, mark: str) -> None:
        """Add an answer, under the name by which the other parts call it."""
        sources = self._sources(answer, name, mark)
        self.pieces.append("\n\n\n".join([f"# {title}", *sources]))

    def _sources(self, answer: Answer, name: str, mark: str) -> list[str]:
        """The sources of an answer and of what it needs, unless the file has them already."""
        renamed, sources = {answer.name: name}, []
        for local, other in answer.answers.items():
            exercise = find_exercise(other)
            renamed[local] = exercise.name
            if other not in PARTS and exercise.name not in self.defined:
                self.defined[exercise.name] = ""
                if other in self.answers:
                    kept, new_mark = self.answers[other], other.replace(".", "_")
                    sources += self._sources(kept, exercise.name, new_mark)
                else:
                    sources.append(f'{exercise.name} = stand_in("{other}")')
                    self.imports["stand_in"] = STAND_IN
        for local, statement in answer.imports.items():
            renamed[local] = self._import(local, statement, mark)
        for local, source in answer.helpers.items():
            is_new = self.defined.get(local) != source
            renamed[local] = self._define(local, source, mark)
            if is_new:
                sources.append(_renamed(source, renamed))
        self.defined[name] = answer.source
        own = _with_short_docstrings(_renamed(answer.source, renamed))
        return [*sources, _without_steps(own)]

    def _import(self, name: str, statement: str, mark: str) -> str:
        if name in self.defined or self.imports.get(name, statement) != statement:
            statement = f"{statement.split(' as ')[0]} as {name}_{mark}"
            name = f"{name}_{mark}"
        self.imports[name] = statement
        return name

    def _define(self, name: str, source: str, mark: str) -> str:
        if name in self.imports or self.defined.get(name, source) != source:
            name = f"{name}_{mark}"
        self.defined[name] = source
        return name


STAND_IN = "from blendmask_lite.course import stand_in"


def compose(answers: Mapping[str, Answer]) -> str:
    """The text of `my_blendmask.py`.

    Args:
        answers: green answers by exercise id. Parts without one come from the package.
    """
    text = _Text(answers)
    text.defined = {find_exercise(each).name: "" for each in PARTS}
    text.defined |= {each.__name__: "" for each in GLUE}
    own = [each for each in PARTS if each in answers and not answers[each].problem]
    missing = [each for each in PARTS if each not in own]
    for each in own:
        exercise = find_exercise(each)
        mark = each.replace(".", "_")
        text.add(answers[each], f"{each} {exercise.title}", name=exercise.name, mark=mark)
    for thing in GLUE:
        title = "The course's: it joins the parts"
        joining = capture(thing)
        helpers = {n: code for n, code in joining.helpers.items() if n not in text.defined}
        text.add(replace(joining, helpers=helpers), title, name=thing.__name__, mark="glue")
    lines = []
    if missing:
        text.imports["stand_in"] = STAND_IN
        lines = [f'{find_exercise(each).name} = stand_in("{each}")' for each in missing]
        lines = ["# Not mine yet: the package's own", *lines]
    start = [_head(own, missing), "from __future__ import annotations", *_sorted(text.imports)]
    body = "\n\n\n".join(["\n".join(lines)] * bool(lines) + text.pieces)
    whole = "\n\n".join([*start, body]) + "\n"
    return f"{whole}\n\n{SEAL}{_checksum(whole)}\n"


SEAL = "# The course writes this file; what I change in it is kept beside it. Checksum: "


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_untouched(text: str) -> bool:
    """Whether the file is still as the course wrote it."""
    whole, _, checksum = text.rpartition(f"\n\n{SEAL}")
    return checksum.strip() == _checksum(whole)


def _head(own: list[str], missing: list[str]) -> str:
    def listed(label: str, ids: list[str]) -> str:
        names = ", ".join(f"{each} {find_exercise(each).name}" for each in ids) or "none"
        return textwrap.fill(f"{label}: {names}.", width=99, subsequent_indent="    ")

    words = [
        "BlendMask, made of my own answers.",
        listed(f"Mine, {len(own)} of {len(PARTS)} parts", own),
        listed("The package's, until I solve them", missing),
        "The course's: " + ", ".join(each.__name__ for each in GLUE) + ", which join the parts.",
    ]
    return '"""' + "\n\n".join(words) + '\n"""'


def _sorted(imports: Mapping[str, str]) -> list[str]:
    """Groups of import statements: standard library, others, the package; as ruff sorts them."""
    groups: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    joined: dict[str, list[str]] = {}
    for statement in set(imports.values()):
        kind, module, *rest = statement.split()
        if kind == "from":
            joined.setdefault(module, []).append(" ".join(rest[1:]))
        else:
            groups[_group(module)].add(statement)
    result = []
    for number in groups:
        lines = sorted(groups[number])
        for module in sorted(joined):
            if _group(module) == number:
                lines += _from_import(module, joined[module])
        if lines:
            result.append("\n".join(lines))
    return result


def _group(module: str) -> int:
    first = module.partition(".")[0]
    return 0 if first in sys.stdlib_module_names else 2 if first == "blendmask_lite" else 1


def _from_import(module: str, names: list[str]) -> list[str]:
    # Constants, then classes, then functions, as ruff sorts them; renamed imports stand alone.
    def order(name: str) -> tuple[int, str]:
        return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name

    plain = sorted((name for name in names if " as " not in name), key=order)
    lines = [f"from {module} import {name}" for name in sorted(set(names) - set(plain))]
    if plain:
        line = f"from {module} import {', '.join(plain)}"
        if len(line) > 100:
            line = f"from {module} import (\n" + "".join(f"    {n},\n" for n in plain) + ")"
        lines.insert(0, line)
    return lines


def _renamed(source: str, names: Mapping[str, str]) -> str:
    """The source with global names replaced."""
    lines = [line.encode() for line in source.splitlines()]
    places = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            places.append((node.lineno - 1, node.col_offset, node.id))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            offset = lines[node.lineno - 1].find(node.name.encode(), node.col_offset + 4)
            if node.col_offset == 0:  # a method keeps its name
                places.append((node.lineno - 1, offset, node.name))
    for number, offset, name in sorted(places, reverse=True):
        new = names.get(name, name)
        line = lines[number]
        lines[number] = line[:offset] + new.encode() + line[offset + len(name.encode()) :]
    return "\n".join(line.decode() for line in lines)


def _with_short_docstrings(source: str) -> str:
    """Docstrings of one line each."""
    lines = source.splitlines()
    for node in reversed(list(ast.walk(ast.parse(source)))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text = node.body[0]
            first = lines[text.lineno - 1]
            if text.end_lineno != text.lineno:
                quotes = first.strip().lstrip("rR")[:3]
                short = first + quotes if len(first) + 3 <= 100 else first
                rest = [] if len(first) + 3 <= 100 else [" " * text.col_offset + quotes]
                lines[text.lineno - 1 : text.end_lineno] = [short, *rest]
    return "\n".join(lines)


def _without_steps(source: str) -> str:
    """The source without the comments of the stub, which say what to do, not what was done."""
    lines = [line for line in source.splitlines() if not line.strip().startswith("# Step ")]
    return "\n".join(lines)


# ------------------------------------------------------------------ the file


def my_path() -> Path | None:
    """The file's path: beside the notebooks, or else beside the answers; None if none are kept.

    The notebooks are in the working directory, or in the folder `notebooks` of it or of one above.
    """
    answers = answers_path()
    if answers is None:
        return None
    here = Path.cwd()
    for folder in (here, *(each / "notebooks" for each in (here, *here.parents))):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            with contextlib.suppress(OSError):
                require_folder(folder)
                return folder / FILE
    return answers.with_name(FILE)


def keep_and_compose(exercise_id: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """Keep a green answer and write the file again; returns the messages about it."""
    path = my_path()
    if path is None:
        return ()
    try:
        with answers_lock():
            answer = capture(function)
            keep_answer(exercise_id, answer)
            if exercise_id not in PARTS:
                return ()
            answers = load_answers()
            lines = _write(path, compose(answers))
    except (OSError, TypeError, SyntaxError) as error:  # a read-only folder, code without a source
        return (f"this answer could not be kept: {error}",)
    if answer.problem:
        whose = "the package's" if answers[exercise_id].problem else "your earlier"
        why = f"where does {answer.problem} come from? Define or import it in the same cell"
        return (*lines, f"{path.name} still has {whose} {function.__name__}: {why}")
    num = sum(each in answers and not answers[each].problem for each in PARTS)
    place = path.name if path.parent == Path.cwd() else path
    return (*lines, f"now in {place}: {num} of {len(PARTS)} parts are yours")


def _write(path: Path, text: str) -> tuple[str, ...]:
    """Write the file; a file changed by hand is moved aside, also in the other place."""
    lines: tuple[str, ...] = ()
    answers = answers_path()
    assert answers is not None
    for old in {path, answers.with_name(FILE)}:
        if not old.exists():
            continue
        if not _is_untouched(old.read_text(encoding="utf-8", errors="replace")):
            numbered = (path.with_stem(f"{path.stem}_edited_{i}") for i in itertools.count(1))
            aside = next(each for each in numbered if not each.exists())
            shutil.move(old, aside)
            stay = "to make a change stay, put it into the notebook's cell and check that"
            lines += (f"{old.name} had changes of yours, kept in {aside.name}; {stay}",)
        elif old != path:
            old.unlink()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text.encode())
    return lines


def my_blendmask() -> ModuleType:
    """The student's file as a module: `my_blendmask().assign`, `my_blendmask().MyBlendMask`.

    A part that raises is replaced by the package's, with a badge that says so. A file that was
    changed by hand is used as it is.
    """
    path, text = my_path(), compose(load_answers())
    try:
        if path is None:
            return _load(text, FILE)
        if path.exists() and not _is_untouched(path.read_text(encoding="utf-8")):
            module = load_file(path)
            show(Note("info", f"{path.name} has changes of yours: it is used as it is"))
            return module
        with answers_lock():
            for line in _write(path, text):
                show(Note("info", line))
        return load_file(path)
    except Exception as error:  # whatever the student's code raises when it is imported
        stay = f"All {len(PARTS)} parts are the package's until it is mended; nothing is lost."
        again = "If you delete the file, it is written again from your green answers."
        show(Note("red", f"{FILE} cannot be used", (_what_failed(error, path), stay, again)))
        return _load(compose({}), FILE)


def _what_failed(error: Exception, path: Path | None) -> str:
    """File, line and message of an error in the file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if each.filename == str(path)]
    line = getattr(error, "lineno", lines[-1] if lines else None)
    where = f"{path}, line {line}" if line else str(path)
    return f"{where}: {type(error).__name__}: {getattr(error, 'msg', error)}"


def load_file(path: Path) -> ModuleType:
    """A file as a module whose parts are guarded: one that raises is replaced by the package's."""
    return _load(path.read_text(encoding="utf-8"), str(path))


def _load(text: str, file: str) -> ModuleType:
    """A text as such a module; `inspect` finds its lines although there may be no file of it."""
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType("my_blendmask")
    sys.modules["my_blendmask"] = module  # a dataclass looks its module up
    exec(compile(text, file, "exec"), vars(module))
    for each in PARTS:
        exercise = find_exercise(each)
        part = getattr(module, exercise.name, exercise.solution)
        if part is not exercise.solution:
            part = StudentFunction(exercise, part)
        setattr(module, exercise.name, part)
    return module


def parts_that_raised(module: ModuleType) -> list[str]:
    """The student's parts that were replaced by model answers, and why: one line for each."""
    parts = [getattr(module, find_exercise(each).name) for each in PARTS]
    return [
        f"{part.definition.id} {part.definition.name} ({part.failure})"
        for part in parts
        if isinstance(part, StudentFunction) and part.failure is not None
    ]


@dataclass(frozen=True, repr=False)
class MyParts(Table):
    """A table of the model's parts that says which are the student's."""

    header = ("exercise", "name", "what", "whose")
    module: ModuleType  # the module `my_blendmask`

    @property
    def num_own(self) -> int:
        """Number of parts that are the student's."""
        return sum(map(self._is_own, PARTS))

    def rows(self) -> list[tuple[str, ...]]:
        """One row of texts per part."""
        return [
            (each, find_exercise(each).name, find_exercise(each).title, self._whose(each))
            for each in PARTS
        ]

    def caption(self) -> str:
        """The number of parts that are the student's, and the path of the file."""
        return f"{self.num_own} of {len(PARTS)} parts are yours; the file: {my_path() or 'none'}"

    def _is_own(self, exercise_id: str) -> bool:
        part = getattr(self.module, find_exercise(exercise_id).name)
        return isinstance(part, StudentFunction)

    def _whose(self, exercise_id: str) -> str:
        if self._is_own(exercise_id):
            return "✔ yours"
        answer = load_answers().get(exercise_id)
        problem = answer.problem if answer is not None else ""
        return "the package's" + (f": where does your {problem} come from?" if problem else "")


def my_parts() -> MyParts:
    """The table of the model's parts, as the file has them now, for the student."""
    return MyParts(my_blendmask())


# ------------------------------------------------------------------ its weights


def own_name(name: str) -> str:
    """The name in `MyBlendMask` of a weight of the package's model; only four parts differ."""
    return new_name(name, RENAMED)


def my_model(model: BlendMask, module: ModuleType | None = None) -> Any:
    """The student's model with the weights of a model of the package: the very same tensors.

    So training one of the two trains both, and all tools of the package (evaluation, explorer,
    snapshots) shows the student's model.

    Args:
        model: a model of the preset "nano" or "small".
        module: the module `my_blendmask`.

    Raises:
        ValueError: the student's model has other weights.
    """
    mine = (my_blendmask() if module is None else module).MyBlendMask(model.config)
    theirs = {own_name(name): value for name, value in _tensors(model)}
    for name, value in _tensors(mine):
        if name not in theirs or theirs[name].shape != value.shape:
            raise ValueError(f"{FILE}: {name} {tuple(value.shape)}: the package has no such weight")
        owner = mine.get_submodule(name.rpartition(".")[0])
        kind = owner._parameters if isinstance(value, nn.Parameter) else owner._buffers
        kind[name.rpartition(".")[2]] = theirs.pop(name)
    if theirs:
        raise ValueError(f"{FILE}: it has no {next(iter(theirs))}")
    mine.class_names, mine.inference = model.class_names, model.inference
    return mine.train(model.training)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from itertools.chain(model.named_parameters(), model.named_buffers())
