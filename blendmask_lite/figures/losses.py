"""Losses as curves and shares, and the pull of a loss on a predicted box.

Chapter 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    as_picture,
    as_pixels,
    draw_box,
    draw_map,
    draw_text,
    finish_plot,
    legend_below,
    one_panel,
    pale,
    panels,
    pixel_corners,
    rgb255,
    text_on,
)

__all__ = [
    "PREDICTED",
    "TRUE",
    "centerness_figure",
    "loss_and_gradient_figure",
    "paint_pull",
    "shares_figure",
]

STYLES = ("-", "--", "-.", ":")


def loss_and_gradient_figure(
    x: Tensor,
    curves: Mapping[str, tuple[Tensor, Tensor]],
    *,
    x_label: str,
    gradient_label: str,
    mark: float | None = None,
    mark_label: str = "",
    is_log: bool = False,
    largest_gradient: float | None = None,
) -> DescribedFigure:
    """Loss on the left, gradient on the right, over the same x.

    Args:
        x: (n,).
        curves: (n,) loss and (n,) gradient by name; values that are not finite are left out.
        x_label: what x is, with its unit.
        gradient_label: what the gradient is taken with respect to, with its unit.
        mark: an x to mark with a line.
        mark_label: what the mark is.
        is_log: whether the vertical axes are logarithmic.
        largest_gradient: end of the right axis on both sides of 0; None shows everything.
    """
    told = "; ".join(_ranges(name, *pair) for name, pair in curves.items())
    figure, axes = panels(1, 2, cell=(4.3, 3.0), description=f"Loss and gradient. {told}.")
    for ax, place, label in ((axes[0, 0], 0, "loss"), (axes[0, 1], 1, gradient_label)):
        for index, (name, pair) in enumerate(curves.items()):
            values = torch.where(pair[place].isfinite(), pair[place], torch.nan)
            style = STYLES[index % len(STYLES)]
            color = PALETTE[(index + 1) % len(PALETTE)]
            ax.plot(x.tolist(), values.tolist(), color=color, linestyle=style, label=name)
        if mark is not None:
            ax.axvline(mark, color=INK, linewidth=0.9, linestyle=":", label=mark_label or None)
        if largest_gradient is not None and place == 1:
            ax.set_ylim(-largest_gradient, largest_gradient)
        if is_log:
            ax.set_yscale("log")
        finish_plot(ax, x=x_label, y=label, ticks=7)
    axes[0, 0].legend(fontsize=7, frameon=False)
    return figure


def shares_figure(shares: Mapping[str, Mapping[str, float]], *, label: str) -> DescribedFigure:
    """One bar per row, divided into parts that add up to 100 %.

    Args:
        shares: by row and then by part, numbers on any scale, >= 0; the same parts in every row.
        label: what is shared, written at the axis.
    """
    per_cent = {
        row: {part: 100 * value / (sum(parts.values()) or 1) for part, value in parts.items()}
        for row, parts in shares.items()
    }
    told = "; ".join(
        f"{row}: " + ", ".join(f"{part} {value:.1f} %" for part, value in parts.items())
        for row, parts in per_cent.items()
    )
    figure, ax = one_panel(cell=(7.6, 1.0 + 0.45 * len(shares)), description=f"{told}.")
    for place, parts in enumerate(per_cent.values()):
        begin = 0.0
        for index, (part, value) in enumerate(parts.items()):
            color = PALETTE[(index + 1) % len(PALETTE)]
            name = part if place == 0 else None
            ax.barh(place, value, left=begin, height=0.62, color=color, label=name)
            if value > 9:
                words = f"{value:.1f} %"
                draw_text(ax, begin + value / 2, place, words, color=text_on(color))
            begin += value
    finish_plot(ax, x=label, ticks=7)
    ax.set_yticks(range(len(per_cent)), list(per_cent), fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    legend_below(figure, columns=4, size=7)
    return figure


def centerness_figure(
    values: Tensor,
    *,
    box: Sequence[float],
    location: tuple[float, float],
    probabilities: Tensor,
    losses: Tensor,
    floor: float,
    predicted: float,
) -> DescribedFigure:
    """Centerness over a box, and the cost of a prediction at one location.

    Args:
        values: (h, w) centerness of every pixel of the picture, 0 outside the box.
        box: (x0, y0, x1, y1), pixels.
        location: (x, y), pixels.
        probabilities: (n,) that a network might predict there.
        losses: (n,) binary cross entropy of each.
        floor: the lowest possible loss.
        predicted: the probability that is marked.
    """
    x, y = location
    figure, axes = panels(
        1,
        2,
        cell=(4.1, 3.2),
        description=f"Centerness over a box; at x {x:.0f}, y {y:.0f} the loss is least, "
        f"{floor:.2f}, where the prediction equals the target; a dotted line marks "
        f"{predicted:.2f}.",
    )
    left, right = axes[0]
    draw_map(left, values, colors="viridis", limits=(0, 1), unit="pixels", title="centerness")
    draw_box(left, box, color=PALETTE[3])
    left.plot(x, y, marker="o", markersize=7, color="white", markeredgecolor=INK)
    figure.colorbar(left.images[0], ax=left, fraction=0.04).ax.tick_params(labelsize=7)
    right.plot(probabilities.tolist(), losses.tolist(), color=PALETTE[1], label="cross entropy")
    right.axhline(floor, color=PALETTE[0], linestyle="--", linewidth=1.2, label="floor")
    right.axvline(predicted, color=INK, linestyle=":", linewidth=1.2, label="prediction")
    right.set_ylim(0, 3)
    finish_plot(right, x="predicted centerness", y="loss", ticks=7)
    right.legend(fontsize=7, frameon=False)
    return figure


def _ranges(name: str, loss: Tensor, gradient: Tensor) -> str:
    parts = []
    for what, values in (("loss", loss), ("gradient", gradient)):
        finite = values[values.isfinite()]
        if len(finite):
            parts.append(f"{what} {float(finite.min()):.3g} to {float(finite.max()):.3g}")
    return f"{name}: {', '.join(parts)}"


PREDICTED, TRUE = PALETTE[1], PALETTE[3]
LONGEST = 0.16  # length of the longest arrow, as a share of the picture's longer side
# Midpoints of the sides x0, y0, x1, y1, as shares of width and height, and the axis they move on.
SIDES = ((0.0, 0.5, 0), (0.5, 0.0, 1), (1.0, 0.5, 0), (0.5, 1.0, 1))


def paint_pull(
    image: Tensor,
    *,
    predicted: Sequence[float],
    true: Sequence[float],
    gradient: Sequence[float],
    has_hull: bool = False,
    scale: int = 1,
) -> Tensor:
    """The two boxes, their overlap, and how gradient descent would move every side.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        predicted: (x0, y0, x1, y1), pixels.
        true: (x0, y0, x1, y1), pixels.
        gradient: (4,) gradient of the loss with respect to the sides of the predicted box; arrows
            point against it, and the arrow of the largest component is the longest.
        has_hull: also outline the smallest box around both.
        scale: pixels of the result per pixel of the image.

    Returns:
        (3, H * scale, W * scale) uint8.
    """
    height, width = image.shape[-2:]
    size = (width * scale, height * scale)
    picture = Image.fromarray(as_picture(pale(image))).resize(size).convert("RGBA")
    layer = Image.new("RGBA", size)
    draw = ImageDraw.Draw(layer)
    ours, truth = ([side * scale for side in box] for box in (predicted, true))
    line = max(2, max(size) // 170)
    if has_hull:
        hull = [*map(min, ours[:2], truth[:2]), *map(max, ours[2:], truth[2:])]
        draw.rectangle(pixel_corners(hull), outline=(*rgb255(INK), 190), width=max(1, line // 2))
    draw.rectangle(pixel_corners(truth), outline=(*rgb255(TRUE), 255), width=line)
    shared = [*map(max, ours[:2], truth[:2]), *map(min, ours[2:], truth[2:])]
    if shared[0] < shared[2] and shared[1] < shared[3]:
        draw.rectangle(pixel_corners(shared), fill=(*rgb255(TRUE), 90))
    draw.rectangle(pixel_corners(ours), outline=(*rgb255(PREDICTED), 255), width=line)
    largest = max(abs(part) for part in gradient)
    for (across, down, axis), part in zip(SIDES, gradient, strict=True):
        if part == 0:
            continue
        x0, y0, x1, y1 = ours
        start = [x0 + across * (x1 - x0), y0 + down * (y1 - y0)]
        end = list(start)
        end[axis] -= part / largest * LONGEST * max(size)
        _draw_arrow(draw, start, end, axis, line)
    return as_pixels(Image.alpha_composite(picture, layer).convert("RGB"))


def _draw_arrow(
    draw: ImageDraw.ImageDraw, start: Sequence[float], end: Sequence[float], axis: int, line: int
) -> None:
    color = (*rgb255(PALETTE[0]), 255)
    draw.line((*start, *end), fill=color, width=line + 1)
    head = min(4.0 * line, abs(end[axis] - start[axis]))
    back = -head if end[axis] > start[axis] else head
    corners = [tuple(end)]
    for wing in (0.6 * head, -0.6 * head):
        corner = [end[0] + wing, end[1] + wing]
        corner[axis] = end[axis] + back
        corners.append(tuple(corner))
    draw.polygon(corners, fill=color)
