"""The static site: every page links to what exists, nothing is fetched, widgets leave a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from site_links import find_dead_links  # noqa: E402
from site_notebooks import (  # noqa: E402
    LIVE,
    STILLS,
    WIDGET,
    execute,
    lead_to_pages,
    replace_widgets,
    still_name,
)
from site_reference import PARTS, modules_of  # noqa: E402


def write_page(path: Path, body: str) -> None:
    path.write_text(f"<html><body>{body}</body></html>", encoding="utf-8")


def test_dead_links_are_found_and_living_ones_are_not(tmp_path):
    write_page(tmp_path / "a.html", '<h1 id="top"></h1><a href="b.html#place">to b</a>')
    write_page(
        tmp_path / "b.html",
        '<p id="place"></p><a href="a.html#top">back</a> <a href="https://arxiv.org">out</a>'
        '<a href="missing.html">x</a> <a href="a.html#nowhere">y</a> <img src="gone.png">'
        '<script src="https://cdn.example/x.js"></script>',
    )
    assert find_dead_links(tmp_path) == [
        "b.html: loads https://cdn.example/x.js from the network",
        "b.html: missing.html: no such file",
        "b.html: a.html#nowhere: no such place on that page",
        "b.html: gone.png: no such file",
    ]
    (tmp_path / "own").mkdir()
    write_page(tmp_path / "own" / "c.html", '<a href="missing.html">x</a>')
    assert len(find_dead_links(tmp_path)) == 5
    assert len(find_dead_links(tmp_path, leaves_out=["own"])) == 4


def test_widget_becomes_its_picture_and_says_where_it_lives(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("w"), new_code_cell("w")])
    for cell in notebook.cells:
        data = {WIDGET: {"model_id": "1"}, "text/plain": "Widget()"}
        cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    notebook.metadata["widgets"] = {"state": {}}
    (tmp_path / still_name("05", 1)).write_bytes(b"\x89PNG")
    replace_widgets(notebook, "05", tmp_path)

    first, second = (cell.outputs[0].data["text/html"] for cell in notebook.cells)
    assert "<img" not in first and "make lab" in first
    assert "data:image/png;base64,iVBORw==" in second
    assert "widgets" not in notebook.metadata
    assert all(WIDGET not in cell.outputs[0].data for cell in notebook.cells)


def test_a_widget_that_may_run_keeps_its_picture_and_leads_to_its_part_of_the_playground():
    notebook = new_notebook(cells=[new_code_cell("w"), new_code_cell("w")])
    for cell in notebook.cells:
        cell.outputs = [nbformat.v4.new_output("display_data", data={WIDGET: {"model_id": "1"}})]
    replace_widgets(notebook, "10_yolact_and_fcis")
    first, second = (cell.outputs[0].data["text/html"] for cell in notebook.cells)
    assert first.startswith('<div class="live">') and first.count("<img") == 1
    assert '<a href="../playground/index.html" data-part="methods"' in first
    assert "make lab" in first and "data-part" not in second
    # Chapters of the table have such widgets, and the page such parts.
    script = (ROOT / "playground" / "part.js").read_text()
    assert all(
        (STILLS / name).exists() and f'"{part}"' in script for name, (part, _) in LIVE.items()
    )


def test_links_that_a_cell_draws_lead_to_pages():
    notebook = new_notebook(cells=[new_code_cell("map")])
    drawn = '<a href="09_blender.ipynb">09</a> <a href="https://x.org/a.ipynb">far</a>'
    notebook.cells[0].outputs = [
        nbformat.v4.new_output("display_data", data={"text/html": drawn, "text/plain": "map"})
    ]
    lead_to_pages(notebook)
    changed = notebook.cells[0].outputs[0].data["text/html"]
    assert changed == drawn.replace("09_blender.ipynb", "09_blender.html")


def test_every_module_with_public_names_is_in_the_reference_once():
    listed = [path for part in PARTS for path in modules_of(part)]
    assert len(listed) == len(set(listed))
    package = ROOT / "blendmask_lite"
    left_out = ("cli/", "course/exercises/", "weights/pickles.py")
    for path in package.rglob("*.py"):
        place = path.relative_to(package).as_posix()
        if path.name not in ("__init__.py", "__main__.py") and not place.startswith(left_out):
            assert path in listed, place
    assert {part for part in PARTS if part} == {
        path.parent.name for path in package.glob("*/__init__.py")
    } - {"cli"}


@pytest.mark.slow
def test_notebook_runs_once_and_again_when_it_changes(tmp_path):
    path, said = tmp_path / "small.ipynb", []
    nbformat.write(new_notebook(cells=[new_code_cell("print(6 * 7)")]), path)
    for _ in range(2):
        notebook = execute(path, tmp_path / "cache", said.append)
        assert notebook.cells[0].outputs[0].text == "42\n"
    assert said == ["running small.ipynb"]
    nbformat.write(new_notebook(cells=[new_code_cell("print(7 * 7)")]), path)
    assert execute(path, tmp_path / "cache", said.append).cells[0].outputs[0].text == "49\n"
    assert len(list((tmp_path / "cache").iterdir())) == 1
