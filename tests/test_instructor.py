"""Copies for instructors: solved, for nbgrader, as slides. Made from the students' notebooks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import nbformat
import pytest

from blendmask_lite.course.display import Note
from blendmask_lite.course.exercises import all_exercises, chapters, notebook_exercises
from blendmask_lite.course.instructor import (
    assignment_notebook,
    slides_notebook,
    solved_notebook,
)
from blendmask_lite.course.own_model import PARTS
from blendmask_lite.course.source import GRADED, exercises_in, is_bare_stub

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS, TOOLS = ROOT / "notebooks", ROOT / "tools"
sys.path.insert(0, str(TOOLS))

import measure_budgets  # noqa: E402
from site_links import find_dead_links  # noqa: E402

PLANS, INDEX = ((ROOT / f"docs/instructors/{name}.md").read_text() for name in ("plans", "index"))
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
WITH_EXERCISES = [
    path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if notebook_exercises(path.stem)
]
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
    for exercise in notebook_exercises(path.stem):
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
    exercises = notebook_exercises(path.stem)
    assert solutions == len(exercises)
    assert points == {f"check-{e.id.replace('.', '-')}": e.difficulty for e in exercises}


def test_copies_have_no_link_that_leads_nowhere_from_their_place(tmp_path):
    pytest.importorskip("jupyter_server_mathjax")  # of the extra "site", as are its other packages
    import make_instructor

    path = next(NOTEBOOKS.glob("09_*.ipynb"))
    make_instructor.main(["--output", str(tmp_path), str(path)])
    place = tmp_path / "assignments" / "source" / path.stem / path.name
    for copied, kept in ((tmp_path / "solved" / path.name, True), (place, False)):
        text = "\n".join(c.source for c in read(copied).cells if c.cell_type == "markdown")
        assert "../docs/" in "".join(c.source for c in read(path).cells)
        assert "**Words**: K, " in text and "../docs/" not in text
        assert ("](00_start_here.ipynb)" in text) == kept


def test_assignment_cells_have_ids_of_their_own():
    ids = [
        cell.metadata["nbgrader"]["grade_id"]
        for path in WITH_EXERCISES
        for cell in assignment_notebook(read(path)).cells
        if "nbgrader" in cell.metadata
    ]
    assert len(ids) == len(set(ids)) > 0


MINUTES = re.compile(r"^\*\*(\d+) minutes, (\d+) of them for reading and building\.\*\*$", re.M)
TEXT = "*what to see*\n\n## One\n\ntext\n\n## Two\n\n**Exercise 09.1** (5 minutes)."


def tagged(source: str, *tags: str, outputs: tuple = ()) -> nbformat.NotebookNode:
    """A text, or with outputs code, that carries these tags."""
    if outputs:
        return nbformat.v4.new_code_cell(source, metadata={"tags": [*tags]}, outputs=[*outputs])
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": [*tags]})


def printed(data: dict[str, str]) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", data=data)


def slides_of(*cells: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Kind and text of each part of the slides of these cells."""
    slides = slides_notebook(nbformat.v4.new_notebook(cells=[*cells])).cells
    return [(cell.metadata["slideshow"]["slide_type"], cell.source) for cell in slides]


def test_slides_hold_the_tagged_cells_only():
    cells = tagged("a", "budget", "slide"), tagged("b"), tagged("c", "fragment")
    assert slides_of(*cells) == [("slide", "a"), ("fragment", "c")]


def test_text_begins_a_slide_at_each_heading_and_says_above_what_to_see_before():
    both = [("slide", "## One\n\ntext"), ("slide", "## Two\n\n**Exercise 09.1** (5 minutes).")]
    assert slides_of(tagged("a", "slide"), tagged(TEXT, "slide"))[1:] == [
        ("-", "*what to see*"),
        *both,
    ]
    assert slides_of(tagged("a", "slide"), tagged("b"), tagged(TEXT, "slide"))[1:] == both
    assert slides_of(tagged("a", "slide"), tagged(TEXT, "same"))[1:] == [("-", "*what to see*")]


def test_exercises_go_below_the_slide_of_their_heading():
    kinds = slides_of(tagged("## One\n\ntext\n\n**Exercise 09.1** (5 minutes).", "slide"))
    assert [kind for kind, _ in kinds] == ["slide", "subslide"]


def test_links_of_slides_lead_to_other_decks_or_are_left_out():
    text = "[08](08_attentions.ipynb), [words](../docs/glossary.md), [paper](https://arxiv.org)"
    [(_, source)] = slides_of(tagged(text, "slide"))
    assert source == "[08](08_attentions.html), words, [paper](https://arxiv.org)"


def test_slide_shows_what_code_gives_but_no_note_to_the_student():
    note = printed({"text/html": Note("amber", "Exercise 09.1").to_html()})
    picture = printed({"image/png": "iVBORw=="})
    cells = [tagged("x", "slide", outputs=each) for each in ((note, picture), (note,))]
    slides = slides_notebook(nbformat.v4.new_notebook(cells=cells)).cells
    assert [cell.outputs for cell in slides] == [[picture], []]
    assert [cell.metadata["transient"]["remove_source"] for cell in slides] == [True, False]


def test_notebook_without_slides_is_refused():
    with pytest.raises(ValueError, match="no cell is tagged"):
        slides_notebook(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("a")]))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_has_a_talk(path):
    slides = slides_notebook(read(path))
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in slides.cells]
    assert kinds[0] == "slide" and 8 <= sum(kind in ("slide", "subslide") for kind in kinds) <= 20
    assert 8 <= kinds.count("slide") <= 15  # the arrow to the right
    text = "\n".join(cell.source for cell in slides.cells)
    for heading in ("## Predict", "## Quiz", "## What the paper says"):
        assert heading in text
    assert "check(" not in text


def test_slides_of_the_blender_have_its_equations_as_formulas():
    [path] = NOTEBOOKS.glob("09_*.ipynb")
    slides = [cell.source for cell in slides_notebook(read(path)).cells]
    for number, word in ((2, "interpolate"), (3, "softmax"), (4, "sum")):
        [slide] = [each for each in slides if each.startswith(f"## Equation {number}")]
        [formula] = re.findall(r"^\$\$(.+?)\$\$", slide, re.DOTALL | re.MULTILINE)
        assert word in formula


@pytest.mark.slow
def test_deck_loads_nothing_from_the_network(tmp_path):
    """A formula, code, a picture and a widget of lab's kind, from the file to the finished deck."""
    picture = "from IPython.display import Image\nImage(bytes.fromhex('89504e47'), format='png')"
    cells = [
        tagged("# A talk\n\n$x^2$", "slide"),
        nbformat.v4.new_code_cell("import ipywidgets\nipywidgets.IntSlider()"),
        nbformat.v4.new_code_cell(picture),
        nbformat.v4.new_code_cell("left_out = 1"),
    ]
    cells[1].metadata["tags"], cells[2].metadata["tags"] = ["same"], ["subslide"]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    code = "import sys, pathlib, make_instructor as m; m.EXECUTED = pathlib.Path(sys.argv[2]); "
    code += "m.write_slides(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) / 'slides')"
    # In a process of its own: it sets proxies, so that nothing can be fetched while it runs.
    command = [sys.executable, "-c", code, str(path), str(tmp_path)]
    subprocess.run(command, cwd=TOOLS, check=True)

    deck = (tmp_path / "slides" / "small.html").read_text()
    assert "A talk" in deck and "make lab" in deck and "iVBORw" in deck
    assert "left_out" not in deck and "IntSlider" not in deck
    assert find_dead_links(tmp_path / "slides") == []


def test_every_chapter_with_exercises_has_a_plan_that_they_fit_into():
    plans = dict(re.findall(r"^## (\d\d) [^\n]*$(.*?)(?=^## )", PLANS, re.S | re.M))
    assert list(plans) == sorted({"00", *chapters()})
    for number, plan in plans.items():
        total, alone = map(int, MINUTES.search(plan).groups())
        assert alone + 5 <= total <= alone + 30, number  # predictions, discussion, stragglers
        steps = re.findall(r"^- (\d+)-(\d+): (.*)$", plan, re.M)
        ends = [0] + [int(end) for _, end, _ in steps]
        assert [int(begin) for begin, _, _ in steps] == ends[:-1] and ends[-1] == total, number
        exercises = {e.id: e.minutes for e in notebook_exercises(number)}
        named = set()
        for begin, end, text in steps:
            own = re.findall(r"\b(\d\d\.\d)\b(?= \()", text)
            assert sum(exercises[each] for each in own) <= int(end) - int(begin), text
            named.update(own)
        assert named == set(exercises), number
        assert total >= sum(exercises.values())
        for part in ("**Ask before", "**Discuss**", "**Expected wrong", "**Short of", "**Caution"):
            assert part in plan, f"{number} has no {part}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_head_of_the_notebook_and_plan_agree_on_its_minutes(path):
    """If this fails: `python tools/measure_budgets.py --minutes` writes both."""
    notebook, number = read(path), path.name[:2]
    [head] = [c.source for c in notebook.cells if "budget" in c.metadata.get("tags", [])]
    [plan] = re.findall(rf"^## {number} [^\n]*$(.*?)(?=^## )", PLANS, re.S | re.M)
    alone = int(MINUTES.search(plan)[2])
    measured = measure_budgets.minutes(notebook)
    assert int(re.search(r"about (\d+) minutes of reading", head)[1]) == alone == measured


def test_minutes_are_written_into_one_plan_alone():
    line = "**20 minutes, 10 of them for reading and building.**\n"
    plans = f"# Plans\n\n## 01 One\n\n{line}\n## 02 Two\n\n{line}"
    after = measure_budgets.with_minutes(plans, "02", 15)
    assert after == plans[: -len(line)] + line.replace("10", "15")


Row = namedtuple("Row", "label talk written shown minutes")


def playlists() -> list[list[Row]]:
    """The rows of each playlist, without the heads of the tables."""
    sections = re.findall(r"^### [^\n]*: \d+ minutes$(.*?)(?=^##)", INDEX, re.S | re.M)
    rows = [re.findall(r"^\| ([^|]+) \|" + r"([^|]*)\|" * 4, text, re.M)[1:] for text in sections]
    return [[Row(*map(str.strip, row)) for row in table] for table in rows]


def test_playlists_are_as_long_as_their_exercises_and_keep_a_reserve():
    """If the first line fails: `python tools/measure_budgets.py --minutes` adds them up."""
    assert measure_budgets.with_playlists(INDEX) == INDEX
    assert f"take {sum(each.minutes for each in all_exercises()):,} minutes" in INDEX
    assert len(playlists()) == 5
    for rows in playlists():
        assert rows[-1].label == "reserve" and int(rows[-1].minutes) >= 10
        without_break = 0
        for label, talk, written, shown, minutes in rows[:-1]:
            if label in ("break", "lunch"):
                without_break = 0
                continue
            without_break += int(minutes)
            assert without_break <= 120, label
            assert 10 <= int(talk) <= talk_of_the_plan(label[:2]), label
            ids = re.findall(r"\d\d\.\d", written + shown)
            assert set(ids) <= {each.id for each in notebook_exercises(label[:2])}


def talk_of_the_plan(chapter: str) -> int:
    """The minutes of a chapter's plan that are not for writing exercises."""
    total = re.search(rf"^## {chapter} [^\n]*\n+\*\*(\d+) minutes", PLANS, re.M)[1]
    return int(total) - sum(exercise.minutes for exercise in notebook_exercises(chapter))


def test_two_days_visit_every_chapter_write_or_show_every_part_and_end_with_the_own_model():
    rows = [row for day in playlists()[-2:] for row in day if row.label[:2].isdigit()]
    assert [row.label[:2] for row in rows[:-1]] == [path.name[:2] for path in CHAPTERS]
    assert rows[-1].label.startswith("12, the results")
    assert set(PARTS) <= set(re.findall(r"\d\d\.\d", str(rows)))
    # It trains while three chapters are read.
    assert "start of the training" in rows[-5].label


def test_minutes_of_a_playlist_follow_from_talk_written_and_shown_exercises():
    head = "### Short: 60 minutes\n\n| chapter | talk | written | shown | minutes |\n"
    index = head + "| 09 | 20 | 09.1, 09.2 | 09.3, 09.4 | 0 |\n| reserve | | | | 0 |\n"
    after = measure_budgets.with_playlists(index)  # 20 + 5 + 10 + 2 * 5
    assert after.endswith("09.3, 09.4 | 45 |\n| reserve | | | | 15 |\n")
