"""Writes what instructors need into build/instructor: `make instructor`, with slides `make slides`.

Usage: python tools/make_instructor.py [--slides] [--output FOLDER] [NOTEBOOK ...]

    solved/       every exercise solved, with the wrong answers to expect below it
    assignments/  sources for nbgrader: one folder an assignment
    slides/       one HTML file a chapter, from its tagged cells; they need no network
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import jupyter_server_mathjax
import nbformat
import sphinx_revealjs
from nbconvert import SlidesExporter
from site_notebooks import execute, replace_widgets

from blendmask_lite.course.instructor import (
    SLIDE_TAGS,
    assignment_notebook,
    slides_notebook,
    solved_notebook,
)
from blendmask_lite.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "instructor"
EXECUTED = ROOT / "build" / "site" / "executed"  # shared with `make site`
TEMPLATES = Path(__file__).resolve().parent


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    parser.add_argument("--slides", action="store_true", help="run the notebooks and write slides")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if options.slides:
            if _has_slides(notebook):
                write_slides(path, options.output / "slides")
            continue
        solved = without_links(solved_notebook(notebook), to=r"\.\./docs/")
        _write(solved, options.output / "solved" / path.name)
        if len(solved.cells) > len(notebook.cells):  # it has exercises
            folder = options.output / "assignments" / "source" / path.stem
            alone = without_links(assignment_notebook(notebook), to=r"\.\./docs/|\w+\.ipynb")
            _write(alone, folder / path.name)
    print(f"written to {options.output}")


def without_links(notebook: nbformat.NotebookNode, *, to: str) -> nbformat.NotebookNode:
    """The notebook with the words of links that lead nowhere from its new place, as plain text.

    Args:
        notebook: it is changed.
        to: how the addresses of such links begin, a regular expression.
    """
    link = re.compile(rf"\[([^\]]+)\]\((?:{to})[^)]*\)")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = link.sub(r"\1", cell.source)
    return notebook


def write_slides(path: Path, folder: Path) -> Path:
    """One chapter's slides as HTML, with reveal.js and MathJax in folders beside them.

    Args:
        path: of the notebook; it is run if the site has not run it yet.
        folder: where to.
    """
    notebook = replace_widgets(execute(path, EXECUTED), path.stem)
    exporter = SlidesExporter(
        template_name="slides",
        extra_template_basedirs=[str(TEMPLATES)],
        reveal_url_prefix="reveal",
        reveal_theme="white",  # others fetch their fonts from the network
        mathjax_url="mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    html, _ = exporter.from_notebook_node(slides_notebook(notebook))
    for package, inner, name in (
        (sphinx_revealjs, "_static/revealjs", "reveal"),
        (jupyter_server_mathjax, "static", "mathjax"),
    ):
        source = Path(str(package.__file__)).parent / inner
        shutil.copytree(source, folder / name, dirs_exist_ok=True)
    target = folder / f"{path.stem}.html"
    write_atomically(target, html.encode())
    return target


def _has_slides(notebook: nbformat.NotebookNode) -> bool:
    return any(set(SLIDE_TAGS) & set(c.metadata.get("tags", [])) for c in notebook.cells)


def _write(notebook: nbformat.NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, nbformat.writes(notebook).encode())


if __name__ == "__main__":
    os.environ.setdefault("BLENDMASK_BUDGET", "laptop")
    main(sys.argv[1:])
