"""What students get wrong in chapter 04, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite import boxes as package_boxes
from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.training import losses

__all__ = ["BOX_LOSS", "CENTERNESS", "CENTERNESS_LOSS", "FOCAL_LOSS"]


# 04.1


def _parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a location learns a class, the cross entropy, and the probability of the truth."""
    is_class = labels[..., None] == torch.arange(logits.shape[-1])
    target = is_class.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    return is_class, entropy, torch.where(is_class, probability, 1 - probability)


def _same_alpha(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    _, entropy, of_truth = _parts(logits, labels)
    return (alpha * (1 - of_truth) ** gamma * entropy).sum() / num_positive


def _hard_ones_silenced(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    is_class, entropy, of_truth = _parts(logits, labels)
    weight = torch.where(is_class, alpha, 1 - alpha)
    return (weight * of_truth**gamma * entropy).sum() / num_positive


def _background_as_class_0(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    return losses.focal_loss(logits, labels.clamp(min=0), num_positive, alpha=alpha, gamma=gamma)


def _logarithm_of_the_probability(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    is_class, _, of_truth = _parts(logits, labels)
    weight = torch.where(is_class, alpha, 1 - alpha)
    entropy = -of_truth.clamp(min=1e-6).log()
    return (weight * (1 - of_truth) ** gamma * entropy).sum() / num_positive


FOCAL_LOSS = (
    WrongAnswer(
        _same_alpha,
        "Objects and background have the same weight. alpha is the objects'; background's is "
        "1 - alpha.",
    ),
    WrongAnswer(
        _hard_ones_silenced,
        "The easy examples are kept and the hard ones silenced. The weight is (1 - p_t)^gamma, "
        "with p_t the probability of what is true.",
    ),
    WrongAnswer(
        _background_as_class_0,
        "Background (-1) is taken for class 0. It belongs to no class: its row of is_class is 0.",
    ),
    WrongAnswer(
        _logarithm_of_the_probability,
        "Right in the middle, but for large logits the probability rounds to 0 and its logarithm "
        "is cut off. Take the cross entropy from the logits.",
    ),
)


# 04.2


def _without_root(ltrb: Tensor) -> Tensor:
    return package_boxes.centerness(ltrb) ** 2


def _one_sided(ltrb: Tensor) -> Tensor:
    left, top, right, bottom = ltrb.unbind(dim=-1)
    return (left / right * top / bottom).sqrt()


def _sides_mixed_up(ltrb: Tensor) -> Tensor:
    return package_boxes.centerness(ltrb[..., [0, 2, 1, 3]])


CENTERNESS = (
    WrongAnswer(
        _without_root,
        "The square root is missing. It keeps the centerness from falling too fast.",
    ),
    WrongAnswer(
        _one_sided,
        "left / right is above 1 in the right half of the box. The smaller one goes above the "
        "line, wherever the location is.",
    ),
    WrongAnswer(
        _sides_mixed_up,
        "Left is compared with top, and right with bottom. The order is l, t, r, b: opposite "
        "sides are two places apart.",
    ),
)


# 04.3


def _giou(predicted: Tensor, target: Tensor, smoothing: float, *, has_hull: bool = True) -> Tensor:
    inner, outer = torch.minimum(predicted, target), torch.maximum(predicted, target)
    intersection, hull, own, true = (
        (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])
        for sides in (inner, outer, predicted, target)
    )
    union = own + true - intersection
    iou = (intersection + smoothing) / (union + smoothing)
    return iou - (hull - union) / hull if has_hull else iou


def _plain_iou(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return ((1 - _giou(predicted, target, 1, has_hull=False)) * weight).sum() / weight.sum()


def _not_smoothed(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return ((1 - _giou(predicted, target, 0)) * weight).sum() / weight.sum()


def _plain_mean(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (1 - _giou(predicted, target, 1)).mean()


def _divided_by_number(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return ((1 - _giou(predicted, target, 1)) * weight).mean()


BOX_LOSS = (
    WrongAnswer(
        _plain_iou,
        "This is 1 - IoU: the part of the hull that belongs to neither box is missing.",
    ),
    WrongAnswer(
        _not_smoothed,
        "Without the + 1 above and below the line. The released code smooths the IoU by one "
        "square stride.",
    ),
    WrongAnswer(
        _plain_mean,
        "All locations count the same. Central ones should count more: weigh with the centerness.",
    ),
    WrongAnswer(
        _divided_by_number,
        "Divided by the number of boxes. The weights have to add up to 1: divide by their sum.",
    ),
)


# 04.4


def _forgotten_half(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    return -(target * F.logsigmoid(logits)).sum() / num_positive


def _rounded_targets(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    return losses.centerness_loss(logits, target.round(), num_positive)


def _squared_error(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    return (logits.sigmoid() - target).square().sum() / num_positive


CENTERNESS_LOSS = (
    WrongAnswer(
        _forgotten_half,
        "The second half is missing: (1 - t) log(1 - p). Without it a prediction of 1 is best "
        "everywhere.",
    ),
    WrongAnswer(
        _rounded_targets,
        "The targets were rounded to 0 and 1. They are soft: 0.7 shall be predicted as 0.7.",
    ),
    WrongAnswer(
        _squared_error,
        "This is the squared error. FCOS trains the centerness by cross entropy.",
    ),
)
