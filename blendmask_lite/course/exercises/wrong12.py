"""What students get wrong in chapter 12, and what to tell them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.training.schedule import TrainConfig, learning_rate_at, make_optimizer

__all__ = ["AVERAGE", "LOOP", "PAD", "RATES"]


# 12.1


def _pad(
    divisor: int, images: Sequence[Tensor], *, value: float = 0.0, place: str = "corner"
) -> Tensor:
    height, width = (math.ceil(max(i.shape[d] for i in images) / divisor) * divisor for d in (1, 2))
    batch = torch.full((len(images), 3, height, width), value)
    for row, image in zip(batch, images, strict=True):
        h, w = image.shape[1:]
        top, left = {
            "corner": (0, 0),
            "center": ((height - h) // 2, (width - w) // 2),
            "opposite": (height - h, width - w),
        }[place]
        row[:, top : top + h, left : left + w] = image
    return batch


def _pad_centered(divisor: int, *images: Tensor) -> Tensor:
    return _pad(divisor, images, place="center")


def _pad_left(divisor: int, *images: Tensor) -> Tensor:
    return _pad(divisor, images, place="opposite")


def _pad_with_ones(divisor: int, *images: Tensor) -> Tensor:
    return _pad(divisor, images, value=1.0)


PAD = (
    WrongAnswer(
        _pad_centered,
        "The pictures lie in the middle. Boxes and masks count from the upper left corner, so "
        "that every picture has to begin there.",
    ),
    WrongAnswer(
        _pad_left,
        "The zeros are on the left and above: all true boxes would be off. Padding belongs on "
        "the right and below.",
    ),
    WrongAnswer(
        _pad_with_ones,
        "The rest is filled with 1. After the normalisation 0 is the mean colour; that is what "
        "the padding has.",
    ),
)


# 12.2


def _rates(
    iteration: Tensor, length: int, peak: float, warmup: int, *, begin: int, floor: float
) -> Tensor:
    share = (iteration / warmup).clamp(max=1)
    progress = ((iteration - begin) / (length - begin)).clamp(min=0)
    return peak * (share + (1 - share) * floor) * (1 + torch.cos(math.pi * progress)) / 2


def _rates_from_zero(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    return _rates(iteration, length, peak, warmup, begin=warmup, floor=0.0)


def _rates_cosine_from_start(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    return _rates(iteration, length, peak, warmup, begin=0, floor=1 / 1000)


def _rates_linear_decay(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    share = (iteration / warmup).clamp(max=1)
    progress = ((iteration - warmup) / (length - warmup)).clamp(min=0)
    return peak * (share + (1 - share) / 1000) * (1 - progress)


def _rates_full_cosine(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    share = (iteration / warmup).clamp(max=1)
    progress = ((iteration - warmup) / (length - warmup)).clamp(min=0)
    return peak * (share + (1 - share) / 1000) * torch.cos(math.pi * progress)


RATES = (
    WrongAnswer(
        _rates_from_zero,
        "The warm-up begins at 0, so that the first step does nothing. It begins at a "
        "thousandth of the peak.",
    ),
    WrongAnswer(
        _rates_cosine_from_start,
        "The cosine runs from iteration 0. It begins where the warm-up ends, or the peak is "
        "never reached.",
    ),
    WrongAnswer(
        _rates_linear_decay,
        "The rate falls along a straight line. Half a cosine stays high for long and comes "
        "down softly.",
    ),
    WrongAnswer(
        _rates_full_cosine,
        "The cosine becomes negative: it walks uphill. (1 + cosine) / 2 goes from 1 to 0.",
    ),
)


# 12.3


def _loop(
    make_model: Callable[[], nn.Module],
    images: Sequence[Any],
    targets: Sequence[Any],
    config: TrainConfig,
    *,
    forgets: bool = True,
    clips: str = "before",
    moves_rate: bool = True,
) -> Tensor:
    model = make_model()
    optimizer = make_optimizer(model, config)
    totals = []
    for iteration in range(len(images)):
        if forgets:
            optimizer.zero_grad()
        total = sum(model(images[iteration], targets[iteration]).values())
        total.backward()
        if clips == "before":
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(iteration, config) if moves_rate else group["lr"]
        optimizer.step()
        if clips == "after":
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
        totals.append(total.item())
    return torch.tensor(totals)


def _loop_adding_up(make_model: Any, images: Any, targets: Any, config: TrainConfig) -> Tensor:
    return _loop(make_model, images, targets, config, forgets=False)


def _loop_clipping_late(make_model: Any, images: Any, targets: Any, config: TrainConfig) -> Tensor:
    return _loop(make_model, images, targets, config, clips="after")


def _loop_at_the_peak(make_model: Any, images: Any, targets: Any, config: TrainConfig) -> Tensor:
    return _loop(make_model, images, targets, config, moves_rate=False)


LOOP = (
    WrongAnswer(
        _loop_adding_up,
        "The gradients of all steps so far are added up: backward() adds to .grad. Forget the "
        "old one first.",
    ),
    WrongAnswer(
        _loop_clipping_late,
        "The gradient is clipped after the step, when it has moved the weights already; or not "
        "at all.",
    ),
    WrongAnswer(
        _loop_at_the_peak,
        "The learning rate stays what the optimizer began with: the schedule is never asked.",
    ),
)


# 12.4


def _average(
    weights: Tensor, decay: float, *, is_bounded: bool = True, is_turned: bool = False
) -> Tensor:
    average = weights[0]
    for step in range(1, len(weights)):
        share = min(decay, (1 + step) / (10 + step)) if is_bounded else decay
        share = 1 - share if is_turned else share
        average = share * average + (1 - share) * weights[step]
    return average


def _average_without_bound(weights: Tensor, decay: float) -> Tensor:
    return _average(weights, decay, is_bounded=False)


def _average_turned(weights: Tensor, decay: float) -> Tensor:
    return _average(weights, decay, is_turned=True)


def _average_of_all(weights: Tensor, decay: float) -> Tensor:
    del decay
    return weights.mean(dim=0)


AVERAGE = (
    WrongAnswer(
        _average_without_bound,
        "The share is `decay` from the first step on, so that the random initial weights stay "
        "in the average for a thousand steps.",
    ),
    WrongAnswer(
        _average_turned,
        "The shares are exchanged: the old average keeps the large share, the new weights enter "
        "with the small one.",
    ),
    WrongAnswer(
        _average_of_all,
        "This is the plain mean of all moments. A moving average forgets: late weights count "
        "more than early ones.",
    ),
)
