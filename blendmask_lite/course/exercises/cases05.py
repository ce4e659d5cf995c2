"""Inputs on which the answers of chapter 05 are tried."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case
from blendmask_lite.evaluation import one_class

__all__ = ["decode_cases", "precision_cases", "suppression_cases"]


def decode_cases(generator: Generator) -> list[Case]:
    """Of `decode`."""
    # 20 and 30 px wide and high; probabilities 1/2 and 0.8, centerness 1/2: scores 0.5 and 0.632.
    by_hand = (
        torch.tensor([[40.0, 60.0]]),
        torch.tensor([[5.0, 10.0, 15.0, 20.0]]),
        torch.tensor([[0.0, 1.3863]]),
        torch.tensor([0.0]),
    )

    def some(num: int, num_classes: int) -> tuple[Tensor, ...]:
        return (
            torch.rand(num, 2, generator=generator) * 128,
            torch.rand(num, 4, generator=generator) * 40,
            torch.randn(num, num_classes, generator=generator) * 3,
            torch.randn(num, generator=generator) * 2,
        )

    return [
        Case("one location, two classes", by_hand),
        Case("six locations, eight classes", some(6, 8)),
        Case("no location", some(0, 8)),
    ]


def suppression_cases(generator: Generator) -> list[Case]:
    """Of `keep_greedily` and `keep_fast`."""
    # In a row, each moved by 2 of 10 px: neighbours have IoU 2/3, every second one 3/7. The worst
    # is given first, and the last is of another class.
    left = torch.tensor([4.0, 2.0, 0.0, 1.0])
    chain = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)
    by_hand = (chain, torch.tensor([0.7, 0.8, 0.9, 0.6]), torch.tensor([0, 0, 0, 1]), 0.5)

    def crowd(num: int) -> tuple[Tensor, ...]:
        corner = torch.rand(num, 2, generator=generator) * 60
        size = 10 + 30 * torch.rand(num, 2, generator=generator)
        labels = torch.randint(0, 3, (num,), generator=generator)
        scores = torch.randperm(num, generator=generator) / max(num, 1)  # all different
        return torch.cat([corner, corner + size], dim=1), scores, labels

    return [
        Case("four boxes, two classes", by_hand),
        Case("200 boxes, three classes, above 0.4", (*crowd(200), 0.4)),
        Case("200 boxes, three classes, above 0.6", (*crowd(200), 0.6)),
        Case("no box", (*crowd(0), 0.6)),
    ]


def precision_cases(generator: Generator) -> list[Case]:
    """Of `average_precision`."""
    by_hand = torch.tensor([True, False, True])  # 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2
    quarters = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)

    def some(num: int, share: float) -> Tensor:
        falling = torch.linspace(1.0, share, num)  # better scores are right more often
        return torch.rand(num, generator=generator) < falling

    coco = one_class.COCO_RECALLS
    return [
        Case("three detections, four objects, levels in quarters", (by_hand, 4, quarters)),
        Case("40 detections, 37 objects, COCO's levels", (some(40, 0.1), 37, coco)),
        Case("300 detections, 211 objects, COCO's levels", (some(300, 0.2), 211, coco)),
        Case("no detection", (some(0, 0.0), 5, coco)),
    ]
