"""Where a loss pulls a predicted box: both boxes on the picture, and an arrow on every side.

Chapter 04.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from blendmask_lite.figures.layout import as_picture
from blendmask_lite.figures.palette import INK, PALETTE, rgb255
from blendmask_lite.figures.targets import pale

__all__ = ["PREDICTED", "TRUE", "paint_pull"]

PREDICTED, TRUE = PALETTE[1], PALETTE[3]
LONGEST = 0.16  # arrow, in longer sides of the picture
# Middles of the sides x0, y0, x1, y1, as shares of width and height, and the axis they move along.
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
    """The two boxes, what they share, and the way that descent would move every side.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        predicted: (x0, y0, x1, y1), pixels.
        true: the same.
        gradient: of the loss by the sides of the predicted box; the longest arrow belongs to the
            largest, arrows point against it.
        has_hull: outline the smallest box around both, too.
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
        draw.rectangle(_inside(hull), outline=(*rgb255(INK), 190), width=max(1, line // 2))
    draw.rectangle(_inside(truth), outline=(*rgb255(TRUE), 255), width=line)
    shared = [*map(max, ours[:2], truth[:2]), *map(min, ours[2:], truth[2:])]
    if shared[0] < shared[2] and shared[1] < shared[3]:
        draw.rectangle(_inside(shared), fill=(*rgb255(TRUE), 90))
    draw.rectangle(_inside(ours), outline=(*rgb255(PREDICTED), 255), width=line)
    largest = max(abs(part) for part in gradient)
    for (across, down, axis), part in zip(SIDES, gradient, strict=True):
        if part == 0:
            continue
        start = [
            ours[0] + across * (ours[2] - ours[0]),
            ours[1] + down * (ours[3] - ours[1]),
        ]
        end = list(start)
        end[axis] -= part / largest * LONGEST * max(size)
        _draw_arrow(draw, start, end, axis, line)
    painted = Image.alpha_composite(picture, layer).convert("RGB")
    pixels = torch.frombuffer(bytearray(painted.tobytes()), dtype=torch.uint8)
    return pixels.unflatten(0, (size[1], size[0], 3)).permute(2, 0, 1)


def _inside(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Corners as PIL wants them: the last pixel belongs to the rectangle."""
    x0, y0, x1, y1 = (round(side) for side in box)
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)


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
