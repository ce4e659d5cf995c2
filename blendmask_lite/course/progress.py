"""The student's progress, as a small JSON file and a table, and a map of the chapters."""

from __future__ import annotations

import html
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.display import Table
from blendmask_lite.course.exercises import all_exercises, chapter_exercises, chapters
from blendmask_lite.files import write_atomically

__all__ = [
    "CHAPTERS",
    "Chapter",
    "NetworkMap",
    "Progress",
    "ProgressTable",
    "load_progress",
    "network_map",
    "progress",
    "progress_path",
    "record",
]


@dataclass(frozen=True)
class Chapter:
    """One notebook."""

    number: str  # two digits, "09"
    title: str  # short, for the map
    place: str = ""  # the part of the network that it is about; empty for the whole


CHAPTERS = (
    Chapter("00", "Start here"),
    Chapter("01", "Shapes and COCO", "image"),
    Chapter("02", "Backbone and pyramid", "backbone and pyramid"),
    Chapter("03", "FCOS: targets", "detector"),
    Chapter("04", "FCOS: losses", "detector"),
    Chapter("05", "Detector and AP", "detector"),
    Chapter("06", "Bases", "bottom module"),
    Chapter("07", "RoIAlign", "crop"),
    Chapter("08", "Attentions", "top layer"),
    Chapter("09", "The blender", "blender"),
    Chapter("10", "YOLACT and FCIS", "blender"),
    Chapter("11", "What trains the bases"),
    Chapter("12", "Training"),
    Chapter("13", "Ablations"),
    Chapter("14", "Beyond"),
    Chapter("15", "Explorer"),
)

# Rows from the image down to the masks: (part of the network, its output). The parts in one row
# work side by side.
PARTS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("image", "B x 3 x H x W"),),
    (("backbone and pyramid", "maps P2 to P5: coarser and richer"),),
    (
        ("detector", "boxes, classes, scores"),
        ("top layer", "attentions: K maps of M x M for each box"),
        ("bottom module", "bases: K maps of H/4 x W/4 for all"),
    ),
    (("crop", "the bases inside each box: K x R x R"),),
    (("blender", "crops weighted by attentions, added up: a mask for each box"),),
)


@dataclass(frozen=True)
class NetworkMap:
    """The network's diagram, which a notebook shows with links to the chapters."""

    files: dict[str, str]  # chapter number -> file name, for the chapters that exist

    def __str__(self) -> str:
        lines = [
            "   |   ".join(f"{part}: {makes}{self._numbers(part)}" for part, makes in row)
            for row in PARTS
        ]
        return "\n   v\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for row in PARTS:
            cards = "".join(self._card(part, makes) for part, makes in row)
            rows.append(f'<div style="display:flex;gap:12px;justify-content:center">{cards}</div>')
        arrow = '<div style="text-align:center;line-height:1.4" aria-hidden="true">▼</div>'
        whole = "".join(f"<li>{self._link(c)}</li>" for c in CHAPTERS if not c.place)
        is_complete = all(c.number in self.files for c in CHAPTERS)
        rest = "" if is_complete else "<p>Chapters without a link are not in this folder.</p>"
        return (
            f'<div style="max-width:820px">{arrow.join(rows)}'
            f'<p style="margin-top:12px">Chapters about all of it:</p><ul>{whole}</ul>{rest}</div>'
        )

    def _card(self, part: str, makes: str) -> str:
        links = "".join(f"<div>{self._link(c)}</div>" for c in CHAPTERS if c.place == part)
        return (
            '<div style="flex:1;max-width:420px;border:1.5px solid #0072b2;border-radius:6px;'
            f'padding:6px 10px;text-align:center"><b>{html.escape(part)}</b>'
            f'<div style="text-wrap:balance">{html.escape(makes)}</div>{links}</div>'
        )

    def _link(self, chapter: Chapter) -> str:
        text = html.escape(f"{chapter.number} {chapter.title}")
        file = self.files.get(chapter.number)
        return f'<a href="{html.escape(file)}">{text}</a>' if file else text

    def _numbers(self, part: str) -> str:
        numbers = [c.number for c in CHAPTERS if c.place == part and c.number in self.files]
        return f" (chapter {', '.join(numbers)})" if numbers else ""


def network_map(folder: str | Path = ".") -> NetworkMap:
    """The diagram with links to the chapters' notebooks in `folder`."""
    files = {path.name[:2]: path.name for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))}
    return NetworkMap(files)


VARIABLE = "BLENDMASK_PROGRESS"


@dataclass(frozen=True)
class Progress:
    """The work of one student on one exercise."""

    is_solved: bool = False  # whether a check was ever green
    attempts: int = 0  # checks of a written answer, red or green
    hints: int = 0  # the furthest hint seen, 0 to 3
    saw_solution: bool = False  # whether the solution was seen before the exercise was solved


@dataclass(frozen=True, repr=False)
class ProgressTable(Table):
    """A table of the exercises and of the student's work on them."""

    header = ("exercise", "what you write", "difficulty", "time", "state")
    exercises: tuple[Exercise, ...]
    progress: dict[str, Progress]

    @property
    def num_solved(self) -> int:
        """Number of exercises that have had a green check at least once."""
        return sum(self._of(exercise).is_solved for exercise in self.exercises)

    def rows(self) -> list[tuple[str, ...]]:
        """One row of texts per exercise."""
        return [
            (
                exercise.id,
                exercise.title + (" (appendix)" if exercise.appendix else ""),
                "●" * exercise.difficulty + "○" * (5 - exercise.difficulty),
                f"{exercise.minutes} min",
                self._state(exercise),
            )
            for exercise in self.exercises
        ]

    def caption(self) -> str:
        """The number of solved exercises, and the time that the others will take."""
        left = sum(e.minutes for e in self.exercises if not self._of(e).is_solved)
        return f"{self.num_solved} of {len(self.exercises)} solved, about {left} minutes to go"

    def _of(self, exercise: Exercise) -> Progress:
        return self.progress.get(exercise.id, Progress())

    def _state(self, exercise: Exercise) -> str:
        progress = self._of(exercise)
        if progress.is_solved:
            return "✔ solved" + (" (after the solution)" if progress.saw_solution else "")
        return f"✘ {progress.attempts} tried" if progress.attempts else "not begun"


def progress(chapter: str = "") -> ProgressTable:
    """The table of exercises for the student.

    Args:
        chapter: two digits, "09"; the whole course by default.

    Raises:
        ValueError: the chapter has no exercises.
    """
    if chapter and chapter not in chapters():
        raise ValueError(f"chapter {chapter!r}: those with exercises are {', '.join(chapters())}")
    exercises = chapter_exercises(chapter) if chapter else all_exercises()
    return ProgressTable(exercises, load_progress())


def progress_path() -> Path | None:
    """The file with the student's progress, or None if none is kept."""
    name = os.environ.get(VARIABLE, "") or str(Path.home() / ".blendmask_lite" / "progress.json")
    return None if name == "off" else Path(name).expanduser()


def load_progress() -> dict[str, Progress]:
    """Progress by exercise id; empty if there is no readable file."""
    path = progress_path()
    if path is None:
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): Progress(**entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def record(exercise_id: str, **changes: int | bool) -> None:
    """Update one exercise's entry; two notebooks may do so at the same time.

    Args:
        exercise_id: such as "09.2".
        changes: fields of `Progress`; `attempts` is added, the others keep their largest value.
    """
    path = progress_path()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # the lock needs it, too
        with FileLock(f"{path}.lock", timeout=2):
            entries = load_progress()
            entries[exercise_id] = _merge(entries.get(exercise_id, Progress()), changes)
            content = {name: asdict(entry) for name, entry in entries.items()}
            write_atomically(path, json.dumps(content, indent=1).encode())
    except (OSError, Timeout):
        return  # a read-only home folder must not stop the lesson


def _merge(entry: Progress, changes: dict[str, int | bool]) -> Progress:
    for field, value in changes.items():
        old = getattr(entry, field)
        entry = replace(entry, **{field: old + value if field == "attempts" else max(old, value)})
    return entry
