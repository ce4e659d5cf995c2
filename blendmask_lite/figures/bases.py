"""The K bases of an image: side by side, over the image, changed, and matched between models.

Chapter 06.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.figures.detections import paint_changes, paint_masks
from blendmask_lite.figures.style import (
    INK,
    DescribedFigure,
    add_color_bar,
    as_float,
    base_color,
    color_tensor,
    draw_base,
    draw_map,
    draw_picture,
    draw_text,
    panel_grid,
    panels,
    picture_cell,
    signed_colors,
    usual_magnitude,
)

__all__ = [
    "base_overlays_figure",
    "bases_figure",
    "changed_base_figure",
    "matched_bases_figure",
    "paint_base",
    "paint_weights",
]

FEW = 8  # up to this many bases stand in one row with units; more form a square grid without them
WIDEST = 9.0  # inches: a row of four bases beside their picture, shown unscaled in a notebook


def bases_figure(
    bases: Tensor, *, stride: int, image: Tensor | None = None, title: str = ""
) -> DescribedFigure:
    """The bases as maps around zero on one common scale, with the picture beside them.

    The strongest 2 % of the values share the colours at its ends, so that no peak turns the other
    bases white.

    Args:
        bases: (K, H/s, W/s) of one image.
        stride: s, pixels per cell.
        image: (3, H, W), the picture itself, drawn first if given.
        title: text above all panels.
    """
    num_bases = len(bases)
    num_panels = num_bases + (image is not None)
    columns = num_panels if num_panels <= FEW + 1 else math.ceil(math.sqrt(num_panels))
    side = max(1.8, min(2.3, WIDEST / columns)) if num_bases <= FEW else 1.1
    unit = "pixels" if num_bases <= FEW else ""
    figure, axes = panel_grid(
        num_panels,
        columns,
        cell=(side, side + 0.2),
        description=f"The {num_bases} bases of a picture as maps; red is positive, blue negative.",
        title=title,
    )
    if image is not None:
        draw_picture(axes.pop(0), image, title="picture", has_units=bool(unit))
    limit = usual_magnitude(bases)
    for index, ax in enumerate(axes):
        draw_base(ax, bases[index], index, limits=limit, stride=stride, unit=unit)
    add_color_bar(figure, figure.axes, limits=limit, label="value (logits)\nends: or more")
    return figure


def base_overlays_figure(
    image: Tensor, bases: Tensor, *, stride: int, title: str = "", is_large: bool = False
) -> DescribedFigure:
    """Every base over the grey picture: red where it is positive, blue where it is negative.

    One scale for all; the strongest 2 % of the values share the colours at its ends.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        bases: (K, h, w) of the image; cells beyond the picture are padding and left out.
        stride: pixels per cell.
        title: text above all panels.
        is_large: up to four bases go two by two, so that details show in a narrow page, too.
    """
    limit = usual_magnitude(bases)
    columns = len(bases) if len(bases) <= FEW else math.ceil(math.sqrt(len(bases)))
    width = 2.3 if len(bases) <= FEW else 1.3
    if is_large and len(bases) <= 4:
        columns, width = min(2, columns), 3.6
    figure, axes = panel_grid(
        len(bases),
        columns,
        cell=picture_cell(image, width, title=0.3),
        description=f"{len(bases)} bases laid over their picture; red is positive, blue negative.",
        title=title,
    )
    for index, (ax, base) in enumerate(zip(axes, bases, strict=True)):
        draw_base_over(ax, image, base, index, stride=stride, limit=limit)
    add_color_bar(figure, figure.axes, limits=limit, label="value (logits)\nends: or more")
    return figure


def draw_base_over(
    axes: Axes, image: Tensor, base: Tensor, index: int, *, stride: int, limit: float
) -> None:
    """Base `index` over the grey picture, titled in its colour; arguments as in `paint_base`."""
    axes.set_axis_on()
    draw_picture(axes, paint_base(image, base, stride=stride, limit=limit), has_units=False)
    axes.set_title(f"base {index + 1}", fontsize=9, color=base_color(index))


def paint_base(image: Tensor, base: Tensor, *, stride: int, limit: float) -> Tensor:
    """A base in colours, with the light and shade of the pale picture in it.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        base: (h, w).
        stride: pixels per cell.
        limit: magnitude at full strength, above 0.

    Returns:
        (3, H, W) float in [0, 1].
    """
    pale_grey = 0.55 + 0.45 * _grey(image)  # the picture must not outshout the colours
    height, width = image.shape[-2:]
    size = (base.shape[0] * stride, base.shape[1] * stride)
    values = F.interpolate(
        base.detach().cpu().float()[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0, :height, :width]
    return signed_colors((values / limit).clamp(-1, 1)) * pale_grey


def paint_weights(
    image: Tensor, scores: Tensor, boxes: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Each object's K weights as a mixture of the bases' colours, inside its box.

    The right part of BlendMask's figure 4: each part of an object has the colour of the base from
    which its mask is taken there.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        scores: (N, K, R, R) score maps; magnitudes count.
        boxes: (N, 4) corners, pixels of the image.
        masks: (N, H, W) bool; pixels of the box outside the mask are painted fainter.

    Returns:
        (3, H, W) float in [0, 1]; earlier objects lie on top.
    """
    painted = _grey(image)
    height, width = image.shape[-2:]
    scores = scores.detach().cpu().float().abs()
    colors = torch.stack([color_tensor(base_color(k)) for k in range(scores.shape[1])])[..., 0, 0]
    for place in reversed(range(len(boxes))):
        weights = scores[place] / scores[place].sum(dim=0).clamp(min=1e-9)
        mixed = torch.einsum("kyx,kc->cyx", weights, colors)
        x0, y0, x1, y1 = boxes[place].tolist()
        columns, column_cell = _cells(x0, x1, width, scores.shape[-1])
        rows, row_cell = _cells(y0, y1, height, scores.shape[-1])
        if len(rows) == 0 or len(columns) == 0:
            continue
        region = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        opacity = torch.full((len(rows), len(columns)), 0.8)
        if masks is not None:
            opacity = torch.where(masks[place].cpu()[region[1:]], 0.85, 0.3)
        own = mixed[:, row_cell[:, None], column_cell]
        painted[region] = (1 - opacity) * painted[region] + opacity * own
    return painted


def _cells(low: float, high: float, length: int, resolution: int) -> tuple[Tensor, Tensor]:
    """The pixels whose centers lie in an interval, and the mask cells that they fall into."""
    pixels = torch.arange(length)
    share = (pixels + 0.5 - low) / max(high - low, 1e-9)
    is_inside = (share >= 0) & (share < 1)
    return pixels[is_inside], (share[is_inside] * resolution).long()


def _grey(image: Tensor) -> Tensor:
    """(3, H, W) -> the same without colour and a little lighter, float in [0, 1]."""
    pixels = as_float(image.detach().cpu())
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0)
    return (0.25 + 0.7 * grey).expand(3, -1, -1).clone()


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
    """The base and all masks, before and after a change, and the mask pixels lost or gained.

    Two rows of three, which can still be read in a window of 700 pixels.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        before: (N, H, W) bool, the masks as they are.
        after: (N, H, W) bool, with the base changed.
        base: index of the base that is changed.
        base_before: (h, w) the base before the change.
        base_after: (h, w) the base after it; both are drawn on the scale of the first.
        stride: pixels per cell of the base.
        title: text above all panels.

    Raises:
        ValueError: the numbers of masks before and after differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"masks {tuple(before.shape)} and {tuple(after.shape)} must agree")
    num_lost, num_gained = int((before & ~after).sum()), int((after & ~before).sum())
    height, width = image.shape[-2:]
    figure, axes = panels(
        2,
        3,
        cell=picture_cell(image, 2.05, title=0.35),
        description=f"Base {base + 1} changed: the masks of {len(before)} objects lose "
        f"{num_lost} and gain {num_gained} pixels.",
        title=title,
    )
    limit = usual_magnitude(base_before)
    maps = ((base_before, f"base {base + 1}, ±{limit:.3g}"), (base_after, "the same, changed"))
    for ax, (values, name) in zip(axes[0, :2], maps, strict=True):
        draw_map(ax, values, limits=limit, stride=stride, title=name, title_color=base_color(base))
        ax.axis((0, width, height, 0))
    pictures = {
        "masks": paint_masks(image, before),
        "masks, base changed": paint_masks(image, after),
        f"red: lost {num_lost}\nblue: gained {num_gained}": paint_changes(image, before, after),
    }
    for ax, (name, painted) in zip(axes[1], pictures.items(), strict=True):
        draw_picture(ax, painted, title=name, has_units=False)
    axes[0, 2].set_axis_off()
    return figure


MOST = 8


def matched_bases_figure(
    image: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    order: Tensor,
    correlations: Tensor,
    names: Sequence[str] = ("first", "second"),
) -> DescribedFigure:
    """The bases of two models for one picture, one partner below the other.

    Args:
        image: (3, H, W).
        first: (K, h, w) without padding; the eight with the best partners are drawn.
        second: (K, h, w) of the other model.
        order: (K,) int64: base k of the first model corresponds to base `order[k]` of the second.
        correlations: (K,) correlation of each pair, -1 to 1.
        names: names of the two models.
    """
    shown = correlations.argsort(descending=True, stable=True)[:MOST].sort().values.tolist()
    partners = order.tolist()
    told = "; ".join(f"{k + 1} and {partners[k] + 1}: {float(correlations[k]):.2f}" for k in shown)
    figure, axes = panels(
        2,
        len(shown) + 1,
        cell=picture_cell(image, 1.6, title=0.3),
        description=f"Bases of {names[0]} above their partners of {names[1]}; correlations of "
        f"base {told}.",
    )
    draw_picture(axes[0, 0], image, title="picture", has_units=False)
    axes[1, 0].set_axis_off()
    limits = [usual_magnitude(bases) for bases in (first, second)]
    scales = "\n".join(f"{name}: ±{x:.3g}" for name, x in zip(names, limits, strict=True))
    text, place = f"r: correlation\nover all cells\n{scales}", axes[1, 0].transAxes
    draw_text(axes[1, 0], 0.5, 0.5, text, size=7, color=INK, transform=place)
    for column, k in enumerate(shown, start=1):
        draw_base(axes[0, column], first[k], k, limits=limits[0])
        partner = partners[k]
        name = f"base {partner + 1}, r = {float(correlations[k]):.2f}"
        draw_map(
            axes[1, column],
            second[partner],
            limits=limits[1],
            title=name,
            title_color=base_color(k),  # of the pair: the order of the second model is arbitrary
        )
    for row in range(2):
        axes[row, 1].set_ylabel(names[row], fontsize=8)
    return figure
