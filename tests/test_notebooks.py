"""The notebooks as files, and executed with every exercise solved."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from browser.jupyter import find_chromium
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from widget_states import problems_of_play

from blendmask_lite.course.exercises import (
    all_exercises,
    chapters,
    find_exercise,
    notebook_exercises,
)
from blendmask_lite.course.instructor import write_solutions
from blendmask_lite.course.source import exercises_in

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BUDGET = re.compile(
    r"\*\*Budget:\*\* about \d+ minutes of reading and building, \d+ CPU seconds, "
    r"\d+\.\d GB of memory, download 0 MB\."
)
MOST_WORDS = 1500
# Whatever asks the network for something fails.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_cells(notebook: nbformat.NotebookNode) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def own_cells(notebook: nbformat.NotebookNode) -> list:
    """Without the hidden cell that installs the course on Colab."""
    return [cell for cell in notebook.cells if "colab" not in cell.metadata.get("tags", [])]


def exercises_of(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """{exercise id: source of decorator and function}."""
    found: dict[str, str] = {}
    for cell in code_cells(notebook):
        found |= exercises_in(cell.source)
    return found


def problems_of(notebook: nbformat.NotebookNode) -> list[str]:
    """Whatever a notebook of the course must not be, one line each."""
    problems = []
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    budget = [c for c in notebook.cells if "budget" in c.metadata.get("tags", [])]
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    code = [cell.source for cell in own_cells(notebook) if cell.cell_type == "code"]
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        problems.append("is not of format 4.5")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        problems.append("its kernel is not python3")
    if any(cell.outputs or cell.execution_count for cell in code_cells(notebook)):
        problems.append("has outputs")
    if len(budget) != 1 or not BUDGET.search(budget[0].source):
        problems.append("has no budget line; run `make budgets`")
    if "manual_seed(" not in code[0]:
        problems.append("sets no seed in its first cell")
    if any(re.search(r"^\s*[!%]|get_ipython", source, re.MULTILINE) for source in code):
        problems.append("has a magic")
        return problems  # no Python that could be looked at
    if any("skip" in tag for tag in tags) or any("NBVAL_" in source for source in code):
        problems.append("hides a cell from nbval")
    if len(text.split()) > MOST_WORDS:
        problems.append(f"has {len(text.split())} words")
    if any(source != find_exercise(i).stub_cell for i, source in exercises_of(notebook).items()):
        problems.append("has a stub that is not its exercise's")
    for heading in ("## Predict", "## Play", "## Quiz", "## What the paper says", "## Exit ticket"):
        if heading not in text:
            problems.append(f"has no {heading!r}")
    return problems


def test_there_are_notebooks_for_every_chapter_with_exercises():
    numbers = {path.name[:2] for path in NOTEBOOKS}
    assert {"00", *chapters()} <= numbers


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_as_the_course_wants_it(path):
    nbformat.validate(read(path))
    assert problems_of(read(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_is_announced_with_its_minutes_in_the_text_alone_there_and_checked(path):
    notebook = read(path)
    expected = [exercise.id for exercise in notebook_exercises(path.stem)]
    assert list(exercises_of(notebook)) == expected
    code = "\n".join(cell.source for cell in code_cells(notebook))
    assert all(f'check("{exercise_id}")' in code for exercise_id in expected)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    announced = re.findall(r"^\*\*Exercise (\d\d\.\d)\*\* \((\d+) minutes", text, re.MULTILINE)
    assert announced == [(each, str(find_exercise(each).minutes)) for each in expected]
    answers = [cell.source for cell in code_cells(notebook) if "@exercise(" in cell.source]
    assert not any("#" in source.partition("@exercise(")[0] for source in answers)
    if path.name[:2] in chapters():
        assert 25 <= len(own_cells(notebook)) <= 50


def test_every_exercise_is_in_a_notebook():
    found = [exercise.id for path in NOTEBOOKS for exercise in notebook_exercises(path.stem)]
    assert sorted(found) == [exercise.id for exercise in all_exercises()]


BREAKS = {
    "has outputs": lambda nb: code_cells(nb)[0].update(execution_count=1),
    "budget": lambda nb: nb.cells[1].update(source="**Budget:** soon"),
    "no seed": lambda nb: code_cells(nb)[1].update(source="x = 1"),
    "magic": lambda nb: code_cells(nb)[2].update(source="%matplotlib inline"),
    "hides": lambda nb: nb.cells[2].metadata.update(tags=["nbval-skip"]),
    "words": lambda nb: nb.cells[0].update(source="word " * 1501),
    "stub": lambda nb: code_cells(nb)[2].update(source='@exercise("09.1")\ndef f():\n    pass'),
    "kernel": lambda nb: nb.metadata.update(kernelspec={"name": "other"}),
}


@pytest.mark.parametrize("problem", BREAKS)
def test_guard_notices(problem):
    """Each guard is seen failing on a notebook that is otherwise as it should be."""
    notebook = read(NOTEBOOKS[0])
    BREAKS[problem](notebook)
    assert any(problem in line for line in problems_of(notebook))


# Figures are drawn where the notebook is run unsolved, by nbval or in the browser.
NO_PNG = "\nget_ipython().display_formatter.formatters['image/png'].enabled = False\n"
# So are cells that compute long and use no answer: shipped networks, oracles and controls.
USE_NO_ANSWER = {
    "06_bases": ("24", "28", "38"),
    "10_yolact_and_fcis": ("31", "33", "35", "37", "44"),
    "12_training": ("44",),
    "15_explorer": ("30", "32", "36"),
}
# One without exercises is run as it is.
TO_SOLVE = [path for path in NOTEBOOKS if notebook_exercises(path.stem)]


@pytest.mark.slow
@pytest.mark.parametrize("path", TO_SOLVE, ids=lambda path: path.stem)
def test_solved_notebook_is_green_offline_and_from_any_folder(path, tmp_path, monkeypatch):
    settings = {"BLENDMASK_BUDGET": "smoke", "BLENDMASK_PROGRESS": str(tmp_path / "progress.json")}
    for name, value in (OFFLINE | settings).items():
        monkeypatch.setenv(name, value)
    notebook = write_solutions(read(path))
    solved = exercises_of(notebook)
    next(cell for cell in own_cells(notebook) if cell in code_cells(notebook)).source += NO_PNG
    skipped = USE_NO_ANSWER.get(path.stem, ())
    assert set(skipped) <= {cell.id for cell in notebook.cells}
    notebook.cells = [cell for cell in notebook.cells if cell.id not in skipped]
    folder = {"metadata": {"path": str(tmp_path)}}
    options = {"kernel_name": "python3", "shutdown_kernel": "immediate"}  # as nbval does
    NotebookClient(notebook, timeout=100, resources=folder, **options).execute()

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    about = [output.get("metadata", {}).get("blendmask", {}) for output in outputs]
    verdicts = {each["exercise"]: each["status"] for each in about if "exercise" in each}
    assert verdicts == dict.fromkeys(solved, "green")
    assert set(json.loads((tmp_path / "progress.json").read_text())) == set(solved)
    # What a widget's callback raises ends in the widget's own output, where no one looks.
    widgets = json.dumps(notebook.metadata.widgets)
    assert '"output_type": "error"' not in widgets
    assert problems_of_play(notebook) == []


def is_of_an_exercise(source: str) -> bool:
    return "@exercise(" in source or source.startswith("check(")


@pytest.mark.slow
def test_two_notebooks_at_once_keep_the_progress_of_both(tmp_path, monkeypatch):
    progress = tmp_path / "progress.json"
    monkeypatch.setenv("BLENDMASK_BUDGET", "smoke")
    monkeypatch.setenv("BLENDMASK_PROGRESS", str(progress))
    pair = [write_solutions(read(path)) for path in NOTEBOOKS if path.name[:2] in ("03", "09")]
    for each in pair:  # without pictures and widgets they are done with their checks together
        first, *others = (cell for cell in own_cells(each) if cell.cell_type == "code")
        each.cells = [first, *(cell for cell in others if is_of_an_exercise(cell.source))]

    folder = {"metadata": {"path": str(tmp_path)}}

    async def run_both():
        clients = [
            NotebookClient(each, timeout=300, kernel_name="python3", resources=folder)
            for each in pair
        ]
        await asyncio.gather(*(client.async_execute() for client in clients))

    asyncio.run(run_both())
    solved = {exercise_id for each in pair for exercise_id in exercises_of(each)}
    entries = json.loads(progress.read_text())
    assert len(pair) == 2 and set(entries) == solved
    assert all(entry["is_solved"] for entry in entries.values())


@pytest.mark.slow
def test_a_forked_kernel_has_a_place_of_its_own_and_ends_when_its_manager_kills_it(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("A_VARIABLE", "of this test")
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        said = []
        code = "import os, sys; print(os.getpid(), os.environ['A_VARIABLE'], os.getcwd(), *dir())"
        client.execute_interactive(code, output_hook=said.append, timeout=60)
        [text] = [each["content"]["text"] for each in said if each["msg_type"] == "stream"]
        pid, *others = text.split()
        assert " ".join(others).startswith(f"of this test {tmp_path}")
        assert "torch" not in others  # imported, but not by this notebook
        assert is_alive(int(pid))
        manager.shutdown_kernel(now=True)
        deadline = time.monotonic() + 30
        while is_alive(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(int(pid))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


PLAYS = {
    "no widget of the lab": "import ipywidgets\nipywidgets.IntSlider()",
    "says: too small": "lab = make()\nlab.message.fail(ValueError('too small'))\nlab",
    "no picture": "lab = make(is_empty=True)\nlab",
    "": "lab = make()\nlab.say('no object', 'warning')\nlab",
}
MAKE = """import ipywidgets
from blendmask_lite.lab import LabWidget

def make(is_empty=False):
    lab = LabWidget(title="test")
    lab.arrange(ipywidgets.Image(value=b"" if is_empty else b"pixels"))
    return lab"""


@pytest.mark.slow
def test_a_play_section_without_a_working_widget_is_noticed(tmp_path):
    new = nbformat.v4
    cells = [new.new_code_cell(f"{MAKE}\n\nmake()")]  # not in the section: it does not count
    for code in PLAYS.values():
        cells += [new.new_markdown_cell("## Play"), new.new_code_cell(code)]
        cells += [new.new_markdown_cell("## Quiz")]
    notebook = new.new_notebook(cells=cells)
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=100, kernel_name="python3", resources=folder).execute()
    for number, problem in enumerate(PLAYS):
        part = notebook.copy()
        part.cells = [notebook.cells[0], *notebook.cells[1 + 3 * number : 4 + 3 * number]]
        found = problems_of_play(part)
        assert [problem in line for line in found] == ([True] if problem else []), found


@pytest.mark.slow
def test_every_code_cell_runs_under_nbval_or_in_the_browser():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--nbval-lax"]
    browser = ROOT / "tests" / "browser" / "test_notebooks_in_jupyter.py"
    listed = subprocess.run(
        [*command, str(browser), *map(str, NOTEBOOKS)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
    ).stdout
    runs_in_browser = {path for path in NOTEBOOKS if f"[{path.stem}-widgets" in listed}
    assert len(runs_in_browser) == 7
    for path in NOTEBOOKS:
        is_left_out = path in runs_in_browser and find_chromium() is not None
        count = 0 if is_left_out else len(code_cells(read(path)))
        assert listed.count(f"{path.name}::") == count, path.name
