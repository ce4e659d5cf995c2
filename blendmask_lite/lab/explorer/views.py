"""One image as a model sees it: what the pages of the explorer draw, and their figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.datasets.transforms import resize_for_test
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
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer.sources import Picture
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import score_maps
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.knockout import change_base, with_changed_base
from blendmask_lite.research.matching import BaseMatching, bases_of
from blendmask_lite.research.objects import TrueObjects, look_at_objects
from blendmask_lite.structures import Detections

__all__ = [
    "ChangedMasks",
    "Look",
    "Rival",
    "SeenObject",
    "bases_view",
    "blending_view",
    "change_masks",
    "change_view",
    "found_view",
    "look_at_picture",
    "object_view",
    "pair_view",
    "rival_view",
]


MOST_OBJECTS = 20


@dataclass(frozen=True)
class SeenObject:
    """An object that can be chosen."""

    name: str  # number, class, and score or "true"
    index: Tensor  # (2,) int64, image 0 and location
    box: Tensor  # (4,) corners, pixels


@dataclass(frozen=True)
class Look:
    """An image at the model's test size, and what the model computed for it."""

    name: str  # of the picture
    image: Tensor  # (3, H, W) on the CPU
    output: BlendMaskOutput  # for this image alone
    found: Detections  # on the CPU
    least_score: float  # of the detections
    objects: tuple[SeenObject, ...]  # found ones first, then the true ones
    truth: TrueObjects | None  # None if unknown


@dataclass(frozen=True)
class ChangedMasks:
    """Masks of the N detected objects with one base changed."""

    after: Tensor  # (N, H, W) bool
    kept: Tensor  # (N,) IoU with the unchanged masks, 0 to 1
    # (N,) IoU with the true object that the unchanged mask overlaps most; None if unknown.
    true_before: Tensor | None
    true_after: Tensor | None


@torch.no_grad()
def look_at_picture(model: BlendMask, picture: Picture, *, least_score: float) -> Look:
    """Run a model on a picture, resized to the model's test size.

    Args:
        model: in evaluation mode.
        picture: not resized.
        least_score: of a detection, 0 to 1: the root of what `BlendMask.predict` thresholds.
    """
    truth = None
    if picture.sample is None:
        settings = model.inference
        image = resize_for_test(picture.image, settings.test_size, settings.max_size)
        output = model([image.to(model.device)])
    else:
        truth = look_at_objects(model, picture.sample)
        image, output = truth.image, truth.output
    found = _found(model, output, least_score)
    names = [
        f"{model.class_names[label]} {score:.2f}"
        for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True)
    ]
    index, boxes = F.pad(found.location_index[:, None], (1, 0)), found.proposal_boxes
    if truth is not None:
        names += [f"true {picture.class_names[label]}" for label in truth.labels.tolist()]
        index, boxes = torch.cat([index, truth.index]), torch.cat([boxes, truth.boxes])
    seen = zip(names, index, boxes, strict=True)
    return Look(
        name=picture.name,
        image=image.cpu(),
        output=output,
        found=found.to("cpu"),
        least_score=least_score,
        objects=tuple(SeenObject(f"{i}: {name}", *rest) for i, (name, *rest) in enumerate(seen, 1)),
        truth=truth,
    )


def _found(model: BlendMask, output: BlendMaskOutput, least_score: float) -> Detections:
    options: Any = {"score_threshold": least_score**2, "max_detections": MOST_OBJECTS}
    return model.find_objects(output, **options)[0]


@torch.no_grad()
def change_masks(model: BlendMask, look: Look, base: int, factor: float | None) -> ChangedMasks:
    """The masks with one base changed; the objects stay, since boxes do not depend on bases.

    Args:
        model: the one that `look` was made with.
        look: what the model made of a picture.
        base: counted from 0.
        factor: as in `change_base`.

    Raises:
        ValueError: there is no such base.
    """
    changed = with_changed_base(look.output, base, factor=factor)
    after = _found(model, changed, look.least_score).masks.cpu()
    before = look.found.masks
    kept = mask_iou(after, before)
    if look.truth is None or len(look.truth) == 0:
        return ChangedMasks(after, kept, None, None)
    true = look.truth.masks.cpu()
    pairs = torch.stack([mask_iou(before, mask.expand_as(before)) for mask in true])  # (T, N)
    own = true[pairs.argmax(dim=0)]
    return ChangedMasks(after, kept, mask_iou(before, own), mask_iou(after, own))


@dataclass(frozen=True)
class Rival:
    """Another checkpoint whose bases are matched with those of the explorer's model."""

    name: str  # of the checkpoint
    model: BlendMask  # in evaluation mode
    matching: BaseMatching  # from the explorer's bases to these
    num_images: int  # of the matching


def found_view(model: BlendMask, look: Look) -> DescribedFigure:
    """The image with all detections."""
    return detections_figure(look.image, look.found, model.class_names, title=look.name)


def bases_view(model: BlendMask, look: Look, *, is_overlay: bool) -> DescribedFigure:
    """The bases, as maps with a colour bar or laid over the image."""
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
    raw = model.attentions_at(look.output, torch.stack([seen.index for seen in pair]))
    return compare_attentions_figure(
        score_maps(model.merger, raw, model.config.mask_size).cpu(),
        names=[seen.name for seen in pair],
        image=look.image,
        boxes=torch.stack([seen.box for seen in pair]).cpu(),
    )


def blending_view(model: BlendMask, look: Look, number: int) -> DescribedFigure:
    """BlendMask, figure 1, for one object, found or true."""
    seen = look.objects[number]
    return object_blending_figure(
        model,
        look.output,
        seen.index,
        seen.box,
        picture=crop_picture(look.image, seen.box.cpu()),
        title=f"{look.name}: {seen.name}",
    )


def change_view(
    model: BlendMask, look: Look, *, base: int, factor: float | None
) -> DescribedFigure:
    """All masks with one base knocked out, boosted, or replaced by its mean (`factor` None)."""
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
    """The bases of two checkpoints for one image, partners below each other."""
    return matched_bases_figure(
        look.image,
        bases_of(model, look.image),
        bases_of(rival.model, look.image),
        order=rival.matching.order,
        correlations=rival.matching.correlations,
        names=("this model", rival.name),
    )


def whole_bases(model: BlendMask, look: Look) -> Tensor:
    """(K, h, w) bases on the CPU without the padding."""
    stride = model.bottom.stride
    height, width = (-(-side // stride) for side in look.image.shape[-2:])
    return look.output.bases[0, :, :height, :width].float().cpu()
