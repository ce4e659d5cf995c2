"""Which location of which level learns which object: FCOS' assignment on the picture.

Chapter 03. Every level is a panel: a dot stands for a location, in the colour of its object.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.lines import Line2D
from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, draw_box, draw_picture, panels
from blendmask_lite.figures.palette import INK, object_color, rgb255

__all__ = ["paint_locations", "pale", "targets_figure"]

COLUMNS = 3
BACKGROUND = "#8a8a8a"  # dots that learn no object
AMBIGUOUS = INK  # rim of dots that several objects claim


def targets_figure(
    image: Tensor,
    *,
    boxes: Tensor,
    names: Sequence[str],
    owners: Sequence[Tensor],
    ambiguous: Sequence[Tensor],
    strides: Sequence[int],
    level_names: Sequence[str],
    title: str = "",
) -> DescribedFigure:
    """The assignment of one picture.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (N, 4) of the true objects, corners, pixels.
        names: of the objects.
        owners: (h, w) int64 of every level: which object each location learns, -1 for none.
        ambiguous: (h, w) bool of every level: several objects claim it.
        strides: of every level, pixels.
        level_names: of every level.
        title: above all.
    """
    num = len(owners)
    columns = min(COLUMNS, num)
    height, width = image.shape[-2:]
    counts = [int((owner >= 0).sum()) for owner in owners]
    told = ", ".join(f"{name} {count}" for name, count in zip(level_names, counts, strict=True))
    figure, axes = panels(
        -(-num // columns),
        columns,
        cell=(2.5, 2.5 * height / width + 0.35),
        description=f"Locations that learn one of {len(names)} objects, by level: {told}.",
    )
    for empty in axes.flat[num:]:
        empty.set_axis_off()
    for ax, owner, several, stride, name, count in zip(
        axes.flat, owners, ambiguous, strides, level_names, counts, strict=False
    ):
        draw_picture(ax, pale(image), title=f"{name}, stride {stride}: {count}", has_units=False)
        for index, box in enumerate(boxes.tolist()):
            draw_box(ax, box, color=object_color(index), width=1.0)
        rows, lines = torch.meshgrid(*(torch.arange(side) for side in owner.shape), indexing="ij")
        x, y = (lines * stride + stride // 2).flatten(), (rows * stride + stride // 2).flatten()
        own, rim = owner.flatten().tolist(), several.flatten().tolist()
        unit = 2.5 * 72 / width * stride  # points between two locations
        free = [place for place, each in enumerate(own) if each < 0]
        ax.scatter(x[free], y[free], s=max(0.5, (0.1 * unit) ** 2), color=BACKGROUND, linewidths=0)
        taken = [place for place, each in enumerate(own) if each >= 0]
        ax.scatter(
            x[taken],
            y[taken],
            s=min(60.0, max(2.0, (0.5 * unit) ** 2)),
            color=[object_color(own[place]) for place in taken],
            edgecolors=[AMBIGUOUS if rim[place] else "none" for place in taken],
            linewidths=1.0,
        )
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=object_color(index), label=name)
        for index, name in enumerate(names)
    ]
    if any(bool(each.any()) for each in ambiguous):
        claimed = Line2D([], [], marker="o", linestyle="", label="claimed by several")
        claimed.set(markerfacecolor="none", markeredgecolor=AMBIGUOUS)
        handles.append(claimed)
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4, fontsize=7, frameon=False
        )
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def paint_locations(
    image: Tensor,
    *,
    boxes: Tensor,
    owner: Tensor,
    ambiguous: Tensor,
    stride: int,
    scale: int = 1,
) -> Tensor:
    """One level of the assignment as a picture, for screens.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (N, 4) of the true objects, corners, pixels.
        owner: (h, w) int64: which object each location learns, -1 for none.
        ambiguous: (h, w) bool: several objects claim it.
        stride: of the level, pixels.
        scale: pixels of the result per pixel of the image.

    Returns:
        (3, h * stride * scale, w * stride * scale) float in [0, 1]; what is padded is white.
    """
    h, w = owner.shape
    cell = stride * scale
    painted = torch.ones(3, h * cell, w * cell)
    part = _enlarged(pale(image), scale)[:, : h * cell, : w * cell]
    painted[:, : part.shape[1], : part.shape[2]] = part
    for index, box in enumerate(boxes.tolist()):
        _outline(
            painted, [side * scale for side in box], _color(object_color(index)), max(1, scale)
        )
    colors = torch.tensor(
        [rgb255(BACKGROUND), *(rgb255(object_color(i)) for i in range(len(boxes)))]
    )
    of_cell = (colors / 255)[owner + 1].permute(2, 0, 1)  # (3, h, w)
    for reach, color, shown in (
        (0.08, of_cell, owner < 0),
        (0.34, _color(AMBIGUOUS).expand_as(of_cell), ambiguous),
        (0.26, of_cell, owner >= 0),
    ):
        dots = _dots(cell, stride // 2 * scale, max(1, round(reach * cell))).repeat(h, w)
        painted = torch.where(dots & _enlarged(shown, cell), _enlarged(color, cell), painted)
    return painted


def pale(image: Tensor) -> Tensor:
    """(3, H, W) -> the same without much colour and lighter, float in [0, 1]: dots stand out."""
    pixels = image.detach().cpu().float()
    pixels = pixels if image.is_floating_point() else pixels / 255
    grey = pixels.mean(dim=0, keepdim=True)
    return 0.45 + 0.5 * (0.75 * grey + 0.25 * pixels)


def _color(name: str) -> Tensor:
    return torch.tensor(rgb255(name))[:, None, None] / 255


def _enlarged(values: Tensor, times: int) -> Tensor:
    """(..., h, w) -> (..., h * times, w * times)."""
    return values.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def _dots(cell: int, middle: int, reach: int) -> Tensor:
    """(cell, cell) bool: a square around the middle."""
    offset = torch.arange(cell) - middle
    is_near = (offset >= -reach) & (offset < reach)
    return is_near[:, None] & is_near


def _outline(painted: Tensor, box: Sequence[float], color: Tensor, line: int) -> None:
    height, width = painted.shape[-2:]
    x0, y0, x1, y1 = (round(side) for side in box)
    x0, x1 = max(0, min(x0, width)), max(0, min(x1, width))
    y0, y1 = max(0, min(y0, height)), max(0, min(y1, height))
    for part in (
        (slice(y0, y0 + line), slice(x0, x1)),
        (slice(max(y0, y1 - line), y1), slice(x0, x1)),
        (slice(y0, y1), slice(x0, x0 + line)),
        (slice(y0, y1), slice(max(x0, x1 - line), x1)),
    ):
        painted[(slice(None), *part)] = color
