"""Exercises of chapter 04, FCOS' losses: focal loss, centerness and its loss, GIoU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite import boxes as package_boxes
from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases04 as cases
from blendmask_lite.course.exercises import wrong04 as wrong
from blendmask_lite.training import losses

__all__ = ["EXERCISES"]


# 04.1  Focal loss


def focal_loss(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sigmoid focal loss: -alpha_t (1 - p_t)^gamma log p_t, summed (focal loss, equation 5).

    Args:
        logits: (B, L, C), one for every class; background has none.
        labels: (B, L) 0 to C-1, -1 for background.
        num_positive: scalar that the sum is divided by.
        alpha: weight of pairs (location, class) that belong together; 1 - alpha of all others.
        gamma: how fast easy examples lose their weight.

    Returns:
        Scalar; finite for logits of +-100, too.
    """
    # Step 1: 1 where a location learns a class, else 0; (B, L, C) like the logits
    classes = torch.arange(logits.shape[-1])
    is_class = (labels[..., None] == classes).to(logits.dtype)
    # Step 2: -log p_t, which is the cross entropy; take it from the logits
    entropy = F.binary_cross_entropy_with_logits(logits, is_class, reduction="none")
    # Step 3: p_t, the probability of what is true, and alpha_t
    probability = logits.sigmoid()
    of_truth = torch.where(is_class > 0, probability, 1 - probability)
    weight = torch.where(is_class > 0, alpha, 1 - alpha)
    # Step 4: weigh, sum, divide
    return (weight * (1 - of_truth) ** gamma * entropy).sum() / num_positive


def _reference_focal_loss(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    return losses.focal_loss(logits, labels, num_positive, alpha=alpha, gamma=gamma)


# 04.2  Centerness


def centerness(ltrb: Tensor) -> Tensor:
    """How central a location lies in its box (FCOS, equation 3).

    Args:
        ltrb: (..., 4) distances to the left, top, right and bottom side, > 0.

    Returns:
        (...) sqrt( min(l, r) / max(l, r) * min(t, b) / max(t, b) ): 1 at the center, near 0 at a
        side.
    """
    left, top, right, bottom = ltrb.unbind(dim=-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()


# 04.3  Boxes


def box_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of boxes that share a location, averaged with weights.

    Args:
        predicted: (P, 4) side distances l, t, r, b in strides, >= 0.
        target: (P, 4) the same of the true boxes, > 0.
        weight: (P,) centerness targets, their sum > 0.

    Returns:
        Scalar: sum of weight * (1 - GIoU), divided by the sum of weight. GIoU = IoU -
        (hull - union) / hull, and IoU = (intersection + 1) / (union + 1), as released.
    """
    # Step 1: both boxes contain the location, so minima and maxima give intersection and hull
    inner = torch.minimum(predicted, target)
    outer = torch.maximum(predicted, target)
    # Step 2: areas, (l + r) * (t + b)
    intersection, hull, own, true = (
        (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])
        for sides in (inner, outer, predicted, target)
    )
    union = own + true - intersection
    # Step 3: GIoU, and the weighted mean
    giou = (intersection + 1) / (union + 1) - (hull - union) / hull
    return ((1 - giou) * weight).sum() / weight.sum()


def _reference_box_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    unit = torch.ones(len(predicted))  # one stride, since everything is in strides
    return losses.box_loss(predicted, target, unit, weight, weight.sum())


# 04.4  Centerness loss


def centerness_loss(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    """Binary cross entropy of predicted and true centerness (FCOS, section 3.2).

    Args:
        logits: (P,) before the sigmoid.
        target: (P,) between 0 and 1: soft, not only 0 or 1.
        num_positive: scalar that the sum is divided by.

    Returns:
        Scalar: -(t log p + (1 - t) log(1 - p)), summed and divided; finite for logits of +-100.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / num_positive


EXERCISES = (
    Exercise(
        id="04.1",
        title="Focal loss",
        minutes=15,
        difficulty=4,
        solution=focal_loss,
        reference=_reference_focal_loss,
        make_cases=cases.focal_cases,
        wrong_answers=wrong.FOCAL_LOSS,
        hints=(
            "A location of class 2 is right about class 2, and background to all other classes.",
            "F.binary_cross_entropy_with_logits of logits and is_class is -log p_t.",
            "(alpha_t * (1 - p_t) ** gamma * entropy).sum() / num_positive, with torch.where.",
        ),
    ),
    Exercise(
        id="04.2",
        title="Centerness",
        minutes=5,
        difficulty=2,
        solution=centerness,
        reference=package_boxes.centerness,
        make_cases=cases.centerness_cases,
        result_axes="P",
        wrong_answers=wrong.CENTERNESS,
        hints=(
            "What are l / r and t / b at the center? And on which side of 1 may a ratio lie?",
            "The smaller of two opposite distances goes above the line, the larger below.",
            "left, top, right, bottom = ltrb.unbind(dim=-1), torch.minimum and torch.maximum.",
        ),
    ),
    Exercise(
        id="04.3",
        title="1 - GIoU",
        minutes=15,
        difficulty=4,
        solution=box_loss,
        reference=_reference_box_loss,
        make_cases=cases.box_cases,
        wrong_answers=wrong.BOX_LOSS,
        hints=(
            "Two boxes share a location: how far to its left does their intersection reach?",
            "torch.minimum(predicted, target) are the four distances of the intersection.",
            "union = area + area - intersection; the hull is the area of torch.maximum.",
        ),
    ),
    Exercise(
        id="04.4",
        title="Centerness loss",
        minutes=5,
        difficulty=1,
        solution=centerness_loss,
        reference=losses.centerness_loss,
        make_cases=cases.centerness_loss_cases,
        wrong_answers=wrong.CENTERNESS_LOSS,
        hints=(
            "Which function of torch takes logits and targets that are not only 0 and 1?",
            "F.binary_cross_entropy_with_logits has an argument reduction.",
            'reduction="sum", divided by num_positive.',
        ),
    ),
)
