"""What students get wrong in chapter 03, and what to tell them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blendmask_lite.boxes import box_areas, xyxy_to_ltrb
from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.model.fcos import pyramid_locations

__all__ = ["ASSIGN", "IS_CENTRAL", "LEVEL_LOCATIONS", "SIDE_DISTANCES"]


# 03.1


def _locations(level: Tensor, stride: int) -> Tensor:
    height, width = level.shape[-2:]
    return pyramid_locations([(height, width)], [stride])


def _corners(level: Tensor, stride: int) -> Tensor:
    return _locations(level, stride) - stride // 2


def _y_before_x(level: Tensor, stride: int) -> Tensor:
    return _locations(level, stride).flip(1)


def _columns_outside(level: Tensor, stride: int) -> Tensor:
    return _locations(level.transpose(2, 3), stride).flip(1)


LEVEL_LOCATIONS = (
    WrongAnswer(
        _corners,
        "These are the cells' upper left corners. A location is the middle of its cell: half a "
        "stride further to the right and down.",
    ),
    WrongAnswer(_y_before_x, "x and y are exchanged: a location is (x, y), x first."),
    WrongAnswer(
        _columns_outside,
        "The locations run down the columns. A map is flattened row by row, so x has to run "
        "fastest; else every location gets another cell's predictions.",
    ),
)


# 03.2


def _top_left_swapped(locations: Tensor, boxes: Tensor) -> Tensor:
    return xyxy_to_ltrb(locations, boxes)[..., [1, 0, 3, 2]]


def _never_negative(locations: Tensor, boxes: Tensor) -> Tensor:
    return xyxy_to_ltrb(locations, boxes).abs()


def _location_minus_corners(locations: Tensor, boxes: Tensor) -> Tensor:
    return locations.repeat(1, 2)[:, None] - boxes[None]


SIDE_DISTANCES = (
    WrongAnswer(
        _top_left_swapped,
        "The order is top, left, bottom, right. The paper's is left, top, right, bottom.",
    ),
    WrongAnswer(
        _never_negative,
        "The sign is gone (abs). A negative distance says that the location lies beyond that "
        "side, and that is how outside is told from inside.",
    ),
    WrongAnswer(
        _location_minus_corners,
        "Right and bottom have the wrong sign: inside a box all four distances are positive.",
    ),
)


# 03.3


def _is_inside(locations: Tensor, boxes: Tensor) -> Tensor:
    return xyxy_to_ltrb(locations, boxes).amin(dim=2) > 0


def _offset(locations: Tensor, boxes: Tensor) -> Tensor:
    return (locations[:, None] - (boxes[:, :2] + boxes[:, 2:])[None] / 2).abs()


def _whole_box(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    return _is_inside(locations, boxes)


def _square_only(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    return (_offset(locations, boxes) < radius * strides[:, None, None]).all(dim=2)


def _radius_in_pixels(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    is_near = (_offset(locations, boxes) < radius).all(dim=2)
    return is_near & _is_inside(locations, boxes)


def _edges_included(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    is_near = (_offset(locations, boxes) <= radius * strides[:, None, None]).all(dim=2)
    return is_near & _is_inside(locations, boxes)


IS_CENTRAL = (
    WrongAnswer(
        _whole_box,
        "The whole box counts. Center sampling keeps only what is nearer to the center than "
        "radius * stride.",
    ),
    WrongAnswer(
        _square_only,
        "The square reaches out of small boxes: a location has to lie inside the box, too.",
    ),
    WrongAnswer(
        _radius_in_pixels,
        "The radius is taken for pixels. It counts strides: the square grows with the level.",
    ),
    WrongAnswer(
        _edges_included,
        "Locations on the square's edge count here (<=). Only those strictly inside do.",
    ),
)


# 03.4


def _central(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    near = _square_only(locations, boxes, strides, radius)
    return near & _is_inside(locations, boxes)


def _least(values: Tensor, is_candidate: Tensor) -> Tensor:
    """(N,) or (L, N) values -> (L,) place of the least one of the candidates, -1 for none."""
    if is_candidate.shape[1] == 0:
        return torch.full((len(is_candidate),), -1)
    least, owner = torch.where(is_candidate, values, math.inf).min(dim=1)
    return torch.where(least < math.inf, owner, -1)


def _is_of_size(reach: Tensor, size_ranges: Tensor) -> Tensor:
    return (size_ranges[:, :1] <= reach) & (reach <= size_ranges[:, 1:])


def _farthest(locations: Tensor, boxes: Tensor) -> Tensor:
    return xyxy_to_ltrb(locations, boxes).amax(dim=2)


def _any_size(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    return _least(box_areas(boxes), _central(locations, boxes, strides, radius))


def _largest_area(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    central = _central(locations, boxes, strides, radius)
    of_size = _is_of_size(_farthest(locations, boxes), size_ranges)
    return _least(-box_areas(boxes), central & of_size)


def _size_of_the_box(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)[None]
    central = _central(locations, boxes, strides, radius)
    return _least(box_areas(boxes), central & _is_of_size(longest, size_ranges))


def _first_box(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    central = _central(locations, boxes, strides, radius)
    of_size = _is_of_size(_farthest(locations, boxes), size_ranges)
    return _least(torch.arange(len(boxes)).float(), central & of_size)


ASSIGN = (
    WrongAnswer(
        _any_size,
        "The size ranges are not asked: every level learns every object.",
    ),
    WrongAnswer(
        _largest_area,
        "Where boxes overlap, the largest wins here. Take the smallest: the large one has many "
        "other locations to be learned at.",
    ),
    WrongAnswer(
        _size_of_the_box,
        "The box' longer side is compared with the range. FCOS compares the farthest side, "
        "max(l, t, r, b), which depends on the location as well.",
    ),
    WrongAnswer(
        _first_box,
        "Where boxes overlap, the first in the list wins here, not the one of least area.",
    ),
)
