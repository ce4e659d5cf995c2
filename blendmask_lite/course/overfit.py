"""Learning one image by heart with the mask loss alone: chapter 11's small training.

Classes and boxes are left out, and masks are learned over the true boxes, so that bases and
attentions can be watched in isolation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blendmask_lite.boxes import centerness
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.criterion import Criterion
from blendmask_lite.training.snapshots import (
    Snapshot,
    snapshot_iterations,
    take_snapshot,
    write_pictures,
    write_snapshot,
)

__all__ = ["MaskLoss", "OverfitStep", "learn_by_heart"]

MaskLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
LEARNING_RATE = 2e-3  # learning rate of AdamW
CLIP_NORM = 5.0
MOMENTUM = 0.5  # momentum of the norms' running statistics; a single image needs little averaging


@dataclass(frozen=True)
class OverfitStep:
    """The results of one step."""

    iteration: int  # number of steps done
    loss: float  # the mask loss before the step
    spread: float  # distance of the K bases from their mean, relative to their size
    attention_gradient: float  # largest magnitude in the gradient of the attentions' weights


def learn_by_heart(
    model: BlendMask,
    sample: Sample,
    *,
    loss: MaskLoss,
    steps: int,
    folder: str | Path | None = None,
    num_snapshots: int = 12,
) -> Iterator[OverfitStep]:
    """Train on one image, step by step.

    Args:
        model: the model, trained in place.
        sample: an image with true masks; not resized.
        loss: (logits, targets, weight, total_weight) -> scalar, like `training.losses.mask_loss`.
        steps: number of optimizer steps.
        folder: folder for snapshots, which `lab.TimeMachine` shows; None for no snapshots.
        num_snapshots: number of snapshots over all steps, at least 2.

    Yields:
        The results of each step.
    """
    assert model.top_layer is not None
    criterion = Criterion(model.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = MOMENTUM
    moments = snapshot_iterations(num_snapshots, steps)
    if folder is not None:
        write_pictures(Path(folder), model, [sample])
        _look(model, sample, 0, Path(folder))
    targets = criterion.mask_targets([sample.target])
    for iteration in range(1, steps + 1):
        model.train()
        optimizer.zero_grad()
        output = model([sample.image])
        assignment = criterion.assign(output, [sample.target])
        weight = centerness(assignment.ltrb)
        logits = criterion.masks(model, output, [sample.target], assignment)
        total = loss(logits, targets[assignment.object_index], weight, weight.sum())
        total.backward()
        gradient = model.top_layer.conv.weight.grad
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        if folder is not None and iteration in moments:
            _look(model, sample, iteration, Path(folder))
        yield OverfitStep(
            iteration=iteration,
            loss=total.item(),
            spread=spread_of(output.bases[0].detach()),
            attention_gradient=0.0 if gradient is None else gradient.abs().max().item(),
        )


def spread_of(bases: Tensor) -> float:
    """Distance of (K, h, w) bases from their mean over K, relative to their size."""
    return float((bases - bases.mean(dim=0)).norm() / bases.norm().clamp(min=1e-12))


def _look(model: BlendMask, sample: Sample, iteration: int, folder: Path) -> None:
    write_snapshot(folder, Snapshot(iteration, take_snapshot(model, [sample])))
