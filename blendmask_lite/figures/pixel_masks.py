"""Small masks pixel by pixel: a polygon over its mask, and a mask as run lengths.

Chapter 01 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, draw_picture, panels
from blendmask_lite.figures.palette import INK, PALETTE, rgb255, text_on

__all__ = ["pixel_masks_figure", "run_lengths_figure"]

INSIDE, OUTSIDE = "#9ecae8", "#ffffff"
RUN_COLORS = ("#e8e8e8", PALETTE[1])  # of zeros, of ones
MOST_NUMBERED = 400  # pixels of a mask whose places are written into it


def pixel_masks_figure(
    masks: Mapping[str, Tensor], *, corners: Tensor | None = None, title: str = ""
) -> DescribedFigure:
    """Masks as squares with a dot in each center; red squares differ from the first mask.

    Args:
        masks: (H, W) bool by title, all of one size; at least one.
        corners: (P, 2) of a polygon that is drawn over all of them, pixels.
        title: above all.
    """
    first = next(iter(masks.values()))
    height, width = first.shape
    told = ", ".join(f"{name}: {int(mask.sum())} pixels" for name, mask in masks.items())
    side = min(3.2, 8.8 / len(masks))
    figure, axes = panels(
        1,
        len(masks),
        cell=(side, side * height / width + 0.5),
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
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def run_lengths_figure(mask: Tensor, *, title: str = "") -> DescribedFigure:
    """A mask with the order of its pixels, and below it its runs as one strip.

    Args:
        mask: (H, W) bool, at most some hundred pixels.
        title: above all.
    """
    pixels = mask.T.flatten()
    values, counts = torch.unique_consecutive(pixels, return_counts=True)
    runs = list(zip(values.tolist(), counts.tolist(), strict=True))
    if runs[0][0]:
        runs.insert(0, (False, 0))
    lengths = [length for _, length in runs]
    height, width = mask.shape
    figure = DescribedFigure(figsize=(7.5, 4.2), dpi=100, layout="constrained")
    figure.set_label(
        f"A mask of {width} by {height} pixels, numbered down its columns, and its "
        f"{len(runs)} run lengths: {', '.join(map(str, lengths))}."
    )
    above, below = figure.subplots(2, 1, height_ratios=(4.2, 1))
    colors = torch.tensor([rgb255(color) for color in RUN_COLORS]) / 255
    draw_picture(above, colors[mask.long()].permute(2, 0, 1), title=title)
    _draw_grid(above, height, width)
    if mask.numel() <= MOST_NUMBERED:
        for place, value in enumerate(pixels.tolist()):
            column, row = divmod(place, height)
            color = text_on(RUN_COLORS[value])
            center = (column + 0.5, row + 0.5)
            above.text(*center, str(place), fontsize=7, ha="center", va="center", color=color)
    _draw_strip(below, runs)
    return figure


def _painted(mask: Tensor, first: Tensor) -> Tensor:
    """(H, W) -> (3, H, W): inside, outside, and what differs from `first`."""
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
            ax.text(
                left + length / 2, 0.5, str(length), fontsize=7, ha="center", va="center",
                color=text_on(color),
            )  # fmt: skip
        left += length
    ax.set_xlim(0, total)
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    ax.tick_params(labelsize=7)
    ax.set_xlabel(
        "number of the pixel, down the columns; grey runs are 0, blue runs are 1", fontsize=8
    )
