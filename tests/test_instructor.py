"""Copies for instructors: solved, for nbgrader, as slides. Made from the students' notebooks."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from blendmask_lite.course.instructor import (
    assignment_notebook,
    slides_notebook,
    solved_notebook,
)
from blendmask_lite.course.registry import chapter_exercises, chapters
from blendmask_lite.course.source import GRADED, exercises_in, is_bare_stub

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WITH_EXERCISES = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name[:2] in chapters()]
each_chapter = pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_of(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


@each_chapter
def test_solved_copy_has_every_solution_and_names_every_mistake(path):
    notebook = read(path)
    before = json.dumps(notebook)
    solved = solved_notebook(notebook)
    nbformat.validate(solved)
    assert json.dumps(notebook) == before  # the students' copy is as it was
    text = "\n".join(cell.source for cell in solved.cells if cell.cell_type == "markdown")
    for exercise in chapter_exercises(path.name[:2]):
        assert exercise.solution_cell in code_of(solved)
        assert all(wrong.message in text for wrong in exercise.wrong_answers)
    assert "raise NotImplementedError" not in code_of(solved)


@each_chapter
def test_assignment_without_its_solutions_is_the_students_notebook(path):
    """What nbgrader cuts out leaves stubs; what it grades is one check an exercise."""
    assignment = assignment_notebook(read(path))
    nbformat.validate(assignment)
    begin, end = GRADED
    points, solutions = {}, 0
    for cell in assignment.cells:
        about = cell.metadata.get("nbgrader")
        if about and about["solution"]:
            kept, inside = [], False
            for line in cell.source.splitlines():
                if line.strip() == begin:
                    kept.append("    raise NotImplementedError()")  # as nbgrader writes it
                inside = inside or line.strip() == begin
                if not inside:
                    kept.append(line)
                inside = inside and line.strip() != end
            [source] = exercises_in("\n".join(kept)).values()
            assert is_bare_stub(source)
            solutions += 1
        elif about:
            assert about["grade"] and about["locked"]
            assert 'status == "green"' in cell.source
            points[about["grade_id"]] = about["points"]
    exercises = chapter_exercises(path.name[:2])
    assert solutions == len(exercises)
    assert points == {f"check-{e.id.replace('.', '-')}": e.difficulty for e in exercises}


def test_assignment_cells_have_ids_of_their_own():
    ids = [
        cell.metadata["nbgrader"]["grade_id"]
        for path in WITH_EXERCISES
        for cell in assignment_notebook(read(path)).cells
        if "nbgrader" in cell.metadata
    ]
    assert len(ids) == len(set(ids)) > 0


def test_slides_hold_the_tagged_cells_only():
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("a", "b", "c")]
    cells[0].metadata["tags"] = ["budget", "slide"]
    cells[2].metadata["tags"] = ["fragment"]
    slides = slides_notebook(nbformat.v4.new_notebook(cells=cells))
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in slides.cells]
    assert kinds == ["slide", "skip", "fragment"]


def test_notebook_without_slides_is_refused():
    with pytest.raises(ValueError, match="no cell is tagged"):
        slides_notebook(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("a")]))
