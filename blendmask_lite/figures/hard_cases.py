"""Hard objects in rows: BlendMask's figures 6 and 7 from any data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from matplotlib.axes import Axes
from torch import Tensor

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import DescribedFigure, draw_picture, panels
from blendmask_lite.figures.palette import PALETTE

__all__ = ["ShownCase", "hard_cases_figure"]

MARGIN = 0.25  # around the box, of its longer side
MASK, TRUTH = PALETTE[1], PALETTE[2]
MEASURES = {
    "complex": "outline² / 4π area",
    "separated": "share outside the largest part",
    "overlapping": "IoU with the next box",
}


class ShownCase(Protocol):
    """One hard object, as `analysis.find_hard_cases` gives them."""

    @property
    def measure(self) -> float:
        """How hard it is."""
        ...

    @property
    def image(self) -> Tensor:
        """(3, H, W)."""
        ...

    @property
    def box(self) -> Tensor:
        """(4,) true corners, pixels."""
        ...

    @property
    def true_mask(self) -> Tensor:
        """(H, W) bool."""
        ...

    @property
    def mask(self) -> Tensor:
        """(H, W) bool."""
        ...

    @property
    def iou(self) -> float:
        """Of both masks, 0 to 1."""
        ...


def hard_cases_figure(
    cases: Mapping[str, Sequence[ShownCase]], *, title: str = ""
) -> DescribedFigure:
    """A row for each kind; the network's mask in blue, the true outline in yellow.

    Args:
        cases: by kind; a kind may be empty.
        title: above all.

    Raises:
        ValueError: no kinds.
    """
    if not cases:
        raise ValueError("cases: an empty dict; at least one kind is needed")
    columns = max(1, *(len(each) for each in cases.values()))
    told = "; ".join(
        f"{kind}: " + (", ".join(f"IoU {case.iou:.2f}" for case in each) or "none")
        for kind, each in cases.items()
    )
    figure, axes = panels(
        len(cases),
        columns,
        cell=(1.75, 2.1),
        description=f"{title or 'Hard objects'} with the network's mask and the true outline. "
        f"{told}.",
    )
    for row, (kind, each) in zip(axes, cases.items(), strict=True):
        for ax in row[max(1, len(each)) :]:
            ax.set_axis_off()
        if not each:
            row[0].set_xticks([])
            row[0].set_yticks([])
            row[0].text(0.5, 0.5, "none", ha="center", va="center", transform=row[0].transAxes)
        for ax, case in zip(row, each, strict=False):
            _draw(ax, case)
        row[0].set_ylabel(f"{kind}\n{MEASURES.get(kind, 'measure')}", fontsize=8)
    key = "blue: the network's mask   yellow line: the true one"
    figure.suptitle(f"{title}\n{key}" if title else key, fontsize=9)
    return figure


def _draw(ax: Axes, case: ShownCase) -> None:
    height, width = case.image.shape[-2:]
    x0, y0, x1, y1 = case.box.tolist()
    half = (0.5 + MARGIN) * max(x1 - x0, y1 - y0)
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    first_row, last_row = max(0, int(top)), min(height, int(top + 2 * half) + 1)
    first, last = max(0, int(left)), min(width, int(left + 2 * half) + 1)
    rows, columns = slice(first_row, last_row), slice(first, last)
    shown = paint_masks(case.image[:, rows, columns], case.mask[None, rows, columns], [MASK])
    draw_picture(ax, shown, title=f"{case.measure:.2f}   mask IoU {case.iou:.2f}", has_units=False)
    ax.title.set_fontsize(8)
    truth = torch.nn.functional.pad(case.true_mask[rows, columns].float(), (1, 1, 1, 1)).numpy()
    x = torch.arange(truth.shape[1]).numpy() - 0.5
    y = torch.arange(truth.shape[0]).numpy() - 0.5
    ax.contour(x, y, truth, levels=[0.5], colors=[TRUTH], linewidths=1.6)
