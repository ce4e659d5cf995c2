"""A picture divided up: every pixel belongs to one object, to one kind of stuff, or to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import DescribedFigure, draw_picture, panels
from blendmask_lite.figures.palette import object_color, rgb255, stuff_color, text_on
from blendmask_lite.structures import PanopticResult, Segment

__all__ = ["paint_segments", "panoptic_figure"]

OPACITY = 0.55  # of stuff over the picture


def panoptic_figure(
    image: Tensor,
    result: PanopticResult,
    class_names: Sequence[str],
    stuff_names: Sequence[str],
    *,
    title: str = "",
) -> DescribedFigure:
    """The picture with its segments coloured and named; objects are outlined.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        result: of that image, at its size.
        class_names: C names.
        stuff_names: S names, of label 1 upwards.
        title: above the picture.

    Raises:
        ValueError: the result belongs to an image of another size.
    """
    names = [_name(each, class_names, stuff_names) for each in result.segments]
    height, width = image.shape[-2:]
    figure, axes = panels(
        1,
        1,
        cell=(5.0, 5.0 * height / width + 0.4),
        description=f"A picture in {len(names)} segments: {', '.join(names) or 'none'}.",
    )
    ax = axes[0, 0]
    draw_picture(ax, paint_segments(image, result), title=title)
    colors = _colors(result)
    # Objects last: their names matter more where two lie over each other.
    for index in reversed(range(len(names))):
        x, y = _place(result.ids == result.segments[index].id)
        ax.text(
            x,
            y,
            names[index],
            color=text_on(colors[index]),
            fontsize=8,
            ha="center",
            va="center",
            bbox={"facecolor": colors[index], "edgecolor": "none", "pad": 1.5},
            clip_on=True,
        )
    return figure


def paint_segments(image: Tensor, result: PanopticResult) -> Tensor:
    """Tint every segment in its colour, with a line around each object.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        result: of that image, at its size.

    Returns:
        (3, H, W) float in [0, 1], a copy on the CPU; unlabelled pixels keep their colour.

    Raises:
        ValueError: the result belongs to an image of another size.
    """
    if result.ids.shape != image.shape[-2:]:
        raise ValueError(
            f"segments of {tuple(result.ids.shape)} pixels on an image of {tuple(image.shape[-2:])}"
        )
    image, result = image.cpu(), result.to("cpu")
    painted = image.clone() if image.is_floating_point() else image.float() / 255
    for segment, name in zip(result.segments, _colors(result), strict=True):
        if not segment.is_thing:
            color = torch.tensor(rgb255(name))[:, None] / 255
            mask = result.ids == segment.id
            painted[:, mask] = (1 - OPACITY) * painted[:, mask] + OPACITY * color
    things = torch.tensor([each.id for each in result.segments if each.is_thing])
    return paint_masks(painted, result.ids == things[:, None, None])


def _colors(result: PanopticResult) -> list[str]:
    """Objects are coloured one after the other, stuff by its label."""
    return [
        object_color(index) if segment.is_thing else stuff_color(segment.label)
        for index, segment in enumerate(result.segments)
    ]


def _name(segment: Segment, class_names: Sequence[str], stuff_names: Sequence[str]) -> str:
    if segment.score is None:
        return stuff_names[segment.label - 1]
    return f"{class_names[segment.label]} {100 * segment.score:.0f} %"


def _place(mask: Tensor) -> tuple[float, float]:
    """The middle of the mask's thickest part as x and y, so that a name covers little else."""
    step = max(1, max(mask.shape) // 100)
    coarse = mask[::step, ::step]
    if not coarse.any():
        step, coarse = 1, mask
    inner = coarse[None, None].float()
    while True:
        # One cell less on every side; what is beyond the picture counts as outside.
        eroded = 1 - F.max_pool2d(F.pad(1 - inner, (1, 1, 1, 1), value=1.0), 3, stride=1)
        if not eroded.any():
            break
        inner = eroded
    cells = inner[0, 0].nonzero().float()
    nearest = (cells - cells.mean(dim=0)).square().sum(dim=1).argmin()
    y, x = ((cells[nearest] + 0.5) * step).tolist()
    return x, y
