"""How thousands of boxes become a handful: the picture after every stage of the detector's end.

Chapter 05.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.collections import LineCollection
from PIL import Image, ImageDraw
from torch import Tensor

from blendmask_lite.figures.layout import DescribedFigure, as_picture, draw_picture, panels
from blendmask_lite.figures.palette import PALETTE, rgb255
from blendmask_lite.figures.targets import pale

__all__ = ["paint_boxes", "proposals_figure"]

COLUMNS = 4
MOST_INK = 40  # boxes that are drawn in full strength; of more each is paler


def proposals_figure(
    image: Tensor, stages: Mapping[str, Tensor], *, title: str = ""
) -> DescribedFigure:
    """One panel a stage with all its boxes.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        stages: (N, 4) corners in pixels by name; N may be 0.
        title: above all.

    Raises:
        ValueError: no stages.
    """
    if not stages:
        raise ValueError("stages: an empty dict; at least one stage is needed")
    height, width = image.shape[-2:]
    columns = min(COLUMNS, len(stages))
    side = 2.2
    told = ", ".join(f"{name} {len(boxes)}" for name, boxes in stages.items())
    figure, axes = panels(
        -(-len(stages) // columns),
        columns,
        cell=(side, side * height / width + 0.35),
        description=f"Boxes after every stage: {told}.",
    )
    for empty in axes.flat[len(stages) :]:
        empty.set_axis_off()
    for ax, (name, boxes) in zip(axes.flat, stages.items(), strict=False):
        draw_picture(ax, pale(image), title=f"{name}: {len(boxes)}")
        x0, y0, x1, y1 = boxes.detach().cpu().unbind(dim=1)
        outlines = torch.stack([x0, y0, x1, y0, x1, y1, x0, y1, x0, y0], dim=1)
        strength = max(0.05, min(1.0, MOST_INK / max(len(boxes), 1)))
        lines = LineCollection(
            outlines.unflatten(1, (5, 2)).numpy(), colors=PALETTE[1], linewidths=1.1, alpha=strength
        )
        ax.add_collection(lines)
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def paint_boxes(
    image: Tensor, boxes: Sequence[tuple[Tensor, str, int]], *, scale: int = 1
) -> Tensor:
    """Outlines on a pale picture.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (4,) corners in pixels, colour, and width of the line in pixels of the result; later
            ones lie on top.
        scale: pixels of the result per pixel of the picture.

    Returns:
        (3, scale * H, scale * W) uint8.
    """
    picture = Image.fromarray(as_picture(pale(image)))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    for box, color, width in boxes:
        x0, y0, x1, y1 = (round(scale * side) for side in box.tolist())
        draw.rectangle(
            (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=rgb255(color), width=width
        )
    return (
        torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        .unflatten(0, (picture.height, picture.width, 3))
        .permute(2, 0, 1)
    )
