"""The true segments of a picture, crowds among them: what panoptic quality is measured against.

Chapter 01 of the course. Kirillov et al., "Panoptic Segmentation", section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.structures import UNLABELLED, Target

__all__ = [
    "PanopticData",
    "TrueSegment",
    "TrueSegments",
    "panoptic_categories",
    "segments_of",
]

PanopticT = TypeVar("PanopticT", bound="PanopticData")


@dataclass(frozen=True)
class TrueSegment:
    """One true region.

    Attributes:
        id: its number in `TrueSegments.ids`, from 1.
        category_id: of the data set.
        is_crowd: several things that nobody told apart.
    """

    id: int
    category_id: int
    is_crowd: bool = False


@dataclass(frozen=True)
class TrueSegments:
    """What every pixel of one picture belongs to.

    Attributes:
        ids: (H, W) int64: the segment of a pixel, 0 where nobody said what it is.
        segments: of the picture.
    """

    ids: Tensor
    segments: tuple[TrueSegment, ...]


@runtime_checkable
class PanopticData(InstanceDataset, Protocol):
    """What panoptic evaluation needs of a data set beyond `InstanceDataset`.

    Attributes:
        stuff_ids: S category ids, of the stuff labels 1 to S.
    """

    stuff_ids: tuple[int, ...]

    def select(self: PanopticT, image_ids: Sequence[int]) -> PanopticT:
        """The same data set with these images only, in this order."""
        ...

    def segments(self, index: int) -> TrueSegments:
        """The true segments of the image at a position of `image_ids`."""
        ...


def segments_of(
    target: Target, category_ids: Sequence[int], stuff_ids: Sequence[int]
) -> TrueSegments:
    """The segments of objects that do not overlap and of a stuff map, objects first.

    Args:
        target: N objects with masks, and stuff.
        category_ids: of the labels 0 to C-1.
        stuff_ids: of the stuff labels 1 to S.

    Raises:
        ValueError: no masks, no stuff, or masks that overlap.
    """
    if target.masks is None or target.stuff is None:
        raise ValueError("a target without masks or without stuff has no segments")
    if bool((target.masks.sum(dim=0) > 1).any()):
        raise ValueError("masks overlap: a pixel belongs to one segment")
    ids = torch.zeros(target.stuff.shape, dtype=torch.int64)
    found: list[TrueSegment] = []
    parts = [
        (category_ids[label], mask)
        for label, mask in zip(target.labels.tolist(), target.masks, strict=True)
    ]
    for label in target.stuff.unique().tolist():
        if label not in (0, UNLABELLED):
            parts.append((stuff_ids[label - 1], target.stuff == label))
    for category_id, mask in parts:
        found.append(TrueSegment(len(found) + 1, category_id))
        ids[mask] = found[-1].id
    return TrueSegments(ids, tuple(found))


def panoptic_categories(dataset: PanopticData) -> list[dict[str, Any]]:
    """Things and stuff of a data set as entries of COCO's panoptic format."""
    things = zip(dataset.category_ids, dataset.class_names, strict=True)
    stuff = zip(dataset.stuff_ids, dataset.stuff_names, strict=True)
    return [{"id": each, "name": name, "isthing": 1} for each, name in things] + [
        {"id": each, "name": name, "isthing": 0} for each, name in stuff
    ]
