"""What students get wrong in chapter 01, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from blendmask_lite.course.definition import WrongAnswer

__all__ = ["CROP", "POLYGON", "RUNS", "SIZES"]


# 01.1


def _polygon_at(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether points are inside; x and y broadcast."""
    inside = torch.zeros(torch.broadcast_shapes(x.shape, y.shape), dtype=torch.bool)
    for (x0, y0), (x1, y1) in zip(corners, corners.roll(-1, dims=0), strict=True):
        is_crossed = (y0 > y) != (y1 > y)
        inside ^= is_crossed & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return inside


def _polygon_of_pixel_corners(corners: Tensor, size: tuple[int, int]) -> Tensor:
    return _polygon_at(corners, torch.arange(size[1]), torch.arange(size[0])[:, None])


def _polygon_swapped(corners: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = torch.arange(size[1]) + 0.5, torch.arange(size[0])[:, None] + 0.5
    return _polygon_at(corners.flip(1), x, y)


def _polygon_as_convex(corners: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = torch.arange(size[1]) + 0.5, torch.arange(size[0])[:, None] + 0.5
    sides = []
    for (x0, y0), (x1, y1) in zip(corners, corners.roll(-1, dims=0), strict=True):
        sides.append((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0)
    every = torch.stack(sides) if sides else torch.zeros(1, *size, dtype=torch.bool)
    return every.all(dim=0)


def _polygon_box(corners: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = torch.arange(size[1]) + 0.5, torch.arange(size[0])[:, None] + 0.5
    if len(corners) == 0:
        return torch.zeros(size, dtype=torch.bool)
    (x0, y0), (x1, y1) = corners.amin(dim=0), corners.amax(dim=0)
    return (x > x0) & (x < x1) & (y > y0) & (y < y1)


POLYGON = (
    WrongAnswer(
        _polygon_of_pixel_corners,
        "You asked about the corners of the pixels: pixel 0 covers 0 to 1, its center is at 0.5.",
    ),
    WrongAnswer(
        _polygon_swapped,
        "x and y are exchanged: corners are (x, y), while a mask has its rows, y, first.",
    ),
    WrongAnswer(
        _polygon_as_convex,
        "To lie on the same side of all sides is enough for convex polygons only. Count the "
        "crossings of a ray instead; the L has a notch.",
    ),
    WrongAnswer(_polygon_box, "This is the polygon's box, filled."),
)


# 01.2


def _values(counts: Tensor, first: int) -> Tensor:
    return ((torch.arange(len(counts)) + first) % 2 == 1).repeat_interleave(counts)


def _runs_along_rows(counts: Tensor, size: tuple[int, int]) -> Tensor:
    return _values(counts, 0).view(size)


def _runs_from_one(counts: Tensor, size: tuple[int, int]) -> Tensor:
    return _values(counts, 1).view(size[1], size[0]).T


def _runs_as_starts_and_lengths(counts: Tensor, size: tuple[int, int]) -> Tensor:
    pixels = torch.zeros(size[0] * size[1], dtype=torch.bool)
    starts, lengths = counts[0 : len(counts) // 2 * 2 : 2], counts[1::2]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        pixels[start : start + length] = True
    return pixels.view(size[1], size[0]).T


RUNS = (
    WrongAnswer(
        _runs_along_rows,
        "You went along the rows. COCO goes down the columns: it comes from MATLAB, which "
        "stores matrices that way.",
    ),
    WrongAnswer(
        _runs_from_one,
        "Inside and outside are exchanged: the first run is of zeros, of length 0 where the "
        "first pixel belongs to the mask.",
    ),
    WrongAnswer(
        _runs_as_starts_and_lengths,
        "These counts are all lengths. Pairs of start and length are another format.",
    ),
)


# 01.3


def _shares(
    masks: Tensor, boxes: Tensor, size: int, *, ratio: int = 0, aligned: bool = True
) -> Tensor:
    regions = torch.cat([torch.arange(len(masks))[:, None].to(boxes), boxes], dim=1)
    return roi_align(
        masks[:, None].to(boxes), regions, size, sampling_ratio=ratio, aligned=aligned
    )[:, 0]


def _crop_unaligned(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    return _shares(masks, boxes, size, aligned=False) >= 0.5


def _crop_any(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    return _shares(masks, boxes, size) > 0


def _crop_one_sample(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    return _shares(masks, boxes, size, ratio=1) >= 0.5


def _crop_more_than_half(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    return _shares(masks, boxes, size) > 0.5


CROP = (
    WrongAnswer(
        _crop_unaligned,
        "Everything is half a pixel off: without aligned=True roi_align takes pixel 0's center "
        "for 0, not for 0.5. Chapter 07 is about this half pixel.",
    ),
    WrongAnswer(
        _crop_any,
        "Every cell that the mask touches was taken, so the object grows. A cell counts when half "
        "of it is covered.",
    ),
    WrongAnswer(
        _crop_one_sample,
        "One sample a cell (sampling_ratio=1) sees one place of it only; a target averages "
        "over the cell's pixels, sampling_ratio=0.",
    ),
    WrongAnswer(
        _crop_more_than_half,
        "A cell that is covered by exactly one half belongs to the mask, too: >=.",
    ),
)


# 01.4


def _groups(sizes: Tensor) -> Tensor:
    low, high = torch.tensor([0, 32, 96]), torch.tensor([32, 96, torch.inf])
    return (sizes[:, None] >= low) & (sizes[:, None] <= high)


def _sizes_one_group(areas: Tensor) -> Tensor:
    low, high = torch.tensor([0, 32**2, 96**2]), torch.tensor([32**2, 96**2, torch.inf])
    return (areas[:, None] >= low) & (areas[:, None] < high)


def _sizes_of_sides(areas: Tensor) -> Tensor:
    return _groups(areas)


def _sizes_up_to(areas: Tensor) -> Tensor:
    return areas[:, None] <= torch.tensor([32**2, 96**2, torch.inf])


SIZES = (
    WrongAnswer(
        _sizes_one_group,
        "Nearly: an area right on a border counts for both of its neighbours, since both ends "
        "of every range belong to it.",
    ),
    WrongAnswer(
        _sizes_of_sides,
        "The area was compared with 32 and 96; these are sides of squares. Areas need 32 ** 2.",
    ),
    WrongAnswer(
        _sizes_up_to,
        "Only the upper ends are asked for, so every small object is medium and large as well.",
    ),
)
