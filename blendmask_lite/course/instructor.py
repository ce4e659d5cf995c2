"""Copies of the notebooks for instructors: solved ones, and assignments for nbgrader.

Each is made from the notebook that students open and from the exercises' own solutions, so there
is nothing to keep in step.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

import nbformat

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.registry import find_exercise
from blendmask_lite.course.source import (
    exercises_in,
    graded_source,
    replace_exercise,
)

__all__ = ["assignment_notebook", "solved_notebook", "write_solutions"]

CHECK = re.compile(r'^check\("(\d\d\.\d)"\)$', re.MULTILINE)
SCHEMA_VERSION = 3  # of nbgrader's metadata


def write_solutions(
    notebook: nbformat.NotebookNode, only: Collection[str] | None = None
) -> nbformat.NotebookNode:
    """The notebook with model answers in place of stubs.

    Args:
        notebook: it is changed.
        only: ids of the exercises to solve; None solves all.
    """
    for cell in notebook.cells:
        for exercise_id in _exercises_of(cell):
            if only is None or exercise_id in only:
                solution = find_exercise(exercise_id).solution_cell
                cell.source = replace_exercise(cell.source, exercise_id, solution)
    return notebook


def solved_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with every exercise solved; below each, what students get wrong and why.

    Args:
        notebook: a chapter without outputs.
    """
    solved = nbformat.v4.new_notebook(metadata=copy.deepcopy(notebook.metadata))
    for cell in write_solutions(copy.deepcopy(notebook)).cells:
        solved.cells.append(cell)
        for exercise_id in _exercises_of(cell):
            exercise = find_exercise(exercise_id)
            note = nbformat.v4.new_markdown_cell(_note(exercise), id=f"note-{_slug(exercise_id)}")
            note.metadata["tags"] = ["instructor"]
            solved.cells.append(note)
    return solved


def assignment_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy that nbgrader takes as a source: solutions between its markers, checks with points.

    `nbgrader generate_assignment` cuts the solutions out; `nbgrader autograde` runs the checks.
    An exercise counts as many points as it has difficulty.

    Args:
        notebook: a chapter without outputs.
    """
    assignment = copy.deepcopy(notebook)
    for cell in assignment.cells:
        for exercise_id in _exercises_of(cell):
            exercise = find_exercise(exercise_id)
            graded = f'@exercise("{exercise_id}")\n{graded_source(exercise.solution)}'
            cell.source = replace_exercise(cell.source, exercise_id, graded)
            cell.metadata["nbgrader"] = _metadata(f"exercise-{_slug(exercise_id)}", solution=True)
        if cell.cell_type == "code" and (found := CHECK.search(cell.source)):
            exercise = find_exercise(found[1])
            verdict = f'assert check("{exercise.id}").status == "green"'
            cell.source = CHECK.sub(verdict, cell.source, count=1)
            cell.metadata["nbgrader"] = _metadata(
                f"check-{_slug(exercise.id)}", points=exercise.difficulty
            )
    return assignment


def _exercises_of(cell: nbformat.NotebookNode) -> list[str]:
    return list(exercises_in(cell.source)) if cell.cell_type == "code" else []


def _note(exercise: Exercise) -> str:
    mistakes = "\n".join(f"- {wrong.message}" for wrong in exercise.wrong_answers)
    return (
        f"**For instructors: {exercise.id}**, {exercise.minutes} minutes, difficulty "
        f"{exercise.difficulty} of 5. Expected wrong answers, as the check explains them:\n\n"
        f"{mistakes}"
    )


def _metadata(grade_id: str, *, solution: bool = False, points: int = 0) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "grade": points > 0,
        "grade_id": grade_id,
        "locked": points > 0,
        "schema_version": SCHEMA_VERSION,
        "solution": solution,
        "task": False,
    }
    return entry | ({"points": points} if points else {})


def _slug(exercise_id: str) -> str:
    return exercise_id.replace(".", "-")
