"""Exercises of chapter 12, training: batches, the schedule, the loop, averaged weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.datasets.sample import Batch, Sample
from blendmask_lite.datasets.transforms import flip_horizontally
from blendmask_lite.model.inputs import padded_size
from blendmask_lite.structures import Target
from blendmask_lite.training.engine import (
    StepRecord,
    TrainingState,
    WeightAverage,
    make_optimizer,
    train,
)
from blendmask_lite.training.schedule import TrainConfig, learning_rate_at

__all__ = ["EXERCISES"]


@task("12.1", "Images of different sizes in one batch", minutes=10, difficulty=2)
def pad_batch(divisor: int, *images: Tensor) -> Tensor:
    """Put images of different sizes into one batch, with zeros on the right and below.

    Args:
        divisor: height and width of the batch are its smallest multiples that hold all images.
        images: B tensors (3, H, W), already normalised.

    Returns:
        (B, 3, H, W); every image begins at the upper left corner.
    """
    # Step 1: the largest height and the largest width, each rounded up to a multiple
    sizes = (max(image.shape[dim] for image in images) for dim in (1, 2))
    height, width = ((size + divisor - 1) // divisor * divisor for size in sizes)
    # Step 2: a batch of zeros, and every image copied into it
    batch = torch.zeros(len(images), 3, height, width)
    for place, image in enumerate(images):
        batch[place, :, : image.shape[1], : image.shape[2]] = image
    return batch


def _reference_pad_batch(divisor: int, *images: Tensor) -> Tensor:
    height, width = padded_size([(image.shape[1], image.shape[2]) for image in images], divisor)
    padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    return torch.stack(padded)


def _pad_cases(generator: Generator) -> list[Case]:
    def image(height: int, width: int) -> Tensor:
        return torch.rand(3, height, width, generator=generator)

    return [
        Case("two images, 2 x 3 and 3 x 1, in multiples of 2", 2, image(2, 3), image(3, 1)),
        Case("two of 40 x 70 and 64 x 33, in multiples of 32", 32, image(40, 70), image(64, 33)),
        Case("a single image whose size fits", 32, image(32, 64)),
        Case("three, in multiples of 64", 64, image(30, 50), image(65, 20), image(9, 60)),
    ]


PAD = Exercise(
    solution=pad_batch,
    reference=_reference_pad_batch,
    make_cases=_pad_cases,
    result_axes="B, C, H, W",
    wrong_answers=(
        WrongAnswer(
            {
                "place, :,": "place, :, (height - image.shape[1]) // 2 :, "
                "(width - image.shape[2]) // 2 :][:,"
            },
            "The images are in the middle. Boxes and masks count from the upper left corner, so "
            "every image has to begin there.",
        ),
        WrongAnswer(
            {": image.shape[1], : image.shape[2]]": "-image.shape[1] :, -image.shape[2] :]"},
            "The zeros are on the left and above, so all true boxes would be off. Padding belongs "
            "on the right and below.",
        ),
        WrongAnswer(
            {"torch.zeros(": "torch.ones("},
            "The rest is filled with 1. After the normalisation, 0 is the mean colour, which the "
            "padding should have.",
        ),
    ),
    hints=(
        "Which two numbers of all images determine the size of the batch?",
        "(size + divisor - 1) // divisor is the number of multiples, rounded up.",
        "torch.zeros(B, 3, height, width), then batch[i, :, :h, :w] = image i.",
    ),
)


@task("12.2", "Warm-up and decay of the learning rate", minutes=10, difficulty=2)
def learning_rates(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    """The learning rate: a linear warm-up, then half a cosine down to zero.

    Args:
        iteration: (n,) from 0 to length - 1.
        length: iterations of the whole training.
        peak: the largest rate, at the end of the warm-up.
        warmup: iterations of the warm-up, at least 1 and less than `length`; the rate at
            iteration 0 is peak / 1000.

    Returns:
        (n,) rates.
    """
    # Step 1: the finished share of the warm-up, at most 1, and the factor from it
    share = (iteration / warmup).clamp(max=1)
    factor = share + (1 - share) / 1000
    # Step 2: the finished share of the time after the warm-up, at least 0, and the cosine
    progress = ((iteration - warmup) / (length - warmup)).clamp(min=0)
    return peak * factor * (1 + torch.cos(torch.pi * progress)) / 2


def _reference_learning_rates(iteration: Tensor, length: int, peak: float, warmup: int) -> Tensor:
    steps = TrainConfig(iterations=length, learning_rate=peak, warmup_iterations=warmup)
    config = replace(steps, schedule="cosine", milestones=())
    return torch.tensor([learning_rate_at(int(i), config) for i in iteration])


def _rate_cases(generator: Generator) -> list[Case]:
    drawn = torch.randint(0, 2000, (20,), generator=generator).float()
    return [
        # The factors of the warm-up are 0.001 and 0.5005, those of the cosine 1 and 0.5.
        Case("4 iterations, 2 of them warm-up", torch.arange(4.0), 4, 1.0, 2),
        Case("20 of 2,000 iterations, drawn at random", drawn, 2000, 5e-3, 200),
        Case("a warm-up of one iteration", torch.arange(12.0), 12, 0.01, 1),
    ]


RATES = Exercise(
    solution=learning_rates,
    reference=_reference_learning_rates,
    make_cases=_rate_cases,
    tolerance=5e-7,  # for rates up to 1; the first one is a thousandth
    wrong_answers=(
        WrongAnswer(
            {" + (1 - share) / 1000": ""},
            "The warm-up begins at 0, so the first step does nothing. It should begin at a "
            "thousandth of the peak.",
        ),
        WrongAnswer(
            {"(iteration - warmup) / (length - warmup)": "iteration / length"},
            "The cosine runs from iteration 0. It should begin at the end of the warm-up, or the "
            "peak is never reached.",
        ),
        WrongAnswer(
            {"(1 + torch.cos(torch.pi * progress)) / 2": "(1 - progress)"},
            "The rate falls along a straight line. Half a cosine stays high for longer and ends "
            "gently.",
        ),
        WrongAnswer(
            {"(1 + torch.cos(torch.pi * progress)) / 2": "torch.cos(torch.pi * progress)"},
            "The cosine becomes negative, so training goes uphill. (1 + cosine) / 2 goes from 1 to "
            "0.",
        ),
    ),
    hints=(
        "Two factors multiply the peak: the warm-up and the cosine.",
        "During the warm-up the cosine factor is 1, after it the warm-up factor is: use clamp.",
        "factor = share + (1 - share) / 1000, and (1 + torch.cos(torch.pi * progress)) / 2.",
    ),
)


@task("12.3", "The training loop", minutes=15, difficulty=3)
def train_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Any, Any]],
    config: TrainConfig,
    first: int,
) -> Iterator[dict[str, Tensor]]:
    """Train a model, one optimizer step for each batch, and hand out the losses of each step.

    Args:
        model: called with a batch's images and targets, it returns losses by name, scalars.
        optimizer: of its parameters.
        batches: pairs (images, targets), read one at a time.
        config: `learning_rate_at(i, config)` is the rate of step i; `config.clip_norm` is the
            largest norm of the whole gradient, or None.
        first: number of the first step; 0, or where a stopped training goes on.

    Yields:
        After each step (use `yield`, not `return`), its losses, as they were before the weights
        changed.
    """
    # Step 1, for each batch: clear the old gradient; forward; add up the losses
    # Step 2: backward; clip the gradient
    # Step 3: set this step's learning rate in every parameter group; step; yield
    for iteration, (images, targets) in enumerate(batches, start=first):
        optimizer.zero_grad()
        losses = model(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or torch.inf)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(iteration, config)
        optimizer.step()
        yield losses


def _use_train_loop(
    loop: Callable[..., Iterator[dict[str, Tensor]]],
    make_model: Callable[[], nn.Module],
    images: Any,
    targets: Any,
    config: TrainConfig,
) -> tuple[Tensor, Tensor]:
    """Sums of losses, and weights, step by step; stopped in the middle, the training continues."""
    model = make_model()
    optimizer = make_optimizer(model, config)
    batches = list(zip(images, targets, strict=True))
    middle = len(batches) // 2
    totals: list[float] = []
    weights: list[Tensor] = []
    for part, first in ((batches[:middle], 0), (batches[middle:], middle)):
        steps = loop(model, optimizer, iter(part), config, first)
        if not isinstance(steps, Iterator):
            raise TypeError("the function returns; with `yield` it hands out each step")
        for losses in steps:
            totals.append(sum(each.item() for each in losses.values()))
            weights.append(_weights(model))
    return torch.tensor(totals), torch.stack(weights)


def _reference_train_loop(
    make_model: Callable[[], nn.Module], images: Any, targets: Any, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    model = make_model()
    pairs = zip(images, targets, strict=True)
    totals: list[float] = []
    weights: list[Tensor] = []

    def on_step(record: StepRecord) -> None:
        totals.append(record.total)
        weights.append(_weights(model))

    with torch.random.fork_rng(devices=[]):  # the engine seeds every step
        train(
            TrainingState(model, config),
            model,
            [Batch(list(x), list(true), list(range(len(x)))) for x, true in pairs],
            config,
            on_step=on_step,
            on_checkpoint=lambda state: None,
        )
    return torch.tensor(totals), torch.stack(weights)


def _weights(model: nn.Module) -> Tensor:
    """(P,) a copy of all weights."""
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def _loop_cases(generator: Generator) -> list[Case]:
    def case(what: str, steps: int, num: int, num_inputs: int, clip_norm: float | None) -> Case:
        inputs = torch.randn(steps, num, num_inputs, generator=generator)
        wanted = 3 * torch.randn(steps, num, generator=generator)
        config = TrainConfig(
            iterations=steps,
            optimizer="sgd",
            learning_rate=0.1,
            warmup_iterations=2,
            warmup_factor=0.1,
            milestones=(steps - 1,),
            clip_norm=clip_norm,
        )
        return Case(what, functools.partial(_Line, num_inputs), inputs, wanted, config)

    return [
        case("three steps with one number", 3, 1, 1, 100.0),
        case("eight steps with four times three numbers", 8, 4, 3, None),
        case("six steps with a gradient that has to be clipped", 6, 4, 3, 0.5),
    ]


class _Line(nn.Module):
    """A line through points with two losses that must be added up."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.line = nn.Linear(num_inputs, 1)
        nn.init.constant_(self.line.weight, 0.5)
        nn.init.constant_(self.line.bias, 0.0)

    def forward(self, inputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> dict[str, Tensor]:
        found, true = self.line(torch.stack(tuple(inputs)))[:, 0], torch.stack(tuple(wanted))
        return {"square": F.mse_loss(found, true), "absolute": F.l1_loss(found, true)}


# Lines of the solution, and the mistake of computing the gradient after its use.
ZERO = "        optimizer.zero_grad()\n"
BACKWARD = "        torch.stack(list(losses.values())).sum().backward()\n"
CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or torch.inf)\n"
RATE = """        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(iteration, config)
"""
STEP = "        optimizer.step()\n"
YIELD = "        yield losses"  # the last line
TOO_LATE = (
    "step() comes before backward(), so each step takes the gradient of the batch before. The "
    "order: zero_grad, backward, clip, set the rate, step."
)

LOOP = Exercise(
    solution=train_loop,
    reference=_reference_train_loop,
    use=_use_train_loop,
    make_cases=_loop_cases,
    result_names=("the sums of the losses, step by step", "the weights after each step"),
    wrong_answers=(
        WrongAnswer(
            {"optimizer.zero_grad()": "pass"},
            "The gradients of all steps are added up, because backward() adds to .grad. Clear the "
            "old gradient first.",
        ),
        WrongAnswer(
            {CLIP: ZERO + CLIP},
            "The weights never change: step() finds no gradient. Either zero_grad() comes after "
            "backward() and clears it, or step() comes before backward(). The order: zero_grad, "
            "backward, step.",
        ),
        WrongAnswer({ZERO: "", BACKWARD: "", STEP: STEP + ZERO + BACKWARD}, TOO_LATE),
        WrongAnswer(
            {STEP: "", ZERO: "", BACKWARD: "", CLIP: STEP + ZERO + BACKWARD + CLIP},
            TOO_LATE,
        ),
        WrongAnswer(
            {"config.clip_norm or torch.inf": "torch.inf"},
            "step() takes a gradient that is not clipped. Before backward() there is nothing to "
            "clip, and after step() the weights have moved. The order: backward, clip, step.",
        ),
        WrongAnswer(
            {STEP: "", RATE: STEP + RATE},
            "step() takes the rate of the step before: the new one is set only after it. The "
            "order: set the rate, step.",
        ),
        WrongAnswer(
            {STEP: "", CLIP: STEP + CLIP},
            "step() comes too early: before the gradient is clipped and before the new rate is "
            "set. The order: backward, clip, set the rate, step.",
        ),
        WrongAnswer(
            {"learning_rate_at(iteration, config)": 'group["lr"]'},
            "The learning rate never changes: the schedule is not used.",
        ),
        WrongAnswer(
            {"start=first": "start=0"},
            "A training that goes on begins its schedule again: count the steps from `first`.",
        ),
        WrongAnswer(
            {STEP: "", YIELD: YIELD + "\n" + STEP},
            "yield comes before step(): whoever takes the losses still finds the old weights, and "
            "the last step of all may never be made. The order: step, yield.",
        ),
    ),
    hints=(
        "What does each step do, and in which order? What would go wrong in another?",
        "zero_grad, forward, backward, clip, set the rate, step, in this order.",
        'group["lr"] = ... for all param_groups; nn.utils.clip_grad_norm_(parameters, norm); at '
        "the end of the loop's body, yield losses.",
    ),
)


@task("12.4", "Average the weights over the training", minutes=10, difficulty=2)
def average_weights(weights: Tensor, decay: float) -> Tensor:
    """The exponential moving average of a model's weights over a training.

    The average begins with the initial weights. Step n = 1, 2, ... keeps a share of it and takes
    the rest from the new weights; the share is the smaller of `decay` and (1 + n) / (10 + n).

    Args:
        weights: (T + 1, P) all P weights, before the first step and after each of T steps; T may
            be 0.
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


def _average_cases(generator: Generator) -> list[Case]:
    weights = torch.randn(30, 5, generator=generator)
    return [
        Case("one weight: 11, then 0", torch.tensor([[11.0], [0.0]]), 0.999),  # 11 * 2 / 11 = 2
        Case("5 weights, 29 steps", weights, 0.999),
        Case("the same with a decay that is reached soon", weights, 0.5),
        Case("no step yet", weights[:1], 0.9),
    ]


AVERAGE = Exercise(
    solution=average_weights,
    reference=_reference_average_weights,
    make_cases=_average_cases,
    result_axes="P",
    wrong_answers=(
        WrongAnswer(
            {"min(decay, (1 + step) / (10 + step))": "decay"},
            "The share is `decay` from the first step on, so the random initial weights stay in "
            "the average for a thousand steps.",
        ),
        WrongAnswer(
            {"share = min(": "share = 1 - min("},
            "The shares are exchanged: the old average should keep the large share, and the new "
            "weights enter with the small one.",
        ),
        WrongAnswer(
            {"return average": "return weights.mean(dim=0)"},
            "This is the plain mean of all steps. A moving average forgets: late weights count "
            "more than early ones.",
        ),
    ),
    hints=(
        "After step 1 the share is 2 / 11: how much of the initial weights is left?",
        "A loop over the rows from 1 on; n is the number of the row.",
        "average = share * average + (1 - share) * weights[n].",
    ),
)


@task("12.5", "Left and right exchanged", minutes=10, difficulty=2)
def flip(image: Tensor, boxes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A training image, mirrored, with its boxes and masks.

    Args:
        image: (3, H, W).
        boxes: (N, 4) corners (x0, y0, x1, y1), pixels; N may be 0. A box covers x0 <= x < x1.
        masks: (N, H, W) bool.

    Returns:
        The same three, with left and right exchanged; x0 stays the smaller x.
    """
    # Step 1: the pixels
    width = image.shape[2]
    mirrored, mirrored_masks = image.flip(2), masks.flip(2)
    # Step 2: the boxes; the old right side becomes the new left one
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    return mirrored, torch.stack([width - x1, y0, width - x0, y1], dim=1), mirrored_masks


def _reference_flip(image: Tensor, boxes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    target = Target(boxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.int64), masks=masks)
    sample = flip_horizontally(Sample(image, target, 0, (image.shape[1], image.shape[2])))
    assert sample.target.masks is not None
    return sample.image, sample.target.boxes, sample.target.masks


def _flip_cases(generator: Generator) -> list[Case]:
    def case(what: str, num: int, height: int, width: int) -> Case:
        image = torch.rand(3, height, width, generator=generator)
        corner = torch.rand(num, 2, generator=generator) * 5
        boxes = torch.cat([corner, corner + 3], dim=1)
        return Case(what, image, boxes, torch.rand(num, height, width, generator=generator) > 0.5)

    mask = torch.tensor([[[True, True, False, False]]])
    by_hand = torch.arange(12.0).view(3, 1, 4), torch.tensor([[0.0, 0.0, 2.0, 1.0]]), mask
    return [
        Case("a row of four pixels, one object on the left", *by_hand),
        case("three objects on 10 x 14 pixels", 3, 10, 14),
        case("no object", 0, 4, 6),
    ]


FLIP = Exercise(
    solution=flip,
    reference=_reference_flip,
    make_cases=_flip_cases,
    result_names=("image", "boxes", "masks"),
    wrong_answers=(
        WrongAnswer(
            {"width - x1, y0, width - x0": "width - x0, y0, width - x1"},
            "x0 and x1 changed places: a box needs x0 < x1, and the old right side is the new left "
            "one.",
        ),
        WrongAnswer(
            {"width - x1, y0, width - x0": "width - 1 - x1, y0, width - 1 - x0"},
            "You counted a pixel too few. Boxes are half open: the image covers 0 to W, not 0 to W "
            "- 1.",
        ),
        WrongAnswer(
            {"masks.flip(2)": "masks"},
            "The masks still show the old image. They have to be mirrored, too.",
        ),
    ),
    hints=(
        "Where is the left side of a box that ended 3 pixels before the right edge?",
        ".flip(2) mirrors the columns of image and masks; x becomes W - x.",
        "x0, y0, x1, y1 = boxes.unbind(dim=1), then torch.stack([W - x1, y0, W - x0, y1], dim=1).",
    ),
)


EXERCISES = (PAD, RATES, LOOP, AVERAGE, FLIP)
