"""Attentions, and one object's way through the blender: the paper's figure 1 with real tensors.

Chapters 08 and 09.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from blendmask_lite.figures.style import (
    INK,
    SIGNED,
    DescribedFigure,
    add_color_bar,
    draw_base,
    draw_map,
    draw_outline,
    draw_picture,
    largest_magnitude,
    panels,
    say_nothing_found,
    usual_magnitude,
    weight_colormap,
)
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import WeightedSum, score_maps
from blendmask_lite.model.output import BlendMaskOutput

__all__ = [
    "attentions_figure",
    "blending_figure",
    "compare_attentions_figure",
    "crop_picture",
    "object_blending_figure",
    "strongest_bases",
]


def attentions_figure(
    attentions: Tensor,
    *,
    names: Sequence[str] | None = None,
    image: Tensor | None = None,
    boxes: Tensor | None = None,
) -> DescribedFigure:
    """The raw attentions of several objects, one row per object, on one common scale.

    The strongest 2 % of the values share the colours at its ends.

    Args:
        attentions: (N, K, M, M), before the softmax; if N = 0, the figure says so.
        names: titles of the N rows.
        image: (3, H, W); with `boxes`, each row begins with the object's part of it.
        boxes: (N, 4) pixels of the image.
    """
    num_objects, num_bases = attentions.shape[:2]
    crops = _crops(image, boxes)
    figure, axes = panels(
        max(1, num_objects),
        num_bases + bool(crops),
        cell=(1.7, 1.9),
        description=f"Attention maps of {num_objects} objects, {num_bases} each; "
        "red asks for a base, blue refuses it.",
    )
    if num_objects == 0:
        for ax in axes.flat:
            ax.set_axis_off()
        say_nothing_found(axes[0, 0])
        return figure
    limit = usual_magnitude(attentions)
    titles = names or [""] * num_objects
    _draw_rows(axes, list(attentions), titles, crops, name="attention", limit=limit, unit="cells")
    add_color_bar(figure, axes.ravel(), limits=limit, label="raw attention, ends: or more")
    return figure


def compare_attentions_figure(
    scores: Tensor,
    *,
    names: Sequence[str],
    image: Tensor | None = None,
    boxes: Tensor | None = None,
) -> DescribedFigure:
    """The score maps of two objects, and below them where the first one's are larger.

    Args:
        scores: (2, K, R, R), as `Merger.scores` gives them.
        names: names of the two objects.
        image: (3, H, W); with `boxes`, each row begins with the object's part of it.
        boxes: (2, 4) pixels of the image.

    Raises:
        ValueError: there are not exactly two objects.
    """
    if len(scores) != 2 or len(names) != 2:
        raise ValueError(f"{len(scores)} objects with {len(names)} names: two can be compared")
    num_bases, crops = scores.shape[1], _crops(image, boxes)
    figure, axes = panels(
        3,
        num_bases + bool(crops),
        cell=(1.6, 1.7),
        description=f"The {num_bases} score maps of {names[0]} and of {names[1]}, and their "
        "difference: red where the first asks more for a base, blue where the second does.",
    )
    limit = max(largest_magnitude(scores), 1.0)
    rows = [*scores, scores[0] - scores[1]]
    _draw_rows(axes, rows, [*names, "difference"], crops, limit=limit)
    add_color_bar(figure, axes.ravel(), limits=limit, label="score s, and difference")
    return figure


def _crops(image: Tensor | None, boxes: Tensor | None) -> list[Tensor]:
    if image is None or boxes is None:
        return []
    return [crop_picture(image, box) for box in boxes]


def _draw_rows(
    axes: NDArray[Any],
    rows: Sequence[Tensor],
    titles: Sequence[str],
    crops: Sequence[Tensor],
    *,
    limit: float,
    name: str = "base",
    unit: str = "",
) -> None:
    """Draw (K, h, w) maps in every row, after the row's crop, or else its title, if it has one."""
    first = int(len(crops) > 0)  # column of the maps
    for row, (maps, title) in enumerate(zip(rows, titles, strict=True)):
        for index, values in enumerate(maps):
            ax = axes[row, first + index]
            own_unit = unit if index == 0 and row == len(rows) - 1 else ""
            draw_base(ax, values, index, name=name, limits=limit, unit=own_unit)
            if row:
                ax.set_title("")
        if row < len(crops):
            draw_picture(axes[row, 0], crops[row], title=title, has_units=False)
            continue
        if first:
            axes[row, 0].set_axis_off()
        if title:
            axes[row, first].set_ylabel(title, fontsize=8)


def crop_picture(image: Tensor, box: Tensor) -> Tensor:
    """The pixels that a box touches: (3, h, w), at least one pixel, inside the picture."""
    height, width = image.shape[-2:]
    x0, y0 = (int(value) for value in box[:2].floor().tolist())
    x1, y1 = (int(value) for value in box[2:].ceil().tolist())
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return image[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


MOST = 6  # columns; of more bases, those that say most about the object are drawn


def blending_figure(
    crops: Tensor,
    scores: Tensor,
    *,
    logits: Tensor | None = None,
    picture: Tensor | None = None,
    true_mask: Tensor | None = None,
    title: str = "",
) -> DescribedFigure:
    """Crops r_k, score maps s_k, their products and the mask of one object.

    The strongest 2 % of the crops' values share the colours at the ends of their scale; products
    have the scale of their sum.

    Args:
        crops: (K, R, R) bases, cut out along the object's box.
        scores: (K, R, R), as `Merger.scores` gives them.
        logits: (R, R) the mask; by default the sum of the products.
        picture: (3, h, w) the object's part of the picture, drawn above the mask.
        true_mask: (R, R) bool, outlined on the mask.
        title: text above all panels.

    Raises:
        ValueError: crops and scores differ in shape.
    """
    if crops.shape != scores.shape:
        raise ValueError(f"crops {tuple(crops.shape)} and scores {tuple(scores.shape)} must agree")
    products = crops * scores
    logits = products.sum(dim=0) if logits is None else logits
    shown = strongest_bases(products, MOST)
    figure, axes = panels(
        3,
        len(shown) + 1,
        cell=(1.75, 1.85),
        description=f"{title}{'. ' if title else ''}How {len(crops)} bases become one mask: each "
        "crop times its score, and the sum of the products.",
        title=title,
    )
    limit = usual_magnitude(crops)
    sum_limit = max(largest_magnitude(products), largest_magnitude(logits))
    has_signs = bool((scores < 0).any())  # YOLACT's coefficients may subtract a base
    span = max(1.0, float(scores.abs().max()))
    for column, index in enumerate(shown):
        draw_base(axes[0, column], crops[index], index, limits=limit)
        draw_map(
            axes[1, column],
            scores[index],
            colors=SIGNED if has_signs else weight_colormap(index),
            limits=(-span if has_signs else 0.0, span),
        )
        draw_map(axes[2, column], products[index], limits=sum_limit)
    names = (
        f"crop r, logits\n±{limit:.3g} or more",
        f"score s\n{'±' if has_signs else '0 to '}{span:.3g}",
        f"product r · s\nlogits, ±{sum_limit:.3g}",
    )
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.set_ylabel(name, fontsize=8, color=INK)
    above, middle, below = axes[:, -1]
    if picture is None:
        above.set_axis_off()
    else:
        draw_picture(above, picture, title="picture", has_units=False)
    draw_map(middle, logits.sigmoid(), colors="Greys", limits=(0, 1), title="probability, 0 to 1")
    draw_map(below, logits, limits=sum_limit, title="sum: mask, logits")
    if true_mask is not None:
        draw_outline(middle, true_mask, "#d55e00", width=1.2)
    return figure


@torch.no_grad()
def object_blending_figure(
    model: BlendMask,
    output: BlendMaskOutput,
    index: Tensor,
    box: Tensor,
    *,
    picture: Tensor | None = None,
    true_mask: Tensor | None = None,
    title: str = "",
) -> DescribedFigure:
    """The `blending_figure` of an object that a model found.

    Args:
        model: the model that found the object, with any merger.
        output: the output of that model.
        index: (2,) int64 image and location.
        box: (4,) corners, pixels of the padded input.
        picture: as in `blending_figure`.
        true_mask: as in `blending_figure`.
        title: text above all panels.
    """
    crops = model.crops_at(output, index[:1], box[None])
    attentions = model.attentions_at(output, index[None])
    if isinstance(model.merger, WeightedSum) and model.merger.has_relu:
        crops = crops.relu()  # YOLACT's prototypes are never negative
    return blending_figure(
        crops[0],
        score_maps(model.merger, attentions, crops.shape[-1])[0],
        logits=model.merger(crops, attentions)[0],
        picture=picture,
        true_mask=true_mask,
        title=title,
    )


def strongest_bases(products: Tensor, most: int) -> list[int]:
    """Indices of the bases to draw: all if they are few, else those with the largest products.

    Args:
        products: (K, R, R) crops times scores.
        most: largest number of bases.

    Returns:
        Indices in ascending order.
    """
    strength = products.abs().flatten(1).sum(dim=1)
    return sorted(strength.topk(min(most, len(products))).indices.tolist())
