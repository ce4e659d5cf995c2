"""What a base is worth in one picture: the masks as they are, and with the base changed."""

from __future__ import annotations

from torch import Tensor

from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import (
    DescribedFigure,
    draw_map,
    draw_picture,
    panels,
    usual_magnitude,
)
from blendmask_lite.figures.palette import PALETTE, SIGNED, base_color

__all__ = ["changed_base_figure"]

GAINED, LOST = PALETTE[1], PALETTE[0]  # pixels that only one of both has


def changed_base_figure(
    image: Tensor,
    before: Tensor,
    after: Tensor,
    *,
    base: int,
    base_before: Tensor,
    base_after: Tensor,
    stride: int,
    title: str = "",
) -> DescribedFigure:
    """The base and all masks, as they are and changed, and the pixels that the masks lose or gain.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        before: (N, H, W) bool, the masks as they are.
        after: (N, H, W) bool, with the base changed.
        base: which, from 0.
        base_before: (h, w) as it is.
        base_after: (h, w) changed; both on the scale of the first.
        stride: of the base, pixels per cell.
        title: above all.

    Raises:
        ValueError: another number of masks before than after.
    """
    if before.shape != after.shape:
        raise ValueError(f"masks {tuple(before.shape)} and {tuple(after.shape)} must agree")
    lost, gained = (before & ~after), (after & ~before)
    height, width = image.shape[-2:]
    figure, axes = panels(
        1,
        5,
        cell=(2.05, 2.05 * height / width + 0.35),
        description=f"Base {base + 1} changed: the masks of {len(before)} objects lose "
        f"{int(lost.sum())} and gain {int(gained.sum())} pixels.",
    )
    limit = usual_magnitude(base_before)
    maps = ((base_before, f"base {base + 1}, ±{limit:.3g}"), (base_after, "the same, changed"))
    for ax, (values, name) in zip(axes[0, :2], maps, strict=True):
        draw_map(
            ax,
            values,
            colors=SIGNED,
            limits=(-limit, limit),
            stride=stride,
            title=name,
            title_color=base_color(base),
        )
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
    draw_picture(axes[0, 2], paint_masks(image, before), title="masks", has_units=False)
    draw_picture(
        axes[0, 3], paint_masks(image, after), title="masks, base changed", has_units=False
    )
    faded = image.float() / (1 if image.is_floating_point() else 255) * 0.35 + 0.65
    changes = paint_masks(faded, lost, [LOST] * len(lost))
    changes = paint_masks(changes, gained, [GAINED] * len(gained))
    name = f"red: lost {int(lost.sum())}\nblue: gained {int(gained.sum())}"
    draw_picture(axes[0, 4], changes, title=name, has_units=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
