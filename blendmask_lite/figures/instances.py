"""True objects as a data set stores them, and what is left of a mask at R x R cells.

Chapter 01 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import DescribedFigure, draw_box, draw_picture, panels
from blendmask_lite.figures.palette import INK, PALETTE, object_color, rgb255, text_on
from blendmask_lite.figures.targets import pale

__all__ = ["instances_figure", "round_trip_figure"]

KEPT, LOST, ADDED = "#b4b4b4", PALETTE[0], PALETTE[1]
CROWD = INK  # outline of regions that are no single object


def instances_figure(
    image: Tensor,
    masks: Tensor,
    boxes: Tensor,
    names: Sequence[str],
    *,
    crowd: Sequence[int] = (),
    chosen: int | None = None,
    title: str = "",
) -> DescribedFigure:
    """A picture with its true objects: masks in colours, boxes, names.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        masks: (N, H, W) bool; N may be 0.
        boxes: (N, 4) corners, pixels.
        names: N texts.
        crowd: indices of regions that hold many objects; hatched, with a dashed box.
        chosen: the one object to show in colour; the others stay pale. None: all.
        title: above the picture.
    """
    told = ", ".join(names) or "none"
    height, width = image.shape[-2:]
    figure, axes = panels(
        1,
        1,
        cell=(5.0, min(6.0, 5.0 * height / width + 0.4)),
        description=f"A picture with {len(names)} annotated objects: {told}.",
    )
    ax = axes[0, 0]
    shown = list(range(len(names))) if chosen is None else [chosen]
    ground = image if chosen is None else pale(image)
    colors = [object_color(index) for index in shown]
    draw_picture(ax, paint_masks(ground, masks[shown], colors), title=title)
    for index, color in reversed(list(zip(shown, colors, strict=True))):
        is_crowd = index in crowd
        _draw_name(ax, boxes[index].tolist(), names[index], color, height)
        draw_box(ax, boxes[index].tolist(), color=CROWD if is_crowd else color)
        if is_crowd:
            ax.patches[-1].set(linestyle="--")
            _hatch(ax, masks[index])
    return figure


def round_trip_figure(
    mask: Tensor, pasted: Mapping[str, Tensor], box: Sequence[float], *, title: str = ""
) -> DescribedFigure:
    """A mask, and what came back of it: pixels that were kept, lost and added.

    Args:
        mask: (H, W) bool, the true one.
        pasted: (H, W) bool by title, after cropping to R x R cells and pasting.
        box: (x0, y0, x1, y1) of the object, pixels; the panels show its surroundings.
        title: above all.
    """
    x0, y0, x1, y1 = box
    margin = 0.06 * max(x1 - x0, y1 - y0) + 2
    counts = [
        f"{name}: {int((mask & ~back).sum())} pixels lost, {int((back & ~mask).sum())} added"
        for name, back in pasted.items()
    ]
    shape = (y1 - y0 + 2 * margin) / (x1 - x0 + 2 * margin)
    width = min(2.9, 8.8 / len(pasted))
    figure, axes = panels(
        1,
        len(pasted),
        cell=(width, min(4.0, width * shape) + 0.75),
        description=f"A mask of {int(mask.sum())} pixels, there and back. {'; '.join(counts)}.",
    )
    for ax, (name, back) in zip(axes.flat, pasted.items(), strict=True):
        picture = torch.ones(3, *mask.shape)
        for part, color in ((mask & back, KEPT), (mask & ~back, LOST), (back & ~mask, ADDED)):
            picture[:, part] = torch.tensor(rgb255(color))[:, None] / 255
        iou = float((mask & back).sum() / (mask | back).sum().clamp(min=1))
        draw_picture(ax, picture, title=f"{name}\nIoU {iou:.2f}")
        ax.set_xlim(max(0, x0 - margin), min(mask.shape[1], x1 + margin))
        ax.set_ylim(min(mask.shape[0], y1 + margin), max(0, y0 - margin))
    figure.legend(
        handles=[
            Line2D([], [], marker="s", linestyle="", color=color, label=label)
            for color, label in ((KEPT, "kept"), (LOST, "lost"), (ADDED, "added"))
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw_name(ax: Axes, box: Sequence[float], name: str, color: str, height: int) -> None:
    is_at_top = box[1] < height / 15  # no room above the box
    ax.text(
        box[0],
        box[1],
        name,
        color=text_on(color),
        fontsize=8,
        va="top" if is_at_top else "bottom",
        bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5},
        clip_on=True,
    )


def _hatch(ax: Axes, mask: Tensor) -> None:
    height, width = mask.shape
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    ax.contourf(x, y, mask.numpy(), levels=[0.5, 1.5], colors="none", hatches=["///"])
