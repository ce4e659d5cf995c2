"""Chapter 11, what trains the bases: whose mask each location learns, the loss, its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import wrong11 as wrong
from blendmask_lite.course.exercises.cases11 import (
    gradient_cases,
    loss_cases,
    owner_cases,
    part_cases,
)
from blendmask_lite.training.losses import mask_loss

__all__ = [
    "EXERCISES",
    "average_mask_loss",
    "gradient_of_crops",
    "losses_of_parts",
    "masks_to_learn",
]


# 11.1  Every positive location learns a mask


def masks_to_learn(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    """The true mask of every positive location of a batch.

    Args:
        owner: (B, L) int64, which object of its picture each location learns; -1 for none.
        num_objects: (B,) int64, objects of each picture.
        mask_crops: (N, R, R) bool, the masks of all objects, those of the first picture first.

    Returns:
        (P, R, R) bool, the positive locations picture by picture.
    """
    # Step 1: add to each picture's numbers the objects of all pictures before it
    first = num_objects.cumsum(dim=0) - num_objects
    numbers = owner + first[:, None]
    # Step 2: keep the positive locations, and pick their masks
    return mask_crops[numbers[owner >= 0]]


def _reference_masks_to_learn(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    crops = mask_crops.split(num_objects.tolist())
    pairs = zip(owner, crops, strict=True)
    return torch.cat([own[row[row >= 0]] for row, own in pairs])


# 11.2  The mask loss


def average_mask_loss(
    logits: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    """Binary cross entropy of the masks of all positive locations, weighted by centerness.

    Args:
        logits: (P, R, R).
        target: (P, R, R) bool.
        weight: (P,) centerness targets, 0 to 1.
        total_weight: scalar that the sum over the masks is divided by.

    Returns:
        Scalar: the mean over the cells of a mask, the weighted sum over the masks.
    """
    # Step 1: the entropy of every cell, straight from the logits
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    # Step 2: the mean over the cells of each mask, then the weighted sum over the masks
    return (entropy.mean(dim=(1, 2)) * weight).sum() / total_weight


# 11.3  One normaliser


def losses_of_parts(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    """The mask loss of a batch that is taken in parts; their sum is the undivided batch's.

    Args:
        logits: (P, R, R) of all parts together.
        target: (P, R, R) bool.
        weight: (P,) centerness targets.
        part: (P,) int64, which part each location is in, 0 to `num_parts` - 1.
        num_parts: some parts may have no location at all.

    Returns:
        (num_parts,) losses.
    """
    # Step 1: what every part is divided by, known before any of them is computed
    total = weight.sum().clamp(min=1e-6)
    # Step 2: the weighted entropy of each part alone, divided by it
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    of_masks = entropy.mean(dim=(1, 2)) * weight
    return torch.stack([of_masks[part == i].sum() for i in range(num_parts)]) / total


def _reference_losses_of_parts(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    total = weight.sum().clamp(min=1e-6)
    own = [part == i for i in range(num_parts)]
    return torch.stack([mask_loss(logits[i], target[i], weight[i], total) for i in own])


# 11.4  What reaches the bases


def gradient_of_crops(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    """The gradient of the mask loss with respect to the cropped bases r.

    Args:
        logits: (P, R, R) m = sum over k of s_k * r_k (equation 4).
        scores: (P, K, R, R) s.
        target: (P, R, R) bool.
        weight: (P,) centerness targets.
        total_weight: scalar that the loss is divided by.

    Returns:
        (P, K, R, R).
    """
    # Step 1: of a cell's entropy with respect to its logit: the probability minus the target
    error = logits.sigmoid() - target.float()
    # Step 2: the mean over R * R cells, the weight of the mask, the normaliser
    error = error * weight[:, None, None] / (total_weight * logits.shape[1] * logits.shape[2])
    # Step 3: of the logit with respect to each crop
    return error[:, None] * scores


def _reference_gradient_of_crops(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    with torch.enable_grad():
        change = torch.zeros_like(scores, requires_grad=True)
        blended = logits.detach() + (change * scores).sum(dim=1)
        loss = mask_loss(blended, target, weight, total_weight)
        return torch.autograd.grad(loss, change)[0]


EXERCISES = (
    Exercise(
        id="11.1",
        title="The mask that each positive location learns",
        minutes=10,
        difficulty=2,
        solution=masks_to_learn,
        reference=_reference_masks_to_learn,
        make_cases=owner_cases,
        result_axes="P, R, R",
        wrong_answers=wrong.MASKS,
        hints=(
            "Object 0 of the second picture: at which place of mask_crops is it?",
            "num_objects.cumsum(dim=0) - num_objects counts the objects of the pictures before.",
            "numbers = owner + first[:, None]; then mask_crops[numbers[owner >= 0]].",
        ),
    ),
    Exercise(
        id="11.2",
        title="The mask loss",
        minutes=10,
        difficulty=2,
        solution=average_mask_loss,
        reference=mask_loss,
        make_cases=loss_cases,
        wrong_answers=wrong.LOSS,
        hints=(
            "Two different means hide in it: one over cells, one over masks.",
            "F.binary_cross_entropy_with_logits with reduction='none' keeps the cells.",
            "(entropy.mean(dim=(1, 2)) * weight).sum() / total_weight.",
        ),
    ),
    Exercise(
        id="11.3",
        title="A batch in parts, one normaliser",
        minutes=10,
        difficulty=3,
        solution=losses_of_parts,
        reference=_reference_losses_of_parts,
        make_cases=part_cases,
        wrong_answers=wrong.PARTS,
        hints=(
            "A part with one object and a part with nine: should that one weigh as much as nine?",
            "Divide each part by what the undivided batch is divided by; 1e-6 where that is 0.",
            "average_mask_loss of the part's masks (part == i) with the whole weight.sum().",
        ),
    ),
    Exercise(
        id="11.4",
        title="The gradient that reaches the bases",
        minutes=15,
        difficulty=4,
        solution=gradient_of_crops,
        reference=_reference_gradient_of_crops,
        make_cases=gradient_cases,
        result_axes="P, K, R, R",
        wrong_answers=wrong.GRADIENT,
        tolerance=1e-5,
        hints=(
            "The derivative of the entropy by the logit m is sigma(m) - t: derive it once.",
            "The chain: 1 / total_weight, the mask's weight, 1 / (R * R), sigma(m) - t, and dm/dr.",
            "dm / dr_k = s_k: multiply the error (P, 1, R, R) with the scores (P, K, R, R).",
        ),
    ),
)
