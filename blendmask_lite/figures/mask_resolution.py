"""What a mask of R x R cells can keep, by the size of the object.

Chapter 01 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["mask_resolution_figure"]

MARKERS = ("o", "s", "^", "D")
SIZE_LIMITS = (32, 96)  # sides between COCO's small, medium and large, pixels


def mask_resolution_figure(
    sides: Tensor, ious: Mapping[str, Tensor], *, bins: int = 6, title: str = ""
) -> DescribedFigure:
    """IoU of every mask with itself after R x R cells, over the size of the object.

    Args:
        sides: (N,) square roots of the areas, pixels; N at least 1.
        ious: (N,) from 0 to 1, by label.
        bins: groups of equally many objects; a line joins their medians.
        title: above the plot.
    """
    told = ", ".join(f"{name} {float(each.median()):.2f}" for name, each in ious.items())
    figure, axes = panels(
        1,
        1,
        cell=(7.0, 3.8),
        description=f"IoU after cropping to R x R and pasting, by object size; medians: {told}.",
    )
    ax = axes[0, 0]
    order = sides.argsort()
    groups = order.tensor_split(max(1, min(bins, len(order) // 3)))
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
    ticks = [each for each in (8, 16, 32, 64, 96, 128, 256, 512) if low <= each <= high]
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_xlim(low, high)
    ax.set_ylim(min(0.5, float(torch.cat(list(ious.values())).min())), 1.01)
    ax.set_xlabel("size of the object: square root of its area, pixels", fontsize=8)
    ax.set_ylabel("IoU with the true mask", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.legend(fontsize=8, frameon=False, loc="lower left", ncols=len(ious))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if title:
        ax.set_title(title, fontsize=9)
    return figure
