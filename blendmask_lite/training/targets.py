"""The assignment of FCOS, which decides which location learns which object.

Chapter 03. FCOS, sections 3.1 and 3.2, with center sampling as in the released code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.boxes import box_areas, centerness, xyxy_to_ltrb
from blendmask_lite.config import ModelConfig
from blendmask_lite.model.fcos import level_values
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.structures import Target

__all__ = ["Assignment", "assign_batch", "assign_locations", "object_locations"]


@dataclass(frozen=True)
class Assignment:
    """The positive locations of a batch, P of them.

    Attributes:
        labels: (B, L) int64, the class that each location learns; -1 is background.
        index: (P, 2) int64 pairs (image, location), images in order.
        object_index: (P,) int64, index of the object that each learns, counted over all images.
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

    A location learns an object if it lies strictly inside the box and inside the square of
    `center_radius` strides around the box's center, and if the farthest side is within the level's
    size range. Of several objects it takes the smallest, and of equally small ones the first.

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners, pixels.
        level_sizes: number of locations of every level.
        level_strides: stride of every level, in pixels.
        size_ranges: smallest and largest max(l, t, r, b) of every level, pixels, both inclusive.
        center_radius: half side of the square, in strides.

    Returns:
        (L,) int64: index of the object, -1 for none.
    """
    num_locations = len(locations)
    if len(boxes) == 0:
        return torch.full((num_locations,), -1, dtype=torch.int64, device=locations.device)
    device = locations.device
    ltrb = xyxy_to_ltrb(locations, boxes)  # (L, N, 4)
    is_central = ltrb.amin(dim=2) > 0
    if center_radius < math.inf:
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        radii = [float(center_radius * stride) for stride in level_strides]
        reach = level_values(radii, level_sizes, device=device)[:, None, None]
        distance = (locations[:, None] - center[None]).abs()
        is_central &= (distance < reach).all(dim=2)
    is_of_size = _is_of_size(ltrb.amax(dim=2), size_ranges, level_sizes)
    areas = box_areas(boxes).expand(num_locations, -1)
    areas = areas.masked_fill(~(is_central & is_of_size), math.inf)
    area, owner = areas.min(dim=1)
    return owner.masked_fill(area == math.inf, -1)


def _is_of_size(
    farthest: Tensor, size_ranges: Sequence[tuple[float, float]], level_sizes: Sequence[int]
) -> Tensor:
    """(L or 1, N) distances to the farthest side -> (L, N) bool: within the level's size range."""
    smallest, largest = (
        level_values([float(limit) for limit in limits], level_sizes, device=farthest.device)
        for limits in zip(*size_ranges, strict=True)
    )  # (L,) each
    return (farthest >= smallest[:, None]) & (farthest <= largest[:, None])


def assign_batch(
    locations: Tensor,
    targets: Sequence[Target],
    level_sizes: Sequence[int],
    level_strides: Sequence[int],
    *,
    size_ranges: Sequence[tuple[float, float]],
    center_radius: float,
) -> Assignment:
    """Match the locations of every image; see `assign_locations`.

    Only the device knows how many locations are positive: the CPU waits for it once per batch, not
    once per image.
    """
    owners, first_object = [], 0
    for target in targets:
        owner = assign_locations(
            locations,
            target.boxes.to(locations.dtype),
            level_sizes,
            level_strides,
            size_ranges=size_ranges,
            center_radius=center_radius,
        )
        owners.append(torch.where(owner >= 0, owner + first_object, -1))
        first_object += len(target)
    owner = torch.stack(owners)  # (B, L)
    index = (owner >= 0).nonzero()
    image, location = index.unbind(dim=1)
    object_index = owner[image, location]
    boxes = torch.cat([target.boxes for target in targets]).to(locations.dtype)[object_index]
    xy = locations[location]
    background = torch.full((1,), -1, device=owner.device)
    labels = torch.cat([*(target.labels for target in targets), background])
    return Assignment(
        labels=labels[owner],  # an owner of -1 takes the last label, the background
        index=index,
        object_index=object_index,
        ltrb=torch.cat([xy - boxes[:, :2], boxes[:, 2:] - xy], dim=1),
    )


def object_locations(
    output: BlendMaskOutput, target: Target, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """One location for every object of an image, always the same: only geometry decides.

    It is the most central of the locations that learn the object. An object that no location
    learns, because smaller objects took them all, gets the location nearest to its center on a
    level of its size.

    Args:
        output: its locations are read.
        target: N objects.
        config: size ranges and center sampling are read.

    Returns:
        (N,) int64, positions in the flattened pyramid, and (N,) bool, whether the location learns
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
    reach = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / 2
    is_of_size = _is_of_size(reach[None], config.size_ranges, output.level_sizes)
    distance = (output.locations[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(dim=2)
    nearest = distance.masked_fill(~is_of_size, torch.inf).argmin(dim=0)
    is_learned = is_own.any(dim=0)
    return torch.where(is_learned, most_central, nearest), is_learned
