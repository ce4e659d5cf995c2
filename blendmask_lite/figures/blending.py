"""One object's way through the blender: the paper's figure 1 with real tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from blendmask_lite.figures.layout import (
    DescribedFigure,
    draw_map,
    draw_picture,
    largest_magnitude,
    panels,
)
from blendmask_lite.figures.palette import INK, SIGNED, base_color, weight_colormap
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import WeightedSum
from blendmask_lite.model.output import BlendMaskOutput

__all__ = ["blending_figure", "object_blending_figure", "strongest_bases"]

MOST = 6  # columns; with more bases, those that say most about the object are drawn


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

    Args:
        crops: (K, R, R) bases, cut out along the object's box.
        scores: (K, R, R) weights.
        logits: (R, R) the mask; the sum of the products where it is not given.
        picture: (3, h, w) the object's part of the picture, drawn above the mask.
        true_mask: (R, R) bool, outlined on the mask.
        title: above all of them.

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
        "crop times its weight, and the sum of the products.",
    )
    limit = largest_magnitude(crops)
    sum_limit = max(largest_magnitude(products), largest_magnitude(logits))
    has_signs = bool((scores < 0).any())  # YOLACT's coefficients may subtract a base
    span = max(1.0, float(scores.abs().max()))
    for column, index in enumerate(shown):
        draw_map(
            axes[0, column],
            crops[index],
            colors=SIGNED,
            limits=(-limit, limit),
            title=f"base {index + 1}",
            title_color=base_color(index),
        )
        draw_map(
            axes[1, column],
            scores[index],
            colors=SIGNED if has_signs else weight_colormap(index),
            limits=(-span if has_signs else 0.0, span),
        )
        draw_map(axes[2, column], products[index], colors=SIGNED, limits=(-sum_limit, sum_limit))
    names = (
        f"crop r\nlogits, ±{limit:.3g}",
        f"weight s\n{'±' if has_signs else '0 to '}{span:.3g}",
        f"product r · s\nlogits, ±{sum_limit:.3g}",
    )
    _name_rows(list(axes[:, 0]), names)
    _draw_result(list(axes[:, -1]), logits, picture, true_mask, sum_limit)
    if title:
        figure.suptitle(title, fontsize=10)
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
    """The same for an object that a model found.

    Args:
        model: with any merger.
        output: of that model.
        index: (2,) int64, image and location.
        box: (4,) corners, pixels of the padded input.
        picture: as in `blending_figure`.
        true_mask: as in `blending_figure`.
        title: above all of them.
    """
    crops = model.crops_at(output, index[:1], box[None])
    attentions = model.attentions_at(output, index[None])
    if isinstance(model.merger, WeightedSum) and model.merger.has_relu:
        crops = crops.relu()  # YOLACT's prototypes are never negative
    return blending_figure(
        crops[0],
        model.merger.scores(attentions, crops.shape[-1])[0],
        logits=model.merger(crops, attentions)[0],
        picture=picture,
        true_mask=true_mask,
        title=title,
    )


def strongest_bases(products: Tensor, most: int) -> list[int]:
    """Which bases to draw: all of them if they are few, else those of the largest products.

    Args:
        products: (K, R, R) crops times scores.
        most: how many at most.

    Returns:
        Indices in ascending order.
    """
    strength = products.abs().flatten(1).sum(dim=1)
    return sorted(strength.topk(min(most, len(products))).indices.tolist())


def _name_rows(axes: Sequence[Axes], names: Sequence[str]) -> None:
    for ax, name in zip(axes, names, strict=True):
        ax.set_ylabel(name, fontsize=8, color=INK)


def _draw_result(
    axes: list[Axes],
    logits: Tensor,
    picture: Tensor | None,
    true_mask: Tensor | None,
    limit: float,
) -> None:
    """The last column, from top to bottom: the picture, the probabilities, the sum."""
    above, middle, below = axes
    if picture is None:
        above.set_axis_off()
    else:
        draw_picture(above, picture, title="picture", has_units=False)
    draw_map(middle, logits.sigmoid(), colors="Greys", limits=(0, 1), title="probability, 0 to 1")
    draw_map(below, logits, colors=SIGNED, limits=(-limit, limit), title="sum: mask, logits")
    if true_mask is not None:
        outline = true_mask.detach().cpu().to(torch.float32).numpy()
        cells = torch.arange(len(outline)).numpy() + 0.5
        middle.contour(cells, cells, outline, levels=[0.5], colors=["#d55e00"], linewidths=1.2)
