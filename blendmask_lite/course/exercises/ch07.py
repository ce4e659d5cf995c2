"""Exercises of chapter 07, cropping: bilinear sampling, bin centers, RoIAlign and RoIPool."""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.model.merge import crop_bases

__all__ = ["EXERCISES"]


@task("07.1", "Read a map between its cells", minutes=15, difficulty=3)
def sample_bilinear(values: Tensor, points: Tensor) -> Tensor:
    """Read a map at any point: the four nearest cell centers, weighted by nearness.

    Args:
        values: (H, W) map.
        points: (P, 2) as (x, y) in cells from the map's edge: cell i covers [i, i + 1), so its
            value belongs to i + 0.5. P may be 0.

    Returns:
        (P,). Beyond the outermost centers, the border's value continues, up to half a cell outside
        the map; at points further away, the value is 0.
    """
    height, width = values.shape
    # Step 1: the position among the cell centers, so that center i is at i
    x, y = (points - 0.5).unbind(dim=1)
    is_near = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    # Step 2: the centers on both sides, and how far the point is from the first of them
    x0, y0 = x.floor().long(), y.floor().long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    right, down = x - x0, y - y0
    # Step 3: blend along x in both rows, then along y
    upper = (1 - right) * values[y0, x0] + right * values[y0, x1]
    lower = (1 - right) * values[y1, x0] + right * values[y1, x1]
    return ((1 - down) * upper + down * lower) * is_near


def _reference_sample(values: Tensor, points: Tensor) -> Tensor:
    """RoIAlign of a box of one cell around each point has one sample: the point."""
    boxes = torch.cat([points - 0.5, points + 0.5], dim=1)
    return roi_align(values[None, None], [boxes], 1, sampling_ratio=1, aligned=True)[:, 0, 0, 0]


def _sample_cases(generator: Generator) -> list[Case]:
    # Centers at (0.5, 0.5), (1.5, 0.5), ...: a center, halfway between two, the middle of four.
    by_hand = torch.tensor([[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]])
    places = torch.tensor([[0.5, 0.5], [1.0, 0.5], [2.0, 1.0], [1.75, 1.5]])
    values = torch.randn(6, 9, generator=generator)
    inside = torch.rand(50, 2, generator=generator) * torch.tensor([9.0, 6.0])
    around = torch.rand(50, 2, generator=generator) * torch.tensor([13.0, 10.0]) - 2
    # The map covers 0 to 9 and 0 to 6.
    ends = [[-0.5, 1.2], [9.5, 2.3], [3.1, -0.5], [4.6, 6.5], [-0.75, 1.2], [3.1, 6.75], [9, 6]]
    limits = torch.tensor(ends)
    return [
        Case("four points on a map of 2 x 3", by_hand, places),
        Case("50 points on a map of 6 x 9", values, inside),
        Case("50 points, some of them outside", values, around),
        Case("at the border, half a cell outside, and a little more", values, limits),
        Case("no point", values, inside[:0]),
    ]


def _sample_fading(values: Tensor, points: Tensor) -> Tensor:
    """The default of grid_sample: zeros around the map take part in the blending."""
    places = 2 * points / torch.tensor(values.shape).flip(0) - 1
    return F.grid_sample(values[None, None], places[None, None], align_corners=False)[0, 0, 0]


SAMPLE = Exercise(
    solution=sample_bilinear,
    reference=_reference_sample,
    make_cases=_sample_cases,
    gradients=("values",),
    result_axes="P",
    wrong_answers=(
        WrongAnswer(
            {"points - 0.5": "points"},
            "You read the map half a cell too far to the right and below: the value of cell i "
            "belongs to i + 0.5, not to i.",
        ),
        WrongAnswer(
            {"(points - 0.5)": "(points * torch.tensor([1 - 1 / width, 1 - 1 / height]))"},
            "You put the outermost centers on the edges of the map (align_corners=True). They are "
            "half a cell inside.",
        ),
        WrongAnswer(
            _sample_fading,
            'Near the border your values fade to 0 (padding_mode="zeros" of grid_sample). Beyond '
            "the outermost centers, the border's value should continue, up to half a cell outside "
            "the map.",
        ),
        WrongAnswer(
            {" * is_near": ""},
            "Your border continues however far the point is. More than half a cell outside the "
            "map, the value is 0.",
        ),
        WrongAnswer(
            {"-1": "-0.5", "<= width)": "<= width - 0.5)", "<= height)": "<= height - 0.5)"},
            "Your value is 0 as soon as the point leaves the map. The border's value should "
            "continue for half a cell more.",
        ),
        WrongAnswer(
            {"= x - x0, y - y0": "= (x - x0 >= 0.5).float(), (y - y0 >= 0.5).float()"},
            "This is the value of the nearest cell. Blend the four cells around the point.",
        ),
        WrongAnswer(
            {"x, y = (points": "y, x = (points"},
            "x and y are exchanged: a point is (x, y), but a map is indexed [row, column], y "
            "first.",
        ),
    ),
    hints=(
        "The value of cell 0 belongs to 0.5. Which cells surround the point 1.75, and how far away "
        "are they?",
        "Subtract 0.5, clamp to 0 .. size - 1, floor for the first cell, + 1 for the second.",
        "(1 - down) * ((1 - right) * values[y0, x0] + right * values[y0, x1]) + down * ...",
    ),
)


@task("07.2", "Where RoIAlign reads", minutes=10, difficulty=2)
def bin_centers(boxes: Tensor, size: int, stride: int) -> Tensor:
    """Divide every box into R x R bins and find their middles: the paper's sample points.

    Args:
        boxes: (N, 4) corners, pixels; N may be 0.
        size: R, bins per side.
        stride: of the map, pixels per cell.

    Returns:
        (N, R, R, 2) as (x, y), cells from the map's edge; rows of bins first.
    """
    # Step 1: the box in cells; nothing is rounded
    x0, y0, x1, y1 = (boxes / stride).unbind(dim=1)
    # Step 2: middles of R equal parts, as shares of a side
    share = (torch.arange(size) + 0.5) / size
    x = x0[:, None] + share * (x1 - x0)[:, None]
    y = y0[:, None] + share * (y1 - y0)[:, None]
    # Step 3: every x with every y
    x = x[:, None, :].expand(-1, size, -1)
    y = y[:, :, None].expand(-1, -1, size)
    return torch.stack([x, y], dim=-1)


def _reference_centers(boxes: Tensor, size: int, stride: int) -> Tensor:
    """The package's crops of a map whose values are the positions of its cells."""
    place = torch.arange(RULER) + 0.5
    maps = torch.stack([place.expand(RULER, -1), place[:, None].expand(-1, RULER)])
    return _reference_crops(maps, boxes, size, stride).permute(0, 2, 3, 1)


RULER = 40  # cells per side of that map


def _center_cases(generator: Generator) -> list[Case]:
    # At stride 4: cells 2.5 to 10.5 and 3 to 7. With R = 2 the middles are 4.5, 8.5 and 4, 6.
    by_hand = torch.tensor([[10.0, 12.0, 42.0, 28.0]])
    return [
        Case("one box, R = 2, stride 4", by_hand, 2, 4),
        Case("three boxes, R = 7, stride 4", _boxes(generator, 3, 4.0), 7, 4),
        Case("two boxes, R = 5, stride 8", _boxes(generator, 2, 8.0), 5, 8),
        Case("no box", _boxes(generator, 0, 8.0), 5, 8),
    ]


def _boxes(generator: Generator, num: int, stride: float) -> Tensor:
    """Boxes inside a map of 24 x 24 cells."""
    corner = (1 + 9 * torch.rand(num, 2, generator=generator)) * stride
    side = (3 + 10 * torch.rand(num, 2, generator=generator)) * stride
    return torch.cat([corner, corner + side], dim=1)


CENTERS = Exercise(
    solution=bin_centers,
    reference=_reference_centers,
    make_cases=_center_cases,
    result_axes="N, row, column, xy",
    tolerance=1e-3,  # because the ruler's products are float32
    wrong_answers=(
        WrongAnswer(
            {"(torch.arange(size) + 0.5)": "torch.arange(size)"},
            "These are the upper left corners of the bins. The middles are half a bin further.",
        ),
        WrongAnswer(
            {"(torch.arange(size) + 0.5) / size": "torch.linspace(0, 1, size)"},
            "The first and the last point are on the sides of the box (align_corners). The middles "
            "of R bins are half a bin inside.",
        ),
        WrongAnswer(
            {"boxes / stride": "boxes"},
            "The points are in pixels of the image. Divide by the stride to get cells of the map.",
        ),
        WrongAnswer(
            {"dim=-1)": "dim=-1).transpose(1, 2)"},
            "Rows and columns are exchanged: x changes along the third axis, y along the second.",
        ),
        WrongAnswer(
            {"(boxes / stride)": "(boxes / stride).round()"},
            "You rounded the corners to whole cells, as RoIPool does. RoIAlign rounds nothing.",
        ),
    ),
    hints=(
        "A side of length 8 in 4 bins: where does the first bin begin and end, and where is its "
        "middle?",
        "Middle i is at x0 + (i + 0.5) / R * (x1 - x0), everything in cells.",
        "torch.stack of x[:, None, :] and y[:, :, None], both expanded to (N, R, R).",
    ),
)


@task("07.3", "RoIAlign with one sample per bin", minutes=10, difficulty=2)
def align(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """Crop along every box with one bilinear sample per bin (equation 1).

    Args:
        bases: (K, H, W) of one image.
        boxes: (N, 4) corners, pixels; N may be 0.
        size: R, cells.
        stride: s of the bases, pixels.

    Returns:
        (N, K, R, R). Your sample_bilinear and bin_centers do most of the work.
    """
    centers = bin_centers(boxes, size, stride)  # (N, R, R, 2)
    points = centers.flatten(0, 2)
    crops = torch.stack([sample_bilinear(base, points) for base in bases])  # (K, N * R * R)
    return crops.unflatten(1, (len(boxes), size, size)).transpose(0, 1)


def _reference_crops(
    bases: Tensor, boxes: Tensor, size: int, stride: int, pooling: str = "align"
) -> Tensor:
    image_index = torch.zeros(len(boxes), dtype=torch.int64)
    return crop_bases(bases[None], boxes, image_index, size=size, stride=stride, pooling=pooling)


def _align_cases(generator: Generator) -> list[Case]:
    # At stride 4 the box is 0.5 to 2.5, so the middles of its bins are the cell borders 1 and 2.
    by_hand = torch.arange(9.0).reshape(1, 3, 3)
    bases = torch.randn(4, 24, 24, generator=generator)
    outside = _boxes(generator, 3, 4.0) - 30
    return [
        Case("one base of 3 x 3, R = 2", by_hand, torch.tensor([[2.0, 2.0, 10.0, 10.0]]), 2, 4),
        Case("four bases, three boxes, R = 7", bases, _boxes(generator, 3, 4.0), 7, 4),
        Case("boxes that stick out", bases, outside, 7, 4),
        Case("no box", bases, outside[:0], 7, 4),
    ]


ALIGN = Exercise(
    solution=align,
    reference=_reference_crops,
    make_cases=_align_cases,
    gradients=("bases",),
    result_axes="N, K, R, R",
    tolerance=1e-3,
    wrong_answers=(
        WrongAnswer(
            {"centers.flatten(0, 2)": "centers.flatten(0, 2) + 0.5"},
            "You read every crop half a cell too far to the right and below. In sample_bilinear, "
            "center i is at i + 0.5.",
        ),
        WrongAnswer(
            lambda bases, boxes, size, stride: roi_align(
                bases[None], [boxes], size, 1 / stride, sampling_ratio=2, aligned=True
            ),
            "You averaged four samples per bin. The paper takes one, the middle.",
        ),
        WrongAnswer(
            {"transpose(0, 1)": "permute(1, 0, 3, 2)"},
            "The crops are transposed: rows of a crop are y, columns x.",
        ),
    ),
    hints=(
        "How many points do N boxes of R x R bins have? They are the same for all bases.",
        "flatten(0, 2) makes them (P, 2); sample every base; unflatten brings N, R, R back.",
        "torch.stack over the bases gives (K, N, R, R): transpose(0, 1) at the end.",
    ),
)


@task("07.4", "RoIPool", minutes=20, difficulty=4)
def pool(bases: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """Crop along every box, rounded to whole cells, and take the largest value of each bin.

    Args:
        bases: (K, H, W) of one image.
        boxes: (N, 4) corners, pixels; N may be 0.
        size: R, cells.
        stride: s of the bases, pixels.

    Returns:
        (N, K, R, R). Corners in cells are rounded, halves up; the cells of both corners belong
        to the region, which is therefore last - first + 1 wide. Bin i goes from
        floor(i * width / R) to ceil((i + 1) * width / R), counted from the first cell; a bin
        without cells is 0.
    """
    height, width = bases.shape[1:]
    crops = bases.new_zeros(len(boxes), len(bases), size, size)
    # Step 1: corners in whole cells; torch.round would round 0.5 to 0, the nearest even number
    corners = (boxes / stride + 0.5).floor()
    # Step 2: divide every side into R bins of whole cells; neighbours may share one
    steps = torch.arange(size)
    for n, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        wide, high = max(x1 - x0 + 1, 1) / size, max(y1 - y0 + 1, 1) / size
        left = (x0 + (steps * wide).floor()).clamp(0, width).long().tolist()
        right = (x0 + ((steps + 1) * wide).ceil()).clamp(0, width).long().tolist()
        top = (y0 + (steps * high).floor()).clamp(0, height).long().tolist()
        bottom = (y0 + ((steps + 1) * high).ceil()).clamp(0, height).long().tolist()
        for row in range(size):
            for column in range(size):
                part = bases[:, top[row] : bottom[row], left[column] : right[column]]
                if part.numel():
                    crops[n, :, row, column] = part.amax(dim=(1, 2))
    return crops


def _pool_cases(generator: Generator) -> list[Case]:
    # At stride 4 the corners 0.5 and 2.5 are rounded up to 1 and 3: three cells for two bins,
    # which share the middle one. R is a power of two in all cases: torchvision divides in float32,
    # where (20 + 1) * 4 / 28 is a little more than 3, and its bin has a cell too many.
    by_hand = torch.arange(16.0).reshape(1, 4, 4)
    bases = torch.randn(4, 24, 24, generator=generator)
    outside = _boxes(generator, 3, 4.0) - 30
    return [
        Case("one base of 4 x 4, R = 2", by_hand, torch.tensor([[2.0, 2.0, 10.0, 10.0]]), 2, 4),
        Case("four bases, three boxes, R = 4", bases, _boxes(generator, 3, 4.0), 4, 4),
        Case("more bins than cells, R = 16", bases, _boxes(generator, 2, 4.0), 16, 4),
        Case(
            "a box within a single cell, R = 2", bases, torch.tensor([[8.2, 8.2, 9.0, 9.0]]), 2, 4
        ),
        Case("boxes that stick out", bases, outside, 4, 4),
        Case("no box", bases, outside[:0], 4, 4),
    ]


CORNERS = "(boxes / stride + 0.5).floor()"  # a piece of the solution

POOL = Exercise(
    solution=pool,
    reference=partial(_reference_crops, pooling="pool"),
    make_cases=_pool_cases,
    gradients=("bases",),
    result_axes="N, K, R, R",
    wrong_answers=(
        WrongAnswer(
            {" + 0.5)": ")"},
            "You cut the corners down to whole cells (floor), or subtracted RoIAlign's half cell "
            "before rounding. RoIPool rounds the corners as they are.",
        ),
        WrongAnswer(
            {
                CORNERS: "torch.hstack([(boxes[:, :2] / stride).floor(), "
                "(boxes[:, 2:] / stride).ceil()])"
            },
            "You rounded the box outwards: floor for the first corner, ceil for the last. RoIPool "
            "rounds both to the nearest cell.",
        ),
        WrongAnswer(
            {
                CORNERS: "torch.hstack([(boxes[:, :2] / stride).ceil(), "
                "(boxes[:, 2:] / stride).floor()])"
            },
            "You rounded the box inwards: ceil for the first corner, floor for the last. RoIPool "
            "rounds both to the nearest cell.",
        ),
        WrongAnswer(
            {CORNERS: "(boxes / stride).round()"},
            "torch.round and Python's round take halves to the nearest even number: 0.5 to 0 and "
            "2.5 to 2. Here halves go up: add 0.5, then floor.",
        ),
        WrongAnswer(
            {"x1 - x0 + 1": "x1 - x0", "y1 - y0 + 1": "y1 - y0"},
            "The cell of the lower right corner is missing: the region is last - first + 1 wide.",
        ),
        WrongAnswer(
            align,
            "This is RoIAlign. RoIPool rounds the box and takes the largest cell of each bin.",
        ),
        WrongAnswer(
            {".ceil()": ".floor()"},
            "Your bins end where the next one begins (floor). RoIPool rounds their ends up, so "
            "that neighbours may share a cell and no bin inside the map is empty.",
        ),
        WrongAnswer({"amax": "amin"}, "You took the smallest value of each bin, not the largest."),
    ),
    hints=(
        "Work out the first case by hand: which whole cells does the box become?",
        "A loop over boxes, rows and columns is fine: slice the cells of a bin, then amax.",
        "Clamp the limits of a bin to 0 .. width before slicing; skip the bin if it is empty.",
    ),
)


EXERCISES = (SAMPLE, CENTERS, ALIGN, POOL)
