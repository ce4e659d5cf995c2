"""The explorer's controls above its pages: model, pictures, object.

Chapter: the lab.
"""

from __future__ import annotations

import ipywidgets as widgets

from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import WIDTHS
from blendmask_lite.lab.explorer_page import WRAP, Present, toggle
from blendmask_lite.lab.explorer_sources import MODEL_CHOICES
from blendmask_lite.lab.messages import MessageLine
from blendmask_lite.lab.upload import UploadButton

__all__ = ["ExplorerControls"]

AS_SHOWN = "as shown"
SOURCES = {"shapes": "shapes", "COCO folder": "folder", "own picture": "own"}


class ExplorerControls:
    """All controls above the pages, and rows to show them in."""

    def __init__(self) -> None:
        self.model = widgets.Combobox(
            placeholder="shipped, a published name, or a file",
            options=MODEL_CHOICES,
            ensure_option=False,
            description="model",
            layout={"width": "400px"},
        )
        self.load_model = widgets.Button(description="Load model", icon="download")
        self.source = toggle("pictures", SOURCES)
        self.seed = widgets.BoundedIntText(
            7, 0, 2**31 - 1, description="seed", layout={"width": "170px"}
        )
        self.folder = widgets.Text(
            placeholder="a folder in COCO's layout", description="folder", layout={"width": "340px"}
        )
        self.split = widgets.Text(
            placeholder="the only one", description="split", layout={"width": "200px"}
        )
        self.open_folder = widgets.Button(description="Open folder", icon="folder-open")
        self.upload = UploadButton(label="Choose a picture, or drop one here")
        self.number = widgets.BoundedIntText(
            0, 0, 0, description="number", layout={"width": "170px"}
        )
        self.previous = _narrow("arrow-left", "previous picture")
        self.next = _narrow("arrow-right", "next picture")
        self.object = widgets.Dropdown(description="object", layout={"width": "270px"})
        self.least_score = widgets.FloatSlider(
            0.5,
            min=0.05,
            max=0.95,
            step=0.05,
            description="least score",
            continuous_update=False,
            layout={"width": "300px"},
        )
        self.width = widgets.Dropdown(
            options=[AS_SHOWN, *WIDTHS], description="save for", layout={"width": "190px"}
        )
        self.advice = MessageLine()  # stays as long as it holds
        self.is_following = False  # the controls are being set: nobody moved them

    @property
    def rows(self) -> list[widgets.Widget]:
        """From top to bottom."""
        rows = (
            [self.model, self.load_model],
            [self.source, self.seed, self.folder, self.split, self.open_folder, self.upload],
            [self.number, self.previous, self.next, self.object, self.least_score, self.width],
        )
        return [*(widgets.HBox(row, layout=WRAP) for row in rows), self.advice]

    @property
    def chosen_width(self) -> str | None:
        """Of saved figures; None is as shown."""
        return None if self.width.value == AS_SHOWN else str(self.width.value)

    def show_source(self) -> None:
        """Show the controls of the chosen kind of pictures, hide the others'."""
        kind = self.source.value
        shown = {
            "shapes": (self.seed,),
            "folder": (self.folder, self.split, self.open_folder),
            "own": (self.upload,),
        }
        for name, group in shown.items():
            for control in group:
                control.layout.display = None if name == kind else "none"
        is_own = kind == "own"
        for control in (self.number, self.previous, self.next):
            control.layout.display = "none" if is_own else None

    def follow(self, present: Present, *, number: int, advice: str) -> None:
        """Show a state, without calling anybody.

        Args:
            present: the state.
            number: of the picture in its data set.
            advice: where model and picture do not belong together.
        """
        self.is_following = True
        try:
            total = len(present.dataset)
            self.number.max = max(total - 1, 0)
            self.number.value = number
            self.previous.disabled, self.next.disabled = number == 0, number + 1 >= total
            if isinstance(present.dataset, ShapesDataset):
                self.seed.value = present.dataset.seed
            names = [each.name for each in present.look.objects]
            if [name for name, _ in self.object.options] != names:
                self.object.options = [(name, index) for index, name in enumerate(names)]
            self.object.value = present.chosen if names else None
            self.object.disabled = not names
            self.least_score.value = present.look.least_score
            if advice:
                self.advice.show(advice, "warning")
            else:
                self.advice.clear()
        finally:
            self.is_following = False


def _narrow(icon: str, tooltip: str) -> widgets.Button:
    return widgets.Button(icon=icon, tooltip=tooltip, layout={"width": "42px"})
