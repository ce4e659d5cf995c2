"""How masks come into being: one object at one moment of a training, and at several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from blendmask_lite.figures.attentions import crop_picture
from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import (
    DescribedFigure,
    draw_box,
    draw_map,
    draw_picture,
    largest_magnitude,
    panels,
)
from blendmask_lite.figures.palette import INK, PALETTE, SIGNED, base_color
from blendmask_lite.masks import crop_masks

__all__ = ["film_figure", "moment_figure"]

MOST = 4  # bases that are drawn where nobody chose
TRUTH = PALETTE[0]  # the line around a true mask


def moment_figure(
    image: Tensor,
    *,
    box: Tensor,
    true_mask: Tensor,
    bases: Tensor,
    attentions: Tensor,
    mask_probabilities: Tensor,
    stride: int,
    found_masks: Tensor | None = None,
    shown: Sequence[int] | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> DescribedFigure:
    """One object at one moment: picture and bases above, its mask and attentions below.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        box: (4,) of the object, corners, pixels.
        true_mask: (H, W) bool, outlined in its mask.
        bases: (K, h, w) of the picture.
        attentions: (k, m, m) raw, of the object; k = 0 where a merger has none.
        mask_probabilities: (R, R) over the box.
        stride: of the bases, pixels per cell.
        found_masks: (D, H, W) bool, what a detection would give; painted on the picture.
        shown: which bases to draw; the first four without.
        limits: largest magnitudes of bases and attentions on the colour scales, the same for
            several moments that are to be compared; without, those of this one.
        title: above all.
    """
    columns = list(range(min(MOST, len(bases)))) if shown is None else list(shown)
    figure, axes = panels(
        2,
        len(columns) + 1,
        cell=(2.1, 2.25),
        description=f"{title or 'One object at one moment'}: the picture, {len(columns)} of its "
        "bases, the attentions of one object, and its mask with the true outline.",
    )
    picture = image if found_masks is None else paint_masks(image, found_masks)
    draw_picture(axes[0, 0], picture, title="picture", has_units=False)
    draw_box(axes[0, 0], box.tolist(), color=INK)
    _draw_mask(axes[1, 0], mask_probabilities, box, true_mask)
    base_limit, attention_limit = limits or (
        largest_magnitude(bases),
        largest_magnitude(attentions),
    )
    height, width = image.shape[-2:]
    for ax, index in zip(axes[0, 1:], columns, strict=True):
        draw_map(
            ax,
            bases[index],
            colors=SIGNED,
            limits=(-base_limit, base_limit),
            stride=stride,
            title=f"base {index + 1}, ±{base_limit:.2g}",
            title_color=base_color(index),
        )
        ax.set_xlim(0, width)  # what was padded is not drawn
        ax.set_ylim(height, 0)
        draw_box(ax, box.tolist(), color=INK, width=1.0)
    for ax, index in zip(axes[1, 1:], columns, strict=True):
        if index >= len(attentions):
            ax.set_axis_off()
            continue
        draw_map(
            ax,
            attentions[index],
            colors=SIGNED,
            limits=(-attention_limit, attention_limit),
            title=f"attention {index + 1}, ±{attention_limit:.2g}",
            title_color=base_color(index),
        )
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def film_figure(
    image: Tensor,
    *,
    box: Tensor,
    true_mask: Tensor,
    bases: Mapping[int, Tensor],
    mask_probabilities: Mapping[int, Tensor],
    mask_iou: Mapping[int, float],
    title: str = "",
) -> DescribedFigure:
    """One object at several moments, a column each: its mask, and below the bases inside its box.

    Every moment has its own scale: early bases are faint.

    Args:
        image: (3, H, W) uint8 or float in [0, 1]; the object's part of it begins the first row.
        box: (4,) of the object, corners, pixels.
        true_mask: (H, W) bool, outlined in the masks.
        bases: iteration -> (K, R, R) crops along the box; the first four are drawn.
        mask_probabilities: iteration -> (R, R) over the box.
        mask_iou: iteration -> IoU with the true mask, 0 to 1.
        title: above all.

    Raises:
        ValueError: no moments, or maps of other moments.
    """
    moments = list(mask_probabilities)
    if not moments or list(bases) != moments or list(mask_iou) != moments:
        raise ValueError(
            "bases, mask_probabilities and mask_iou: need the same moments, at least 1"
        )
    num_bases = min(MOST, len(bases[moments[0]]))
    figure, axes = panels(
        num_bases + 1,
        len(moments) + 1,
        cell=(1.35, 1.5),
        description=f"{title or 'One object while the model learns'}: its mask and {num_bases} "
        f"bases after {', '.join(str(each) for each in moments)} iterations.",
    )
    draw_picture(axes[0, 0], crop_picture(image, box), title="picture", has_units=False)
    for row in range(1, num_bases + 1):
        axes[row, 0].set_axis_off()
        axes[row, 0].text(
            0.95, 0.5, f"base {row}", color=base_color(row - 1), fontsize=9, ha="right", va="center"
        )
    for column, moment in enumerate(moments, start=1):
        _draw_mask(axes[0, column], mask_probabilities[moment], box, true_mask)
        axes[0, column].set_title(f"{moment:,}\nIoU {mask_iou[moment]:.2f}", fontsize=8)
        limit = largest_magnitude(bases[moment][:num_bases])
        for row in range(1, num_bases + 1):
            draw_map(
                axes[row, column], bases[moment][row - 1], colors=SIGNED, limits=(-limit, limit)
            )
    figure.suptitle(title or "iterations", fontsize=10)
    return figure


def _draw_mask(ax: Axes, probabilities: Tensor, box: Tensor, true_mask: Tensor) -> None:
    """Probabilities in grey, the true outline over them, as wide and high as the box is."""
    resolution = len(probabilities)
    truth = crop_masks(true_mask[None], box[None].float(), resolution)[0]
    drawn = draw_map(
        ax, probabilities, colors="Greys", limits=(0, 1), title="mask, 0 to 1; line: truth"
    )
    cells = np.arange(resolution) + 0.5
    if truth.any() and not truth.all():
        ax.contour(cells, cells, truth.float().numpy(), levels=[0.5], colors=[TRUTH], linewidths=1)
    width, height = (box[2:] - box[:2]).tolist()
    drawn.axes.set_aspect(height / max(width, 1e-6))
