"""The same objects' masks in several panels: what a change does to all of them at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import DescribedFigure, draw_picture, panels
from blendmask_lite.figures.palette import PALETTE

__all__ = ["specimens_figure"]

COLUMNS = 4
LOST, GAINED = PALETTE[0], PALETTE[1]


def specimens_figure(
    image: Tensor, masks: Mapping[str, Tensor], *, healthy: Tensor | None = None, title: str = ""
) -> DescribedFigure:
    """One picture, its masks in one panel a specimen; or where they differ from the right ones.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        masks: (N, H, W) bool, by the panel's name.
        healthy: (N, H, W) bool; with it, panels show the pixels that the masks lost (red) and
            gained (blue) against these.
        title: above all.

    Raises:
        ValueError: no specimens, or another number of masks than healthy ones.
    """
    if not masks:
        raise ValueError("masks: an empty dict; at least one specimen is needed")
    columns = min(COLUMNS, len(masks))
    height, width = image.shape[-2:]
    side = 2.15
    told = []
    figure, axes = panels(
        math.ceil(len(masks) / columns),
        columns,
        cell=(side, side * height / width + 0.3),
        description="",
    )
    for ax in axes.flat[len(masks) :]:
        ax.set_axis_off()
    faded = image.float() / (1 if image.is_floating_point() else 255) * 0.35 + 0.65
    for ax, (name, each) in zip(axes.flat, masks.items(), strict=False):
        if healthy is None:
            draw_picture(ax, paint_masks(image, each), title=name, has_units=False)
            told.append(f"{name}: {int(each.sum())} pixels")
            continue
        if each.shape != healthy.shape:
            raise ValueError(f"{name}: masks {tuple(each.shape)}, right {tuple(healthy.shape)}")
        lost, gained = healthy & ~each, each & ~healthy
        shown = paint_masks(faded, lost, [LOST] * len(lost))
        shown = paint_masks(shown, gained, [GAINED] * len(gained))
        minus, plus = int(lost.sum()), int(gained.sum())
        draw_picture(ax, shown, title=f"{name}: -{minus} +{plus} pixels", has_units=False)
        told.append(f"{name}: lost {minus}, gained {plus} pixels")
    figure.set_label(f"Masks of one picture in {len(masks)} panels. {'; '.join(told)}.")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
