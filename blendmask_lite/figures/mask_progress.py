"""How the masks of a picture become better while a model learns: IoU over the moments.

The moments stand evenly, as on the time machine's slider; few of them are late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, object_color

__all__ = ["margin_cells", "mask_progress_figure"]

MOST_TICKS = 8
MARGIN = 0.07  # share of the figure's width left of the curves


def mask_progress_figure(
    iterations: Sequence[int],
    mask_iou: Tensor,
    *,
    names: Sequence[str],
    chosen: int = 0,
    moment: int | None = None,
    size: tuple[float, float] = (5.6, 1.9),
) -> DescribedFigure:
    """One line an object; the chosen one is strong.

    Args:
        iterations: of the T moments.
        mask_iou: (T, N) with the true masks, 0 to 1; NaN where a moment could not be read.
        names: of the N objects.
        chosen: which object.
        moment: place of a moment to mark, from 0; None marks none.
        size: width and height, inches.

    Raises:
        ValueError: no moments, or numbers that do not fit the moments and names.
    """
    num = len(iterations)
    if num == 0 or tuple(mask_iou.shape) != (num, len(names)):
        raise ValueError(
            f"mask_iou of {tuple(mask_iou.shape)}: expected {num} moments, at least 1, of "
            f"{len(names)} objects"
        )
    figure, axes = panels(
        1,
        1,
        cell=size,
        description=f"IoU of {len(names)} masks with the true ones after {iterations[0]:,} to "
        f"{iterations[-1]:,} iterations; {names[chosen] if names else 'no object'} stands out.",
    )
    figure.set_layout_engine("none")
    ax = axes[0, 0]
    left = margin_cells(num) / (num + margin_cells(num))
    ax.set_position((left, 0.24, 1 - left, 0.70))  # a moment is as wide everywhere
    for place in sorted(range(len(names)), key=lambda each: each == chosen):
        is_chosen = place == chosen
        ax.plot(
            range(num),
            mask_iou[:, place].tolist(),
            color=object_color(place),
            linewidth=2.2 if is_chosen else 1.0,
            alpha=1.0 if is_chosen else 0.45,
            marker="o" if is_chosen else "",
            markersize=3.5,
            label=names[place],
        )
    if moment is not None:
        ax.axvspan(moment - 0.5, moment + 0.5, color="#ffe14d", alpha=0.6, linewidth=0)
    ax.set_xlim(-0.5, num - 0.5)
    ax.set_ylim(0, 1.03)
    step = math.ceil(num / MOST_TICKS)
    ticks = sorted({*range(0, num, step), num - 1} - ({num - 2} if step > 1 else set()))
    ax.set_xticks(ticks, [f"{iterations[place]:,}" for place in ticks], fontsize=7)
    ax.tick_params(axis="y", labelsize=7)
    for label, where in zip(ax.get_xticklabels(), ticks, strict=True):
        label.set_ha("right" if where == num - 1 else "center")
    ax.set_xlabel("iterations", fontsize=7, labelpad=1)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    # The margin has room for numbers only, so the axis' name stands inside.
    whose = f", {names[chosen]}" if names else ""
    text = f"IoU of the mask{whose}" + (f" (pale: the other {len(names) - 1})" if names[1:] else "")
    ax.text(0.01, 0.97, text, transform=ax.transAxes, fontsize=7, va="top", color=INK)
    return figure


def margin_cells(num_moments: int) -> int:
    """How many moments would fit left of the curves: there stand the numbers of the y axis."""
    return max(1, math.ceil(num_moments * MARGIN / (1 - MARGIN)))
