"""What a base is worth: masks and AP without it, or with more of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.evaluation.pictures import in_batches, require_same_names
from blendmask_lite.evaluation.results import InstanceResults
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import evaluating
from blendmask_lite.model.output import BlendMaskOutput

__all__ = ["KnockOuts", "change_base", "knock_out_bases", "with_changed_base"]


@dataclass(frozen=True)
class KnockOuts:
    """An evaluation of the model as it is, and one for each of K bases changed.

    The boxes do not depend on the bases: only masks change.

    Attributes:
        baseline: of the model as it is.
        changed: K evaluations, one base changed in each.
    """

    baseline: InstanceResults
    changed: tuple[InstanceResults, ...]

    @property
    def ap_changes(self) -> Tensor:
        """(K,) mask AP minus that of the baseline, percentage points."""
        before = self.baseline.mask["AP"]
        return torch.tensor([after.mask["AP"] - before for after in self.changed])


def change_base(bases: Tensor, base: int, *, factor: float | None = 0.0) -> Tensor:
    """A copy of the bases with one of them multiplied or made flat.

    Args:
        bases: (..., K, h, w).
        base: which, from 0.
        factor: multiplies the base: 0 knocks it out, 2 boosts it. None: its mean over the map
            replaces it, which keeps its level and removes its shape.

    Raises:
        ValueError: there is no such base.
    """
    num_bases = bases.shape[-3]
    if not 0 <= base < num_bases:
        raise ValueError(f"base {base}: there are {num_bases}, from 0")
    changed = bases.clone()
    if factor is None:
        changed[..., base, :, :] = bases[..., base, :, :].mean(dim=(-2, -1), keepdim=True)
    else:
        changed[..., base, :, :] *= factor
    return changed


def with_changed_base(
    output: BlendMaskOutput, base: int, *, factor: float | None = 0.0
) -> BlendMaskOutput:
    """The output with one base changed; `masks_at` and `find_objects` read it like any other."""
    return replace(output, bases=change_base(output.bases, base, factor=factor))


@torch.no_grad()
def knock_out_bases(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    factor: float | None = 0.0,
    max_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> KnockOuts:
    """Evaluate a model K + 1 times, with one forward pass for each image.

    Args:
        model: each image is resized to its test size; its mode is restored afterwards.
        dataset: of the model's classes.
        factor: as in `change_base`.
        max_images: how many to take, from the first one on; None: all.
        progress: called with (done, total).

    Raises:
        ValueError: the data has other classes than the model.
    """
    require_same_names("classes", model.class_names, dataset.class_names)
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    evaluators = [InstanceEvaluator(dataset) for _ in range(1 + model.config.num_bases)]
    with evaluating(model):
        for [picture] in in_batches(model, dataset, range(total), batch_size=1):
            output = model([picture.image])
            for base, evaluator in enumerate(evaluators, start=-1):
                changed = output if base < 0 else with_changed_base(output, base, factor=factor)
                found = model.find_objects(changed, output_sizes=[picture.stored_size])[0]
                evaluator.add(dataset.image_ids[picture.index], found.to("cpu"))
            if progress is not None:
                progress(picture.index + 1, total)
    baseline, *results = [evaluator.finish() for evaluator in evaluators]
    return KnockOuts(baseline, tuple(results))
