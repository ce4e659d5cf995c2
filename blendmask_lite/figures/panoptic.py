"""Panoptic segmentation: every pixel belongs to one object, to one stuff class, or to nothing.

Chapter 14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.patches import Patch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.evaluation.panoptic_quality import PanopticQuality
from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    as_float,
    color_tensor,
    draw_name,
    draw_picture,
    finish_plot,
    legend_below,
    object_color,
    one_panel,
    panels,
    picture_cell,
    stuff_color,
)
from blendmask_lite.structures import PanopticResult, Segment
from blendmask_lite.terminal import counted

__all__ = ["paint_segments", "panoptic_figure", "panoptic_quality_figure", "panoptic_steps_figure"]

OPACITY = 0.55  # opacity of stuff over the picture


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
        result: the result of that image, at its size.
        class_names: C names.
        stuff_names: S names; the first one belongs to label 1.
        title: text above the picture.

    Raises:
        ValueError: the result belongs to an image of another size.
    """
    names = [_name(segment, class_names, stuff_names) for segment in result.segments]
    figure, ax = one_panel(
        cell=picture_cell(image, 5.0, title=0.4),
        description=f"A picture in {len(names)} segments: {', '.join(names) or 'none'}.",
    )
    draw_picture(ax, paint_segments(image, result), title=title)
    colors = _colors(result)
    # Objects last: their names matter more if two overlap.
    for index in reversed(range(len(names))):
        x, y = _place(result.ids == result.segments[index].id)
        # At the left and right edge a centered name would lose its end.
        ha = {0: "left", 9: "right"}.get(int(10 * x / image.shape[-1]), "center")
        draw_name(ax, x, y, names[index], color=colors[index], ha=ha, va="center")
    return figure


def paint_segments(image: Tensor, result: PanopticResult) -> Tensor:
    """Tint every segment in its colour, with a line around each object.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        result: the result of that image, at its size.

    Returns:
        (3, H, W) float in [0, 1], a copy on the CPU; pixels without a label keep their colour.

    Raises:
        ValueError: the result belongs to an image of another size.
    """
    if result.ids.shape != image.shape[-2:]:
        raise ValueError(
            f"segments of {tuple(result.ids.shape)} pixels on an image of {tuple(image.shape[-2:])}"
        )
    image, result = image.cpu(), result.to("cpu")
    painted = as_float(image)
    for segment, name in zip(result.segments, _colors(result), strict=True):
        if not segment.is_thing:
            color, mask = color_tensor(name)[..., 0], result.ids == segment.id
            painted[:, mask] = (1 - OPACITY) * painted[:, mask] + OPACITY * color
    things = torch.tensor([segment.id for segment in result.segments if segment.is_thing])
    return paint_masks(painted, result.ids == things[:, None, None])


def _colors(result: PanopticResult) -> list[str]:
    """Objects get their colours in order, stuff by its label."""
    return [
        object_color(index) if segment.is_thing else stuff_color(segment.label)
        for index, segment in enumerate(result.segments)
    ]


def _name(segment: Segment, class_names: Sequence[str], stuff_names: Sequence[str]) -> str:
    if not segment.is_thing:
        return stuff_names[segment.label - 1]
    name = class_names[segment.label]
    return name if segment.score is None else f"{name} {100 * segment.score:.0f} %"


def _place(mask: Tensor) -> tuple[float, float]:
    """The middle of the mask's thickest part as x and y, so that a name covers little else."""
    step = max(1, max(mask.shape) // 100)
    coarse = mask[::step, ::step]
    if not coarse.any():
        step, coarse = 1, mask
    inner = coarse[None, None].float()
    while True:
        # One cell less on every side; everything beyond the picture counts as outside.
        eroded = 1 - F.max_pool2d(F.pad(1 - inner, (1, 1, 1, 1), value=1.0), 3, stride=1)
        if not eroded.any():
            break
        inner = eroded
    cells = inner[0, 0].nonzero().float()
    nearest = (cells - cells.mean(dim=0)).square().sum(dim=1).argmin()
    y, x = ((cells[nearest] + 0.5) * step).tolist()
    return x, y


def panoptic_steps_figure(image: Tensor, results: Mapping[str, PanopticResult]) -> DescribedFigure:
    """The picture, then each result over it, without names.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        results: the results of that image, at its size, by title.

    Raises:
        ValueError: a result belongs to an image of another size.
    """
    told = "; ".join(f"{name}: {len(one.segments)} segments" for name, one in results.items())
    figure, axes = panels(
        1,
        1 + len(results),
        cell=picture_cell(image, 2.2, title=0.2),
        description=f"A picture and its segments. {told}.",
    )
    draw_picture(axes[0, 0], image, title="picture")
    for ax, (name, result) in zip(axes[0, 1:], results.items(), strict=True):
        draw_picture(ax, paint_segments(image, result), title=name)
    return figure


THING_COLOR, STUFF_COLOR = PALETTE[1], PALETTE[3]


def panoptic_quality_figure(quality: PanopticQuality, *, max_classes: int = 40) -> DescribedFigure:
    """One bar per class, highest PQ first, with marks for SQ and RQ; PQ is their product.

    Args:
        quality: the result of an evaluation.
        max_classes: largest number of bars; with more classes, the best and the worst are shown.
    """
    parts = ((quality.thing_classes, THING_COLOR), (quality.stuff_classes, STUFF_COLOR))
    rows = [
        (name, counts.quality, color)
        for classes, color in parts
        for name, counts in classes.items()
        if counts.occurs
    ]
    rows.sort(key=lambda row: -row[1]["PQ"])
    left_out = max(0, len(rows) - max_classes)
    if left_out:
        rows = rows[: (max_classes + 1) // 2] + rows[len(rows) - max_classes // 2 :]
    told = ", ".join(f"{name} {values['PQ']:.1f}" for name, values, _ in rows) or "no class"
    figure, ax = one_panel(
        cell=(6.4, 1.2 + 0.22 * max(len(rows), 1)),
        description=f"Panoptic quality by class, percent: {told}.",
    )
    for y, (_, values, color) in enumerate(rows):
        ax.barh(y, values["PQ"], color=color, height=0.7)
        beside = ax.get_yaxis_transform()
        ax.text(1.01, y, f"{values['PQ']:.1f}", fontsize=7, va="center", transform=beside)
    marks = []
    for name, mark, size in (("SQ", "|", 8), ("RQ", "x", 4)):
        x = [values[name] for _, values, _ in rows]
        marks += ax.plot(x, range(len(rows)), mark, color=INK, markersize=size)
    finish_plot(ax, x="%")
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=7)
    ax.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    ax.set_xlim(0, 104)
    handles = [Patch(color=THING_COLOR), Patch(color=STUFF_COLOR), *marks]
    labels = ["PQ of things", "PQ of stuff", "SQ: IoU of matches", "RQ: F1 of segments"]
    legend_below(figure, columns=4, size=7, handles=handles, labels=labels)
    averages = (("all", quality.all), ("things", quality.things), ("stuff", quality.stuff))
    title = "PQ: " + ", ".join(f"{name} {part['PQ']:.1f}" for name, part in averages)
    if left_out:
        classes = counted(left_out, "class", "classes")
        title += f"\nleft out: {classes} between the best and the worst"
    ax.set_title(title, fontsize=9)
    return figure
