"""Cases that the answers of chapter 04 are tried on."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case

__all__ = ["box_cases", "centerness_cases", "centerness_loss_cases", "focal_cases"]


def focal_cases(generator: Generator) -> list[Case]:
    """Of 04.1: logits, labels, number of positives, alpha, gamma."""
    # Probabilities 1/2: an object costs 0.25 * 0.25 * ln 2, background 0.75 * 0.25 * ln 2.
    zero = torch.zeros(1, 2, 1), torch.tensor([[0, -1]])
    logits = torch.randn(2, 30, 4, generator=generator) * 3
    labels = torch.randint(-1, 4, (2, 30), generator=generator)
    large = torch.tensor([[[100.0, -100.0], [-100.0, 100.0]]]), torch.tensor([[0, -1]])
    nothing = torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.int64)
    return [
        Case("an object and a background location, one class", (*zero, _number(1), 0.25, 2.0)),
        Case("two images, 30 locations, four classes", (logits, labels, _number(48), 0.25, 2.0)),
        Case("gamma 0, alpha 0.5: half cross entropy", (logits, labels, _number(1), 0.5, 0.0)),
        Case("logits of +-100", (*large, _number(1), 0.25, 2.0)),
        Case("no location", (*nothing, _number(1), 0.25, 2.0)),
    ]  # fmt: skip


def centerness_cases(generator: Generator) -> list[Case]:
    """Of 04.2: distances."""
    # The center; l / r = 1/4 alone gives 1/2; 1/4 both ways gives 1/4; and the mirrored ones.
    few = torch.tensor([[8.0, 4, 8, 4], [2, 4, 8, 4], [2, 1, 8, 4], [8, 4, 2, 4], [8, 4, 2, 1]])
    return [
        Case("five locations", (few,)),
        Case("two rows of 20 locations", (_sides(generator, 2, 20),)),
        Case("no location", (torch.zeros(0, 4),)),
    ]


def box_cases(generator: Generator) -> list[Case]:
    """Of 04.3: predicted and true distances in strides, and weights."""
    # The same center, half as wide: intersection 8, union 16, hull 16: IoU 9 / 17.
    one = torch.tensor([[1.0, 2.0, 1.0, 2.0]]), torch.tensor([[2.0, 2.0, 2.0, 2.0]])
    # Wide against high: intersection 4, union 12, hull 16.
    two = torch.tensor([[2.0, 1.0, 2.0, 1.0]]), torch.tensor([[1.0, 2.0, 1.0, 2.0]])
    both = torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]])
    weight = torch.rand(20, generator=generator) + 0.1
    some = _sides(generator, 20), _sides(generator, 20)
    collapsed = torch.zeros(20, 4), some[1]
    return [
        Case("one box inside the other", (*one, torch.ones(1))),
        Case("a wide and a high box, weights 1 and 3", (*both, torch.tensor([1.0, 3.0]))),
        Case("20 boxes", (*some, weight)),
        Case("predictions without area", (*collapsed, weight)),
    ]


def centerness_loss_cases(generator: Generator) -> list[Case]:
    """Of 04.4: logits, targets, number of positives."""
    # A probability of 1/2 costs ln 2, whatever the target.
    logits, target = torch.randn(20, generator=generator), torch.rand(20, generator=generator)
    large = torch.tensor([100.0, -100.0]), torch.tensor([0.9, 0.9])
    return [
        Case("two locations at 1/2", (torch.zeros(2), torch.tensor([0.2, 0.9]), _number(2))),
        Case("20 locations", (logits, target, _number(20))),
        Case("logits of +-100", (*large, _number(2))),
        Case("no location", (torch.zeros(0), torch.zeros(0), _number(1))),
    ]


def _number(value: float) -> Tensor:
    return torch.tensor(float(value))


def _sides(generator: Generator, *shape: int) -> Tensor:
    """(..., 4) distances from 0.5 to 4.5."""
    return torch.rand(*shape, 4, generator=generator) * 4 + 0.5
