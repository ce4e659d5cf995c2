"""Bases and weights on the picture itself, in the colours that the bases have everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.figures.layout import (
    DescribedFigure,
    add_color_bar,
    draw_picture,
    panels,
    usual_magnitude,
)
from blendmask_lite.figures.palette import SIGNED, base_color, rgb255, signed_colors

__all__ = ["base_overlays_figure", "paint_base", "paint_weights"]

FEW = 8  # up to so many stand in one row


def base_overlays_figure(
    image: Tensor, bases: Tensor, *, stride: int, title: str = ""
) -> DescribedFigure:
    """Every base laid over the grey picture: red where it is positive, blue where negative.

    One scale for all; the strongest 2 % of the values share the colours at its ends.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        bases: (K, h, w) of it; cells beyond the picture are padding and left out.
        stride: pixels per cell.
        title: above all of them.
    """
    limit = usual_magnitude(bases)
    columns = len(bases) if len(bases) <= FEW else math.ceil(math.sqrt(len(bases)))
    rows = math.ceil(len(bases) / columns)
    side = 2.3 if len(bases) <= FEW else 1.3
    height, width = image.shape[-2:]
    figure, axes = panels(
        rows,
        columns,
        cell=(side, side * height / width + 0.3),
        description=f"{len(bases)} bases laid over their picture; red is positive, blue negative.",
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for index, base in enumerate(bases):
        ax = axes.flat[index]
        ax.set_axis_on()
        draw_picture(ax, paint_base(image, base, stride=stride, limit=limit), has_units=False)
        ax.set_title(f"base {index + 1}", fontsize=9, color=base_color(index))
    label = "value (logits), ends: or more"
    add_color_bar(figure, axes.ravel(), colors=SIGNED, limits=(-limit, limit), label=label)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def paint_base(image: Tensor, base: Tensor, *, stride: int, limit: float) -> Tensor:
    """A base over the grey picture, the stronger the more opaque.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        base: (h, w).
        stride: pixels per cell.
        limit: magnitude at full strength, above 0.

    Returns:
        (3, H, W) float in [0, 1].
    """
    grey = _grey(image)
    height, width = image.shape[-2:]
    size = (base.shape[0] * stride, base.shape[1] * stride)
    values = F.interpolate(
        base.detach().cpu().float()[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0, :height, :width]
    share = (values / limit).clamp(-1, 1)
    opacity = 0.9 * share.abs().sqrt()
    return (1 - opacity) * grey + opacity * signed_colors(share)


def paint_weights(
    image: Tensor, scores: Tensor, boxes: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Each object's K weights as a mixture of the bases' colours, inside its box.

    The right part of BlendMask's figure 4: a part of an object has the colour of the base that its
    mask is taken from there.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        scores: (N, K, R, R) score maps; magnitudes count.
        boxes: (N, 4) corners, pixels of the image.
        masks: (N, H, W) bool; pixels of the box outside of the mask are painted fainter.

    Returns:
        (3, H, W) float in [0, 1]; earlier objects lie on top.
    """
    painted = _grey(image)
    height, width = image.shape[-2:]
    scores = scores.detach().cpu().float().abs()
    colors = torch.tensor([rgb255(base_color(k)) for k in range(scores.shape[1])]).float() / 255
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
    """The pixels whose centers lie in an interval, and the cells of a mask that they fall into."""
    pixels = torch.arange(length)
    share = (pixels + 0.5 - low) / max(high - low, 1e-9)
    is_inside = (share >= 0) & (share < 1)
    return pixels[is_inside], (share[is_inside] * resolution).long()


def _grey(image: Tensor) -> Tensor:
    """(3, H, W) -> the same without colour and a little lighter, float in [0, 1]."""
    pixels = image.detach().cpu().float()
    pixels = pixels if image.is_floating_point() else pixels / 255
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0)
    return (0.25 + 0.7 * grey).expand(3, -1, -1).clone()
