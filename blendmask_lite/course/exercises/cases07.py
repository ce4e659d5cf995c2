"""Inputs on which the answers of chapter 07 are tried."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["align_cases", "center_cases", "pool_cases", "sample_cases"]


def sample_cases(generator: Generator) -> list[Case]:
    """Of `sample_bilinear`."""
    # Centers at (0.5, 0.5), (1.5, 0.5), ...: a center, half way between two, the middle of four.
    by_hand = torch.tensor([[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]])
    places = torch.tensor([[0.5, 0.5], [1.0, 0.5], [2.0, 1.0], [1.75, 1.5]])
    values = torch.randn(6, 9, generator=generator)
    inside = torch.rand(50, 2, generator=generator) * torch.tensor([9.0, 6.0])
    around = torch.rand(50, 2, generator=generator) * torch.tensor([13.0, 10.0]) - 2
    return [
        Case("four points on a map of 2 x 3", (by_hand, places)),
        Case("50 points on a map of 6 x 9", (values, inside)),
        Case("50 points, some of them outside", (values, around)),
        Case("no point", (values, inside[:0])),
    ]


def center_cases(generator: Generator) -> list[Case]:
    """Of `bin_centers`."""
    # At stride 4: cells 2.5 to 10.5 and 3 to 7. With R = 2 the middles are 4.5, 8.5 and 4, 6.
    by_hand = torch.tensor([[10.0, 12.0, 42.0, 28.0]])
    return [
        Case("one box, R = 2, stride 4", (by_hand, 2, 4)),
        Case("three boxes, R = 7, stride 4", (_boxes(generator, 3, 4.0), 7, 4)),
        Case("two boxes, R = 5, stride 8", (_boxes(generator, 2, 8.0), 5, 8)),
        Case("no box", (_boxes(generator, 0, 8.0), 5, 8)),
    ]


def _boxes(generator: Generator, num: int, stride: float) -> Tensor:
    """Boxes inside of a map of 24 x 24 cells."""
    corner = (1 + 9 * torch.rand(num, 2, generator=generator)) * stride
    side = (3 + 10 * torch.rand(num, 2, generator=generator)) * stride
    return torch.cat([corner, corner + side], dim=1)


def align_cases(generator: Generator) -> list[Case]:
    """Of `align`."""
    # At stride 4 the box is 0.5 to 2.5: the middles of the bins are the edges 1 and 2 of cells.
    by_hand = torch.arange(9.0).reshape(1, 3, 3)
    bases = torch.randn(4, 24, 24, generator=generator)
    outside = _boxes(generator, 3, 4.0) - 30
    return [
        Case("one base of 3 x 3, R = 2", (by_hand, torch.tensor([[2.0, 2.0, 10.0, 10.0]]), 2, 4)),
        Case("four bases, three boxes, R = 7", (bases, _boxes(generator, 3, 4.0), 7, 4)),
        Case("boxes that stick out", (bases, outside, 7, 4)),
        Case("no box", (bases, outside[:0], 7, 4)),
    ]


def pool_cases(generator: Generator) -> list[Case]:
    """Of `pool`."""
    # At stride 4 the corners 0.5 and 2.5 round up to 1 and 3: three cells for two bins, which
    # share the middle one.
    by_hand = torch.arange(16.0).reshape(1, 4, 4)
    bases = torch.randn(4, 24, 24, generator=generator)
    outside = _boxes(generator, 3, 4.0) - 30
    return [
        Case("one base of 4 x 4, R = 2", (by_hand, torch.tensor([[2.0, 2.0, 10.0, 10.0]]), 2, 4)),
        Case("four bases, three boxes, R = 4", (bases, _boxes(generator, 3, 4.0), 4, 4)),
        Case("more bins than cells, R = 16", (bases, _boxes(generator, 2, 4.0), 16, 4)),
        Case("boxes that stick out", (bases, outside, 4, 4)),
        Case("no box", (bases, outside[:0], 4, 4)),
    ]
