"""Inputs on which the answers of chapter 06 are tried."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["EPSILON", "bases_cases", "block_cases", "cost_cases", "join_cases"]

EPSILON = 1e-5  # added to variances


def block_cases(generator: Generator) -> list[Case]:
    """Of `conv_block`."""
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1.0  # copies its input
    ramp = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    norm = torch.tensor([[2.0], [4.0 - EPSILON], [3.0], [-1.0]])  # -> 3 (x - 2) / 2 - 1
    return [
        Case("2 x 2, a kernel that copies", (ramp, middle, norm)),
        Case(
            "two images, 5 -> 3 channels",
            (_normal(generator, 2, 5, 6, 7), *_layer(generator, 5, 3)),
        ),
        Case("no image", (torch.zeros(0, 2, 4, 4), *_layer(generator, 2, 3))),
    ]


def join_cases(generator: Generator) -> list[Case]:
    """Of `join_levels`."""
    p4 = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    sizes = ((16, 24), (8, 12), (4, 6))
    odd = ((7, 11), (4, 6), (2, 3))
    return [
        Case(
            "1 + bilinear + 100, on 4 x 4",
            (torch.ones(1, 1, 4, 4), p4, torch.full((1, 1, 1, 1), 100.0)),
        ),
        Case("two images, 16 x 24", tuple(_normal(generator, 2, 5, *size) for size in sizes)),
        Case("sizes that are no multiples", tuple(_normal(generator, 1, 3, *size) for size in odd)),
        Case("no image", tuple(torch.zeros(0, 3, *size) for size in sizes)),
    ]


def bases_cases(generator: Generator) -> list[Case]:
    """Of `make_bases`."""
    middle = torch.zeros(2, 1, 1, 3, 3)
    middle[..., 1, 1] = 1.0
    plain = torch.tensor([0.0, 1.0 - EPSILON, 1.0, 0.0])[None, :, None].repeat(2, 1, 1)
    plain[1, 3] = -2.0  # the second block subtracts 2 before its ReLU
    ramp = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    last = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    return [
        Case("2 x 2 -> two bases of 4 x 4", (ramp, middle, plain, last, torch.tensor([0.0, -1.0]))),
        Case("a tower of three, four bases", _stack(generator, 2, 5, convs=3, bases=4)),
        Case("no tower, one base", _stack(generator, 1, 4, convs=0, bases=1)),
        Case("no image", _stack(generator, 0, 4, convs=2, bases=4)),
    ]


def cost_cases(generator: Generator) -> list[Case]:
    """Of `cost_of`."""
    channels = torch.randint(1, 300, (4, 2), generator=generator)
    side = 2 * torch.randint(0, 3, (4, 1), generator=generator) + 1
    size = torch.randint(2, 200, (4, 2), generator=generator)
    return [
        Case("2 -> 3 channels, 3 x 3, a map of 4 x 5", (torch.tensor([[2, 3, 3, 4, 5]]),)),
        Case("four of a network", (torch.cat([channels, side, size], dim=1),)),
        Case("none", (torch.zeros(0, 5, dtype=torch.int64),)),
    ]


def _stack(
    generator: Generator, images: int, channels: int, *, convs: int, bases: int
) -> tuple[Tensor, ...]:
    layers = [_layer(generator, channels, channels) for _ in range(convs + 1)]
    return (
        _normal(generator, images, channels, 6, 5),
        torch.stack([kernel for kernel, _ in layers]),
        torch.stack([norm for _, norm in layers]),
        _normal(generator, bases, channels, 1, 1),
        _normal(generator, bases),
    )


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def _layer(generator: Generator, num_in: int, num_out: int) -> tuple[Tensor, Tensor]:
    """Kernel (num_out, num_in, 3, 3) and norm (4, num_out)."""
    kernel = _normal(generator, num_out, num_in, 3, 3) / num_in
    variance = 0.2 + 3 * torch.rand(num_out, generator=generator)
    mean, scale, shift = _normal(generator, 3, num_out)
    return kernel, torch.stack([mean, variance, scale, shift])
