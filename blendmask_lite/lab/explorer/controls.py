"""The explorer's controls."""

from __future__ import annotations

import ipywidgets as widgets

from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import WIDTHS
from blendmask_lite.lab.explorer.page import Present, whole_number
from blendmask_lite.lab.explorer.sources import UploadButton, model_field
from blendmask_lite.lab.parts import MessageLine, button, control, offer, row, slider, toggle

__all__ = ["ExplorerControls"]


AS_SHOWN = "as shown"
SOURCES = {
    "shapes": "shapes",
    "photographs": "photos",
    "COCO folder": "folder",
    "your own": "own",
}
SOURCE_TOOLTIPS = [
    "generated images",
    "the photographs that come with the project",
    "a folder of images with annotations in COCO's format",
    "a file from your disk",
]


class ExplorerControls:
    """All controls above the pages, and the rows that show them."""

    def __init__(self) -> None:
        self.model = model_field("model", 400, "small, photos, a published name, or a file")
        self.load_model = widgets.Button(description="Load model", icon="download")
        self.source = toggle("images", SOURCES, tooltips=SOURCE_TOOLTIPS)
        self.seed = whole_number("seed", 170, 7, 0, 2**31 - 1)
        self.seed.tooltip = "any number: each gives other generated images"
        text = widgets.Text
        self.folder = control(text, "folder", 340, placeholder="a folder in COCO's layout")
        self.split = control(text, "split", 200, placeholder="the only one")
        self.open_folder = widgets.Button(description="Open folder", icon="folder-open")
        self.upload = UploadButton()
        self.number = whole_number("image", 170, 0, 0, 0)
        self.previous = button("arrow-left", "", "previous image")
        self.next = button("arrow-right", "", "next image")
        self.object = control(widgets.Dropdown, "object", 270)
        limits = 0.5, 0.05, 0.95, 0.05
        tooltip = "objects that the network is less sure of are not shown; 1 would be certain"
        self.least_score = slider(
            "least score", 300, *limits, continuous_update=False, tooltip=tooltip
        )
        self.width = control(widgets.Dropdown, "save for", 190, options=[AS_SHOWN, *WIDTHS])
        self.advice = MessageLine()  # stays as long as it applies
        self.of_source = {
            "shapes": [self.seed],
            "photos": [],
            "folder": [self.folder, self.split, self.open_folder],
            "own": [self.upload],
        }
        steps = [self.number, self.previous, self.next]
        self.rows = [
            row(self.model, self.load_model),
            row(self.source, *(widget for group in self.of_source.values() for widget in group)),
            row(*steps, self.object, self.least_score, self.width),
            self.advice,
        ]

    @property
    def chosen_width(self) -> str | None:
        """Width of saved figures; None keeps the displayed width."""
        return None if self.width.value == AS_SHOWN else str(self.width.value)

    def show_source(self) -> None:
        """Show the controls of the chosen source and hide those of the others."""
        for name, group in self.of_source.items():
            for widget in group:
                widget.layout.display = None if name == self.source.value else "none"
        for widget in (self.number, self.previous, self.next):
            widget.layout.display = "none" if self.source.value == "own" else None

    def follow(self, present: Present, *, number: int, advice: str) -> None:
        """Show a state, the number of its image, and any advice."""
        total = len(present.dataset)
        self.number.max = max(total - 1, 0)
        self.number.value = number
        self.previous.disabled, self.next.disabled = number == 0, number + 1 >= total
        if isinstance(present.dataset, ShapesDataset):
            self.seed.value = present.dataset.seed
        names = [thing.name for thing in present.look.objects]
        offer(self.object, names, present.chosen if names else None)
        self.object.disabled = not names
        self.least_score.value = present.look.least_score
        if advice:
            self.advice.show(advice, "warning")
        else:
            self.advice.clear()
