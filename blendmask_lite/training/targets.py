"""Which location learns which object: FCOS' assignment.

Chapter 03. FCOS, section 3.1 and 3.2, with center sampling as in the released code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.boxes import box_areas, centerness, xyxy_to_ltrb
from blendmask_lite.config import ModelConfig
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.structures import Target

__all__ = ["Assignment", "assign_batch", "assign_locations", "object_locations"]


@dataclass(frozen=True)
class Assignment:
    """The positive locations of a batch, P of them.

    Attributes:
        labels: (B, L) int64, the class that each location learns; -1 is background.
        index: (P, 2) int64 pairs (image, location), images in order.
        object_index: (P,) int64, which object of the batch each learns; objects are counted
            over all images.
        ltrb: (P, 4) distances to the sides of that object's box, pixels, > 0.
    """

    labels: Tensor
    index: Tensor
    object_index: Tensor
    ltrb: Tensor


def assign_locations(
    locations: Tensor,
    boxes: Tensor,
    level_sizes: Sequence[int],
    level_strides: Sequence[int],
    *,
    size_ranges: Sequence[tuple[float, float]],
    center_radius: float,
) -> Tensor:
    """Match the locations of one image with its objects.

    A location learns an object if it lies strictly inside the square of `center_radius` strides
    around the box' center and inside the box, and if the farthest side is within the level's size
    range. Of several objects it takes the one of least area, of equal ones the first.

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners, pixels.
        level_sizes: number of locations of every level.
        level_strides: of every level, pixels.
        size_ranges: least and largest max(l, t, r, b) of every level, pixels, both inclusive.
        center_radius: strides.

    Returns:
        (L,) int64: which object, -1 for none.
    """
    num_locations = len(locations)
    if len(boxes) == 0:
        return torch.full((num_locations,), -1, dtype=torch.int64, device=locations.device)
    sizes = torch.tensor(level_sizes, device=locations.device)
    strides = locations.new_tensor(level_strides).repeat_interleave(sizes)
    smallest, largest = locations.new_tensor(size_ranges).repeat_interleave(sizes, dim=0).unbind(1)
    ltrb = xyxy_to_ltrb(locations, boxes)  # (L, N, 4)
    is_central = ltrb.amin(dim=2) > 0
    if center_radius < math.inf:
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        reach = (center_radius * strides)[:, None, None]
        distance = (locations[:, None] - center[None]).abs()
        is_central &= (distance < reach).all(dim=2)
    farthest = ltrb.amax(dim=2)
    is_of_size = (farthest >= smallest[:, None]) & (farthest <= largest[:, None])
    areas = box_areas(boxes).expand(num_locations, -1)
    areas = areas.masked_fill(~(is_central & is_of_size), math.inf)
    area, owner = areas.min(dim=1)
    return owner.masked_fill(area == math.inf, -1)


def assign_batch(
    locations: Tensor,
    targets: Sequence[Target],
    level_sizes: Sequence[int],
    level_strides: Sequence[int],
    *,
    size_ranges: Sequence[tuple[float, float]],
    center_radius: float,
) -> Assignment:
    """Match the locations of every image; see `assign_locations`."""
    labels, index, object_index, ltrb = [], [], [], []
    first_object = 0
    for image, target in enumerate(targets):
        boxes = target.boxes.to(locations.dtype)
        owner = assign_locations(
            locations,
            boxes,
            level_sizes,
            level_strides,
            size_ranges=size_ranges,
            center_radius=center_radius,
        )
        positive = (owner >= 0).nonzero()[:, 0]
        own = owner[positive]
        label = torch.full_like(owner, -1)
        label[positive] = target.labels[own]
        labels.append(label)
        index.append(torch.stack([torch.full_like(positive, image), positive], dim=1))
        object_index.append(own + first_object)
        xy = locations[positive]
        ltrb.append(torch.cat([xy - boxes[own, :2], boxes[own, 2:] - xy], dim=1))
        first_object += len(target)
    return Assignment(
        labels=torch.stack(labels),
        index=torch.cat(index),
        object_index=torch.cat(object_index),
        ltrb=torch.cat(ltrb),
    )


def object_locations(
    output: BlendMaskOutput, target: Target, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """One location for every object of an image, by geometry alone and so the same at all times.

    Of the locations that learn the object it is the most central one. An object that none learns,
    because smaller ones took them all, gets the nearest to its center on a level of its size.

    Args:
        output: for its locations.
        target: N objects.
        config: size ranges and center sampling are read.

    Returns:
        (N,) int64, places on the flattened pyramid, and (N,) bool, whether the location learns
        the object.
    """
    boxes = target.boxes.to(output.locations.dtype)
    owner = assign_locations(
        output.locations,
        boxes,
        output.level_sizes,
        output.level_strides,
        size_ranges=config.size_ranges,
        center_radius=config.center_radius,
    )
    is_own = owner[:, None] == torch.arange(len(boxes), device=owner.device)  # (L, N)
    central = centerness(xyxy_to_ltrb(output.locations, boxes).clamp(min=0))
    most_central = torch.where(is_own, central, -1.0).argmax(dim=0)
    sizes = torch.tensor(output.level_sizes, device=owner.device)
    ranges = boxes.new_tensor(config.size_ranges).repeat_interleave(sizes, dim=0)  # (L, 2)
    reach = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / 2
    is_of_size = (ranges[:, :1] <= reach) & (reach <= ranges[:, 1:])
    distance = (output.locations[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(dim=2)
    nearest = distance.masked_fill(~is_of_size, torch.inf).argmin(dim=0)
    is_learned = is_own.any(dim=0)
    return torch.where(is_learned, most_central, nearest), is_learned
