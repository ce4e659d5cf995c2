"""What answers in chapter 12 are tried on: small pictures, schedules, models and weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from blendmask_lite.course.definition import Case
from blendmask_lite.training.schedule import TrainConfig

__all__ = ["Steps", "average_cases", "loop_cases", "pad_cases", "rate_cases"]


@dataclass(frozen=True)
class _Batch:
    images: Any
    targets: Any
    image_ids: Sequence[int]


@dataclass(frozen=True)
class Steps:
    """Batches as the package's loop wants them.

    Attributes:
        images: of T batches.
        targets: of T batches.
    """

    images: Sequence[Any]
    targets: Sequence[Any]

    def __iter__(self) -> Iterator[_Batch]:
        for images, targets in zip(self.images, self.targets, strict=True):
            yield _Batch(images, targets, range(len(images)))


def pad_cases(generator: Generator) -> list[Case]:
    """Cases of 12.1."""

    def picture(height: int, width: int) -> Tensor:
        return torch.rand(3, height, width, generator=generator)

    return [
        Case("two pictures, 2 x 3 and 3 x 1, in multiples of 2", (2, picture(2, 3), picture(3, 1))),
        Case(
            "two of 40 x 70 and 64 x 33, in multiples of 32", (32, picture(40, 70), picture(64, 33))
        ),
        Case("one alone whose size fits", (32, picture(32, 64))),
        Case("three, in multiples of 64", (64, picture(30, 50), picture(65, 20), picture(9, 60))),
    ]


def rate_cases(generator: Generator) -> list[Case]:
    """Cases of 12.2."""
    drawn = torch.randint(0, 2000, (20,), generator=generator).float()
    return [
        # The factors of the warm-up are 0.001 and 0.5005, those of the cosine 1 and 0.5.
        Case("4 iterations, 2 of them warm-up", (torch.arange(4.0), 4, 1.0, 2)),
        Case("20 of 2,000 iterations, drawn by chance", (drawn, 2000, 5e-3, 200)),
        Case("a warm-up of one iteration", (torch.arange(12.0), 12, 0.01, 1)),
        Case("no iteration", (torch.zeros(0), 100, 0.01, 10)),
    ]


class _Line(nn.Module):
    """Two losses of a line through points, so that they have to be added up."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.line = nn.Linear(num_inputs, 1)
        nn.init.constant_(self.line.weight, 0.5)
        nn.init.constant_(self.line.bias, 0.0)

    def forward(self, inputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> dict[str, Tensor]:
        found, true = self.line(torch.stack(tuple(inputs)))[:, 0], torch.stack(tuple(wanted))
        return {"square": F.mse_loss(found, true), "absolute": F.l1_loss(found, true)}


def loop_cases(generator: Generator) -> list[Case]:
    """Cases of 12.3."""

    def case(what: str, steps: int, num: int, num_inputs: int, config: TrainConfig) -> Case:
        inputs = torch.randn(steps, num, num_inputs, generator=generator)
        wanted = 3 * torch.randn(steps, num, generator=generator)
        return Case(what, (functools.partial(_Line, num_inputs), inputs, wanted, config))

    def config(iterations: int, clip_norm: float) -> TrainConfig:
        return TrainConfig(
            iterations=iterations,
            optimizer="sgd",
            learning_rate=0.1,
            warmup_iterations=2,
            warmup_factor=0.1,
            milestones=(iterations - 1,),
            clip_norm=clip_norm,
        )

    return [
        case("three steps of one number", 3, 1, 1, config(3, 100.0)),
        case("eight steps of four times three numbers", 8, 4, 3, config(8, 100.0)),
        case("six steps with a gradient that has to be clipped", 6, 4, 3, config(6, 0.5)),
        case("no step", 0, 4, 3, config(3, 1.0)),
    ]


def average_cases(generator: Generator) -> list[Case]:
    """Cases of 12.4."""
    weights = torch.randn(30, 5, generator=generator)
    return [
        Case("one weight: 11, then 0", (torch.tensor([[11.0], [0.0]]), 0.999)),  # 11 * 2 / 11 = 2
        Case("5 weights, 29 steps", (weights, 0.999)),
        Case("the same with a decay that is soon reached", (weights, 0.5)),
        Case("no step yet", (weights[:1], 0.9)),
    ]
