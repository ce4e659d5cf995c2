"""The RoI sampler: a map with sample points, the crop, and the sum behind each of its cells.

Chapter 07.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from blendmask_lite.figures.sampling import paint_sampling
from blendmask_lite.figures.style import PALETTE, largest_magnitude
from blendmask_lite.lab.canvas import (
    SHADES,
    Bar,
    Bars,
    Canvas,
    CanvasEvent,
    Group,
    Mark,
    Panel,
    as_cells,
    as_png,
    png_panel,
)
from blendmask_lite.lab.parts import LabWidget, button, control, row, shows_errors, slider
from blendmask_lite.research.fields import (
    BoxPooling,
    cell_weights,
    pool_box,
    pooled_region,
    sample_points,
)

__all__ = ["RoiSampler", "bars", "columns", "marks", "pixels"]


MAP_SIZE, CROP_SIZE = 400, 240  # CSS pixels
MOST_BARS = 9
PLUS, MINUS = PALETTE[0], PALETTE[1]


def columns(values: Tensor, how: BoxPooling) -> list[list[Group]]:
    """The panels: the map with the box, and the crop."""
    height, width = values.shape
    limit = largest_magnitude(values)
    label = f"A map of {width} by {height} cells with the box, its bins and the sample points"
    grid = png_panel("map", label, values.shape, MAP_SIZE, unit=how.stride, acts=("box",))
    crop = Panel(
        "crop",
        f"The crop, {how.size} by {how.size} cells",
        how.size,
        how.size,
        size=CROP_SIZE,
        palette="signed",
        is_live=True,
        acts=("hover",),
    )
    scale = f"blue {-limit:.3g} to red {limit:.3g}"
    return [
        [Group("Map, bins, sample points", (grid,), f"drag the box; a cell is {how.stride:g} px")],
        [
            Group("Crop", (crop,), f"{how.size} × {how.size}, {scale}; point at a cell"),
            Group("", bars="cell"),
            Group("", bars="difference"),
        ],
    ]


def pixels(values: Tensor, box: Tensor, how: BoxPooling) -> dict[str, bytes]:
    """The cells of both panels."""
    limit = largest_magnitude(values)
    points = sample_points(box, how).flatten(0, 2)
    return {
        "map": as_png(paint_sampling(values, pooled_region(box, how), points, how.size)),
        "crop": as_cells(pool_box(values, box, how), -limit, limit),
    }


def marks(
    values: Tensor, box: Tensor, how: BoxPooling, pointed: tuple[int, int] | None
) -> dict[str, list[Mark]]:
    """The map cells that contribute to a cell (column, row) of the crop, with their weights."""
    if pointed is None:
        return {}
    column, row = pointed
    weights = cell_weights(values, box, how, row, column)
    behind = [Mark(x, y, weight=float(weights[y, x])) for y, x in (weights > 0).nonzero().tolist()]
    return {"map": behind, "crop": [Mark(column, row)]}


def bars(
    values: Tensor, box: Tensor, how: BoxPooling, pointed: tuple[int, int] | None
) -> dict[str, Bars]:
    """The sum behind a cell, and the crop's difference from RoIAlign's with one sample."""
    return {
        "cell": _cell_bars(values, box, how, pointed),
        "difference": _difference_bars(values, box, how),
    }


def _cell_bars(
    values: Tensor, box: Tensor, how: BoxPooling, pointed: tuple[int, int] | None
) -> Bars:
    if pointed is None:
        return Bars("Point at a cell of the crop to see which cells of the map it is made of.")
    column, row = pointed
    weights = cell_weights(values, box, how, row, column)
    cells = (weights > 0).nonzero().tolist()
    cells.sort(key=lambda cell: -float(weights[cell[0], cell[1]]))
    total = float(pool_box(values, box, how)[row, column])
    what = "the largest cell of its bin" if how.kind == "pool" else f"{len(cells)} weighted cells"
    where = f"Row {row + 1}, column {column + 1}"
    if not cells:
        return Bars(f"{where}: outside the map, so 0.")
    terms = []
    for y, x in cells[:MOST_BARS]:
        weight, value = float(weights[y, x]), float(values[y, x])
        color = PLUS if weight * value > 0 else MINUS
        terms.append(Bar(f"x {x}, y {y}", weight * value, f"{weight:.2f} × {value:.3g}", color))
    limit = largest_magnitude(values)
    title = f"{where}: {total:.2f}, {what}. Weight × value:"
    return Bars(title, tuple(terms), low=-limit, high=limit)


def _difference_bars(values: Tensor, box: Tensor, how: BoxPooling) -> Bars:
    """The crop's difference from the paper's choice."""
    usual = pool_box(values, box, BoxPooling(how.size, how.stride))
    away = (pool_box(values, box, how) - usual).abs()
    numbers = (("mean", float(away.mean())), ("largest", float(away.max())))
    bars = tuple(Bar(name, number, f"{number:.2f}", "#7f7f7f") for name, number in numbers)
    title = "Difference from RoIAlign with one sample per bin:"
    return Bars(title, bars, high=largest_magnitude(values))


LARGEST_MAP = 40  # largest number of cells per side: more cannot be told apart
METHODS: dict[str, dict[str, Any]] = {
    "RoIAlign": {},
    "RoIAlign, half a cell off": {"is_aligned": False},
    "RoIPool": {"kind": "pool"},
}


class RoiSampler(LabWidget):
    """One map, one box, and RoIAlign or RoIPool.

    Args:
        values: (H, W) map of at most 40 x 40 cells; None for a soft disk.
        stride: pixels per cell of the map.
        box: initial box (x0, y0, x1, y1), pixels; None for one around the middle.

    Raises:
        ValueError: the map has the wrong shape, or the box has no width or height.
    """

    def __init__(
        self,
        *,
        values: Tensor | None = None,
        stride: int = 4,
        box: Sequence[float] | None = None,
    ) -> None:
        super().__init__(title="RoIAlign sample points")
        values = _soft_disk() if values is None else values.detach().float()
        if values.dim() != 2 or not 1 <= min(values.shape) <= max(values.shape) <= LARGEST_MAP:
            raise ValueError(
                f"values of shape {tuple(values.shape)}: expected a map of at most "
                f"{LARGEST_MAP} x {LARGEST_MAP} cells"
            )
        self.values, self.stride = values, stride
        self.first_box = _middle(values, stride) if box is None else torch.tensor(box).float()
        self.canvas = Canvas()
        self.canvas.smallest_box = 1.0
        self._pointed: tuple[int, int] | None = None
        self._layout: int | None = None
        self._make_controls()
        self.put(self.first_box)
        self._connect()
        self.arrange(row(self.method, self.samples, self.size, self.reset), self.canvas)

    @property
    def how(self) -> BoxPooling:
        """The pooling that the controls choose."""
        return BoxPooling(
            size=self.size.value,
            stride=self.stride,
            samples=self.samples.value,
            **METHODS[self.method.value],
        )

    def put(self, box: Sequence[float] | Tensor) -> None:
        """Move the box to corners (x0, y0, x1, y1), pixels.

        Raises:
            ValueError: the box has no width or height.
        """
        sides = torch.as_tensor(box).float()
        if sides.shape != (4,) or not (sides[2] > sides[0] and sides[3] > sides[1]):
            raise ValueError(f"box {sides.tolist()}: x1 must be above x0, and y1 above y0")
        self.box = sides
        self._draw()

    def free(self) -> None:
        """Drop the map."""
        del self.values

    # -------------------------------------------------------------- drawing

    def _draw(self) -> None:
        values, box, how = self.values, self.box, self.how
        with self.canvas.hold_sync():
            if self._layout != how.size:
                self._pointed = None
                self.canvas.arrange(columns(values, how), SHADES)
                self._layout = how.size
            self.canvas.draw(pixels(values, box, how), box=box.tolist())
            self._draw_cell()

    def _draw_cell(self) -> None:
        now = (self.values, self.box, self.how, self._pointed)
        shown = bars(*now)
        self.canvas.draw(bars=shown, marks=marks(*now))
        self.canvas.announcement = shown["cell"].title

    # -------------------------------------------------------------- controls

    def _make_controls(self) -> None:
        dropdown, counts = widgets.Dropdown, [("1", 1), ("2 × 2", 2), ("4 × 4", 4)]
        self.method = control(dropdown, "method", 270, options=list(METHODS))
        self.samples = control(dropdown, "samples per bin", 180, options=counts)
        self.size = slider("R, cells", 260, 4, 1, 14)
        self.reset = button("undo", "Reset", "the first box")

    def _connect(self) -> None:
        self.when(self.method, self.samples, self.size, do=self._apply)
        self.when(self.reset, do=lambda: self.put(self.first_box))
        self.canvas.on_event(self._on_event)

    def _apply(self) -> None:
        self.samples.disabled = self.how.kind == "pool"
        self._draw()

    @shows_errors
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "box":
            self.put(event.box)
        elif event.kind == "hover" and event.panel == "crop":
            self._pointed = event.cells[0] if event.cells else None
            self._draw_cell()


def _soft_disk() -> Tensor:
    """(14, 14): positive in a disk, negative outside, with a soft border."""
    place = torch.arange(14) + 0.5
    distance = ((place - 7).square()[:, None] + (place - 7).square()).sqrt()
    return torch.tanh((4.2 - distance) / 1.2)


def _middle(values: Tensor, stride: int) -> Tensor:
    """A box around the middle whose sides do not coincide with cell borders."""
    height, width = values.shape
    sides = torch.tensor([0.21 * width, 0.26 * height, 0.83 * width, 0.78 * height])
    return sides * stride
