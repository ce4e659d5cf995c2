"""The explorer's views of one picture: plain functions, a figure each.

Chapter: the lab. They choose what the figures of the package draw; nothing is computed twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.figures.bases import (
    base_overlays_figure,
    bases_figure,
    changed_base_figure,
    matched_bases_figure,
)
from blendmask_lite.figures.blending import (
    attentions_figure,
    compare_attentions_figure,
    crop_picture,
    object_blending_figure,
)
from blendmask_lite.figures.detections import detections_figure
from blendmask_lite.figures.paper import figure_4
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer_look import Look, change_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research.knockout import change_base
from blendmask_lite.research.matching import BaseMatching, bases_of

__all__ = [
    "Rival",
    "bases_view",
    "blending_view",
    "change_view",
    "figure_4_view",
    "found_view",
    "object_view",
    "pair_view",
    "rival_view",
]


@dataclass(frozen=True)
class Rival:
    """Another checkpoint, its bases matched with those of the explorer's.

    Attributes:
        name: of the checkpoint.
        model: in evaluation mode.
        matching: of the first model's bases with this one's.
        num_images: that they were matched over.
    """

    name: str
    model: BlendMask
    matching: BaseMatching
    num_images: int


def found_view(model: BlendMask, look: Look) -> DescribedFigure:
    """The picture with all that was found."""
    return detections_figure(look.image, look.found, model.class_names, title=look.name)


def bases_view(model: BlendMask, look: Look, *, is_overlay: bool) -> DescribedFigure:
    """The bases, as maps with a colour bar or laid over the picture."""
    stride, bases = model.bottom.stride, whole_bases(model, look)
    if is_overlay:
        return base_overlays_figure(look.image, bases, stride=stride, title=look.name)
    return bases_figure(bases, stride=stride, image=look.image, title=look.name)


def object_view(model: BlendMask, look: Look, number: int) -> DescribedFigure:
    """The raw attentions of one object, counted from 0."""
    seen = look.objects[number]
    raw = model.attentions_at(look.output, seen.index[None])
    K = model.config.num_bases
    side = math.isqrt(raw.shape[1] // K)
    return attentions_figure(
        raw.unflatten(1, (K, side, side)).cpu(),
        names=[seen.name],
        image=look.image,
        boxes=seen.box[None].cpu(),
    )


@torch.no_grad()
def pair_view(model: BlendMask, look: Look, first: int, second: int) -> DescribedFigure:
    """The score maps of two objects side by side, and their difference."""
    pair = [look.objects[first], look.objects[second]]
    raw = model.attentions_at(look.output, torch.stack([each.index for each in pair]))
    return compare_attentions_figure(
        model.merger.scores(raw, model.config.mask_size).cpu(),
        names=[each.name for each in pair],
        image=look.image,
        boxes=torch.stack([each.box for each in pair]).cpu(),
    )


def blending_view(model: BlendMask, look: Look, number: int) -> DescribedFigure:
    """BlendMask, figure 1, for one object, true ones included."""
    seen = look.objects[number]
    return object_blending_figure(
        model,
        look.output,
        seen.index,
        seen.box,
        picture=crop_picture(look.image, seen.box.cpu()),
        title=f"{look.name}: {seen.name}",
    )


def figure_4_view(model: BlendMask, look: Look) -> DescribedFigure:
    """BlendMask, figure 4."""
    return figure_4(model, look.image, score_threshold=look.least_score**2)


def change_view(
    model: BlendMask, look: Look, *, base: int, factor: float | None
) -> DescribedFigure:
    """All masks with one base knocked out, boosted, or made flat (`factor` None)."""
    bases = whole_bases(model, look)
    changed = change_base(bases, base, factor=factor)
    what = "is its mean" if factor is None else f"times {factor:g}"
    return changed_base_figure(
        look.image,
        look.found.masks,
        change_masks(model, look, base, factor).after,
        base=base,
        base_before=bases[base],
        base_after=changed[base],
        stride=model.bottom.stride,
        title=f"{look.name}: base {base + 1} {what}",
    )


def rival_view(model: BlendMask, look: Look, rival: Rival) -> DescribedFigure:
    """The bases of two checkpoints for one picture, partners below each other."""
    return matched_bases_figure(
        look.image,
        bases_of(model, look.image),
        bases_of(rival.model, look.image),
        order=rival.matching.order,
        correlations=rival.matching.correlations,
        names=("this model", rival.name),
    )


def whole_bases(model: BlendMask, look: Look) -> Tensor:
    """(K, h, w) bases on the CPU, without the padding."""
    stride = model.bottom.stride
    height, width = (-(-side // stride) for side in look.image.shape[-2:])
    return look.output.bases[0, :, :height, :width].float().cpu()
