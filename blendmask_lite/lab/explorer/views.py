"""One image as a model sees it, which is what the explorer's pages draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.evaluation.pictures import picture_for
from blendmask_lite.lab.explorer.sources import Picture
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.knockout import with_changed_base
from blendmask_lite.research.objects import TrueObjects, look_at_objects
from blendmask_lite.structures import Detections

__all__ = ["ChangedMasks", "Look", "SeenObject", "change_masks", "look_at_picture", "whole_bases"]


MOST_OBJECTS = 20


@dataclass(frozen=True)
class SeenObject:
    """An object that can be chosen."""

    name: str  # number and class, and the score or "true"
    index: Tensor  # (2,) int64, image 0 and location
    box: Tensor  # (4,) corners, pixels


@dataclass(frozen=True)
class Look:
    """An image at the model's test size, and the model's output for it."""

    name: str  # name of the image
    image: Tensor  # (3, H, W) on the CPU
    output: BlendMaskOutput  # the output for this image alone
    found: Detections  # on the CPU
    least_score: float  # smallest score of the detections
    objects: tuple[SeenObject, ...]  # detections first, then the true objects
    truth: TrueObjects | None  # the true objects; None if unknown


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
    """Run a model on an image, resized to the model's test size.

    Args:
        model: the model, in evaluation mode.
        picture: the picture, not resized.
        least_score: smallest score of a detection, 0 to 1: the square root of the threshold of
            `BlendMask.predict`.
    """
    truth = None
    if picture.sample is None:
        image = picture_for(model, picture.image)
        output = model([image])
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
    """The masks with one base changed; the objects stay, because boxes do not depend on bases.

    Args:
        model: the model that `look` was made with.
        look: the model's output for an image.
        base: index of the base (0-based).
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


def whole_bases(model: BlendMask, look: Look) -> Tensor:
    """(K, h, w) bases on the CPU, without the padding."""
    stride = model.bottom.stride
    height, width = (-(-side // stride) for side in look.image.shape[-2:])
    return look.output.bases[0, :, :height, :width].float().cpu()
