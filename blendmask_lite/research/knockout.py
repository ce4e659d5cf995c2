"""The value of a base: masks and AP without it, with more of it, or without its positions.

Chapter 15. The kind of the wrong cells tells more than their number: they belong to neighbours or
to the background.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.evaluation.pictures import in_batches, require_same_names
from blendmask_lite.evaluation.results import InstanceResults
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import evaluating
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.objects import CroppedObjects, complexity

__all__ = [
    "MEAN_ATTENTION",
    "NO_PLACE",
    "TURNED_PLACE",
    "KnockOuts",
    "MaskErrors",
    "change_base",
    "knock_out_bases",
    "knock_out_effects",
    "mask_errors",
    "with_changed_base",
    "without_place",
]


@dataclass(frozen=True)
class KnockOuts:
    """An evaluation of the model as it is, and one with each of its K bases changed.

    The boxes do not depend on the bases: only masks change.

    Attributes:
        baseline: evaluation of the model as it is.
        changed: K evaluations, with one base changed in each.
    """

    baseline: InstanceResults
    changed: tuple[InstanceResults, ...]

    @property
    def ap_changes(self) -> Tensor:
        """(K,) mask AP minus the baseline's mask AP, percentage points."""
        before = self.baseline.mask["AP"]
        return torch.tensor([after.mask["AP"] - before for after in self.changed])


def change_base(bases: Tensor, base: int, *, factor: float | None = 0.0) -> Tensor:
    """A copy of the bases with one of them multiplied or replaced by its mean.

    Args:
        bases: (..., K, h, w).
        base: 0-based index of the base.
        factor: factor of the base: 0 knocks it out, 2 boosts it. If None, its mean over the map
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
    """The output with one base changed; `masks_at` and `find_objects` accept it like any output."""
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
        dataset: data set with the model's classes.
        factor: as in `change_base`.
        max_images: number of images to take from the start of the data set; by default all.
        progress: called with (done, total).

    Raises:
        ValueError: the data have other classes than the model.
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


@dataclass(frozen=True)
class MaskErrors:
    """Errors of N masks that have as many cells as the true masks.

    Attributes:
        iou: (N,) IoU with the true masks, 0 to 1.
        neighbours: (N,) share of the mask's cells that belong to other objects.
        background: (N,) share of the mask's cells that belong to no object.
        outline: (N,) length of the outline divided by the true mask's: above 1 if it is rougher.
    """

    iou: Tensor
    neighbours: Tensor
    background: Tensor
    outline: Tensor

    def since(self, before: MaskErrors) -> MaskErrors:
        """The changes from `before` to these errors, for the same objects."""
        own, others = vars(self), vars(before)
        return MaskErrors(**{name: own[name] - others[name] for name in own})


def mask_errors(mask_logits: Tensor, objects: CroppedObjects) -> MaskErrors:
    """Compare masks with the true masks at equal area: the cells with the largest logits count.

    Removing a base also shifts all logits up or down. This alone would make every mask grow or
    shrink, and so touch more or fewer neighbours. With equal areas, only the order of the logits
    counts.

    Args:
        mask_logits: (N, R, R) mask logits over the true boxes.
        objects: the N objects.
    """
    own = objects.own.flatten(1)
    area = own.sum(dim=1, keepdim=True)
    rank = mask_logits.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    masks = (rank < area).view_as(objects.own)
    wrong = masks & ~objects.own
    at_neighbours = (wrong & objects.neighbours).flatten(1).sum(dim=1)
    elsewhere = (wrong & ~objects.neighbours).flatten(1).sum(dim=1)
    cells = area[:, 0].clamp(min=1)
    longer = (complexity(masks) / complexity(objects.own)).nan_to_num(nan=1.0).sqrt()
    return MaskErrors(
        mask_iou(masks, objects.own), at_neighbours / cells, elsewhere / cells, longer
    )


def without_place(crops: Tensor, inside: Tensor, *, is_turned: bool = False) -> Tensor:
    """Crops without information on the position in the box: slopes in x and y are subtracted.

    Each base's slopes are fitted by least squares over the cells of all objects together, as for
    the scores x and y of `score_bases`.

    Args:
        crops: (N, K, R, R).
        inside: (N, R, R) bool, the objects' own cells.
        is_turned: subtract the same slopes turned by 90 degrees, as a control: this changes the
            crops as much, but leaves the information on the position.
    """
    size = crops.shape[-1]
    ramp = ((torch.arange(size, device=crops.device) + 0.5) / size * 2 - 1).expand(size, size)
    ramps = torch.stack([torch.ones_like(ramp), ramp, ramp.T])  # constant, x, y
    places = ramps[:, None].expand(-1, len(crops), -1, -1)[:, inside].T  # (cells, 3)
    values = crops.transpose(0, 1)[:, inside].T  # (cells, K)
    x_slope, y_slope = torch.linalg.lstsq(places, values).solution[1:, :, None, None]
    if is_turned:
        x_slope, y_slope = -y_slope, x_slope
    return crops - (x_slope * ramp + y_slope * ramp.T)


NO_PLACE = "no place in any base"
TURNED_PLACE = "control: place turned"
MEAN_ATTENTION = "one attention for all"


@torch.no_grad()
def knock_out_effects(model: BlendMask, objects: CroppedObjects) -> dict[str, MaskErrors]:
    """Changes of the errors of all masks if a base or some information is removed.

    Args:
        model: the model that made `objects`.
        objects: the N objects.

    Returns:
        Changes by name: "base 1 times 0" and so on for every base; `NO_PLACE`, see `without_place`,
        and its control `TURNED_PLACE`; `MEAN_ATTENTION`, with the mean attention for every object.
    """
    crops, attentions, merger = objects.crops, objects.attentions, model.merger
    changed = {f"base {k + 1} times 0": change_base(crops, k) for k in range(crops.shape[1])}
    changed[NO_PLACE] = without_place(crops, objects.own)
    changed[TURNED_PLACE] = without_place(crops, objects.own, is_turned=True)
    logits = {name: merger(each, attentions) for name, each in changed.items()}
    logits[MEAN_ATTENTION] = merger(crops, attentions.mean(dim=0).expand_as(attentions))
    before = mask_errors(merger(crops, attentions), objects)
    return {name: mask_errors(each, objects).since(before) for name, each in logits.items()}
