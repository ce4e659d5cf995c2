"""The RoI sampler: a box over the cells of a map, where it is sampled, and what comes of it.

Chapter 07 (BlendMask, equation 1; Mask R-CNN, section 3, RoIAlign).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from blendmask_lite.lab import roi_view as view
from blendmask_lite.lab.canvas import Canvas
from blendmask_lite.lab.canvas_parts import CanvasEvent
from blendmask_lite.lab.controls import SHORT, button, row, wide
from blendmask_lite.lab.messages import LabWidget, shows_errors
from blendmask_lite.research.fields import BoxPooling

__all__ = ["RoiSampler"]

LARGEST_MAP = 40  # cells a side: more cannot be told apart
METHODS: dict[str, dict[str, Any]] = {
    "RoIAlign": {},
    "RoIAlign, half a cell off": {"is_aligned": False},
    "RoIPool": {"kind": "pool"},
}


class RoiSampler(LabWidget):
    """One map, one box, and RoIAlign or RoIPool.

    Args:
        values: (H, W) map of at most 40 x 40 cells; None: a soft disk.
        stride: of the map, pixels per cell.
        box: (x0, y0, x1, y1) to begin with, pixels; None: around the middle.

    Raises:
        ValueError: a map of another shape, or a box without width or height.
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
                f"values of shape {tuple(values.shape)}: a map of at most "
                f"{LARGEST_MAP} x {LARGEST_MAP} cells is expected"
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
        """What the controls say."""
        return BoxPooling(
            size=self.size.value,
            stride=self.stride,
            samples=self.samples.value,
            **METHODS[self.method.value],
        )

    def put(self, box: Sequence[float] | Tensor) -> None:
        """Move the box to corners in pixels.

        Raises:
            ValueError: a box without width or height.
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
                self.canvas.arrange(view.columns(values, how), view.palettes())
                self._layout = how.size
            self.canvas.draw(view.pixels(values, box, how), box=box.tolist())
            self._draw_cell()

    def _draw_cell(self) -> None:
        now = (self.values, self.box, self.how, self._pointed)
        bars = view.bars(*now)
        self.canvas.draw(bars=bars, marks=view.marks(*now))
        self.canvas.announcement = bars["cell"].title

    # -------------------------------------------------------------- controls

    def _make_controls(self) -> None:
        self.method = widgets.Dropdown(
            options=list(METHODS), description="method", layout=wide(270), style=SHORT
        )
        self.samples = widgets.Dropdown(
            options=[("1", 1), ("2 × 2", 2), ("4 × 4", 4)],
            description="samples a bin",
            layout=wide(170),
            style=SHORT,
        )
        self.size = widgets.IntSlider(
            4, min=1, max=14, description="R, cells", layout=wide(260), style=SHORT
        )
        self.reset = button("undo", "Reset", "the box as it was at first")

    def _connect(self) -> None:
        for control in (self.method, self.samples, self.size):
            control.observe(self._on_change, "value")
        self.reset.on_click(self._on_reset)
        self.canvas.on_event(self._on_event)

    @shows_errors
    def _on_change(self, _change: Any) -> None:
        self.samples.disabled = self.how.kind == "pool"
        self._draw()

    @shows_errors
    def _on_reset(self, _button: Any) -> None:
        self.put(self.first_box)

    @shows_errors(clears=False)
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "box":
            self.put(event.box)
        elif event.kind == "hover" and event.panel == "crop":
            self._pointed = event.cells[0] if event.cells else None
            self._draw_cell()


def _soft_disk() -> Tensor:
    """14 x 14 cells: positive in a disk, negative outside, with a soft border."""
    place = torch.arange(14) + 0.5
    distance = ((place - 7).square()[:, None] + (place - 7).square()).sqrt()
    return torch.tanh((4.2 - distance) / 1.2)


def _middle(values: Tensor, stride: int) -> Tensor:
    """A box around the middle that fits no cell exactly."""
    height, width = values.shape
    sides = torch.tensor([0.21 * width, 0.26 * height, 0.83 * width, 0.78 * height])
    return sides * stride
