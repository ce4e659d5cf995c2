"""Exercises of chapter 04, FCOS's losses: focal loss, centerness and its loss, GIoU."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite import boxes as package_boxes
from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.training import losses

__all__ = ["EXERCISES"]


@task("04.1", "Focal loss", minutes=15, difficulty=4)
def focal_loss(
    logits: Tensor, labels: Tensor, num_positive: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sigmoid focal loss: -alpha_t (1 - p_t)^gamma log p_t, summed (focal loss, equation 5).

    Args:
        logits: (B, L, C), one for every class; background has none. L may be 0.
        labels: (B, L) 0 to C-1, -1 for background.
        num_positive: scalar that divides the sum.
        alpha: weight of pairs (location, class) that belong together; all others have 1 - alpha.
        gamma: how fast easy examples lose their weight.

    Returns:
        Scalar, also finite for logits of +-100.
    """
    # Step 1: 1 where a location learns a class, else 0; (B, L, C) like the logits
    classes = torch.arange(logits.shape[-1])
    is_class = (labels[..., None] == classes).to(logits.dtype)
    # Step 2: -log p_t, which is the cross entropy, from the logits
    entropy = F.binary_cross_entropy_with_logits(logits, is_class, reduction="none")
    # Step 3: p_t, the probability of what is true, and alpha_t
    probability = logits.sigmoid()
    of_truth = torch.where(is_class > 0, probability, 1 - probability)
    weight = torch.where(is_class > 0, alpha, 1 - alpha)
    # Step 4: weigh, sum, divide
    return (weight * (1 - of_truth) ** gamma * entropy).sum() / num_positive


def _focal_cases(generator: Generator) -> list[Case]:
    # Probabilities 1/2: an object costs 0.25 * 0.25 * ln 2, background 0.75 * 0.25 * ln 2.
    zero = torch.zeros(1, 2, 1), torch.tensor([[0, -1]])
    logits = torch.randn(2, 30, 4, generator=generator) * 3
    labels = torch.randint(-1, 4, (2, 30), generator=generator)
    large = torch.tensor([[[100.0, -100.0], [-100.0, 100.0]]]), torch.tensor([[0, -1]])
    nothing = torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.int64)
    return [
        Case("an object and a background location, one class", *zero, _number(1), 0.25, 2.0),
        Case("two images, 30 locations, four classes", logits, labels, _number(48), 0.25, 2.0),
        Case("gamma 1", logits, labels, _number(7), 0.25, 1.0),
        Case("gamma 0, alpha 0.5: half cross entropy", logits, labels, _number(1), 0.5, 0.0),
        Case("logits of +-100", *large, _number(1), 0.25, 2.0),
        Case("no location", *nothing, _number(1), 0.25, 2.0),
    ]


def _number(value: float) -> Tensor:
    return torch.tensor(float(value))


FOCAL_LOSS = Exercise(
    solution=focal_loss,
    reference=lambda logits, labels, num_positive, alpha, gamma: losses.focal_loss(
        logits, labels, num_positive, alpha=alpha, gamma=gamma
    ),
    make_cases=_focal_cases,
    gradients=("logits",),
    wrong_answers=(
        WrongAnswer(
            {"torch.where(is_class > 0, alpha, 1 - alpha)": "alpha"},
            "Objects and background have the same weight. Objects have alpha, background 1 - "
            "alpha.",
        ),
        WrongAnswer(
            {"(1 - of_truth) ** gamma": "of_truth**gamma"},
            "You kept the easy examples and silenced the hard ones. The weight is (1 - p_t)^gamma, "
            "with p_t the probability of the truth.",
        ),
        WrongAnswer(
            {"labels[..., None]": "labels[..., None].clamp(min=0)"},
            "You took background (-1) for class 0. It has no class: its row of is_class is 0.",
        ),
        WrongAnswer(
            {"* entropy)": "* -of_truth.clamp(min=1e-6).log())"},
            "Right for small logits, but for large ones the probability rounds to 0 and its "
            "logarithm is cut off. Compute the cross entropy from the logits.",
        ),
    ),
    hints=(
        "A location of class 2 is positive for class 2 and background for all other classes.",
        "F.binary_cross_entropy_with_logits of logits and is_class is -log p_t.",
        "(alpha_t * (1 - p_t) ** gamma * entropy).sum() / num_positive, with torch.where.",
    ),
)


@task("04.2", "Centerness", minutes=5, difficulty=2)
def centerness(ltrb: Tensor) -> Tensor:
    """How central a location lies in its box (FCOS, equation 3).

    Args:
        ltrb: (..., 4) distances to the left, top, right and bottom side, > 0.

    Returns:
        (...) sqrt( min(l, r) / max(l, r) * min(t, b) / max(t, b) ): 1 at the center, near 0 at
        the sides.
    """
    left, top, right, bottom = ltrb.unbind(dim=-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()


def _centerness_cases(generator: Generator) -> list[Case]:
    # The center; l / r = 1/4 alone gives 1/2; 1/4 both ways gives 1/4; and the mirrored ones.
    few = torch.tensor([[8.0, 4, 8, 4], [2, 4, 8, 4], [2, 1, 8, 4], [8, 4, 2, 4], [8, 4, 2, 1]])
    return [
        Case("five locations", few),
        Case("two rows of 20 locations", _sides(generator, 2, 20)),
    ]


def _sides(generator: Generator, *shape: int) -> Tensor:
    """(..., 4) distances from 0.5 to 4.5."""
    return torch.rand(*shape, 4, generator=generator) * 4 + 0.5


CENTERNESS = Exercise(
    solution=centerness,
    reference=package_boxes.centerness,
    make_cases=_centerness_cases,
    result_axes="P",
    wrong_answers=(
        WrongAnswer(
            {".sqrt()": ""},
            "The square root is missing. It keeps the centerness from falling too fast.",
        ),
        WrongAnswer(
            {
                "torch.minimum(left, right) / torch.maximum(left, right)": "left / right",
                "torch.minimum(top, bottom) / torch.maximum(top, bottom)": "top / bottom",
            },
            "left / right is above 1 in the right half of the box. Divide the smaller distance by "
            "the larger one, wherever the location is.",
        ),
        WrongAnswer(
            {"left, top, right, bottom =": "left, right, top, bottom ="},
            "You compared left with top, and right with bottom. The order is l, t, r, b: opposite "
            "sides are two places apart.",
        ),
    ),
    hints=(
        "What are l / r and t / b at the center? Which side of 1 may a ratio be on?",
        "Divide the smaller of two opposite distances by the larger one.",
        "left, top, right, bottom = ltrb.unbind(dim=-1), torch.minimum and torch.maximum.",
    ),
)


@task("04.3", "1 - GIoU", minutes=15, difficulty=4)
def box_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of boxes that share a location, averaged with weights.

    Args:
        predicted: (P, 4) side distances l, t, r, b in strides, >= 0.
        target: (P, 4) side distances of the true boxes, > 0.
        weight: (P,) centerness targets; their sum is > 0.

    Returns:
        Scalar: sum of weight * (1 - GIoU), divided by the sum of weight. GIoU = IoU -
        (hull - union) / hull, and IoU = (intersection + 1) / (union + 1), as in the released code.
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


def _box_cases(generator: Generator) -> list[Case]:
    # The same center, half as wide: intersection 8, union 16, hull 16: IoU 9 / 17.
    one = torch.tensor([[1.0, 2.0, 1.0, 2.0]]), torch.tensor([[2.0, 2.0, 2.0, 2.0]])
    # Wide against high: intersection 4, union 12, hull 16.
    two = torch.tensor([[2.0, 1.0, 2.0, 1.0]]), torch.tensor([[1.0, 2.0, 1.0, 2.0]])
    both = torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]])
    weight = torch.rand(20, generator=generator) + 0.1
    some = _sides(generator, 20), _sides(generator, 20)
    collapsed = torch.zeros(20, 4), some[1]
    return [
        Case("one box inside the other", *one, torch.ones(1)),
        Case("a wide and a high box, weights 1 and 3", *both, torch.tensor([1.0, 3.0])),
        Case("20 boxes", *some, weight),
        Case("predictions without area", *collapsed, weight),
    ]


BOX_LOSS = Exercise(
    solution=box_loss,
    reference=_reference_box_loss,
    make_cases=_box_cases,
    gradients=("predicted",),
    wrong_answers=(
        WrongAnswer(
            {" - (hull - union) / hull": ""},
            "This is 1 - IoU: the part of the hull that belongs to neither box is missing.",
        ),
        WrongAnswer(
            {" + 1)": ")"},
            "The + 1 in numerator and denominator is missing. The released code smooths the IoU by "
            "one square stride.",
        ),
        WrongAnswer(
            {"((1 - giou) * weight).sum() / weight.sum()": "(1 - giou).mean()"},
            "All locations count the same here. Central ones should count more: weight them by "
            "the centerness.",
        ),
        WrongAnswer(
            {".sum() / weight.sum()": ".mean()"},
            "You divided by the number of boxes. Divide by the sum of the weights.",
        ),
    ),
    hints=(
        "Two boxes share a location: how far does their intersection reach to its left?",
        "torch.minimum(predicted, target) are the four distances of the intersection.",
        "union = own + true - intersection; the hull is the area of torch.maximum.",
    ),
)


@task("04.4", "Centerness loss", minutes=5, difficulty=1)
def centerness_loss(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    """Binary cross entropy of predicted and true centerness (FCOS, section 3.2).

    Args:
        logits: (P,) before the sigmoid; P may be 0.
        target: (P,) any value from 0 to 1, not only 0 or 1.
        num_positive: scalar that divides the sum.

    Returns:
        Scalar: -(t log p + (1 - t) log(1 - p)), summed and divided; finite for logits of +-100.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / num_positive


def _centerness_loss_cases(generator: Generator) -> list[Case]:
    # A probability of 1/2 costs ln 2, whatever the target.
    logits, target = torch.randn(20, generator=generator), torch.rand(20, generator=generator)
    large = torch.tensor([100.0, -100.0]), torch.tensor([0.9, 0.9])
    return [
        Case("two locations at 1/2", torch.zeros(2), torch.tensor([0.2, 0.9]), _number(2)),
        Case("20 locations", logits, target, _number(20)),
        Case("logits of +-100", *large, _number(2)),
        Case("no location", torch.zeros(0), torch.zeros(0), _number(1)),
    ]


CENTERNESS_LOSS = Exercise(
    solution=centerness_loss,
    reference=losses.centerness_loss,
    make_cases=_centerness_loss_cases,
    gradients=("logits",),
    wrong_answers=(
        WrongAnswer(
            lambda logits, target, num: -(target * F.logsigmoid(logits)).sum() / num,
            "The second half is missing: (1 - t) log(1 - p). Without it, a prediction of 1 is best "
            "everywhere.",
        ),
        WrongAnswer(
            {"(logits, target,": "(logits, target.round(),"},
            "You rounded the targets to 0 and 1. They are soft: 0.7 should be predicted as 0.7.",
        ),
        WrongAnswer(
            lambda logits, target, num: (logits.sigmoid() - target).square().sum() / num,
            "This is the squared error. FCOS trains the centerness with cross entropy.",
        ),
    ),
    hints=(
        "Which function of torch takes logits, and targets that are not only 0 and 1?",
        "F.binary_cross_entropy_with_logits has an argument reduction.",
        'reduction="sum", divided by num_positive.',
    ),
)


EXERCISES = (FOCAL_LOSS, CENTERNESS, BOX_LOSS, CENTERNESS_LOSS)
