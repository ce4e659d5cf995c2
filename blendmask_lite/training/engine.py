"""The training loop: one function, one loop, and the state that it moves forward.

Chapter 12. The gradient of one step may come from a whole batch, from its parts, or from the shares
of several processes. A loss that is not finite ends training with advice.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_lite.datasets.sample import Batch
from blendmask_lite.model.layers import computing_in
from blendmask_lite.structures import Target
from blendmask_lite.terminal import counted
from blendmask_lite.training.criterion import Totals
from blendmask_lite.training.distributed import ALONE, Ranks
from blendmask_lite.training.schedule import TrainConfig, learning_rate_at

__all__ = [
    "NonFiniteLossError",
    "StepRecord",
    "TrainingState",
    "WeightAverage",
    "add_gradients",
    "make_optimizer",
    "not_finite",
    "seed_step",
    "train",
    "what_helps",
]

TotalsOf = Callable[[Sequence[Tensor], Sequence[Target]], Totals]


@dataclass(frozen=True)
class StepRecord:
    """The record of one optimizer step.

    Attributes:
        iteration: steps done so far, this one included.
        learning_rate: learning rate of the step.
        losses: losses by name, weighted as in their sum, over all processes' images.
        total: sum of the losses.
        gradient_norm: norm of the gradient of all parameters, before clipping.
        num_images: number of images of all processes.
        seconds: time from the end of the previous step to the end of this one.
        data_seconds: part of `seconds` that was spent waiting for the batch.
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
    """A loss or the gradient became infinite or not a number; training cannot go on.

    Attributes:
        batch: this process's share of the images.
        values: the losses, or the gradient norm, by name.
    """

    def __init__(self, message: str, batch: Batch, values: dict[str, float]) -> None:
        super().__init__(message)
        self.batch = batch
        self.values = values


class TrainingState:
    """All that changes during training; a training continued from it gives bit-identical weights.

    Attributes:
        model: the network being trained.
        optimizer: the optimizer of the network's parameters.
        average: the averaged weights, or None.
        iteration: number of optimizer steps done.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model = model
        self.optimizer = make_optimizer(model, config)
        self.average = (
            None if config.ema_decay is None else WeightAverage(model, decay=config.ema_decay)
        )
        self.iteration = 0

    @property
    def evaluated_model(self) -> nn.Module:
        """The model to evaluate and to keep: the averaged one, if there is one."""
        return self.model if self.average is None else self.average.model

    def state_dict(self) -> dict[str, Any]:
        """The state, as tensors and plain values only."""
        return {
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state that `state_dict` returned."""
        self.iteration = state["iteration"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])


NORM_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum 0.9 or AdamW over the parameters that are not frozen.

    Norm layers are not decayed, as in the released code. Biases are decayed by SGD, as in the
    released code, but not by AdamW (our choice, as is customary in transformer recipes).
    """
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_bias = name == "bias" and config.optimizer == "adamw"
            is_kept = is_bias or isinstance(module, NORM_LAYERS)
            (kept if is_kept else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


class WeightAverage:
    """Exponential moving average of a model's weights, often better than the final ones.

    At first the decay is smaller, (1 + n) / (10 + n) after n steps, so the random initial weights
    are soon forgotten (TensorFlow's `ExponentialMovingAverage`).

    Args:
        model: it is copied; `update` takes in its later weights.
        decay: share of the old average that is kept at each step.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Move the average towards `model`; `num_updates` counts the optimizer steps so far."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        averages, values = [], []
        own = self.model.state_dict()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(own[name])
                values.append(value)
            else:
                own[name].copy_(value)  # counters
        torch._foreach_lerp_(averages, values, 1 - decay)


def seed_step(seed: int, iteration: int) -> None:
    """Make random numbers inside the network depend on seed and iteration alone."""
    torch.manual_seed(seed + 1_000_003 * iteration)


def train(
    state: TrainingState,
    step: Callable[..., dict[str, Tensor]],
    batches: Iterable[Batch],
    config: TrainConfig,
    *,
    on_step: Callable[[StepRecord], None],
    on_checkpoint: Callable[[TrainingState], None],
    on_evaluate: Callable[[TrainingState], bool | None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
    totals_of: TotalsOf | None = None,
) -> bool:
    """Train until `config.iterations` steps are done.

    With several processes, all of them call this and do the same steps. The CPU waits for a GPU
    twice per step: the criterion has to know how many locations are positive (once per part), and
    losses and gradient are read before the weights change.

    Args:
        state: the state to start from; it is updated in place.
        step: (images, targets, ...) -> losses to be added up; see `add_gradients`.
        batches: this process's shares of the batches, from iteration `state.iteration` on, in
            order.
        config: schedule, clipping, precision and intervals.
        on_step: called after every optimizer step.
        on_checkpoint: called every `config.checkpoint_every` steps and before returning.
        on_evaluate: called every `config.evaluate_every` steps and after the last; if it returns
            True in any process, training is finished.
        should_stop: asked in every step; if True in any process, the step is completed, a
            checkpoint is saved, and this returns. A single process asks when the step is done.
        ranks: the processes that train together, and the device of this one.
        totals_of: see `add_gradients`.

    Returns:
        True if training is finished, False if it was stopped.

    Raises:
        NonFiniteLossError: a loss or the gradient is not finite, in any process; the weights have
            not changed since the previous step.
    """
    end = time.perf_counter()
    for batch in batches:
        start, iteration = end, state.iteration
        data_seconds = time.perf_counter() - start
        seed_step(config.seed, iteration)
        state.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        names, of_parts = add_gradients(
            step,
            batch,
            num_parts=config.accumulate,
            precision=config.precision,
            ranks=ranks,
            totals_of=totals_of,
        )
        norm = _clip(state, config)
        own = of_parts.sum(dim=0)
        # Processes agree on stopping when they send their losses, without another message.
        is_asking = ranks.is_joined and should_stop()
        asked = torch.full((1,), float(is_asking), dtype=own.dtype, device=own.device)
        shared = ranks.sum(torch.cat([own, asked]))
        *sums, num_asking, gradient_norm = torch.cat([shared, norm.to(own.dtype)[None]]).tolist()
        values = dict(zip(names, sums, strict=True))
        for found in (values, {"gradient norm": gradient_norm}):
            _require_finite(found, batch, of_parts, iteration, config, ranks)
        learning_rate = learning_rate_at(iteration, config)
        _update(state, learning_rate)
        end = time.perf_counter()
        on_step(
            StepRecord(
                iteration=state.iteration,
                learning_rate=learning_rate,
                losses=values,
                total=sum(values.values()),
                gradient_norm=gradient_norm,
                num_images=len(batch.images) * ranks.size,
                seconds=end - start,
                data_seconds=data_seconds,
            )
        )
        is_last = state.iteration == config.iterations
        is_asked = num_asking > 0 if ranks.is_joined else should_stop()
        is_stopped = is_asked and not is_last
        is_enough = False
        if on_evaluate is not None and not is_stopped and config.evaluate_every is not None:
            if is_last or state.iteration % config.evaluate_every == 0:
                is_enough = ranks.any(bool(on_evaluate(state)))
        if is_last or is_stopped or is_enough or state.iteration % config.checkpoint_every == 0:
            on_checkpoint(state)
        if is_stopped or is_enough:
            return is_enough
        end = time.perf_counter()  # evaluation and checkpoints are not training time
    return True


def _clip(state: TrainingState, config: TrainConfig) -> Tensor:
    """The gradient's norm before clipping: a scalar, still on its device."""
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if config.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, config.clip_norm, norm)
    return norm


def _update(state: TrainingState, learning_rate: float) -> None:
    """One optimizer step."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.step()
    state.iteration += 1
    if state.average is not None:
        state.average.update(state.model, state.iteration)


def not_finite(values: Mapping[str, float]) -> str:
    """The values that are not finite, in words such as "mask is nan"; empty if there are none."""
    bad = (f"{name} is {value}" for name, value in values.items() if not math.isfinite(value))
    return ", ".join(bad)


def _require_finite(
    values: dict[str, float],
    batch: Batch,
    of_parts: Tensor,
    iteration: int,
    config: TrainConfig,
    ranks: Ranks,
) -> None:
    """Raise the same error in every process; `values` are the same in all of them."""
    problem = not_finite(values)
    if not problem:
        return
    length = len(batch.images) // config.accumulate
    bad_parts = (~of_parts.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    own = [batch.image_ids[part * length + i] for part in bad_parts for i in range(length)]
    # If only the gradient is not finite, any image may be the cause.
    ids = list(chain(*ranks.gather(own))) or list(chain(*ranks.gather(list(batch.image_ids))))
    has_bad_boxes = ranks.any(not all(target.boxes.isfinite().all() for target in batch.targets))
    raise NonFiniteLossError(
        f"iteration {iteration}, images {', '.join(map(str, ids))}: {problem}. "
        f"{what_helps(iteration, config, has_bad_boxes=has_bad_boxes)}",
        batch,
        values,
    )


def add_gradients(
    step: Callable[..., dict[str, Tensor]],
    batch: Batch,
    *,
    num_parts: int,
    precision: str,
    ranks: Ranks,
    totals_of: TotalsOf | None = None,
) -> tuple[list[str], Tensor]:
    """Add the gradients of a batch to the parameters' `grad`.

    Args:
        step: (images, targets) or (images, targets, totals) -> losses to be added up; wrapped by
            `Ranks.wrap`.
        batch: this process's share.
        num_parts: number of parts to divide it into; must divide its number of images.
        precision: precision of the network, "float32" or "bfloat16".
        ranks: the processes whose shares make up the batch.
        totals_of: a function like `Criterion.totals`; needed with several parts or processes.

    Returns:
        The names of n losses, and their (parts, n) values, divided by the counts of the whole step.
    """
    images = [image.to(ranks.device, non_blocking=True) for image in batch.images]
    targets = [target.to(ranks.device, non_blocking=True) for target in batch.targets]
    length = len(images) // num_parts
    places = [slice(i * length, (i + 1) * length) for i in range(num_parts)]
    known: tuple[Totals, ...] = ()  # with a single part and process, the criterion counts
    if num_parts > 1 or ranks.size > 1:
        assert totals_of is not None
        counts = [totals_of(images[place], targets[place]).stacked() for place in places]
        known = (Totals(*ranks.sum(torch.stack(counts).sum(dim=0))),)
    names: list[str] = []
    of_parts = []
    for number, place in enumerate(places):
        is_last = number == num_parts - 1
        with contextlib.nullcontext() if is_last else ranks.without_exchange(step):
            with computing_in(precision, ranks.device):
                losses = step(images[place], targets[place], *known)
            values = torch.stack(list(losses.values()))
            # DDP averages the gradients of the processes, but their sum is needed.
            (values.sum() * ranks.size).backward()
        names = list(losses)
        of_parts.append(values.detach())
    return names, torch.stack(of_parts)


SGD_RATE = 0.01 / 16  # per image: the paper's rate and batch (section 4)
USUAL_WARMUP = 1000  # iterations (section 4)
USUAL_CLIP = 5.0


def what_helps(iteration: int, config: TrainConfig, *, has_bad_boxes: bool = False) -> str:
    """Sentences with the options to try, the most promising first.

    Args:
        iteration: the iteration in which it happened.
        config: the training's config.
        has_bad_boxes: whether a true box of these images is not finite.
    """
    if has_bad_boxes:
        return "Some of the boxes themselves are not finite: check the data"
    advice = [_learning_rate(config)]
    if config.precision == "bfloat16":
        advice.append("--precision float32, because bfloat16 has 8 bits of precision only")
    if iteration < 2 * config.warmup_iterations or config.warmup_iterations < USUAL_WARMUP:
        longer = max(2 * config.warmup_iterations, USUAL_WARMUP)
        advice.append(f"a longer warm-up, --warmup-iterations {longer}")
    if config.clip_norm is None:
        advice.append(f"clipping of the gradient, --clip-norm {USUAL_CLIP:g}")
    return f"Try {'; or '.join(advice)}"


def _learning_rate(config: TrainConfig) -> str:
    images = f"{counted(config.batch_size, 'image')} a step"
    fitting = SGD_RATE * config.batch_size
    if config.optimizer == "sgd" and config.learning_rate > 1.01 * fitting:
        return (
            f"--learning-rate {fitting:g}, which is 0.01 for 16 images scaled to {images} "
            f"(it was {config.learning_rate:g})"
        )
    return f"--learning-rate {config.learning_rate / 2:g}, half of what it was with {images}"
