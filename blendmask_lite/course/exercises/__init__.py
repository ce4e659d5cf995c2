"""The exercises of the course, one file per chapter, found by their id.

A chapter's file is imported when it is first needed.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from blendmask_lite.course.definition import Exercise

__all__ = ["all_exercises", "chapter_exercises", "find_exercise", "notebook_exercises"]


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise with an id such as "09.2".

    Raises:
        ValueError: there is no such exercise; the message lists the existing ones.
    """
    chapter = str(exercise_id).split(".")[0]
    if chapter not in chapters():
        raise ValueError(
            f"exercise {exercise_id!r}: no such chapter; those with exercises are "
            + ", ".join(chapters())
        )
    by_id = {exercise.id: exercise for exercise in chapter_exercises(chapter)}
    if exercise_id not in by_id:
        raise ValueError(
            f"exercise {exercise_id!r}: unknown; chapter {chapter} has " + ", ".join(by_id)
        )
    return by_id[exercise_id]


@cache
def chapter_exercises(chapter: str) -> tuple[Exercise, ...]:
    """The exercises of a chapter such as "09", in their order."""
    module = import_module(f"{__name__}.ch{chapter}")
    return tuple(module.EXERCISES)


def notebook_exercises(stem: str) -> tuple[Exercise, ...]:
    """The exercises in a notebook, given by its name without suffix; empty for other notebooks."""
    number = stem[:2]
    if number in chapters():
        return tuple(exercise for exercise in chapter_exercises(number) if not exercise.appendix)
    return tuple(exercise for exercise in all_exercises() if exercise.appendix == stem)


@cache
def chapters() -> tuple[str, ...]:
    """The two-digit numbers of all chapters with exercises, ascending."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.removeprefix("ch") for name in names if name.startswith("ch")))


def all_exercises() -> tuple[Exercise, ...]:
    """Every exercise of the course, in the order of the chapters."""
    return tuple(exercise for chapter in chapters() for exercise in chapter_exercises(chapter))
