"""Exercises of chapter 03, FCOS's targets: locations, distances, central square, assignment."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from blendmask_lite.boxes import xyxy_to_ltrb
from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.training.targets import assign_locations

__all__ = ["EXERCISES"]


@task("03.1", "Locations of a level", minutes=5, difficulty=2)
def level_locations(level: Tensor, stride: int) -> Tensor:
    """Centers of a level's cells on the image, row by row (FCOS, section 3.1).

    Args:
        level: (B, C, h, w) features; only h and w matter.
        stride: s, pixels from one cell to the next.

    Returns:
        (h * w, 2) float32 as (x, y), pixels: column i is at x = i * s + s // 2, row j at
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


def _level_cases(generator: Generator) -> list[Case]:
    return [
        Case("2 rows, 3 columns, stride 8", torch.randn(1, 1, 2, 3, generator=generator), 8),
        Case("5 rows, 4 columns, stride 16", torch.randn(2, 8, 5, 4, generator=generator), 16),
        Case("one cell, stride 128", torch.randn(1, 8, 1, 1, generator=generator), 128),
        Case("an odd stride, 5", torch.randn(1, 8, 2, 3, generator=generator), 5),
    ]


LEVEL_LOCATIONS = Exercise(
    solution=level_locations,
    reference=_reference_level_locations,
    make_cases=_level_cases,
    result_axes="L, xy",
    wrong_answers=(
        WrongAnswer(
            {" + stride // 2": ""},
            "These are the cells' upper left corners. A location is the middle of its cell, half a "
            "stride further to the right and down.",
        ),
        WrongAnswer(
            {"columns.flatten(), rows.flatten()": "rows.flatten(), columns.flatten()"},
            "x and y are exchanged: a location is (x, y), x first.",
        ),
        WrongAnswer(
            {".flatten()": ".T.flatten()"},
            "The locations run down the columns. A map is flattened row by row, so x has to change "
            "fastest, or every location gets another cell's predictions.",
        ),
    ),
    hints=(
        "Cell 0 of a level of stride 8 covers pixels 0 to 8. Where is its middle?",
        "torch.arange gives the columns and the rows, torch.meshgrid every pair of them.",
        'rows, columns = torch.meshgrid(y, x, indexing="ij"); flatten both and stack x first.',
    ),
)


@task("03.2", "Distances to the four sides", minutes=5, difficulty=2)
def side_distances(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances from every location to the four sides of every box (FCOS, equation 1).

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners (x0, y0, x1, y1), pixels; N may be 0.

    Returns:
        (L, N, 4) left, top, right, bottom, pixels; negative if a location lies beyond a side.
    """
    # Step 1: axes of size 1, so that every location meets every box
    x, y = locations[:, None].unbind(dim=2)
    x0, y0, x1, y1 = boxes[None].unbind(dim=2)
    # Step 2: four differences, in the order l, t, r, b
    return torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2)


def _distance_cases(generator: Generator) -> list[Case]:
    locations = torch.tensor([[12.0, 4.0], [20.0, 28.0]])
    box = torch.tensor([[10.0, 0.0, 30.0, 24.0]])
    some = _some_locations(generator, 50)
    return [
        Case("two locations, one box; the second is below it", locations, box),
        Case("50 locations, three boxes", some, _some_boxes(generator, 3)),
        Case("no box", locations, torch.zeros(0, 4)),
    ]


def _some_locations(generator: Generator, num: int) -> Tensor:
    return torch.randint(0, 24, (num, 2), generator=generator) * 4.0 + 2


def _some_boxes(generator: Generator, num: int) -> Tensor:
    """Large boxes around the middle of 96 x 96 pixels, so that they overlap."""
    corner = torch.rand(num, 2, generator=generator) * 40
    return torch.cat([corner, corner + 24 + torch.rand(num, 2, generator=generator) * 48], dim=1)


SIDE_DISTANCES = Exercise(
    solution=side_distances,
    reference=xyxy_to_ltrb,
    make_cases=_distance_cases,
    result_axes="L, N, side",
    wrong_answers=(
        WrongAnswer(
            {"[x - x0, y - y0, x1 - x, y1 - y]": "[y - y0, x - x0, y1 - y, x1 - x]"},
            "The order here is top, left, bottom, right. The paper's is left, top, right, bottom.",
        ),
        WrongAnswer(
            {"y1 - y], dim=2)": "y1 - y], dim=2).abs()"},
            "The sign is gone (abs). A negative distance says that the location lies beyond that "
            "side, which tells outside from inside.",
        ),
        WrongAnswer(
            {"x1 - x, y1 - y": "x - x1, y - y1"},
            "Right and bottom have the wrong sign: inside a box all four distances are positive.",
        ),
    ),
    hints=(
        "Left and top are the location minus a corner. What are right and bottom?",
        "locations[:, None] has shape (L, 1, 2) and boxes[None] (1, N, 4): they broadcast.",
        "torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2).",
    ),
)


@task("03.3", "In the box and near its center", minutes=10, difficulty=3)
def is_central(locations: Tensor, boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    """Whether a location is inside a box and near its center (center sampling).

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners, pixels; N may be 0.
        strides: (L,) stride of every location's level, pixels.
        radius: half side of the central square, strides; infinite for the whole box.

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
    """The package's assignment for one box at a time, with no limits of size."""
    any_size = torch.tensor([-1.0, math.inf]).expand(len(locations), 2)
    is_own = torch.zeros(len(locations), len(boxes), dtype=torch.bool)
    for place, box in enumerate(boxes):
        is_own[:, place] = _reference_assign(locations, box[None], strides, any_size, radius) == 0
    return is_own


def _central_cases(generator: Generator) -> list[Case]:
    # The square reaches 12 pixels from (20, 20): 8 and 32 are on its edge, 12 and 28 inside.
    x = torch.tensor([8.0, 12.0, 20.0, 28.0, 32.0])
    line = torch.stack([x, torch.full_like(x, 20)], dim=1)
    box = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    small = torch.tensor([[20.0, 12.0, 36.0, 28.0]])  # narrower than the square of stride 16
    strides = torch.tensor([8.0, 16.0, 32.0])[torch.randint(3, (50,), generator=generator)]
    some = _some_locations(generator, 50), _some_boxes(generator, 4), strides
    return [
        Case("a row of five locations, stride 8, radius 1.5", line, box, _all(line, 8.0), 1.5),
        Case("a box smaller than the square", line, small, _all(line, 16.0), 1.5),
        Case("50 locations of three levels, four boxes", *some, 1.5),
        Case("no center sampling", *some, math.inf),
        Case("no box", line, torch.zeros(0, 4), _all(line, 8.0), 1.5),
    ]


def _all(rows: Tensor, value: float) -> Tensor:
    """(len(rows),) filled with one value."""
    return torch.full((len(rows),), value)


IS_CENTRAL = Exercise(
    solution=is_central,
    reference=_reference_is_central,
    make_cases=_central_cases,
    result_axes="L, N",
    wrong_answers=(
        WrongAnswer(
            {"is_inside & is_near": "is_inside"},
            "You took the whole box. Center sampling keeps only locations nearer to the center "
            "than radius * stride.",
        ),
        WrongAnswer(
            {"is_inside & is_near": "is_near"},
            "The square is larger than small boxes: a location has to be inside the box, too.",
        ),
        WrongAnswer(
            {"radius * strides[:, None, None]": "radius"},
            "You took the radius as pixels. It is in strides: the square grows with the level.",
        ),
        WrongAnswer(
            {"offset < radius": "offset <= radius"},
            "Locations on the square's edge count here (<=). Only those strictly inside should.",
        ),
    ),
    hints=(
        "When is a location inside a box, in terms of its four distances?",
        "The square's half side is radius * stride, and every location has its own stride.",
        "(offset < radius * strides[:, None, None]).all(dim=2), and the smallest distance > 0.",
    ),
)


@task("03.4", "Which box a location learns", minutes=15, difficulty=4)
def assign(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    """Which box every location learns (FCOS, sections 3.1 and 3.2).

    Args:
        locations: (L, 2) as (x, y), pixels.
        boxes: (N, 4) corners, pixels; N may be 0.
        strides: (L,) stride of every location's level, pixels.
        size_ranges: (L, 2) least and largest max(l, t, r, b) of its level, both inclusive, pixels.
        radius: half side of the central square, strides.

    Returns:
        (L,) int64: index of the smallest box that has the location in its central square and its
        farthest side within the range, the first of equal areas; -1 if there is none.
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
    # Step 3: the smallest one; -1 if even its area is infinite
    area, owner = areas.min(dim=1)
    return torch.where(area < math.inf, owner, -1)


def _reference_assign(
    locations: Tensor, boxes: Tensor, strides: Tensor, size_ranges: Tensor, radius: float
) -> Tensor:
    """Every location is treated as a level of its own, with its own stride and range."""
    return assign_locations(
        locations,
        boxes,
        [1] * len(locations),
        strides.tolist(),
        size_ranges=size_ranges.tolist(),
        center_radius=radius,
    )


def _assignment_cases(generator: Generator) -> list[Case]:
    # The first location is in both boxes: it learns the small one, whose farthest side is 12 px
    # away. The other two are in the large box only, with farthest sides at 28 and 36.
    locations = torch.tensor([[20.0, 20.0], [12.0, 12.0], [4.0, 20.0]])
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [12.0, 12.0, 32.0, 32.0]])
    near, far = torch.tensor([[-1.0, 32.0]] * 3), torch.tensor([[32.0, math.inf]] * 3)
    both = locations, boxes, _all(locations, 8.0)
    limit = torch.tensor([[8.0, 20.0]]), boxes[:1], torch.tensor([8.0])  # 8, 20, 32 and 20 px
    level = torch.randint(3, (80,), generator=generator)
    strides = torch.tensor([8.0, 16.0, 32.0])[level]
    ranges = torch.tensor([[-1.0, 32.0], [32.0, 48.0], [48.0, math.inf]])[level]
    some, many = _some_locations(generator, 80), _some_boxes(generator, 6)
    return [
        Case("three locations, two boxes, up to 32 px", *both, near, math.inf),
        Case("the same, 32 px and more", *both, far, math.inf),
        Case("the farthest side at the upper limit", *limit, near[:1], math.inf),
        Case("the farthest side at the lower limit", *limit, far[:1], math.inf),
        Case("80 locations of three levels, six boxes", some, many, strides, ranges, 1.5),
        Case("whole boxes", some, many, strides, ranges, math.inf),
        Case("no box", some, torch.zeros(0, 4), strides, ranges, 1.5),
    ]


ASSIGN = Exercise(
    solution=assign,
    reference=_reference_assign,
    make_cases=_assignment_cases,
    result_axes="L",
    wrong_answers=(
        WrongAnswer(
            {"is_of_size & is_central": "is_central"},
            "You ignored the size ranges: every level learns every object.",
        ),
        WrongAnswer(
            {"areas = (boxes": "areas = -(boxes"},
            "Where boxes overlap, the largest wins here. Take the smallest: the large one has many "
            "other locations.",
        ),
        WrongAnswer(
            {"side_distances(locations, boxes)": "(boxes[:, 2:] - boxes[:, :2])[None]"},
            "You compared the box's longer side with the range. FCOS compares the farthest side, "
            "max(l, t, r, b), which also depends on the location.",
        ),
        WrongAnswer(
            {"is_candidate, areas,": "is_candidate, torch.arange(float(len(boxes))),"},
            "Where boxes overlap, the first in the list wins here, not the one with the least "
            "area.",
        ),
    ),
    hints=(
        "Three questions for every pair: is the size right, is it central, is the area the least?",
        "Boxes that do not qualify get an infinite area; then a minimum chooses.",
        "area, owner = areas.min(dim=1), and owner becomes -1 where area is infinite.",
    ),
)


EXERCISES = (LEVEL_LOCATIONS, SIDE_DISTANCES, IS_CENTRAL, ASSIGN)
