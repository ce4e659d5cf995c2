"""What students get wrong in chapter 07, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from blendmask_lite.course.definition import WrongAnswer

__all__ = ["ALIGN", "CENTERS", "POOL", "SAMPLE"]


# 07.1


def _read(values: Tensor, points: Tensor) -> Tensor:
    boxes = torch.cat([points - 0.5, points + 0.5], dim=1)
    crops = roi_align(
        values[None, None], [boxes], 1, spatial_scale=1.0, sampling_ratio=1, aligned=True
    )
    return crops[:, 0, 0, 0]


def _read_half_off(values: Tensor, points: Tensor) -> Tensor:
    return _read(values, points + 0.5)


def _read_nearest(values: Tensor, points: Tensor) -> Tensor:
    height, width = values.shape
    x, y = points.floor().long().unbind(dim=1)
    near = ((points >= -0.5) & (points <= points.new_tensor([width, height]) + 0.5)).all(dim=1)
    return values[y.clamp(0, height - 1), x.clamp(0, width - 1)] * near


def _read_transposed(values: Tensor, points: Tensor) -> Tensor:
    return _read(values, points.flip(1))


SAMPLE = (
    WrongAnswer(
        _read_half_off,
        "The map is read half a cell too far to the right and below: the value of cell i belongs "
        "to i + 0.5, not to i.",
    ),
    WrongAnswer(
        _read_nearest,
        "This is the cell that the point lies in (nearest). Blend the four cells around it.",
    ),
    WrongAnswer(
        _read_transposed,
        "x and y are exchanged: a point is (x, y), a map is indexed [row, column], y first.",
    ),
)


# 07.2


def _places(boxes: Tensor, stride: float, share: Tensor) -> Tensor:
    """Points at shares of both sides."""
    x0, y0, x1, y1 = (boxes / stride)[:, :, None].unbind(dim=1)
    x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
    size = len(share)
    grid = x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)
    return torch.stack(grid, dim=-1)


def _middles(size: int) -> Tensor:
    return (torch.arange(size) + 0.5) / size


def _centers_at_corners(boxes: Tensor, size: int, stride: int) -> Tensor:
    return _places(boxes, stride, torch.arange(size) / size)


def _centers_end_to_end(boxes: Tensor, size: int, stride: int) -> Tensor:
    return _places(boxes, stride, torch.linspace(0, 1, size))


def _centers_in_pixels(boxes: Tensor, size: int, stride: int) -> Tensor:
    return _places(boxes, 1.0, _middles(size))


def _centers_transposed(boxes: Tensor, size: int, stride: int) -> Tensor:
    return _places(boxes, stride, _middles(size)).transpose(1, 2)


def _centers_rounded(boxes: Tensor, size: int, stride: int) -> Tensor:
    return _places((boxes / stride).round(), 1.0, _middles(size))


CENTERS = (
    WrongAnswer(
        _centers_at_corners,
        "These are the upper left corners of the bins. The middles are half a bin further.",
    ),
    WrongAnswer(
        _centers_end_to_end,
        "The first and the last point lie on the sides of the box (align_corners). R bins have "
        "their middles half a bin inside.",
    ),
    WrongAnswer(
        _centers_in_pixels,
        "The points are in pixels of the picture; divide by the stride to get cells of the map.",
    ),
    WrongAnswer(
        _centers_transposed,
        "Rows and columns are exchanged: along the third axis x grows, along the second y.",
    ),
    WrongAnswer(
        _centers_rounded,
        "The corners were rounded to whole cells, as RoIPool does. RoIAlign rounds nothing.",
    ),
)


# 07.3


def _regions(boxes: Tensor) -> list[Tensor]:
    return [boxes]


def _aligned(bases: Tensor, boxes: Tensor, size: int, stride: int, *, samples: int = 1) -> Tensor:
    return roi_align(
        bases[None],
        _regions(boxes),
        size,
        spatial_scale=1 / stride,
        sampling_ratio=samples,
        aligned=True,
    )


def _align_half_off(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return _aligned(bases, boxes + stride / 2, size, stride)


def _align_four_samples(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return _aligned(bases, boxes, size, stride, samples=2)


def _align_transposed(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return _aligned(bases, boxes, size, stride).transpose(2, 3)


ALIGN = (
    WrongAnswer(
        _align_half_off,
        "Every crop is read half a cell too far to the right and below. In sample_bilinear, "
        "center i is at i + 0.5.",
    ),
    WrongAnswer(
        _align_four_samples,
        "Four samples a bin were averaged. The paper takes one, the middle.",
    ),
    WrongAnswer(
        _align_transposed,
        "The crops are transposed: rows of a crop are y, columns x.",
    ),
)


# 07.4


def _pooled(bases: Tensor, corners: Tensor, size: int) -> Tensor:
    """RoIPool of boxes in cells."""
    return roi_pool(bases[None], _regions(corners), size, spatial_scale=1.0)


def _rounded(boxes: Tensor, stride: int) -> Tensor:
    return (boxes / stride + 0.5).floor()


def _pool_floor(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return _pooled(bases, (boxes / stride).floor(), size)


def _pool_even(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return _pooled(bases, (boxes / stride).round(), size)


def _pool_without_last(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    corners = _rounded(boxes, stride)
    return _pooled(bases, torch.cat([corners[:, :2], corners[:, 2:] - 1], dim=1), size)


def _pool_sampled(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return _aligned(bases, boxes, size, stride)


def _pool_smallest(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    return -_pooled(-bases, _rounded(boxes, stride), size)


POOL = (
    WrongAnswer(
        _pool_floor,
        "The corners were cut down to whole cells (floor). RoIPool rounds them.",
    ),
    WrongAnswer(
        _pool_even,
        "torch.round and Python's round take halves to the nearest even number, 0.5 to 0 and 2.5 "
        "to 2. Here halves go up: add 0.5, then floor.",
    ),
    WrongAnswer(
        _pool_without_last,
        "The cell of the right and lower corner is missing: the region is last - first + 1 wide.",
    ),
    WrongAnswer(
        _pool_sampled,
        "This is RoIAlign. RoIPool rounds the box and takes the largest cell of each bin.",
    ),
    WrongAnswer(
        _pool_smallest,
        "You took the smallest value of each bin; it is the largest.",
    ),
)
