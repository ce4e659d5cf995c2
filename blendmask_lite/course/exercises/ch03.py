"""Exercises of chapter 03, FCOS' targets: locations, distances, central square, assignment."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blendmask_lite.boxes import xyxy_to_ltrb
from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases03 as cases
from blendmask_lite.course.exercises import wrong03 as wrong
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.training.targets import assign_locations

__all__ = ["EXERCISES"]


# 03.1  Locations


def level_locations(level: Tensor, stride: int) -> Tensor:
    """Centers of a level's cells on the picture, row by row (FCOS, section 3.1).

    Args:
        level: (B, C, h, w) features; only h and w matter.
        stride: s, pixels from one cell to the next.

    Returns:
        (h * w, 2) float32 as (x, y), pixels: column i lies at x = i * s + s // 2, row j at
        y = j * s + s // 2. The first row comes first, from left to right.
    """
    height, width = level.shape[-2:]
    # Step 1: x of every column and y of every row
    x = torch.arange(width, dtype=torch.float32) * stride + stride // 2
    y = torch.arange(height, dtype=torch.float32) * stride + stride // 2
    # Step 2: every pair of them, rows outside, columns inside
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1)


def _reference_level_locations(level: Tensor, stride: int) -> Tensor:
    height, width = level.shape[-2:]
    return pyramid_locations([(height, width)], [stride])


# 03.2  Distances


def side_distances(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances from every location to the four sides of every box (FCOS, equation 1).

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners (x0, y0, x1, y1), pixels.

    Returns:
        (L, N, 4) left, top, right, bottom, pixels; negative where a location lies beyond a side.
    """
    # Step 1: axes of size 1, so that every location meets every box
    x, y = locations[:, None].unbind(dim=2)
    x0, y0, x1, y1 = boxes[None].unbind(dim=2)
    # Step 2: four differences, in the order l, t, r, b
    return torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2)


# 03.3  Center sampling


def is_central(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    """Whether a location lies in the box and near its center (center sampling).

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners, pixels.
        strides: (L,) of every location's level, pixels.
        radius: of the central square, in strides; infinite takes the whole box.

    Returns:
        (L, N) bool: strictly inside the box, and both |x - center x| and |y - center y| below
        radius * stride.
    """
    # Step 1: inside the box
    is_inside = side_distances(locations, boxes).amin(dim=2) > 0
    # Step 2: inside the square around the center
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = (locations[:, None] - center[None]).abs()
    is_near = (offset < radius * strides[:, None, None]).all(dim=2)
    # Step 3: both
    return is_inside & is_near


def _reference_is_central(
    locations: Tensor, boxes: Tensor, strides: Tensor, radius: float
) -> Tensor:
    """The package's assignment, asked for one box alone and for any size."""
    num = len(locations)
    alone = [
        assign_locations(
            locations,
            box[None],
            [1] * num,
            strides.tolist(),
            size_ranges=[(-1.0, math.inf)] * num,
            center_radius=radius,
        )
        for box in boxes
    ]
    return torch.stack(alone, dim=1) == 0 if alone else torch.zeros(num, 0, dtype=torch.bool)


# 03.4  The assignment


def assign(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    """Which box every location learns (FCOS, sections 3.1 and 3.2).

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners, pixels.
        strides: (L,) of every location's level, pixels.
        size_ranges: (L, 2) least and largest max(l, t, r, b) of its level, both inclusive, pixels.
        radius: of the central square, strides.

    Returns:
        (L,) int64: of the boxes that have the location in their central square and within the
        range the one of least area, of equal areas the first; -1 where there is none.
    """
    # Step 0: without boxes there is nothing to choose from
    if len(boxes) == 0:
        return torch.full((len(locations),), -1)
    # Step 1: the farthest side has to be within the level's range
    farthest = side_distances(locations, boxes).amax(dim=2)
    is_of_size = (size_ranges[:, :1] <= farthest) & (farthest <= size_ranges[:, 1:])
    # Step 2: an infinite area where a box does not qualify
    is_candidate = is_of_size & is_central(locations, boxes, strides, radius)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = torch.where(is_candidate, areas, math.inf)
    # Step 3: the smallest one; -1 where even that is infinite
    area, owner = areas.min(dim=1)
    return torch.where(area < math.inf, owner, -1)


def _reference_assign(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    return assign_locations(
        locations,
        boxes,
        [1] * len(locations),
        strides.tolist(),
        size_ranges=size_ranges.tolist(),
        center_radius=radius,
    )


EXERCISES = (
    Exercise(
        id="03.1",
        title="Locations of a level",
        minutes=5,
        difficulty=2,
        solution=level_locations,
        reference=_reference_level_locations,
        make_cases=cases.level_cases,
        result_axes="L, xy",
        wrong_answers=wrong.LEVEL_LOCATIONS,
        hints=(
            "Cell 0 of a level of stride 8 covers pixels 0 to 8. Where is its middle?",
            "torch.arange gives the columns and the rows, torch.meshgrid every pair of them.",
            'rows, columns = torch.meshgrid(y, x, indexing="ij"); flatten both and stack x first.',
        ),
    ),
    Exercise(
        id="03.2",
        title="Distances to the four sides",
        minutes=5,
        difficulty=2,
        solution=side_distances,
        reference=xyxy_to_ltrb,
        make_cases=cases.distance_cases,
        result_axes="L, N, side",
        wrong_answers=wrong.SIDE_DISTANCES,
        hints=(
            "Left and top are the location minus a corner. And right and bottom?",
            "locations[:, None] has shape (L, 1, 2) and boxes[None] (1, N, 4): they broadcast.",
            "torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2).",
        ),
    ),
    Exercise(
        id="03.3",
        title="In the box and near its center",
        minutes=10,
        difficulty=3,
        solution=is_central,
        reference=_reference_is_central,
        make_cases=cases.central_cases,
        result_axes="L, N",
        wrong_answers=wrong.IS_CENTRAL,
        hints=(
            "When is a location inside a box, in terms of its four distances?",
            "The square's half side is radius * stride, and every location has its own stride.",
            "(offset < radius * strides[:, None, None]).all(dim=2), and the smallest distance > 0.",
        ),
    ),
    Exercise(
        id="03.4",
        title="Which box a location learns",
        minutes=15,
        difficulty=4,
        solution=assign,
        reference=_reference_assign,
        make_cases=cases.assignment_cases,
        result_axes="L",
        wrong_answers=wrong.ASSIGN,
        hints=(
            "Three questions to every pair: of the right size? central? And then, which is least?",
            "Boxes that do not qualify get an infinite area; then a minimum does the choosing.",
            "area, owner = areas.min(dim=1), and owner becomes -1 where area is infinite.",
        ),
    ),
)
