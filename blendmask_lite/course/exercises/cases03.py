"""Cases that the answers of chapter 03 are tried on: pictures of 96 pixels with a few boxes."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["assignment_cases", "central_cases", "distance_cases", "level_cases"]


def level_cases(generator: Generator) -> list[Case]:
    """Of 03.1: a level and its stride."""
    return [
        Case("2 rows, 3 columns, stride 8", (torch.randn(1, 1, 2, 3, generator=generator), 8)),
        Case("5 rows, 4 columns, stride 16", (torch.randn(2, 8, 5, 4, generator=generator), 16)),
        Case("one cell, stride 128", (torch.randn(1, 8, 1, 1, generator=generator), 128)),
        Case("a level without rows", (torch.zeros(1, 8, 0, 3), 32)),
    ]


def distance_cases(generator: Generator) -> list[Case]:
    """Of 03.2: locations and boxes."""
    locations = torch.tensor([[12.0, 4.0], [20.0, 28.0]])
    box = torch.tensor([[10.0, 0.0, 30.0, 24.0]])
    some = _some_locations(generator, 50)
    return [
        Case("two locations, one box; the second lies below it", (locations, box)),
        Case("50 locations, three boxes", (some, _some_boxes(generator, 3))),
        Case("no box", (locations, torch.zeros(0, 4))),
    ]


def central_cases(generator: Generator) -> list[Case]:
    """Of 03.3: locations, boxes, strides and the radius."""
    # The square reaches 12 pixels from (20, 20): 8 lies on its edge, 32 too; 12 and 28 are inside.
    x = torch.tensor([8.0, 12.0, 20.0, 28.0, 32.0])
    line = torch.stack([x, torch.full_like(x, 20)], dim=1)
    box = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    small = torch.tensor([[20.0, 12.0, 36.0, 28.0]])  # narrower than the square of stride 16
    strides = torch.tensor([8.0, 16.0, 32.0])[torch.randint(3, (50,), generator=generator)]
    some = _some_locations(generator, 50), _some_boxes(generator, 4), strides
    return [
        Case("a row of five locations, stride 8, radius 1.5", (line, box, _all(line, 8.0), 1.5)),
        Case("a box smaller than the square", (line, small, _all(line, 16.0), 1.5)),
        Case("50 locations of three levels, four boxes", (*some, 1.5)),
        Case("no center sampling", (*some, math.inf)),
        Case("no box", (line, torch.zeros(0, 4), _all(line, 8.0), 1.5)),
    ]


def assignment_cases(generator: Generator) -> list[Case]:
    """Of 03.4: the same, and size ranges before the radius."""
    # The first location lies in both boxes: it learns the small one, its farthest side is 12.
    # For the second, in the large one only, the farthest side is 28; for the third it is 36.
    locations = torch.tensor([[20.0, 20.0], [12.0, 12.0], [4.0, 20.0]])
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [12.0, 12.0, 32.0, 32.0]])
    near, far = torch.tensor([[-1.0, 32.0]] * 3), torch.tensor([[32.0, math.inf]] * 3)
    both = locations, boxes, _all(locations, 8.0)
    level = torch.randint(3, (80,), generator=generator)
    strides = torch.tensor([8.0, 16.0, 32.0])[level]
    ranges = torch.tensor([[-1.0, 32.0], [32.0, 48.0], [48.0, math.inf]])[level]
    some, crowd = _some_locations(generator, 80), _some_boxes(generator, 6)
    return [
        Case("three locations, two boxes, up to 32 px", (*both, near, math.inf)),
        Case("the same, 32 px and more", (*both, far, math.inf)),
        Case("80 locations of three levels, six boxes", (some, crowd, strides, ranges, 1.5)),
        Case("whole boxes", (some, crowd, strides, ranges, math.inf)),
        Case("no box", (some, torch.zeros(0, 4), strides, ranges, 1.5)),
    ]


def _all(rows: Tensor, value: float) -> Tensor:
    """(len(rows),) of one value."""
    return torch.full((len(rows),), value)


def _some_locations(generator: Generator, num: int) -> Tensor:
    return torch.randint(0, 24, (num, 2), generator=generator) * 4.0 + 2


def _some_boxes(generator: Generator, num: int) -> Tensor:
    """Large ones around the middle of 96 x 96 pixels, so that they overlap."""
    corner = torch.rand(num, 2, generator=generator) * 40
    return torch.cat([corner, corner + 24 + torch.rand(num, 2, generator=generator) * 48], dim=1)
