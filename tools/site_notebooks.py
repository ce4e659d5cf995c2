"""Runs the notebooks for the site, and puts pictures where a page cannot have a live widget."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from blendmask_lite.files import write_atomically

__all__ = ["LIVE", "STILLS", "execute", "lead_to_pages", "replace_widgets", "still_name"]

ROOT = Path(__file__).resolve().parent.parent
STILLS = ROOT / "docs" / "images" / "widgets"  # made by tools/read_notebooks.py
# Widgets in whose place a page shows a part of the playground: the part, and what it begins with.
LIVE = {
    "00_start_here_0.png": ("rows", "m=small&p=paws"),
    "09_blender_0.png": ("rows", "m=small&p=twins"),
    "10_yolact_and_fcis_0.png": ("methods", "m=small&p=twins&r=1"),
    "15_explorer_0.png": ("bases", "m=photos&p=dog"),
}
CHAPTER_LINK = re.compile(r'href="(\w+)\.ipynb"')
WIDGET = "application/vnd.jupyter.widget-view+json"
# Whatever asks the network for something fails.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
CELL_SECONDS = 3600


def execute(path: Path, cache: Path, say: Callable[[str], None] = print) -> nbformat.NotebookNode:
    """The notebook with its outputs, from `cache` where neither it nor the package has changed.

    Args:
        path: of the notebook.
        cache: folder of executed notebooks.
        say: is told the name of a notebook that has to be run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message shows it.
    """
    kept = cache / f"{path.stem}-{_key(path)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    say(f"running {path.name}")
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(OFFLINE, BLENDMASK_PROGRESS=str(Path(folder) / "progress.json"))
        resources = {"metadata": {"path": str(path.parent)}}  # links to chapters are found there
        NotebookClient(notebook, timeout=CELL_SECONDS, resources=resources).execute()
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    write_atomically(kept, nbformat.writes(notebook).encode())
    return notebook


def replace_widgets(
    notebook: nbformat.NotebookNode, stem: str, stills: Path = STILLS
) -> nbformat.NotebookNode:
    """Show every widget as a picture of itself and say where it lives; `LIVE` ones may also run.

    Args:
        notebook: executed; it is changed.
        stem: the notebook's name without its suffix.
        stills: folder with pictures of widgets, by `still_name`.
    """
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if WIDGET not in output.get("data", {}):
                continue
            output.data = _still(stills / still_name(stem, number))
            number += 1
    notebook.metadata.pop("widgets", None)
    return notebook


def lead_to_pages(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Let links that cells have drawn, such as the map's, lead to the pages of chapters.

    Args:
        notebook: executed; it is changed. Links in the text are Sphinx's business.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                html = output.data["text/html"]
                output.data["text/html"] = CHAPTER_LINK.sub(r'href="\1.html"', html)
    return notebook


def still_name(stem: str, number: int) -> str:
    """File name of the picture of a notebook's widget, counted from 0."""
    return f"{stem}_{number}.png"


def _still(path: Path) -> dict[str, str]:
    picture = ""
    if path.exists():
        source = base64.b64encode(path.read_bytes()).decode()
        picture = f'<img alt="The widget as it looks" src="data:image/png;base64,{source}">'
    note = "A widget: it needs a kernel. Open the notebook with <code>make lab</code> to use it."
    still = f'<div class="widget-still">{picture}<p>{note}</p></div>'
    if path.name in LIVE:
        part, view = LIVE[path.name]
        link = f'href="../playground/index.html" data-part="{part}" data-view="{escape(view)}"'
        note = (
            f"The <a {link}>playground</a> does much of this in the browser; the widget itself "
            "needs a kernel (<code>make lab</code>)."
        )
        still = f'<div class="live"><div class="widget-still">{picture}</div><p>{note}</p></div>'
    return {"text/html": still, "text/plain": "a widget"}


def _key(path: Path) -> str:
    """Changes with the notebook, the package and the budget."""
    digest = hashlib.sha256(path.read_bytes())
    for file in sorted((ROOT / "blendmask_lite").rglob("*")):
        if file.suffix in {".py", ".js", ".pt", ".pth", ".safetensors", ".zip", ".json"}:
            digest.update(file.read_bytes())
    digest.update(json.dumps(os.environ.get("BLENDMASK_BUDGET", "")).encode())
    return digest.hexdigest()[:16]
