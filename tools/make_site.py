"""Builds the static site from notebooks, docs and docstrings, without a network: `make site`.

Usage: python tools/make_site.py [--draft] [--output FOLDER]

BLENDMASK_BUDGET says how much the notebooks compute. --draft takes them as they are, and leaves out
the pages of source code, which are most of the pages, and the contents beside each page.
"""

from __future__ import annotations

import argparse
import html
import os
import shutil
import sys
from pathlib import Path

import jupyter_server_mathjax
import nbformat
from make_playground import build as build_playground
from site_links import find_dead_links
from site_notebooks import execute, lead_to_pages, replace_widgets
from site_reference import toctree, write_reference
from sphinx.cmd.build import build_main

from blendmask_lite.terminal import counter

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "site"
# Templates of the theme; and source code, where Sphinx marks names that a module only passes on
# with a way back to a place that its reference does not have.
SPHINX_OWN = ("_static", "_modules")
GUIDES = (
    *("predicting", "models", "data", "labelling", "training", "evaluation", "export"),
    *("ablations", "playground", "lab", "gallery", "gpu"),
)
LOOK_UP = ("glossary", "differences", "compared")


def main(arguments: list[str]) -> int:
    """Build, check the links, say where the site is; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--draft",
        action="store_true",
        help="notebooks as they are, no source code, no contents at the side, no playground",
    )
    parser.add_argument("--output", type=Path, default=BUILD / "html", help="folder of the site")
    options = parser.parse_args(arguments)
    source = write_source(BUILD / "source", runs_notebooks=not options.draft)
    shutil.rmtree(options.output, ignore_errors=True)
    how = ["-b", "html", "-q", "-W", "--keep-going", "-d", str(BUILD / "trees")]
    if options.draft:
        how += ["-t", "draft"]
    status = build_main([*how, str(source), str(options.output)])
    if status:
        return status
    mathjax = Path(jupyter_server_mathjax.__file__).parent / "static"
    shutil.copytree(mathjax, options.output / "_static" / "mathjax")
    write_playground(options.output / "playground", is_built=not options.draft)
    problems = find_dead_links(options.output, leaves_out=SPHINX_OWN)
    print("\n".join(problems) or f"the site is {options.output / 'index.html'}")
    return 1 if problems else 0


def write_source(folder: Path, *, runs_notebooks: bool) -> Path:
    """Collect everything that Sphinx reads; links keep their meaning, as the places do."""
    shutil.rmtree(folder, ignore_errors=True)
    site = ROOT / "docs" / "site"
    shutil.copytree(site, folder)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("site"))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "notebooks").mkdir()
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    report = counter("notebooks")
    for number, path in enumerate(paths):
        if runs_notebooks:
            executed = execute(path, BUILD / "executed")
            notebook = lead_to_pages(replace_widgets(executed, path.stem))
        else:
            notebook = nbformat.read(path, as_version=4)
        nbformat.write(notebook, folder / "notebooks" / path.name)
        report(number + 1, len(paths))
    write_reference(folder / "api")
    tables = [f"ablations/{path.name}" for path in sorted((folder / "docs/ablations").glob("*.md"))]
    _append(folder / "docs" / "ablations.md", toctree("", tables))
    _append(folder / "index.md", contents(paths))
    return folder


def write_playground(folder: Path, *, is_built: bool) -> None:
    """The playground, or a page that says how to build it."""
    reason = "It was left out of this copy of the site."
    if is_built:
        try:
            build_playground(folder)
        except RuntimeError as error:  # no npm, or no registry
            reason = str(error)
            print(f"the site has no playground: {reason}")
        else:
            return
    folder.mkdir(exist_ok=True)
    text = f"{html.escape(reason)} <code>make playground</code> builds it."
    page = f'<!doctype html><html lang="en"><title>Playground</title><p>{text}</p></html>'
    (folder / "index.html").write_text(page, encoding="utf-8")


def contents(notebooks: list[Path]) -> str:
    """The tables of contents below the first page's text."""
    chapters = [f"notebooks/{path.name}" for path in notebooks if path.name[:2].isdigit()]
    appendices = [f"notebooks/{path.name}" for path in notebooks if not path.name[:2].isdigit()]
    instructors = sorted((ROOT / "docs" / "instructors").glob("*.md"))
    teaching = sorted((f"docs/instructors/{path.name}" for path in instructors), key=_index_first)
    return "".join(
        (
            toctree("The course", [*chapters, *appendices, "docs/troubleshooting.md"]),
            toctree("Teaching", teaching),
            toctree("Guides", [f"docs/{name}.md" for name in GUIDES]),
            toctree("Look up", [f"docs/{name}.md" for name in LOOK_UP] + ["api/index.md"]),
            toctree("The project", ["CONTRIBUTING.md", "CHANGELOG.md"]),
        )
    )


def _index_first(page: str) -> tuple[bool, str]:
    return not page.endswith("/index.md"), page


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text("utf-8") + text, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("BLENDMASK_BUDGET", "laptop")
    sys.exit(main(sys.argv[1:]))
