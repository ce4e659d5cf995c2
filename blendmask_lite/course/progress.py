"""The student's progress: a small JSON file in the home folder, and a table of it.

`BLENDMASK_PROGRESS` names another file; set to "off" it keeps none. A file that cannot be read or
written never stops a lesson: progress is then simply not kept.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.registry import all_exercises, chapter_exercises, chapters
from blendmask_lite.course.table import html_table, text_table
from blendmask_lite.files import write_atomically

__all__ = ["Progress", "ProgressTable", "load_progress", "progress", "progress_path", "record"]

VARIABLE = "BLENDMASK_PROGRESS"


@dataclass(frozen=True)
class Progress:
    """What one student did with one exercise."""

    is_solved: bool = False  # a check was green once
    attempts: int = 0  # checks of a written answer, red or green
    hints: int = 0  # the furthest hint seen, 0 to 3
    saw_solution: bool = False  # before it was solved


@dataclass(frozen=True)
class ProgressTable:
    """All exercises and how far the student is; a notebook shows it as a table."""

    exercises: tuple[Exercise, ...]
    progress: dict[str, Progress]

    @property
    def num_solved(self) -> int:
        """How many exercises had a green check."""
        return sum(self._of(exercise).is_solved for exercise in self.exercises)

    def rows(self) -> list[tuple[str, ...]]:
        """One row of texts per exercise, in the order of the header."""
        return [
            (
                exercise.id,
                exercise.title,
                "●" * exercise.difficulty + "○" * (5 - exercise.difficulty),
                f"{exercise.minutes} min",
                self._state(exercise),
            )
            for exercise in self.exercises
        ]

    def __str__(self) -> str:
        return text_table(HEADER, self.rows(), self._summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(HEADER, self.rows(), self._summary())

    def _of(self, exercise: Exercise) -> Progress:
        return self.progress.get(exercise.id, Progress())

    def _state(self, exercise: Exercise) -> str:
        progress = self._of(exercise)
        if progress.is_solved:
            return "✔ solved" + (" (after the solution)" if progress.saw_solution else "")
        return f"✘ {progress.attempts} tried" if progress.attempts else "not begun"

    def _summary(self) -> str:
        left = sum(e.minutes for e in self.exercises if not self._of(e).is_solved)
        return f"{self.num_solved} of {len(self.exercises)} solved, about {left} minutes to go"


HEADER = ("exercise", "what you write", "difficulty", "time", "state")


def progress(chapter: str = "") -> ProgressTable:
    """The table of exercises for the student.

    Args:
        chapter: two digits, "09"; without it all of the course.

    Raises:
        ValueError: a chapter without exercises.
    """
    if chapter and chapter not in chapters():
        raise ValueError(f"chapter {chapter!r}: those with exercises are {', '.join(chapters())}")
    exercises = chapter_exercises(chapter) if chapter else all_exercises()
    return ProgressTable(exercises, load_progress())


def progress_path() -> Path | None:
    """Where progress is kept, or None if it is off."""
    name = os.environ.get(VARIABLE, "") or str(Path.home() / ".blendmask_lite" / "progress.json")
    return None if name == "off" else Path(name).expanduser()


def load_progress() -> dict[str, Progress]:
    """Progress by exercise id; empty where there is no readable file."""
    path = progress_path()
    if path is None:
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): Progress(**entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def record(exercise_id: str, **changes: int | bool) -> None:
    """Change one exercise's entry; two notebooks may do so at the same time.

    Args:
        exercise_id: such as "09.2".
        changes: fields of `Progress`; `attempts` is added, the others keep their largest value.
    """
    path = progress_path()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # also for the lock
        with FileLock(f"{path}.lock", timeout=2):
            entries = load_progress()
            entries[exercise_id] = _merge(entries.get(exercise_id, Progress()), changes)
            write_atomically(path, _to_json(entries).encode())
    except (OSError, Timeout):
        return  # a read-only home folder: the lesson goes on


def _merge(entry: Progress, changes: dict[str, int | bool]) -> Progress:
    for field, value in changes.items():
        old = getattr(entry, field)
        entry = replace(entry, **{field: old + value if field == "attempts" else max(old, value)})
    return entry


def _to_json(entries: dict[str, Progress]) -> str:
    return json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1)
