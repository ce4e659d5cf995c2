"""The receptive field explorer: point at a cell of a map and see the pixels that influence it.

Chapter 02.
"""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
from torch import Tensor

from blendmask_lite.config import LEVEL_STRIDES
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset
from blendmask_lite.figures.sampling import CellField, paint_gradient, receptive_field_figure
from blendmask_lite.figures.style import PALETTE, DescribedFigure
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.lab.canvas import Bar, Bars, Canvas, CanvasEvent, Group, Mark, as_png, png_panel
from blendmask_lite.lab.parts import LabWidget, control, image_choice, row, shows_errors
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research.fields import ReceptiveFields, effective_side
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["ReceptiveFieldExplorer"]

KEY = "map"  # key of the only panel
WIDE = 440  # CSS pixels
SHARES = (0.5, 0.9, 0.99)


class ReceptiveFieldExplorer(LabWidget):
    """Theoretical and effective receptive fields, cell by cell.

    Args:
        model: the model whose maps are shown; None for the shipped one.
        images: (3, H, W) images; None for some generated ones of 256 x 256 pixels.

    Raises:
        ValueError: there are no images.
    """

    def __init__(
        self, model: BlendMask | None = None, *, images: Sequence[Tensor] | None = None
    ) -> None:
        super().__init__(title="Receptive field explorer")
        if images is None:
            dataset = ShapesDataset(4, seed=7, config=ShapesConfig(size=256))
            images = [sample.image for sample in dataset]
        if len(images) == 0:
            raise ValueError("images: at least one is needed")
        self.images = tuple(images)
        self.fields = ReceptiveFields(load_model(shipped_checkpoint()) if model is None else model)
        names = self.fields.names
        self.picture = image_choice(len(self.images))
        maps = [(f"{name} (stride {_stride_of(name)})", name) for name in names]
        self.map = control(widgets.Dropdown, "map", 200, options=maps)
        self.map.value = "c4" if "c4" in names else names[0]
        shares = [(f"{100 * share:g} %", share) for share in SHARES]
        self.share = control(widgets.Dropdown, "share of the gradient", 240, options=shares)
        self.share.value = 0.9
        self.canvas = Canvas()
        self._show_middle()
        self.canvas.on_event(self._on_event)
        self.when(self.picture, self.map, do=self._show_middle)
        self.when(self.share, do=self._draw)
        self.arrange(row(self.picture, self.map, self.share), self.canvas)

    def point(self, row: int, column: int) -> None:
        """Show another cell of the current map.

        Raises:
            ValueError: there is no such cell.
        """
        self._show(self.shown, self.name, (row, column))

    def figure(self) -> DescribedFigure:
        """The current cell, as a figure for print."""
        name = f"{self.name}, row {self.cell[0]}, column {self.cell[1]}"
        return receptive_field_figure(self.images[self.shown], {name: self.field})

    def free(self) -> None:
        """Drop the model and the images."""
        del self.fields, self.images, self.field

    # -------------------------------------------------------------- drawing

    def _show_middle(self) -> None:
        self._show(self.picture.value, self.map.value, None)

    def _show(self, picture: int, name: str, cell: tuple[int, int] | None) -> None:
        """Show a state. Steps that can fail come first; then the old state stays."""
        stride, image = _stride_of(name), self.images[picture]
        divisor = self.fields.network.config.size_divisor
        height, width = (-(-side // divisor) * divisor for side in image.shape[-2:])
        shape = -(-height // stride), -(-width // stride)
        cell = cell or (shape[0] // 2, shape[1] // 2)
        field = CellField(
            gradient=self.fields.gradient(image, name, cell),
            box=self.fields.box((height, width), name, cell),
            location=((cell[1] + 0.5) * stride, (cell[0] + 0.5) * stride),
        )
        self.shown, self.name, self.cell, self.field = picture, name, cell, field
        with self.canvas.hold_sync():
            self.canvas.arrange(_columns(name, shape))
            self._draw()

    def _draw(self) -> None:
        field, stride = self.field, _stride_of(self.name)
        x0, y0, x1, y1 = (side / stride for side in field.box.tolist())
        bars = self._bars()
        self.canvas.draw(
            {KEY: as_png(paint_gradient(self.images[self.shown], field.gradient))},
            marks={KEY: [Mark(self.cell[1], self.cell[0]), Mark(x0, y0, x1 - x0, y1 - y0)]},
            bars={"field": bars},
        )
        self.canvas.announcement = bars.title

    def _bars(self) -> Bars:
        field, share = self.field, self.share.value
        x0, y0, x1, y1 = field.box.tolist()
        theory = ((x1 - x0) * (y1 - y0)) ** 0.5
        effective = effective_side(field.gradient, share)
        title = (
            f"{self.name}, row {self.cell[0]}, column {self.cell[1]}: the location is "
            f"({field.location[0]:g}, {field.location[1]:g}) px, the middle of its field is "
            f"({(x0 + x1) / 2:g}, {(y0 + y1) / 2:g}) px. Sides of squares of the same area:"
        )
        bars = (
            Bar("can act", theory, f"{theory:.0f} px", PALETTE[1]),
            Bar(f"{100 * share:g} %", effective, f"{effective:.0f} px", PALETTE[0]),
        )
        return Bars(title, bars, high=max(theory, effective))

    # -------------------------------------------------------------- from the page

    @shows_errors
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "hover" and event.cells:
            column, line = event.cells[0]
            self.point(line, column)


def _stride_of(name: str) -> int:
    """The stride of a map such as "c4" or "p6", pixels."""
    return LEVEL_STRIDES[f"p{name[1]}"]


def _columns(name: str, shape: tuple[int, int]) -> list[list[Group]]:
    cells = f"{shape[1]} x {shape[0]} cells"
    label = (
        f"Map {name}, {cells} over the image. Orange: how strongly a pixel acts on the cell that "
        "you point at; outlined: the cell, and all that it can see"
    )
    panel = png_panel(KEY, label, shape, WIDE, title=f"{name}, {cells}", acts=("hover",))
    note = "point at a cell (arrow keys on the image)"
    return [[Group("", (panel,), note)], [Group("What this cell sees", bars="field")]]
