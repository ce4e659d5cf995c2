"""The training loop: one function, one loop, and the state that it moves forward."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from blendmask_lite.structures import Target
from blendmask_lite.training.optimizer import WeightAverage, make_optimizer
from blendmask_lite.training.schedule import TrainConfig, learning_rate_at

__all__ = ["NonFiniteLossError", "StepRecord", "TrainingState", "train"]


class TrainingBatch(Protocol):
    """What the loop needs of a batch; `datasets` makes it."""

    images: Sequence[Tensor]
    targets: Sequence[Target]
    image_ids: Sequence[int]


@dataclass(frozen=True)
class StepRecord:
    """What one optimizer step did.

    Attributes:
        iteration: steps done so far, this one included.
        learning_rate: that was used.
        losses: by name, weighted as they were added up.
        total: their sum.
        gradient_norm: over all parameters, before clipping.
        num_images: in the batch.
        seconds: from the end of the step before to the end of this one.
        data_seconds: the part of them spent waiting for the batch.
    """

    iteration: int
    learning_rate: float
    losses: dict[str, float]
    total: float
    gradient_norm: float
    num_images: int
    seconds: float
    data_seconds: float


class NonFiniteLossError(ValueError):
    """A loss or the gradient became infinite or not a number; training cannot go on."""


class TrainingState:
    """All that changes while training; a checkpoint that holds it can continue bit by bit.

    Attributes:
        model: the network being trained.
        optimizer: made for it.
        average: its averaged weights, or None.
        iteration: optimizer steps done.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model = model
        self.optimizer = make_optimizer(model, config)
        self.average = (
            None if config.ema_decay is None else WeightAverage(model, decay=config.ema_decay)
        )
        self.iteration = 0

    @property
    def best_model(self) -> nn.Module:
        """The model to evaluate and to keep: with averaged weights where there are some."""
        return self.model if self.average is None else self.average.model

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.iteration = state["iteration"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])


def train(
    state: TrainingState,
    step: Callable[[Sequence[Tensor], Sequence[Target]], dict[str, Tensor]],
    batches: Iterable[TrainingBatch],
    config: TrainConfig,
    *,
    on_step: Callable[[StepRecord], None],
    on_checkpoint: Callable[[TrainingState], None],
    on_evaluate: Callable[[TrainingState], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    device: str | torch.device = "cpu",
) -> bool:
    """Train until `config.iterations` steps are done.

    Args:
        state: where to start from; moved forward in place.
        step: (images, targets) -> losses to be added up; a `TrainingStep` on `device`.
        batches: those of iterations `state.iteration` and later, in order.
        config: schedule, clipping, precision and intervals.
        on_step: called after every optimizer step.
        on_checkpoint: called every `config.checkpoint_every` steps and before leaving.
        on_evaluate: called every `config.evaluate_every` steps and after the last.
        should_stop: asked after every step; True saves a checkpoint and leaves.
        device: of the model.

    Returns:
        Whether the training is finished (and was not stopped).

    Raises:
        NonFiniteLossError: a loss or the gradient is not finite; the weights are still those
            of the step before.
    """
    device = torch.device(device)
    end = time.perf_counter()
    for batch in batches:
        start, iteration = end, state.iteration
        data_seconds = time.perf_counter() - start
        # Whatever is random inside the network depends on the iteration alone.
        torch.manual_seed(config.seed + 1_000_003 * iteration)
        state.model.train()
        losses = _losses(step, batch, device, config.precision)
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        _require_finite(values, batch, iteration, config)
        learning_rate = learning_rate_at(iteration, config)
        norm = _update(state, losses, learning_rate, config, batch)
        end = time.perf_counter()
        on_step(
            StepRecord(
                iteration=state.iteration,
                learning_rate=learning_rate,
                losses=values,
                total=sum(values.values()),
                gradient_norm=norm,
                num_images=len(batch.images),
                seconds=end - start,
                data_seconds=data_seconds,
            )
        )
        is_last = state.iteration == config.iterations
        is_stopped = not is_last and should_stop()
        if on_evaluate is not None and not is_stopped and config.evaluate_every is not None:
            if is_last or state.iteration % config.evaluate_every == 0:
                on_evaluate(state)
        if is_last or is_stopped or state.iteration % config.checkpoint_every == 0:
            on_checkpoint(state)
        if is_stopped:
            return False
        end = time.perf_counter()  # evaluation and checkpoints are not training time
    return True


def _update(
    state: TrainingState,
    losses: dict[str, Tensor],
    learning_rate: float,
    config: TrainConfig,
    batch: TrainingBatch,
) -> float:
    """One optimizer step; the gradient's norm before clipping."""
    state.optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf).item()
    _require_finite({"gradient norm": norm}, batch, state.iteration, config)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.step()
    state.iteration += 1
    if state.average is not None:
        state.average.update(state.model, state.iteration)
    return norm


def _losses(
    step: Callable[[Sequence[Tensor], Sequence[Target]], dict[str, Tensor]],
    batch: TrainingBatch,
    device: torch.device,
    precision: str,
) -> dict[str, Tensor]:
    images = [image.to(device, non_blocking=True) for image in batch.images]
    targets = [target.to(device) for target in batch.targets]
    reduced = (
        torch.autocast(device.type, dtype=torch.bfloat16)
        if precision == "bfloat16"
        else contextlib.nullcontext()
    )
    with reduced:
        return step(images, targets)


def _require_finite(
    values: dict[str, float], batch: TrainingBatch, iteration: int, config: TrainConfig
) -> None:
    bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        ids = ", ".join(str(image_id) for image_id in batch.image_ids)
        raise NonFiniteLossError(
            f"iteration {iteration}, images {ids}: {', '.join(bad)}. Mostly the learning rate is "
            f"too high: try --learning-rate {config.learning_rate / 2:g}, a longer warm-up, or "
            "clipping of the gradient"
        )
