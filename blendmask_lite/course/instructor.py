"""Copies of the notebooks for instructors: solved ones, assignments for nbgrader, and slides."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

import nbformat

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.display import NOTE
from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.source import exercises_in, graded_source, replace_exercise

__all__ = [
    "SLIDE_TAGS",
    "assignment_notebook",
    "slides_notebook",
    "solved_notebook",
    "write_solutions",
]


CHECK = re.compile(r'^check\("(\d\d\.\d)"\)$', re.MULTILINE)
SCHEMA_VERSION = 3  # version of nbgrader's metadata


def write_solutions(
    notebook: nbformat.NotebookNode, only: Collection[str] | None = None
) -> nbformat.NotebookNode:
    """The notebook with model answers in place of stubs.

    Args:
        notebook: a notebook, changed in place.
        only: ids of the exercises to solve; by default all.
    """
    for cell in notebook.cells:
        for exercise_id in _exercises_of(cell):
            if only is None or exercise_id in only:
                solution = find_exercise(exercise_id).solution_cell
                cell.source = replace_exercise(cell.source, exercise_id, solution)
    return notebook


def solved_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which every exercise is solved and followed by typical mistakes, explained.

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
    """A source notebook for nbgrader, with solutions between its markers and points for checks.

    `nbgrader generate_assignment` removes the solutions; `nbgrader autograde` runs the checks.
    An exercise is worth as many points as its difficulty.

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


# Tag of a cell -> reveal.js's slide type: a new slide, one below the last, one shown at the next
# key press, or none of its own.
SLIDE_TAGS = {"slide": "slide", "subslide": "subslide", "fragment": "fragment", "same": "-"}
# Text is cut before headings (except the title) and exercises.
CUT = re.compile(r"^(?=#{2,3} |\*\*Exercise \d\d\.\d\*\*)", re.MULTILINE)
HEADING = re.compile(r"#{2,3} [^\n]*\s*")  # a heading without text below it
DOCUMENT = re.compile(r"\[([^\]]+)\]\(\.\./docs/[^)]*\)")
CHAPTER = re.compile(r"\]\((\w+)\.ipynb\)")


def slides_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with the slides of a chapter; cells without a tag are left out.

    In a text cell, each heading starts a slide, and each exercise starts one below it. Text above
    the first heading belongs to the slide before, because it explains a figure. A text that joins a
    slide ends at its first heading. If a code cell shows something, only its outputs are kept,
    without the course's notes to the student.

    Args:
        notebook: a chapter, usually executed, whose cells have the tags of `SLIDE_TAGS`.

    Raises:
        ValueError: no cell starts a slide.
    """
    slides = nbformat.v4.new_notebook(metadata=copy.deepcopy(notebook.metadata))
    is_shown = False  # whether the previous cell is on a slide
    for cell in notebook.cells:
        kinds = [SLIDE_TAGS[tag] for tag in cell.metadata.get("tags", []) if tag in SLIDE_TAGS]
        if kinds and cell.cell_type == "markdown":
            slides.cells += _text_slides(cell, kinds[0], joins=is_shown)
        elif kinds:
            slides.cells.append(_slide(cell, kinds[0]))
        is_shown = bool(kinds)
    if not any(cell.metadata["slideshow"]["slide_type"] == "slide" for cell in slides.cells):
        raise ValueError('no cell is tagged "slide"')
    return slides


def _text_slides(
    cell: nbformat.NotebookNode, kind: str, *, joins: bool
) -> list[nbformat.NotebookNode]:
    pieces = [piece for piece in CUT.split(cell.source) if piece.strip()]
    for place in reversed(range(1, len(pieces))):
        if HEADING.fullmatch(pieces[place - 1]):  # otherwise the slide would be empty
            pieces[place - 1 : place + 1] = [pieces[place - 1] + pieces[place]]
    if kind in ("-", "fragment"):
        kinds, pieces = [kind], pieces[:1]
    elif len(pieces) > 1 and not CUT.match(pieces[0]):
        kinds = ["-"] + [kind] * (len(pieces) - 1)
        kinds, pieces = (kinds, pieces) if joins else (kinds[1:], pieces[1:])
    else:
        kinds = [kind] * len(pieces)
    kinds = [_below(kind, piece) for kind, piece in zip(kinds, pieces, strict=True)]
    slides = [_slide(cell, kind) for kind in kinds]
    for place, (slide, piece) in enumerate(zip(slides, pieces, strict=True)):
        slide.id = f"{cell.id}-{place}"
        slide.source = CHAPTER.sub(r"](\1.html)", DOCUMENT.sub(r"\1", piece.strip()))
    return slides


def _below(kind: str, piece: str) -> str:
    """The slide type of a piece: exercises go below the slide that they belong to."""
    return "subslide" if kind == "slide" and piece.startswith("**Exercise") else kind


def _slide(cell: nbformat.NotebookNode, kind: str) -> nbformat.NotebookNode:
    slide = copy.deepcopy(cell)
    if cell.cell_type == "code":
        slide.outputs = [output for output in cell.outputs if not _is_note(output)]
    slide.metadata["slideshow"] = {"slide_type": kind}
    slide.metadata["transient"] = {"remove_source": bool(slide.get("outputs"))}
    return slide


def _is_note(output: nbformat.NotebookNode) -> bool:
    """Whether this is a note from the course to the student, such as a badge."""
    return str(output.get("data", {}).get("text/html", "")).startswith(NOTE)
