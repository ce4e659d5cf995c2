"""Attentions: the K coarse maps that every object brings along."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from blendmask_lite.figures.layout import (
    DescribedFigure,
    add_color_bar,
    draw_map,
    draw_picture,
    largest_magnitude,
    panels,
    say_nothing_found,
)
from blendmask_lite.figures.palette import SIGNED, base_color

__all__ = ["attentions_figure", "compare_attentions_figure", "crop_picture"]


def attentions_figure(
    attentions: Tensor,
    *,
    names: Sequence[str] | None = None,
    image: Tensor | None = None,
    boxes: Tensor | None = None,
) -> DescribedFigure:
    """The raw attentions of several objects, a row each, on one common scale.

    Args:
        attentions: (N, K, M, M), before the softmax; N = 0 is said in words.
        names: N titles of the rows.
        image: (3, H, W); with `boxes`, each row begins with the object's part of it.
        boxes: (N, 4) pixels of the image.
    """
    num_objects, num_bases = attentions.shape[:2]
    has_crops = image is not None and boxes is not None
    figure, axes = panels(
        max(1, num_objects),
        num_bases + has_crops,
        cell=(1.7, 1.9),
        description=f"Attention maps of {num_objects} objects, {num_bases} each; "
        "red asks for a base, blue refuses it.",
    )
    if num_objects == 0:
        for ax in axes.flat:
            ax.set_axis_off()
        say_nothing_found(axes[0, 0])
        return figure
    limit = largest_magnitude(attentions)
    for row in range(num_objects):
        if image is not None and boxes is not None:
            crop = crop_picture(image, boxes[row])
            draw_picture(axes[row, 0], crop, title=names[row] if names else "", has_units=False)
        for index in range(num_bases):
            draw_map(
                axes[row, has_crops + index],
                attentions[row, index],
                colors=SIGNED,
                limits=(-limit, limit),
                unit="cells" if index == 0 and row == num_objects - 1 else "",
                title=f"attention {index + 1}" if row == 0 else "",
                title_color=base_color(index),
            )
        if names and not has_crops:
            axes[row, 0].set_ylabel(names[row], fontsize=8)
    add_color_bar(
        figure, axes.ravel(), colors=SIGNED, limits=(-limit, limit), label="raw attention"
    )
    return figure


def compare_attentions_figure(
    scores: Tensor,
    *,
    names: Sequence[str],
    image: Tensor | None = None,
    boxes: Tensor | None = None,
) -> DescribedFigure:
    """The score maps of two objects side by side, and below what the first has more of.

    Args:
        scores: (2, K, R, R), as `Merger.scores` gives them.
        names: of both objects.
        image: (3, H, W); with `boxes`, each row begins with the object's part of it.
        boxes: (2, 4) pixels of the image.

    Raises:
        ValueError: not two objects.
    """
    if len(scores) != 2 or len(names) != 2:
        raise ValueError(f"{len(scores)} objects with {len(names)} names: two can be compared")
    num_bases = scores.shape[1]
    rows = (*scores, scores[0] - scores[1])
    has_crops = image is not None and boxes is not None
    figure, axes = panels(
        3,
        num_bases + has_crops,
        cell=(1.6, 1.7),
        description=f"The {num_bases} score maps of {names[0]} and of {names[1]}, and their "
        "difference: red where the first asks more for a base, blue where the second does.",
    )
    limit = max(largest_magnitude(scores), 1.0)
    for row, (maps, name) in enumerate(zip(rows, (*names, "difference"), strict=True)):
        if image is not None and boxes is not None:
            if row < 2:
                crop = crop_picture(image, boxes[row])
                draw_picture(axes[row, 0], crop, title=name, has_units=False)
            else:
                axes[row, 0].set_axis_off()
        for index in range(num_bases):
            draw_map(
                axes[row, has_crops + index],
                maps[index],
                colors=SIGNED,
                limits=(-limit, limit),
                title=f"base {index + 1}" if row == 0 else "",
                title_color=base_color(index),
            )
        if row == 2 or not has_crops:
            axes[row, int(has_crops)].set_ylabel(name, fontsize=8)
    label = "weight s, and difference"
    add_color_bar(figure, axes.ravel(), colors=SIGNED, limits=(-limit, limit), label=label)
    return figure


def crop_picture(image: Tensor, box: Tensor) -> Tensor:
    """The pixels that a box touches: (3, h, w), at least one pixel, inside the picture."""
    height, width = image.shape[-2:]
    x0, y0 = (int(value) for value in box[:2].floor().tolist())
    x1, y1 = (int(value) for value in box[2:].ceil().tolist())
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return image[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
