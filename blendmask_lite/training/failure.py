"""failure.pt: the step whose loss was not finite, to be inspected and repeated."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from blendmask_lite.datasets.sample import Batch
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.engine import (
    NonFiniteLossError,
    TrainingState,
    add_gradients,
    seed_step,
)
from blendmask_lite.training.resume import Recipe, make_checkpoint
from blendmask_lite.weights.checkpoint import (
    Checkpoint,
    build_model,
    read_checkpoint,
    write_checkpoint,
)

__all__ = ["FailedStep", "read_failure", "replay_failure", "save_failure"]


@dataclass(frozen=True)
class FailedStep:
    """A step that went wrong, with the batch of all processes.

    Attributes:
        checkpoint: weights before the step; but the norms' statistics already include its images.
        iteration: number of steps done before it.
        images: B images (3, H, W), uint8, augmented.
        targets: B targets.
        image_ids: B ids.
        num_parts: number of parts of the batch, over all processes.
        values: the losses, or the gradient norm, by name, as they were in the run.
    """

    checkpoint: Checkpoint
    iteration: int
    images: list[Tensor]
    targets: list[Target]
    image_ids: list[int]
    num_parts: int
    values: dict[str, float]


def save_failure(
    path: Path, error: NonFiniteLossError, state: TrainingState, recipe: Recipe, ranks: Ranks
) -> None:
    """Write the step as a checkpoint with its images; all processes call this, the first writes."""
    batch = error.batch
    shares = ranks.gather((batch.images, batch.targets, batch.image_ids))
    if not ranks.is_first:
        return
    images, targets, ids = (list(chain(*column)) for column in zip(*shares, strict=True))
    step = {
        "iteration": state.iteration,
        "images": images,
        "targets": [
            {name: value for name, value in vars(target).items() if value is not None}
            for target in targets
        ],
        "image_ids": ids,
        "num_parts": recipe.train.accumulate * ranks.size,
        "values": error.values,
    }
    content = replace(
        make_checkpoint(state, recipe),
        state=state.model.state_dict(),
        metadata={"failure": str(error)},
        training={"step": step, "config": asdict(recipe.train)},
    )
    write_checkpoint(content, path)


def read_failure(path: str | os.PathLike[str]) -> FailedStep:
    """The failed step that `save_failure` wrote.

    Raises:
        ValueError: the file is not a failed step.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.training is None or "step" not in checkpoint.training:
        raise ValueError(f"{path}: no failed step, but another checkpoint")
    step = dict(checkpoint.training["step"])
    targets = [Target(**target) for target in step.pop("targets")]
    return FailedStep(checkpoint=checkpoint, targets=targets, **step)


def replay_failure(
    path: str | os.PathLike[str],
    *,
    precision: str | None = None,
    device: str = "cpu",
    **own_parts: nn.Module,
) -> dict[str, float]:
    """Compute losses and gradient of a failed step again.

    Args:
        path: the run's failure.pt.
        precision: "float32" or "bfloat16"; if None, the run's precision.
        device: device to compute on.
        own_parts: see `load_model`.

    Returns:
        The losses by name, and "gradient norm".
    """
    failed = read_failure(path)
    config = failed.checkpoint.training["config"]  # type: ignore[index]
    # The norms' statistics already include the images, and may themselves not be finite.
    model = build_model(failed.checkpoint, source=path, must_be_finite=False, **own_parts)
    model = model.to(device).train()
    seed_step(config["seed"], failed.iteration)
    step = TrainingStep(model)
    names, of_parts = add_gradients(
        step,
        Batch(failed.images, failed.targets, failed.image_ids),
        num_parts=failed.num_parts,
        precision=precision or config["precision"],
        ranks=Ranks(device=torch.device(device)),
        totals_of=step.criterion.totals,
    )
    values = dict(zip(names, of_parts.sum(dim=0).tolist(), strict=True))
    norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf)
    return {**values, "gradient norm": norm.item()}
