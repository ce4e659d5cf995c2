"""How well masks of R x R cells follow an outline: a window of the picture, enlarged.

Chapters 01 and 14 of the course. BlendMask, figure 6.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, draw_box, draw_picture, panels
from blendmask_lite.figures.palette import PALETTE

__all__ = ["edges_figure"]

TRUE_COLOR, MASK_COLOR = PALETTE[1], PALETTE[0]


def edges_figure(
    image: Tensor,
    truth: Tensor,
    masks: Mapping[str, Tensor],
    *,
    window: tuple[int, int, int, int],
    size: float = 2.6,
) -> DescribedFigure:
    """The picture with the window's place, and the window once for each mask.

    Args:
        image: (3, H, W).
        truth: (H, W) bool.
        masks: (H, W) bool each, by title.
        window: x0, y0, x1, y1, whole pixels.
        size: width of a panel, inches.

    Raises:
        ValueError: a window without pixels in the picture.
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
        _outline(ax, truth, TRUE_COLOR, "--")
        _outline(ax, mask, MASK_COLOR, "-")
        ax.set_xlim(x0, x1)
        ax.set_ylim(y1, y0)
    return figure


def _outline(ax: Axes, mask: Tensor, color: str, style: str) -> None:
    """A line between the pixels inside and those outside."""
    height, width = mask.shape
    centers = np.arange(width) + 0.5, np.arange(height) + 0.5
    ax.contour(*centers, mask.cpu().numpy(), [0.5], colors=[color], linestyles=style, linewidths=2)
