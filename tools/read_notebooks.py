"""Reads notebooks as a student does: JupyterLab, a browser, Run All, from top to bottom.

Usage: python tools/read_notebooks.py [--stills] [--output FOLDER] [NOTEBOOK ...]

Writes the whole page, wide and narrow, as pictures into FOLDER (build/reading), and names what no
reader should meet: a cell that fails, something wider than the window, a picture without a
description, a request that leaves the machine. With --stills every widget's picture goes to
docs/images/widgets, where the site finds it. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from site_notebooks import STILLS, still_name

from blendmask_lite.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import jupyter  # noqa: E402

PIECE = 2200  # height of one picture, pixels
MOST_HEIGHT = 30_000  # of a notebook, pixels
WIDGET = ".jp-OutputArea-output:has(.jupyter-widgets)"
TO_TOP = """() => document.querySelectorAll('.jp-Notebook, .jp-WindowedPanel-outer')
    .forEach(each => { each.scrollTop = 0; })"""
HEIGHT = """() => Math.ceil([...document.querySelectorAll('.jp-Notebook .jp-Cell')]
    .reduce((sum, cell) => sum + cell.getBoundingClientRect().height + 6, 300))"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    parser.add_argument("--stills", action="store_true", help="renew docs/images/widgets")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "reading")
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    options.output.mkdir(parents=True, exist_ok=True)
    problems = 0
    with tempfile.TemporaryDirectory() as home:
        folder = Path(shutil.copytree(ROOT / "notebooks", Path(home) / "notebooks"))
        with jupyter.serving(folder) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=jupyter.find_chromium(), args=jupyter.CHROMIUM_OPTIONS
            )
            lab = jupyter.JupyterLab(browser, address)
            for path in paths:
                found = read(lab, path.stem, options.output, stills=options.stills)
                problems += len(found)
                print("\n".join([f"{path.stem}: {len(found)} problems", *found]), flush=True)
            browser.close()
    return 1 if problems else 0


def read(lab: jupyter.JupyterLab, stem: str, output: Path, *, stills: bool) -> list[str]:
    """Run one notebook, keep its pictures, and say what is wrong with it, a line each."""
    page = lab.page
    with lab.opened(f"{stem}.ipynb", width=jupyter.WIDTHS[0], height=800):
        lab.run_all()
        lab.wait_until_finished(seconds=900)
        failed = page.locator(jupyter.ERROR_OUTPUT).all_text_contents()
        problems = [f"  fails: {text[:300]}" for text in failed]
        problems += [
            f"  no description: a picture of {cell}" for cell in page.evaluate(jupyter.FIND_SILENT)
        ]
        problems += [f"  asks for {each}" for each in lab.foreign_requests()]
        for width in jupyter.WIDTHS:
            lab.resize(width, 800)
            lab.resize(width, min(MOST_HEIGHT, page.evaluate(HEIGHT)))
            page.evaluate(TO_TOP)
            page.wait_for_timeout(500)
            wide = page.evaluate(jupyter.FIND_WIDE)
            problems += [f"  too wide at {width} px: {each}" for each in wide]
            keep(page.screenshot(), output, f"{stem}_{width}")
            if stills and width == jupyter.WIDTHS[0]:
                keep_stills(page, stem)
    lab.requests.clear()
    return problems


def keep(screenshot: bytes, folder: Path, name: str) -> None:
    """Cut a tall picture into pieces that can be looked at."""
    for old in folder.glob(f"{name}_*.png"):
        old.unlink()
    with Image.open(io.BytesIO(screenshot)) as picture:
        for number, top in enumerate(range(0, picture.height, PIECE)):
            bottom = min(top + PIECE, picture.height)
            picture.crop((0, top, picture.width, bottom)).save(folder / f"{name}_{number:02}.png")


def keep_stills(page: Any, stem: str) -> None:
    """Every widget of the page as a small PNG for the site."""
    STILLS.mkdir(parents=True, exist_ok=True)
    for number, widget in enumerate(page.locator(WIDGET).all()):
        with Image.open(io.BytesIO(widget.screenshot())) as picture:
            buffer = io.BytesIO()
            # Median cut, the default, loses the colour of what is small: the name of base 3
            # got that of base 1.
            few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
            few.save(buffer, format="png", optimize=True)
        write_atomically(STILLS / still_name(stem, number), buffer.getvalue())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
