"""One image as a model sees it: what all pages of the explorer draw from, and its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """An object that can be chosen.

    Attributes:
        name: number, class, and score or "true".
        index: (2,) int64, image 0 and location.
        box: (4,) corners, pixels.
    """

    name: str
    index: Tensor
    box: Tensor


@dataclass(frozen=True)
class Look:
    """A picture at the model's test size, and what the model computed for it.

    Attributes:
        name: of the picture.
        image: (3, H, W) on the CPU.
        output: of the model, for this picture alone.
        found: on the CPU.
        least_score: of what was found.
        objects: found ones first, then the true ones.
        truth: None where nobody knows it.
    """

    name: str
    image: Tensor
    output: BlendMaskOutput
    found: Detections
    least_score: float
    objects: tuple[SeenObject, ...]
    truth: TrueObjects | None


@dataclass(frozen=True)
class ChangedMasks:
    """The found objects' masks with one base changed; N objects.

    Attributes:
        after: (N, H, W) bool.
        kept: (N,) IoU with the masks as they are; 0 to 1.
        true_before: (N,) IoU of the masks as they are with the true object that they overlap most;
            None where nobody knows it.
        true_after: (N,) the same of the changed masks, with the same true objects.
    """

    after: Tensor
    kept: Tensor
    true_before: Tensor | None
    true_after: Tensor | None


@torch.no_grad()
def look_at_picture(model: BlendMask, picture: Picture, *, least_score: float) -> Look:
    """Run a model on a picture, once.

    Args:
        model: in evaluation mode.
        picture: resized to the model's test size.
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
    found = model.find_objects(output, score_threshold=least_score**2, max_detections=MOST_OBJECTS)[
        0
    ]
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


@torch.no_grad()
def change_masks(model: BlendMask, look: Look, base: int, factor: float | None) -> ChangedMasks:
    """What becomes of the found masks; boxes do not depend on the bases, so the objects stay.

    Args:
        model: that `look` was made with.
        look: at a picture.
        base: which, from 0.
        factor: as in `change_base`.

    Raises:
        ValueError: there is no such base.
    """
    changed = with_changed_base(look.output, base, factor=factor)
    after = model.find_objects(
        changed, score_threshold=look.least_score**2, max_detections=MOST_OBJECTS
    )[0].masks.cpu()
    before = look.found.masks
    kept = mask_iou(after, before)
    if look.truth is None or len(look.truth) == 0:
        return ChangedMasks(after, kept, None, None)
    true = look.truth.masks.cpu()
    pairs = torch.stack([mask_iou(before, each.expand_as(before)) for each in true])  # (T, N)
    own = true[pairs.argmax(dim=0)]
    return ChangedMasks(after, kept, mask_iou(before, own), mask_iou(after, own))


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
        score_maps(model.merger, raw, model.config.mask_size).cpu(),
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
