"""What the answers of chapter 02 are tried on."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["field_cases", "merge_cases", "size_cases", "top_cases"]


# 02.1


def size_cases(generator: Generator) -> list[Case]:
    """Sizes of pictures and strides."""
    strides = torch.tensor([8, 16, 32, 64, 128])
    sizes = torch.randint(33, 1400, (6, 2), generator=generator)
    return [
        Case("128 x 256 pixels: all divide", (torch.tensor([[128, 256]]), strides)),
        Case("100 x 130 pixels: padded", (torch.tensor([[100, 130]]), strides)),
        Case("800 x 1333 pixels: COCO at test size", (torch.tensor([[800, 1333]]), strides)),
        Case("six pictures", (sizes, strides)),
        Case("no picture", (torch.zeros(0, 2, dtype=torch.int64), strides)),
    ]


# 02.2


def field_cases(generator: Generator) -> list[Case]:
    """Kernels and strides."""
    kernels = torch.randint(0, 4, (9,), generator=generator) * 2 + 1
    strides = torch.randint(1, 3, (9,), generator=generator)
    none = torch.zeros(0, dtype=torch.int64)
    return [
        Case("three 3 x 3, stride 1", (torch.tensor([3, 3, 3]), torch.tensor([1, 1, 1]))),
        Case("7 / 2, 3 / 2, 3 / 1", (torch.tensor([7, 3, 3]), torch.tensor([2, 2, 1]))),
        Case(
            "1 / 2 between: 3 / 1, 1 / 2, 3 / 1", (torch.tensor([3, 1, 3]), torch.tensor([1, 2, 1]))
        ),
        Case("nine convolutions", (kernels, strides)),
        Case("none", (none, none)),
    ]


# 02.3


def merge_cases(generator: Generator) -> list[Case]:
    """Two maps, a lateral weight and its bias."""
    fine, above = torch.ones(1, 1, 3, 3), torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    two, three = torch.full((1, 1, 1, 1), 2.0), torch.full((1,), 3.0)

    def drawn(batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        half = (height + 1) // 2, (width + 1) // 2
        shapes = (batch, 5, height, width), (batch, 4, *half), (4, 5, 1, 1), (4,)
        return tuple(torch.randn(shape, generator=generator) for shape in shapes)

    return [
        Case("3 x 3 below 2 x 2: lateral 2 * 1 + 3", (fine, above, two, three)),
        Case("two pictures, 8 x 12", drawn(2, 8, 12)),
        Case("odd: 7 x 13", drawn(1, 7, 13)),
        Case("no picture", drawn(0, 4, 4)),
    ]


# 02.4


def top_cases(generator: Generator) -> list[Case]:
    """P5, two weights and their biases."""
    middle = torch.zeros(2, 1, 1, 3, 3)
    middle[:, 0, 0, 1, 1] = torch.tensor([1.0, 2.0])  # pass on, and double
    row = torch.tensor([3.0, 0, -3, 0, 1]).expand(1, 1, 5, 5).contiguous()

    def drawn(*shape: int) -> tuple[Tensor, ...]:
        num = shape[1]
        shapes = shape, (2, num, num, 3, 3), (2, num)
        return tuple(torch.randn(each, generator=generator) for each in shapes)

    return [
        Case("5 x 5 -> 3 x 3 -> 2 x 2", (row, middle, torch.zeros(2, 1))),
        Case("two pictures, 8 x 16", drawn(2, 3, 8, 16)),
        Case("odd: 25 x 42", drawn(1, 4, 25, 42)),
        Case("no picture", drawn(0, 3, 4, 4)),
    ]
