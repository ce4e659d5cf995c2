"""From the picture to a mask in four steps: boxes, bases, one object's attentions, masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from torch import Tensor

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import (
    DescribedFigure,
    draw_box,
    draw_map,
    draw_picture,
    largest_magnitude,
    say_nothing_found,
)
from blendmask_lite.figures.palette import SIGNED, base_color, object_color
from blendmask_lite.structures import Detections

__all__ = ["overview_figure"]

MOST_BASES = 4  # two by two


def overview_figure(
    image: Tensor,
    detections: Detections,
    class_names: Sequence[str],
    *,
    bases: Tensor,
    attentions: Tensor,
    stride: int,
    chosen: int = 0,
) -> DescribedFigure:
    """The whole method on one picture.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        detections: of that image, at its size; N of them.
        class_names: C names.
        bases: (K, H/s, W/s); the first four are drawn.
        attentions: (N, K, M, M) raw, one set per detection.
        stride: s of the bases, pixels.
        chosen: whose attentions are drawn.
    """
    figure = DescribedFigure(figsize=(12.8, 3.7), dpi=100, layout="constrained")
    figure.set_label(
        "A picture with boxes, four bases of the whole picture, the attentions of one object, "
        f"and the masks of {len(detections)} objects."
    )
    parts = np.asarray(figure.subfigures(1, 4)).ravel()
    titles = (
        "1  detector: boxes",
        "2  bottom module: bases, shared by all",
        "3  top layer: attentions of one object",
        "4  blender: masks",
    )
    for part, title in zip(parts, titles, strict=True):
        part.suptitle(title, fontsize=11)
    boxes_axes, masks_axes = parts[0].subplots(), parts[3].subplots()
    draw_picture(boxes_axes, image)
    draw_picture(masks_axes, paint_masks(image, detections.masks))
    for index in range(len(detections)):
        is_chosen = index == chosen
        box, color = detections.boxes[index].tolist(), object_color(index)
        for ax in (boxes_axes, masks_axes):
            draw_box(ax, box, color=color, width=3.2 if is_chosen else 1.3)
    _draw_maps(parts[1], bases, name="base", stride=stride, unit="pixels")
    if len(detections) == 0:
        say_nothing_found(parts[2].subplots())
        return figure
    _draw_maps(parts[2], attentions[chosen], name="attention", stride=1, unit="cells")
    label, score = int(detections.labels[chosen]), float(detections.scores[chosen])
    caption = f"thick: {class_names[label]}, score {score:.2f}"
    _caption_below(boxes_axes, caption)
    _caption_below(masks_axes, f"{len(detections)} masks")
    return figure


def _draw_maps(part: SubFigure, maps: Tensor, *, name: str, stride: int, unit: str) -> None:
    """The first four maps, two by two, on one scale around zero."""
    shown = maps[:MOST_BASES]
    limit = largest_magnitude(shown)
    axes = part.subplots(2, 2, squeeze=False)
    for index, ax in enumerate(axes.flat):
        if index >= len(shown):
            ax.set_axis_off()
            continue
        draw_map(
            ax,
            shown[index],
            colors=SIGNED,
            limits=(-limit, limit),
            stride=stride,
            unit=unit,
            title=f"{name} {index + 1}",
            title_color=base_color(index),
        )
        if index % 2:
            ax.set_ylabel("")
        if index < 2:
            ax.set_xlabel("")


def _caption_below(axes: Axes, text: str) -> None:
    axes.set_xlabel(f"x, pixels\n{text}", fontsize=8)
