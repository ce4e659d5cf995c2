"""Inputs on which the answers of chapter 08 are tried."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["attend_cases", "cell_cases", "grid_cases", "window_cases"]


def cell_cases(generator: Generator) -> list[Case]:
    """Of `find_cells`."""
    small = torch.tensor([[2, 3], [1, 2]])
    pyramid = torch.tensor([[32, 40], [16, 20], [8, 10]])
    total = int(pyramid.prod(dim=1).sum())
    some = torch.randint(0, total, (20,), generator=generator)
    return [
        Case("2 x 3 and 1 x 2 cells, all of them", (torch.arange(8), small)),
        Case("twenty locations of three levels", (some, pyramid)),
        Case("no location", (some[:0], pyramid)),
    ]


def window_cases(generator: Generator) -> list[Case]:
    """Of `windows_at`."""
    ramp = torch.arange(1.0, 13.0).view(1, 3, 4)
    high, wide = 7, 9
    rows = torch.randint(0, high, (10,), generator=generator)
    columns = torch.randint(0, wide, (10,), generator=generator)
    features = _normal(generator, 5, high, wide)
    return [
        Case("a 3 x 4 map, its middle and a corner", (ramp, torch.tensor([[1, 1], [0, 0]]))),
        Case("ten cells of 7 x 9", (features, torch.stack([rows, columns], dim=1))),
        Case("the last cell", (features, torch.tensor([[high - 1, wide - 1]]))),
        Case("no cell", (features, rows[:0, None].expand(0, 2))),
    ]


def attend_cases(generator: Generator) -> list[Case]:
    """Of `attend`."""
    window = torch.arange(9.0).view(1, 1, 3, 3)
    kernel = torch.zeros(2, 1, 3, 3)
    kernel[0, 0, 0, 1] = 1.0  # reads the cell above
    kernel[1, 0, 1, 1] = 2.0  # twice the middle
    channels, attentions = 6, 12
    weights = _normal(generator, attentions, channels, 3, 3)
    bias = _normal(generator, attentions)
    return [
        Case("above + 10, and twice the middle", (window, kernel, torch.tensor([10.0, 0.0]))),
        Case("five windows", (_normal(generator, 5, channels, 3, 3), weights, bias)),
        Case("no window", (torch.zeros(0, channels, 3, 3), weights, bias)),
    ]


def grid_cases(generator: Generator) -> list[Case]:
    """Of `to_grids`."""
    return [
        Case("one object, K = 2, M = 2", (torch.arange(8.0)[None], 2)),
        Case("three objects, K = 4, M = 7", (_normal(generator, 3, 196), 4)),
        Case("K = 1, M = 5", (_normal(generator, 2, 25), 1)),
        Case("no object", (torch.zeros(0, 784), 4)),
    ]


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)
