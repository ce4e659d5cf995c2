"""One picture as a model sees it: what all pages of the explorer draw from.

Chapter: the lab.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.datasets.transforms import resize_for_test
from blendmask_lite.lab.explorer_sources import Picture
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.knockout import with_changed_base
from blendmask_lite.research.objects import TrueObjects, look_at_objects
from blendmask_lite.structures import Detections

__all__ = ["ChangedMasks", "Look", "SeenObject", "change_masks", "look_at_picture"]

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
