"""Receptive fields on the picture: which pixels act on a cell, and how strongly.

Chapter 02 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, draw_box, draw_picture, panels
from blendmask_lite.figures.palette import INK, PALETTE, rgb255
from blendmask_lite.figures.targets import pale

__all__ = ["CellField", "paint_gradient", "receptive_field_figure"]

HEAT = PALETTE[0]
STRONG = 0.98  # share of the acting pixels that are weaker than the full heat
OPACITY = 0.95  # of the full heat
COLUMNS = 4


@dataclass(frozen=True)
class CellField:
    """The receptive field of one cell.

    Attributes:
        gradient: (h, w) magnitudes over the padded picture, at least 0.
        box: (4,) corners of the theoretical field, pixels.
        location: (x, y) where the detector says that the cell is, pixels.
    """

    gradient: Tensor
    box: Tensor
    location: tuple[float, float]


def receptive_field_figure(
    image: Tensor, fields: Mapping[str, CellField], *, title: str = ""
) -> DescribedFigure:
    """A panel a cell: the gradient over the pale picture, the theoretical field, the location.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        fields: by title; at least one.
        title: above all.
    """
    told = "; ".join(f"{name}: theory {_sides(each.box)} pixels" for name, each in fields.items())
    columns = min(COLUMNS, len(fields))
    width = min(3.2, 8.8 / columns)
    figure, axes = panels(
        -(-len(fields) // columns),
        columns,
        cell=(width, width + 0.4),
        description=f"Gradients of cells with respect to the picture, and their fields. {told}.",
    )
    for empty in axes.flat[len(fields) :]:
        empty.set_axis_off()
    for ax, (name, field) in zip(axes.flat, fields.items(), strict=False):
        caption = f"{name}\ntheory {_sides(field.box)} px"
        draw_picture(ax, paint_gradient(image, field.gradient), title=caption)
        draw_box(ax, field.box.tolist(), color=PALETTE[1], width=1.5)
        ax.plot(*field.location, marker="+", color=INK, markersize=9, markeredgewidth=1.5)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def paint_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    """The picture in pale grey under the square root of a gradient, (3, h, w) float in [0, 1].

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        gradient: (h, w), of the padded picture: h >= H, w >= W; padding is white.
    """
    painted = torch.ones(3, *gradient.shape)
    painted[:, : image.shape[1], : image.shape[2]] = pale(image).mean(dim=0)
    strength = gradient.detach().cpu().sqrt()
    acting = strength[strength > 0]
    if len(acting):  # the few strongest pixels must not hide the others
        strength = OPACITY * (strength / acting.quantile(STRONG)).clamp(max=1)
    color = torch.tensor(rgb255(HEAT))[:, None, None] / 255
    return painted * (1 - strength) + color * strength


def _sides(box: Sequence[float] | Tensor) -> str:
    x0, y0, x1, y1 = (float(side) for side in box)
    return f"{x1 - x0:.0f} x {y1 - y0:.0f}"
