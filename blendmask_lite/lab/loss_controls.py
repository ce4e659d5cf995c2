"""The loss playground's controls: which loss pulls, and sliders of focal loss and centerness."""

from __future__ import annotations

import ipywidgets as widgets

from blendmask_lite.lab.controls import SHORT, button, row, wide
from blendmask_lite.research.losses import BOX_LOSSES

__all__ = ["PAGES", "LossControls"]

PAGES = ("Boxes", "Focal loss", "Centerness")


class LossControls:
    """All controls, and a row of them for every page."""

    def __init__(self) -> None:
        self.page = widgets.ToggleButtons(
            options=PAGES,
            description="page",
            style={"button_width": "auto", "description_width": "initial"},
        )
        self.loss = widgets.ToggleButtons(
            options=BOX_LOSSES,
            value="1 - GIoU",
            description="loss",
            style={"button_width": "auto", "description_width": "initial"},
        )
        self.step = button("step-forward", "10 steps down", "the box follows its arrows")
        self.apart = button("arrows-h", "Apart", "a box that does not touch the true one")
        self.reset = button("undo", "Reset", "the box of the beginning")
        self.alpha = _slider("alpha", 0.25, 0, 1, "weight of objects; 1 - alpha of background")
        self.gamma = _slider("gamma", 2, 0, 5, "how fast easy examples lose their weight")
        self.chance = _slider(
            "p of an object", 0.01, 0.01, 0.99, "what the network predicts at a location"
        )
        self.across = _slider("across", 0.3, 0.02, 0.98, "location, in widths of the box")
        self.down = _slider("down", 0.4, 0.02, 0.98, "location, in heights of the box")
        self.predicted = _slider("prediction", 0.9, 0.01, 0.99, "predicted centerness")
        self.note = {page: _note() for page in ("focal", "centerness")}

    @property
    def boxes_row(self) -> widgets.HBox:
        """Of the page with the boxes."""
        return row(self.loss, self.step, self.apart, self.reset)

    @property
    def focal_row(self) -> widgets.HBox:
        """Of the page with the focal loss."""
        return row(self.alpha, self.gamma, self.chance)

    @property
    def centerness_row(self) -> widgets.HBox:
        """Of the page with the centerness."""
        return row(self.across, self.down, self.predicted)


def _slider(
    description: str, value: float, low: float, high: float, tooltip: str
) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value,
        min=low,
        max=high,
        step=0.01 if high <= 1 else 0.25,
        description=description,
        tooltip=tooltip,
        continuous_update=False,
        layout=wide(290),
        style=SHORT,
    )


def _note() -> widgets.HTML:
    note = widgets.HTML()
    note.add_class("blendmask-lab-note")
    return note
