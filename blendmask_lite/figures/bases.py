"""The K bases of a picture: what the bottom module gives for all objects together."""

from __future__ import annotations

import math

from torch import Tensor

from blendmask_lite.figures.layout import (
    DescribedFigure,
    add_color_bar,
    draw_map,
    draw_picture,
    largest_magnitude,
    panels,
)
from blendmask_lite.figures.palette import SIGNED, base_color

__all__ = ["bases_figure"]

FEW = 8  # up to so many bases stand in one row with units; more make a square grid without
WIDEST = 9.0  # inches, of a row of four bases beside their picture: what a notebook shows unscaled


def bases_figure(
    bases: Tensor, *, stride: int, image: Tensor | None = None, title: str = ""
) -> DescribedFigure:
    """The bases as maps around zero on one common scale, the picture beside them.

    Args:
        bases: (K, H/s, W/s) of one image.
        stride: s, pixels per cell.
        image: (3, H, W), the picture itself, drawn first if given.
        title: above all of them.
    """
    num_bases = len(bases)
    num_panels = num_bases + (image is not None)
    columns = num_panels if num_panels <= FEW + 1 else math.ceil(math.sqrt(num_panels))
    rows = math.ceil(num_panels / columns)
    side = max(1.8, min(2.3, WIDEST / columns)) if num_bases <= FEW else 1.1
    unit = "pixels" if num_bases <= FEW else ""
    figure, grid = panels(
        rows,
        columns,
        cell=(side, side + 0.2),
        description=f"The {num_bases} bases of a picture as maps; red is positive, blue negative.",
    )
    axes = list(grid.flat)
    if image is not None:
        draw_picture(axes[0], image, title="picture", has_units=bool(unit))
    first = int(image is not None)
    limit = largest_magnitude(bases)
    for index in range(num_bases):
        draw_map(
            axes[first + index],
            bases[index],
            colors=SIGNED,
            limits=(-limit, limit),
            stride=stride,
            unit=unit,
            title=f"base {index + 1}",
            title_color=base_color(index),
        )
    for empty in axes[num_panels:]:
        empty.set_axis_off()
    add_color_bar(figure, axes, colors=SIGNED, limits=(-limit, limit), label="value (logits)")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
