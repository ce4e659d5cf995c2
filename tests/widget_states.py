"""What a notebook's widgets looked like when its last cell had run, as nbclient saves them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nbformat

STATE, VIEW = (
    "application/vnd.jupyter.widget-state+json",
    "application/vnd.jupyter.widget-view+json",
)
PLAY, HEADING = re.compile(r"^## Play", re.MULTILINE), re.compile(r"^## ", re.MULTILINE)
# Bytes of a canvas that are no pixels: its colours.
NO_PIXELS = {"palettes"}


def problems_of_play(notebook: nbformat.NotebookNode) -> list[str]:
    """Why the play section of an executed notebook shows no working widget of the lab.

    A lab widget counts when a cell of the section shows it, alone or inside another widget. Its
    message lines may inform and warn, but not tell of an error, and it has to hold pixels.
    """
    models = notebook.metadata.widgets[STATE]["state"]
    shown = [each for root in _views(notebook) for each in _inside(models, root)]
    labs = [each for each in shown if "blendmask-lab" in _of(models, each, "_dom_classes", ())]
    if not labs:
        return ["shows no widget of the lab"]
    problems = []
    for lab in labs:
        parts = list(_inside(models, lab))
        for part in parts:
            is_message = "details" in models[part]["state"]
            if is_message and _of(models, part, "kind", "") == "error" and _text(models, part):
                problems.append(f"a widget says: {_text(models, part)}")
        if not any(_has_pixels(models[part]) for part in parts):
            problems.append("a widget shows no picture")
    return problems


def _views(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Ids of the widgets that cells between "## Play" and the next heading show."""
    is_play = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = HEADING.findall(cell.source)
            is_play = bool(PLAY.search(cell.source)) or (is_play and not headings)
        elif is_play:
            for output in cell.outputs:
                if VIEW in output.get("data", {}):
                    yield output["data"][VIEW]["model_id"]


def _inside(models: dict[str, Any], model_id: str) -> Iterator[str]:
    """A widget and all that its boxes hold."""
    yield model_id
    for child in _of(models, model_id, "children", ()):
        yield from _inside(models, child.removeprefix("IPY_MODEL_"))


def _of(models: dict[str, Any], model_id: str, name: str, default: Any) -> Any:
    return models.get(model_id, {}).get("state", {}).get(name, default)


def _text(models: dict[str, Any], model_id: str) -> str:
    return str(_of(models, model_id, "text", ""))


def _has_pixels(model: dict[str, Any]) -> bool:
    """A canvas, a figure or an image with content, or cells' output with a picture."""
    buffers = model.get("buffers", ())
    has_bytes = any(each["data"] and each["path"][0] not in NO_PIXELS for each in buffers)
    outputs = model["state"].get("outputs", ())
    return has_bytes or any("image/png" in each.get("data", {}) for each in outputs)
