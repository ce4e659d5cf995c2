"""Details of FCOS: the reason why a location learns an object or not, and NMS box by box.

Chapters 03 and 05.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from blendmask_lite.boxes import centerness, xyxy_to_ltrb
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.model.inputs import padded_size
from blendmask_lite.training.targets import assign_locations

__all__ = [
    "REASONS",
    "ExplainedAssignment",
    "Suppression",
    "explain_assignment",
    "fast_nms",
    "greedy_nms",
    "pyramid_shapes",
]

# Reasons why a location does not learn an object, in the order of the checks.
REASONS = {
    0: "outside the box",
    1: "not central",
    2: "size out of range",
    3: "a smaller object took it",
    4: "learns it",
}


@dataclass(frozen=True)
class ExplainedAssignment:
    """The locations of one image and its N objects.

    Attributes:
        locations: (L, 2) as (x, y), pixels of the padded input.
        boxes: (N, 4) corners, pixels.
        shapes: (h, w) of every level, in cells.
        strides: stride of every level, in pixels.
        size_ranges: smallest and largest max(l, t, r, b) of every level, in pixels.
        center_radius: half side of the positive square, in strides.
        owner: (L,) int64: the object that each location learns, -1 for none.
        reasons: (L, N) int64, keys of `REASONS`.
    """

    locations: Tensor
    boxes: Tensor
    shapes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    size_ranges: tuple[tuple[float, float], ...]
    center_radius: float
    owner: Tensor
    reasons: Tensor

    @property
    def level_sizes(self) -> list[int]:
        """Number of locations of every level."""
        return [height * width for height, width in self.shapes]

    @cached_property
    def ltrb(self) -> Tensor:
        """(L, N, 4) distances to the sides of every box, pixels; negative outside."""
        return xyxy_to_ltrb(self.locations, self.boxes)

    @property
    def is_ambiguous(self) -> Tensor:
        """(L,) bool: whether more than one object claims the location (FCOS, section 3.2)."""
        return (self.reasons >= 3).sum(dim=1) > 1

    @property
    def counts(self) -> Tensor:
        """(levels, N) int64: number of locations of each level that learn each object."""
        num = len(self.boxes)
        is_own = self.owner[:, None] == torch.arange(num, device=self.owner.device)
        parts = is_own.split(self.level_sizes)
        return torch.stack([part.sum(dim=0) for part in parts])

    def centerness(self, location: int, object_index: int) -> float:
        """Centerness of a location in an object's box (FCOS, equation 3); 0 outside the box."""
        return float(centerness(self.ltrb[location, object_index].clamp(min=0).float()))

    def level_of(self, location: int) -> int:
        """The 0-based level of a location."""
        ends = torch.tensor(self.level_sizes).cumsum(dim=0)
        return int(torch.searchsorted(ends, location, right=True))

    def place(self, level: int, column: int, row: int) -> int:
        """The location at a cell of a level.

        Raises:
            ValueError: the level has no such cell.
        """
        height, width = self.shapes[level]
        if not (0 <= column < width and 0 <= row < height):
            raise ValueError(f"cell ({column}, {row}): the level has {width} x {height}")
        return sum(self.level_sizes[:level]) + row * width + column


def pyramid_shapes(
    image_size: tuple[int, int], strides: Sequence[int], *, size_divisor: int
) -> tuple[tuple[int, int], ...]:
    """(h, w) of every level that the network makes from an image, in cells.

    Args:
        image_size: (height, width), pixels.
        strides: stride of every level, in pixels.
        size_divisor: sides are padded to a multiple of it.
    """
    height, width = padded_size([image_size], size_divisor)
    # Levels above the backbone's maps are made by convolutions of stride 2, which round up.
    return tuple((math.ceil(height / stride), math.ceil(width / stride)) for stride in strides)


def explain_assignment(
    boxes: Tensor,
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    size_ranges: Sequence[tuple[float, float]],
    center_radius: float,
) -> ExplainedAssignment:
    """Assign the locations of one image, with the reason for every location and object.

    Args:
        boxes: (N, 4) corners, pixels; N may be 0.
        shapes: (h, w) of every level, in cells.
        strides: stride of every level, in pixels.
        size_ranges: smallest and largest max(l, t, r, b) of every level, pixels, both inclusive.
        center_radius: half side of the positive square, in strides; `math.inf` for whole boxes.
    """
    locations = pyramid_locations(shapes, strides, device=boxes.device)
    boxes = boxes.to(locations.dtype)
    sizes = [height * width for height, width in shapes]
    any_size = [(0.0, math.inf)] * len(sizes)

    def learned(some: Tensor, radius: float, ranges: Sequence[tuple[float, float]]) -> Tensor:
        return assign_locations(
            locations, some, sizes, strides, size_ranges=ranges, center_radius=radius
        )

    owner = learned(boxes, center_radius, size_ranges)
    reasons = torch.zeros((len(locations), len(boxes)), dtype=torch.int64, device=boxes.device)
    for index in range(len(boxes)):
        alone = boxes[index : index + 1]
        # Each rule only takes locations away, so the reason is the number of rules passed.
        rules = [(math.inf, any_size), (center_radius, any_size), (center_radius, size_ranges)]
        for radius, ranges in rules:
            reasons[:, index] += learned(alone, radius, ranges) >= 0
        reasons[:, index] += owner == index
    return ExplainedAssignment(
        locations=locations,
        boxes=boxes,
        shapes=tuple(shapes),
        strides=tuple(strides),
        size_ranges=tuple(size_ranges),
        center_radius=center_radius,
        owner=owner,
        reasons=reasons,
    )


@dataclass(frozen=True)
class Suppression:
    """The result of suppression for N boxes.

    Attributes:
        order: (N,) int64, indices of the boxes, best first.
        is_kept: (N,) bool, whether each box is kept.
        remover: (N,) int64, the better box that removed each; -1 for kept boxes.
        iou: (N,) IoU with the remover, 0 for kept boxes.
    """

    order: Tensor
    is_kept: Tensor
    remover: Tensor
    iou: Tensor

    @property
    def kept(self) -> Tensor:
        """Indices of the kept boxes, best first."""
        return self.order[self.is_kept[self.order]]

    def removed_by(self, index: int) -> Tensor:
        """Indices of the boxes that a box removed, best first."""
        return self.order[self.remover[self.order] == index]


def greedy_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, iou_threshold: float, class_wise: bool = True
) -> Suppression:
    """The best box removes all boxes that overlap it, then the best remaining box, and so on.

    Args:
        boxes: (N, 4) corners, pixels.
        scores: (N,).
        labels: (N,) int64.
        iou_threshold: a box is removed if its IoU with a better box is above it.
        class_wise: whether a box removes only boxes of its own class.

    Returns:
        The result; the remover of a box is the best kept box that overlaps it.
    """
    labels = labels if class_wise else torch.zeros_like(labels)
    order, overlaps = _overlaps_of_better(boxes, scores, labels)
    is_kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        is_kept[own[nms(boxes[own], scores[own], iou_threshold)]] = True
    can_remove = (overlaps > iou_threshold) & is_kept[order][:, None]
    return _named(order, is_kept, can_remove, overlaps)


def fast_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, iou_threshold: float, class_wise: bool = True
) -> Suppression:
    """Every box removes the worse boxes that overlap it, even if it is removed; see `greedy_nms`.

    This needs one matrix and no loop. It may remove boxes that greedy suppression keeps, but never
    keeps a box that greedy suppression removes.

    Returns:
        The result; removers may be removed themselves.
    """
    labels = labels if class_wise else torch.zeros_like(labels)
    order, overlaps = _overlaps_of_better(boxes, scores, labels)
    can_remove = overlaps > iou_threshold
    is_kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    is_kept[order] = ~can_remove.any(dim=0)
    return _named(order, is_kept, can_remove, overlaps)


def _overlaps_of_better(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes' indices, best first, and (N, N) IoUs in this order.

    Entry (i, j) is the IoU of box i with box j if j is worse and of the same class, otherwise 0.
    """
    order = scores.argsort(descending=True, stable=True)
    overlaps = box_iou(boxes[order], boxes[order]).triu(diagonal=1)
    return order, overlaps * (labels[order][:, None] == labels[order])


def _named(order: Tensor, is_kept: Tensor, can_remove: Tensor, overlaps: Tensor) -> Suppression:
    """For each removed box, record the best box that could remove it, and their IoU."""
    remover = torch.full_like(order, -1)
    iou = torch.zeros(len(order), device=overlaps.device)
    if len(order):
        first = can_remove.int().argmax(dim=0)
        was_removed = ~is_kept[order]
        remover[order] = torch.where(was_removed, order[first], -1)
        iou[order] = overlaps.gather(0, first[None])[0] * was_removed
    return Suppression(order=order, is_kept=is_kept, remover=remover, iou=iou)
