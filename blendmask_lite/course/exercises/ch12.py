"""Chapter 12, training: batches, the schedule, the loop, averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import wrong12 as wrong
from blendmask_lite.course.exercises.cases12 import (
    Steps,
    average_cases,
    loop_cases,
    pad_cases,
    rate_cases,
)
from blendmask_lite.model.inputs import padded_size
from blendmask_lite.training.engine import TrainingState, train
from blendmask_lite.training.schedule import (
    TrainConfig,
    WeightAverage,
    learning_rate_at,
    make_optimizer,
)

__all__ = ["EXERCISES", "average_weights", "learning_rates", "pad_batch", "train_loop"]


# 12.1  One batch of pictures of different sizes


def pad_batch(divisor: int, *images: Tensor) -> Tensor:
    """Put pictures of different sizes into one batch, with zeros on the right and below.

    Args:
        divisor: height and width become its smallest multiples that hold all pictures.
        images: B tensors (3, H, W), normalised already.

    Returns:
        (B, 3, H, W); every picture begins at the upper left corner.
    """
    # Step 1: the largest height and the largest width, each rounded up to a multiple
    sizes = (max(image.shape[dim] for image in images) for dim in (1, 2))
    height, width = ((size + divisor - 1) // divisor * divisor for size in sizes)
    # Step 2: a batch of zeros, and every picture copied into it
    batch = torch.zeros(len(images), 3, height, width)
    for place, image in enumerate(images):
        batch[place, :, : image.shape[1], : image.shape[2]] = image
    return batch


def _reference_pad_batch(divisor: int, *images: Tensor) -> Tensor:
    height, width = padded_size([(image.shape[1], image.shape[2]) for image in images], divisor)
    padded = [F.pad(each, (0, width - each.shape[2], 0, height - each.shape[1])) for each in images]
    return torch.stack(padded)


# 12.2  Warm-up and decay


def learning_rates(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    """The learning rate: a linear warm-up, then half a cosine down to zero.

    Args:
        iteration: (n,) from 0 to length - 1.
        length: iterations of the whole training.
        peak: the largest rate, reached when the warm-up ends.
        warmup: iterations of the warm-up, at least 1 and less than `length`; at iteration 0 the
            rate is peak / 1000.

    Returns:
        (n,) rates.
    """
    # Step 1: the share of the warm-up that is done, at most 1, and the factor from it
    share = (iteration / warmup).clamp(max=1)
    factor = share + (1 - share) / 1000
    # Step 2: the share of the time after the warm-up that is done, at least 0, and the cosine
    progress = ((iteration - warmup) / (length - warmup)).clamp(min=0)
    return peak * factor * (1 + torch.cos(torch.pi * progress)) / 2


def _reference_learning_rates(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    steps = TrainConfig(iterations=length, learning_rate=peak, warmup_iterations=warmup)
    config = replace(steps, schedule="cosine", milestones=())
    return torch.tensor([learning_rate_at(int(i), config) for i in iteration])


# 12.3  The loop


def train_loop(
    make_model: Callable[[], nn.Module],
    images: Sequence[Any],
    targets: Sequence[Any],
    config: TrainConfig,
) -> Tensor:
    """Train a new model, one optimizer step for each batch.

    Args:
        make_model: gives a new model; called with a batch's images and targets, a model
            returns its losses by name, scalars.
        images: of T batches.
        targets: of T batches.
        config: `learning_rate_at(i, config)` is the rate of step i, counted from 0;
            `config.clip_norm` is the largest norm that the whole gradient may have, or None.

    Returns:
        (T,) the sum of the losses at each step, before its weights change.
    """
    model = make_model()
    optimizer = make_optimizer(model, config)
    totals = []
    # Step 1, of each batch: forget the old gradient; forward; add up the losses
    # Step 2: backward; clip the gradient
    # Step 3: set this step's learning rate in every parameter group; step
    for iteration in range(len(images)):
        optimizer.zero_grad()
        total = sum(model(images[iteration], targets[iteration]).values())
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or torch.inf)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(iteration, config)
        optimizer.step()
        totals.append(total.item())
    return torch.tensor(totals)


def _reference_train_loop(
    make_model: Callable[[], nn.Module],
    images: Sequence[Any],
    targets: Sequence[Any],
    config: TrainConfig,
) -> Tensor:
    model = make_model()
    totals: list[float] = []
    with torch.random.fork_rng(devices=[]):  # the engine seeds every step
        train(
            TrainingState(model, config),
            model,
            Steps(images, targets),
            config,
            on_step=lambda record: totals.append(record.total),
            on_checkpoint=lambda state: None,
        )
    return torch.tensor(totals)


# 12.4  Averaged weights


def average_weights(weights: Tensor, decay: float) -> Tensor:
    """The exponential moving average of a model's weights over a training.

    The average begins as the initial weights. Step n = 1, 2, ... keeps a share of it and takes
    the rest from the new weights; the share is the smaller of `decay` and (1 + n) / (10 + n).

    Args:
        weights: (T + 1, P) all P weights, before the first step and after each of T steps.
        decay: the largest share, below 1.

    Returns:
        (P,) the average after the last step.
    """
    average = weights[0]
    for step in range(1, len(weights)):
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * weights[step]
    return average


def _reference_average_weights(weights: Tensor, decay: float) -> Tensor:
    model = nn.Linear(weights.shape[1], 1, bias=False)
    model.weight.data = weights[:1].clone()
    average = WeightAverage(model, decay=decay)
    for step in range(1, len(weights)):
        model.weight.data = weights[step : step + 1].clone()
        average.update(model, step)
    return average.model.get_parameter("weight")[0]


EXERCISES = (
    Exercise(
        id="12.1",
        title="Pictures of different sizes in one batch",
        minutes=10,
        difficulty=2,
        solution=pad_batch,
        reference=_reference_pad_batch,
        make_cases=pad_cases,
        result_axes="B, C, H, W",
        wrong_answers=wrong.PAD,
        hints=(
            "Which two numbers of all pictures decide the size of the batch?",
            "(size + divisor - 1) // divisor is the number of strides, rounded up.",
            "torch.zeros(B, 3, height, width), then batch[i, :, :h, :w] = picture i.",
        ),
    ),
    Exercise(
        id="12.2",
        title="Warm-up and decay of the learning rate",
        minutes=10,
        difficulty=2,
        solution=learning_rates,
        reference=_reference_learning_rates,
        make_cases=rate_cases,
        wrong_answers=wrong.RATES,
        tolerance=1e-6,
        hints=(
            "Two factors multiply the peak: one of the warm-up, one of the cosine.",
            "In the warm-up the cosine stands at 1, after it the warm-up does: clamp helps.",
            "factor = share + (1 - share) / 1000, and (1 + torch.cos(torch.pi * progress)) / 2.",
        ),
    ),
    Exercise(
        id="12.3",
        title="The training loop",
        minutes=15,
        difficulty=3,
        solution=train_loop,
        reference=_reference_train_loop,
        make_cases=loop_cases,
        result_axes="T",
        wrong_answers=wrong.LOOP,
        hints=(
            "make_model() and make_optimizer(model, config) come first. What is done in each step?",
            "zero_grad, forward, backward, clip, set the rate, step: in this order.",
            'group["lr"] = ... for all param_groups; nn.utils.clip_grad_norm_(parameters, norm).',
        ),
    ),
    Exercise(
        id="12.4",
        title="Average the weights over the training",
        minutes=10,
        difficulty=2,
        solution=average_weights,
        reference=_reference_average_weights,
        make_cases=average_cases,
        result_axes="P",
        wrong_answers=wrong.AVERAGE,
        hints=(
            "After step 1 the share is 2 / 11: how much of the random initial weights is left?",
            "A loop over the rows from 1 on; the row's number is n.",
            "average = share * average + (1 - share) * weights[n].",
        ),
    ),
)
