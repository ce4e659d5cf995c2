"""Sample points on the cells of a map, and receptive fields on the image.

Chapters 02 and 07.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw
from torch import Tensor

from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    add_color_bar,
    as_picture,
    as_pixels,
    color_tensor,
    draw_box,
    draw_map,
    draw_picture,
    draw_text,
    largest_magnitude,
    pale,
    panel_grid,
    panels,
    rgb255,
    signed_colors,
    usual_magnitude,
)

__all__ = [
    "CellField",
    "paint_gradient",
    "paint_sampling",
    "receptive_field_figure",
    "sampling_figure",
]

BOX, POINT, LINE = INK, "#000000", "#b5b5b5"
CHOSEN = PALETTE[3]


def sampling_figure(
    values: Tensor,
    region: Tensor,
    points: Tensor,
    crop: Tensor,
    *,
    weights: Tensor | None = None,
    chosen: tuple[int, int] | None = None,
) -> DescribedFigure:
    """The map with bins and sample points, and the crop beside it, on one scale.

    The strongest 2 % of the values share the colours at its ends.

    Args:
        values: (H, W) map, around zero.
        region: (4,) corners of the region divided into R x R bins, cells.
        points: (P, 2) as (x, y), cells.
        crop: (R, R).
        weights: (H, W) weight of each map cell in the chosen cell; large ones are written in.
        chosen: row and column of a cell of the crop.
    """
    limits = usual_magnitude(values)
    R = len(crop)
    figure, axes = panels(
        1,
        2,
        cell=(4.3, 4.0),
        description=f"A map of {values.shape[0]} by {values.shape[1]} cells with {len(points)} "
        f"sample points in {R} by {R} bins of a box, and the crop.",
    )
    left, right = axes[0]
    draw_map(left, values, limits=limits, unit="cells", title="map and sample points")
    _draw_grid(left, values.shape, region, R)
    left.scatter(points[:, 0], points[:, 1], s=14, color=POINT, edgecolors="white", linewidths=0.8)
    if weights is not None:
        _write_weights(left, weights)
    draw_map(right, crop, limits=limits, unit="cells", title=f"crop, {R} x {R}")
    if chosen is not None:
        row, column = chosen
        draw_box(right, (column, row, column + 1, row + 1), color=CHOSEN, width=3)
    add_color_bar(figure, axes.ravel(), limits=limits, label="value of the base, ends: or more")
    return figure


def _draw_grid(ax: Axes, shape: torch.Size, region: Tensor, size: int) -> None:
    height, width = shape
    for x in range(width + 1):
        ax.axvline(x, color=LINE, linewidth=0.5)
    for y in range(height + 1):
        ax.axhline(y, color=LINE, linewidth=0.5)
    x0, y0, x1, y1 = region.tolist()
    for place in range(1, size):
        x, y = x0 + place * (x1 - x0) / size, y0 + place * (y1 - y0) / size
        ax.plot([x, x], [y0, y1], color=BOX, linewidth=0.8)
        ax.plot([x0, x1], [y, y], color=BOX, linewidth=0.8)
    draw_box(ax, (x0, y0, x1, y1), color=BOX, width=2)
    ax.axis((min(0, x0), max(width, x1), max(height, y1), min(0, y0)))


def _write_weights(ax: Axes, weights: Tensor) -> None:
    for row, column in weights.abs().gt(0.005).nonzero().tolist():
        draw_box(ax, (column, row, column + 1, row + 1), color=CHOSEN, width=2.5)
        text = f"{weights[row, column]:.2f}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        draw_text(ax, column + 0.5, row + 0.24, text, size=7, bbox=box, zorder=4)


def paint_sampling(
    values: Tensor, region: Tensor, points: Tensor, size: int, *, scale: int = 24
) -> Tensor:
    """The map with bins and sample points as a picture, for screens.

    Args:
        values: (H, W) map, around zero.
        region: (4,) corners of the region divided into bins, cells.
        points: (P, 2) as (x, y), cells.
        size: R, bins per side.
        scale: pixels of the result per cell.

    Returns:
        (3, scale * H, scale * W) uint8.
    """
    picture = Image.fromarray(as_picture(signed_colors(values / largest_magnitude(values))))
    size_shown = (picture.width * scale, picture.height * scale)
    picture = picture.resize(size_shown, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for x in range(0, picture.width, scale):
        draw.line((x, 0, x, picture.height), fill=rgb255(LINE))
    for y in range(0, picture.height, scale):
        draw.line((0, y, picture.width, y), fill=rgb255(LINE))
    x0, y0, x1, y1 = (scale * side for side in region.tolist())
    for place in range(size + 1):
        x, y = x0 + place * (x1 - x0) / size, y0 + place * (y1 - y0) / size
        width = 3 if place in (0, size) else 1
        draw.line((x, y0, x, y1), fill=rgb255(BOX), width=width)
        draw.line((x0, y, x1, y), fill=rgb255(BOX), width=width)
    for x, y in (scale * points).tolist():
        draw.ellipse((x - 3.5, y - 3.5, x + 3.5, y + 3.5), fill="black", outline="white")
    return as_pixels(picture)


HEAT = PALETTE[0]
STRONG = 0.98  # share of the pixels with a gradient that stay below the full heat
OPACITY = 0.95  # opacity of the full heat
COLUMNS = 4


@dataclass(frozen=True)
class CellField:
    """The receptive field of one cell.

    Attributes:
        gradient: (h, w) magnitudes over the padded picture, at least 0.
        box: (4,) corners of the theoretical field, pixels.
        location: (x, y) location that the detector assigns to the cell, pixels.
    """

    gradient: Tensor
    box: Tensor
    location: tuple[float, float]


def receptive_field_figure(image: Tensor, fields: Mapping[str, CellField]) -> DescribedFigure:
    """One panel per cell: the gradient over the pale picture, the theoretical field, the location.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        fields: receptive fields by title; at least one.
    """
    told = "; ".join(f"{name}: theory {_sides(field.box)} pixels" for name, field in fields.items())
    width = min(3.2, 8.8 / min(COLUMNS, len(fields)))
    figure, axes = panel_grid(
        len(fields),
        COLUMNS,
        cell=(width, width + 0.4),
        description=f"Gradients of cells with respect to the picture, and their fields. {told}.",
    )
    for ax, (name, field) in zip(axes, fields.items(), strict=True):
        caption = f"{name}\ntheory {_sides(field.box)} px"
        draw_picture(ax, paint_gradient(image, field.gradient), title=caption)
        draw_box(ax, field.box.tolist(), color=PALETTE[1], width=1.5)
        ax.plot(*field.location, marker="+", color=INK, markersize=9, markeredgewidth=1.5)
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
    return painted * (1 - strength) + color_tensor(HEAT) * strength


def _sides(box: Tensor) -> str:
    x0, y0, x1, y1 = box.tolist()
    return f"{x1 - x0:.0f} x {y1 - y0:.0f}"
