"""What answers in chapter 11 are tried on: owners of locations, masks, parts of batches."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["gradient_cases", "loss_cases", "owner_cases", "part_cases"]


def owner_cases(generator: Generator) -> list[Case]:
    """Cases of 11.1."""

    def crops(num: int, size: int) -> Tensor:
        return torch.rand(num, size, size, generator=generator) > 0.5

    counts = torch.tensor([2, 0, 3, 1])
    owner = torch.stack(
        [torch.randint(-1, int(count), (40,), generator=generator) for count in counts]
    )
    return [
        Case(
            "two pictures with 1 and 2 objects, 3 locations each, masks of 2 x 2",
            (torch.tensor([[0, -1, 0], [1, 0, -1]]), torch.tensor([1, 2]), crops(3, 2)),
        ),
        Case("four pictures, one without objects, 28 x 28", (owner, counts, crops(6, 28))),
        Case("no location learns", (torch.full((2, 5), -1), torch.tensor([1, 1]), crops(2, 4))),
    ]


def _masks(
    generator: Generator, num: int, size: int, scale: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and weights."""
    logits = torch.randn(num, size, size, generator=generator) * scale
    target = torch.rand(num, size, size, generator=generator) > 0.5
    return logits, target, torch.rand(num, generator=generator)


def loss_cases(generator: Generator) -> list[Case]:
    """Cases of 11.2."""
    logits, target, weight = _masks(generator, 12, 28)
    far = _masks(generator, 3, 7, scale=80.0)
    zero = torch.zeros(2, 2, 2)  # an entropy of log 2 = 0.693 in every cell
    nothing = (torch.zeros(0, 28, 28), torch.zeros(0, 28, 28).bool(), torch.zeros(0))
    return [
        Case(
            "two masks of 2 x 2, all logits 0: (1 + 0.5) * 0.693 / 2",
            (zero, zero == 0, torch.tensor([1.0, 0.5]), torch.tensor(2.0)),
        ),
        Case("12 masks of 28 x 28", (logits, target, weight, weight.sum())),
        Case("logits of +-80", (*far, torch.tensor(2.5))),
        Case("no positive location", (*nothing, torch.tensor(1e-6))),
    ]


def part_cases(generator: Generator) -> list[Case]:
    """Cases of 11.3."""
    few, many = _masks(generator, 4, 2), _masks(generator, 30, 14)
    drawn = torch.randint(0, 3, (30,), generator=generator)
    nothing = (torch.zeros(0, 4, 4), torch.zeros(0, 4, 4).bool(), torch.zeros(0))
    return [
        Case(
            "four masks of 2 x 2, three of them in the first part",
            (*few, torch.tensor([0, 0, 0, 1]), 2),
        ),
        Case("30 masks in four parts, the last one empty", (*many, drawn, 4)),
        Case("no positive location", (*nothing, torch.zeros(0, dtype=torch.int64), 2)),
    ]


def gradient_cases(generator: Generator) -> list[Case]:
    """Cases of 11.4."""

    def case(what: str, num: int, num_bases: int, size: int) -> Case:
        logits, target, weight = _masks(generator, num, size)
        scores = torch.randn(num, num_bases, size, size, generator=generator).softmax(dim=1)
        return Case(what, (logits, scores, target, weight, weight.sum() + 0.5))

    cell = torch.zeros(1, 1, 1)  # p - t = -0.5, weights 0.25 and 0.75, one cell, divided by 2
    scores = torch.tensor([0.25, 0.75])[None, :, None, None]
    by_hand = (cell, scores, cell == 0, torch.ones(1), torch.tensor(2.0))
    return [
        Case("one cell, two bases: -0.0625 and -0.1875", by_hand),
        case("two masks of 2 x 2, two bases", 2, 2, 2),
        case("five masks of 28 x 28, four bases", 5, 4, 28),
        case("no mask", 0, 4, 7),
    ]
