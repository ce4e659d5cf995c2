"""True objects as a data set stores them, and what is left of a mask at R x R cells.

Chapters 01 and 07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from torch import Tensor

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    color_tensor,
    described_figure,
    draw_box,
    draw_box_name,
    draw_outline,
    draw_picture,
    draw_text,
    finish_plot,
    legend_below,
    object_color,
    one_panel,
    pale,
    panels,
    picture_cell,
    rgb255,
    text_on,
)

__all__ = [
    "edges_figure",
    "instances_figure",
    "mask_resolution_figure",
    "pixel_masks_figure",
    "round_trip_figure",
    "run_lengths_figure",
]

KEPT, LOST, ADDED = "#b4b4b4", PALETTE[0], PALETTE[1]
CROWD = INK  # outline of regions that are not a single object


def instances_figure(
    image: Tensor,
    masks: Tensor,
    boxes: Tensor,
    names: Sequence[str],
    *,
    crowd: Sequence[int] = (),
    chosen: int | None = None,
    title: str = "",
) -> DescribedFigure:
    """A picture with its true objects: masks in colours, boxes, names.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        masks: (N, H, W) bool; N may be 0.
        boxes: (N, 4) corners, pixels.
        names: N texts.
        crowd: indices of regions that hold many objects; hatched, with a dashed box.
        chosen: the one object to show in colour; the others stay pale. None: all.
        title: text above the picture.
    """
    figure, ax = one_panel(
        cell=picture_cell(image, 5.0, title=0.4, most=6.0),
        description=f"A picture with {len(names)} annotated objects: {', '.join(names) or 'none'}.",
    )
    shown = list(range(len(names))) if chosen is None else [chosen]
    ground = image if chosen is None else pale(image)
    colors = [object_color(index) for index in shown]
    draw_picture(ax, paint_masks(ground, masks[shown], colors), title=title)
    for index, color in reversed(list(zip(shown, colors, strict=True))):
        is_crowd = index in crowd
        draw_box_name(ax, boxes[index].tolist(), names[index], color=color)
        draw_box(ax, boxes[index].tolist(), color=CROWD if is_crowd else color)
        if is_crowd:
            ax.patches[-1].set(linestyle="--")
            y, x = (np.arange(side) + 0.5 for side in masks[index].shape)
            inside = masks[index].numpy()
            ax.contourf(x, y, inside, levels=[0.5, 1.5], colors="none", hatches=["///"])
    return figure


def round_trip_figure(
    mask: Tensor, pasted: Mapping[str, Tensor], box: Sequence[float]
) -> DescribedFigure:
    """A mask, and its versions after cropping and pasting: pixels kept, lost and added.

    Args:
        mask: (H, W) bool, the true one.
        pasted: (H, W) bool by title, after cropping to R x R cells and pasting.
        box: (x0, y0, x1, y1) of the object, pixels; the panels show its surroundings.
    """
    x0, y0, x1, y1 = box
    margin = 0.06 * max(x1 - x0, y1 - y0) + 2
    counts = [
        f"{name}: {int((mask & ~back).sum())} pixels lost, {int((back & ~mask).sum())} added"
        for name, back in pasted.items()
    ]
    shape = (y1 - y0 + 2 * margin) / (x1 - x0 + 2 * margin)
    width = min(2.9, 8.8 / len(pasted))
    figure, axes = panels(
        1,
        len(pasted),
        cell=(width, min(4.0, width * shape) + 0.75),
        description=f"A mask of {int(mask.sum())} pixels, there and back. {'; '.join(counts)}.",
    )
    for ax, (name, back) in zip(axes.flat, pasted.items(), strict=True):
        picture = torch.ones(3, *mask.shape)
        for part, color in ((mask & back, KEPT), (mask & ~back, LOST), (back & ~mask, ADDED)):
            picture[:, part] = color_tensor(color)[..., 0]
        iou = float((mask & back).sum() / (mask | back).sum().clamp(min=1))
        draw_picture(ax, picture, title=f"{name}\nIoU {iou:.2f}")
        right, bottom = min(mask.shape[1], x1 + margin), min(mask.shape[0], y1 + margin)
        ax.axis((max(0, x0 - margin), right, bottom, max(0, y0 - margin)))
    handles = [
        Line2D([], [], marker="s", linestyle="", color=color, label=label)
        for color, label in ((KEPT, "kept"), (LOST, "lost"), (ADDED, "added"))
    ]
    legend_below(figure, columns=3, handles=handles)
    return figure


INSIDE, OUTSIDE = "#9ecae8", "#ffffff"
RUN_COLORS = ("#e8e8e8", PALETTE[1])  # colours of runs of zeros and of ones
MOST_NUMBERED = 400  # largest mask, in pixels, whose pixels are numbered


def pixel_masks_figure(
    masks: Mapping[str, Tensor], *, corners: Tensor | None = None
) -> DescribedFigure:
    """Masks as squares with a dot in each center; red squares differ from the first mask.

    Args:
        masks: (H, W) bool by title, all of one size; at least one.
        corners: (P, 2) of a polygon to draw over all of them, pixels.
    """
    first = next(iter(masks.values()))
    height, width = first.shape
    told = ", ".join(f"{name}: {int(mask.sum())} pixels" for name, mask in masks.items())
    side = min(3.2, 8.8 / len(masks))
    figure, axes = panels(
        1,
        len(masks),
        cell=picture_cell(first, side, title=0.5),
        description=f"Masks on a grid of {width} by {height} pixels. {told}.",
    )
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for ax, (name, mask) in zip(axes.flat, masks.items(), strict=True):
        differs = int((mask != first).sum())
        more = f", {differs} differ" if mask is not first else ""
        caption = f"{name}\n{int(mask.sum())} pixels{more}"
        draw_picture(ax, _painted(mask, first), title=caption)
        _draw_grid(ax, height, width)
        ax.scatter(x.flatten(), y.flatten(), s=2, color=INK, linewidths=0)
        if corners is not None:
            closed = torch.cat([corners, corners[:1]])
            ax.plot(closed[:, 0], closed[:, 1], color=INK, linewidth=1.3)
    return figure


def run_lengths_figure(mask: Tensor, *, title: str = "") -> DescribedFigure:
    """A mask with the order of its pixels, and below it its runs as one strip.

    Args:
        mask: (H, W) bool, at most a few hundred pixels.
        title: text above all panels.
    """
    pixels = mask.T.flatten()
    values, counts = torch.unique_consecutive(pixels, return_counts=True)
    runs = list(zip(values.tolist(), counts.tolist(), strict=True))
    if runs[0][0]:
        runs.insert(0, (False, 0))
    lengths = [length for _, length in runs]
    height, width = mask.shape
    figure = described_figure(
        (7.5, 4.2),
        f"A mask of {width} by {height} pixels, numbered down its columns, and its "
        f"{len(runs)} run lengths: {', '.join(map(str, lengths))}.",
    )
    above, below = figure.subplots(2, 1, height_ratios=(4.2, 1))
    colors = torch.tensor([rgb255(color) for color in RUN_COLORS]) / 255
    draw_picture(above, colors[mask.long()].permute(2, 0, 1), title=title)
    _draw_grid(above, height, width)
    if mask.numel() <= MOST_NUMBERED:
        for place, value in enumerate(pixels.tolist()):
            column, row = divmod(place, height)
            color = text_on(RUN_COLORS[value])
            draw_text(above, column + 0.5, row + 0.5, str(place), size=7, color=color)
    _draw_strip(below, runs)
    return figure


def _painted(mask: Tensor, first: Tensor) -> Tensor:
    """(H, W) -> (3, H, W): colours of inside, outside, and pixels that differ from `first`."""
    names = (OUTSIDE, INSIDE, "#f6d5bd", PALETTE[0])  # the last two: missing, and surplus
    colors = torch.tensor([rgb255(name) for name in names]) / 255
    kinds = mask.long() + 2 * (mask != first).long()
    return colors[kinds].permute(2, 0, 1)


def _draw_grid(ax: Axes, height: int, width: int) -> None:
    ax.locator_params(nbins=5, integer=True)
    ax.hlines(range(height + 1), 0, width, color="#cccccc", linewidth=0.5)
    ax.vlines(range(width + 1), 0, height, color="#cccccc", linewidth=0.5)


def _draw_strip(ax: Axes, runs: list[tuple[bool, int]]) -> None:
    total = sum(length for _, length in runs)
    left = 0
    for value, length in runs:
        color = RUN_COLORS[value]
        ax.add_patch(Rectangle((left, 0), length, 1, facecolor=color, edgecolor="white"))
        if length * 60 >= total:
            draw_text(ax, left + length / 2, 0.5, str(length), size=7, color=text_on(color))
        left += length
    ax.axis((0, total, 0, 1))
    ax.set_yticks([])
    ax.tick_params(labelsize=7)
    ax.set_xlabel(
        "number of the pixel, down the columns; grey runs are 0, blue runs are 1", fontsize=8
    )


TRUE_COLOR, MASK_COLOR = PALETTE[1], PALETTE[0]


def edges_figure(
    image: Tensor,
    truth: Tensor,
    masks: Mapping[str, Tensor],
    *,
    window: tuple[int, int, int, int],
    size: float = 2.6,
) -> DescribedFigure:
    """The picture with a window marked, and this window once per mask.

    Args:
        image: (3, H, W).
        truth: (H, W) bool.
        masks: (H, W) bool each, by title.
        window: x0, y0, x1, y1, whole pixels.
        size: width of a panel, inches.

    Raises:
        ValueError: the window has no pixels in the picture.
    """
    x0, y0, x1, y1 = window
    height, width = image.shape[-2:]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"window = {window}: no part of a picture of {width} x {height} pixels")
    figure, axes = panels(
        1,
        1 + len(masks),
        cell=(size, size + 0.3),
        description=f"The outline of an object between x {x0} and {x1}, y {y0} and {y1} pixels, "
        f"true and as followed by: {', '.join(masks)}.",
    )
    whole = axes[0, 0]
    draw_picture(whole, image, title="picture and window")
    draw_box(whole, window, color=MASK_COLOR)
    for ax, (title, mask) in zip(axes[0, 1:], masks.items(), strict=True):
        draw_picture(ax, image, title=title)
        draw_outline(ax, truth, TRUE_COLOR, width=2, style="--")
        draw_outline(ax, mask, MASK_COLOR, width=2)
        ax.axis((x0, x1, y1, y0))
    return figure


MARKERS = ("o", "s", "^", "D")
GROUPS = 6  # number of groups of equally many objects
SIZE_LIMITS = (32, 96)  # sides between COCO's small, medium and large objects, pixels


def mask_resolution_figure(sides: Tensor, ious: Mapping[str, Tensor]) -> DescribedFigure:
    """IoU of every mask with its R x R version, against the size of the object.

    Args:
        sides: (N,) square roots of the areas, pixels; N at least 1.
        ious: (N,) from 0 to 1, by label; a line joins the medians of groups of objects.
    """
    told = ", ".join(f"{name} {float(values.median()):.2f}" for name, values in ious.items())
    figure, ax = one_panel(
        cell=(7.0, 3.8),
        description=f"IoU after cropping to R x R and pasting, by object size; medians: {told}.",
    )
    order = sides.argsort()
    groups = order.tensor_split(max(1, min(GROUPS, len(order) // 3)))
    for place, (name, values) in enumerate(ious.items()):
        color, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        ax.scatter(sides, values, s=9, color=color, marker=marker, alpha=0.35, linewidths=0)
        middle = [float(sides[group].median()) for group in groups]
        medians = [float(values[group].median()) for group in groups]
        ax.plot(middle, medians, color=color, marker=marker, markersize=5, label=name)
    low, high = float(sides.min()) * 0.9, float(sides.max()) * 1.1
    ax.set_xscale("log")
    for limit in SIZE_LIMITS:
        if low < limit < high:
            ax.axvline(limit, color=INK, linewidth=0.8, linestyle=":")
    ticks = [side for side in (8, 16, 32, 64, 96, 128, 256, 512) if low <= side <= high]
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_xlim(low, high)
    ax.set_ylim(min(0.5, float(torch.cat(list(ious.values())).min())), 1.01)
    size = "size of the object: square root of its area, pixels"
    finish_plot(ax, x=size, y="IoU with the true mask")
    ax.legend(fontsize=8, frameon=False, loc="lower left", ncols=len(ious))
    return figure
