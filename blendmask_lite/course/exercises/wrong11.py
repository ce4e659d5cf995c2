"""What students get wrong in chapter 11, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import WrongAnswer

__all__ = ["GRADIENT", "LOSS", "MASKS", "PARTS"]


# 11.1


def _masks_without_offset(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    del num_objects
    return mask_crops[owner[owner >= 0]]


def _masks_offset_by_picture(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    numbers = owner + torch.arange(len(num_objects))[:, None]
    return mask_crops[numbers[owner >= 0].clamp(max=len(mask_crops) - 1)]


def _masks_by_location(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    numbers = owner + (num_objects.cumsum(dim=0) - num_objects)[:, None]
    return mask_crops[numbers.T[owner.T >= 0]]


MASKS = (
    WrongAnswer(
        _masks_without_offset,
        "Every picture begins at object 0 of the first one. The objects of the pictures before "
        "have to be counted in.",
    ),
    WrongAnswer(
        _masks_offset_by_picture,
        "The number of the picture was added, not the number of objects before it.",
    ),
    WrongAnswer(
        _masks_by_location,
        "The order goes location by location. It goes picture by picture, so that logits and "
        "masks belong together.",
    ),
)


# 11.2


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")


def _loss_summed(logits: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor) -> Tensor:
    return (_entropy(logits, target).sum(dim=(1, 2)) * weight).sum() / total_weight


def _loss_unweighted(
    logits: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    del weight
    return _entropy(logits, target).mean(dim=(1, 2)).sum() / total_weight


def _loss_by_count(logits: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor) -> Tensor:
    del total_weight
    return (_entropy(logits, target).mean(dim=(1, 2)) * weight).sum() / max(len(weight), 1)


LOSS = (
    WrongAnswer(
        _loss_summed,
        "The cells of a mask are added up, so that the loss is R * R times too large and grows "
        "with the resolution. It is their mean.",
    ),
    WrongAnswer(
        _loss_unweighted,
        "All positive locations count the same: the weights are missing in the sum.",
    ),
    WrongAnswer(
        _loss_by_count,
        "The sum is divided by the number of masks. It is divided by total_weight, as the box "
        "loss is.",
    ),
)


# 11.3


def _sums(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every part: weighted entropy, weight, number of masks."""
    of_masks = _entropy(logits, target).mean(dim=(1, 2)) * weight
    rows = [
        (of_masks[part == i].sum(), weight[part == i].sum(), (part == i).sum())
        for i in range(num_parts)
    ]
    sums, weights, counts = zip(*rows, strict=True)
    return torch.stack(sums), torch.stack(weights), torch.stack(counts)


def _parts_by_own_weight(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    sums, weights, _ = _sums(logits, target, weight, part, num_parts)
    return sums / weights.clamp(min=1e-6)


def _parts_averaged(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    return _parts_by_own_weight(logits, target, weight, part, num_parts) / num_parts


def _parts_by_count(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    sums, _, counts = _sums(logits, target, weight, part, num_parts)
    return sums / counts.sum().clamp(min=1)


PARTS = (
    WrongAnswer(
        _parts_by_own_weight,
        "Each part is divided by its own weight: the sum of the parts is then about num_parts "
        "times the undivided loss.",
    ),
    WrongAnswer(
        _parts_averaged,
        "Each part is divided by its own weight, then by the number of parts. The size is right, "
        "but an object in a part with few of them weighs more than one among many.",
    ),
    WrongAnswer(
        _parts_by_count,
        "The parts share one normaliser, but the wrong one: the number of masks, not the sum of "
        "their weights.",
    ),
)


# 11.4


def _gradient(error: Tensor, scores: Tensor, weight: Tensor, total_weight: Tensor) -> Tensor:
    return (error * weight[:, None, None] / total_weight)[:, None] * scores


def _gradient_summed(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    return _gradient(logits.sigmoid() - target.float(), scores, weight, total_weight)


def _gradient_turned(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    error = (target.float() - logits.sigmoid()) / (logits.shape[1] * logits.shape[2])
    return _gradient(error, scores, weight, total_weight)


def _gradient_without_scores(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    error = (logits.sigmoid() - target.float()) / (logits.shape[1] * logits.shape[2])
    return _gradient(error, torch.ones_like(scores), weight, total_weight)


def _gradient_of_logits(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    error = (logits - target.float()) / (logits.shape[1] * logits.shape[2])
    return _gradient(error, scores, weight, total_weight)


GRADIENT = (
    WrongAnswer(
        _gradient_summed,
        "The mean over the R * R cells is missing: each cell has a share of 1 / (R * R).",
    ),
    WrongAnswer(
        _gradient_turned,
        "The sign is turned. Where the probability is too high the gradient is positive; the "
        "optimizer walks against it.",
    ),
    WrongAnswer(
        _gradient_without_scores,
        "All bases get the same. The blender multiplies crop k with s_k, so what comes back is "
        "multiplied with it, too.",
    ),
    WrongAnswer(
        _gradient_of_logits,
        "The logit minus the target is the derivative of a squared error. That of the entropy "
        "has the probability in its place.",
    ),
)
