"""What the answers of chapter 15 are tried on."""

from __future__ import annotations

import torch
from torch import Generator

from blendmask_lite.course.definition import Case

__all__ = ["auc_cases", "leave_out_cases", "limit_cases", "position_cases"]


def auc_cases(generator: Generator) -> list[Case]:
    """Of 15.1."""
    few = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])  # pairs: 3 > 2, 3 > 0, 1 > 0, 2 = 2, 2 > 0
    on_few = torch.tensor([True, True, True, False, False])
    steps = torch.randint(-3, 4, (4, 60), generator=generator).float()
    on_some = torch.rand(60, generator=generator) < 0.3
    on_some[:2] = torch.tensor([True, False])
    return [
        Case(
            "one base, three cells of an object, two of background: 4.5 of 6 pairs", (few, on_few)
        ),
        Case("four bases, 60 cells, many equal values", (steps, on_some)),
        Case("no cell of an object", (torch.zeros(2, 3), torch.zeros(3, dtype=torch.bool))),
    ]


def position_cases(generator: Generator) -> list[Case]:
    """Of 15.2."""
    left_right = torch.tensor([[-1.0, 0.0, 1.0]]).expand(3, 3)
    hand = torch.stack([left_right, left_right.T * -5])[None]
    crops = torch.randn(3, 4, 14, 14, generator=generator)
    crops = crops + torch.linspace(-2, 2, 14) + torch.tensor([3.0, -4.0, 1.0])[:, None, None, None]
    inside = torch.rand(3, 14, 14, generator=generator) < 0.5
    inside[0, :, 9:] = False
    inside[1, :4] = False
    none = torch.zeros(0, 4, 7, 7), torch.zeros(0, 7, 7, dtype=torch.bool)
    return [
        Case("3 x 3, all inside: one base grows to the right, one upwards", (hand, hand[:, 0] < 9)),
        Case("three objects, four bases, 14 x 14", (crops, inside)),
        Case("no object", none),
    ]


def leave_out_cases(generator: Generator) -> list[Case]:
    """Of 15.3."""
    levels = torch.tensor([100.0, 2.0, 4.0])[None, :, None, None].expand(1, 3, 2, 2).contiguous()
    crops = torch.randn(3, 4, 14, 14, generator=generator) * 2 + 1
    attentions = torch.randn(3, 4, 7, 7, generator=generator) * 2
    return [
        Case("bases of 100, 2 and 4, equal attentions, the first left out: 3 everywhere",
             (levels, torch.zeros(1, 3, 2, 2), 0)),
        Case("three objects, four bases, the last left out", (crops, attentions, 3)),
        Case("the second left out", (crops, attentions, 1)),
        Case("no object", (torch.zeros(0, 4, 7, 7), torch.zeros(0, 4, 7, 7), 2)),
    ]  # fmt: skip


def limit_cases(generator: Generator) -> list[Case]:
    """Of 15.4."""
    crops = torch.tensor([[[[1.0, -1.0], [2.0, 3.0]], [[-5.0, -2.0], [1.0, -1.0]]]])
    truth = torch.tensor([[[True, True], [False, False]]])
    noise = torch.randn(4, 4, 14, 14, generator=generator)
    masks = torch.rand(4, 14, 14, generator=generator) < 0.4
    empty = torch.zeros(0, 4, 7, 7), torch.zeros(0, 7, 7, dtype=torch.bool)
    return [
        Case("two bases, 2 x 2: one of two cells reached, one too many: 1/3", (crops, truth)),
        Case("four objects, four bases, 14 x 14", (noise, masks)),
        Case("the same, few positive values", (noise - 1, masks)),
        Case("no object", empty),
    ]
