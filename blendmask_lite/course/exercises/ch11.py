"""Exercises of chapter 11, what trains the bases: masks to learn, the loss, its gradient."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite.boxes import centerness as package_centerness
from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.exercises.ch04 import box_loss, centerness, centerness_loss, focal_loss
from blendmask_lite.training import losses
from blendmask_lite.training.losses import mask_loss

__all__ = ["EXERCISES"]


@task("11.1", "The mask that each positive location learns", minutes=10, difficulty=2)
def masks_to_learn(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    """The true mask of every positive location of a batch.

    Args:
        owner: (B, L) int64, the object of its image that each location learns; -1 for none.
        num_objects: (B,) int64, objects of each image.
        mask_crops: (N, R, R) bool, the masks of all objects, those of the first image first.

    Returns:
        (P, R, R) bool, the masks of the positive locations, image by image. P may be 0.
    """
    # Step 1: add the number of objects in all images before to each image's numbers
    first = num_objects.cumsum(dim=0) - num_objects
    numbers = owner + first[:, None]
    # Step 2: keep the positive locations, and take their masks
    return mask_crops[numbers[owner >= 0]]


def _reference_masks_to_learn(owner: Tensor, num_objects: Tensor, mask_crops: Tensor) -> Tensor:
    crops = mask_crops.split(num_objects.tolist())
    pairs = zip(owner, crops, strict=True)
    return torch.cat([own[row[row >= 0]] for row, own in pairs])


def _owner_cases(generator: Generator) -> list[Case]:
    def crops(num: int, size: int) -> Tensor:
        return torch.rand(num, size, size, generator=generator) > 0.5

    few, counts = torch.tensor([[0, -1, 0], [1, 0, -1]]), torch.tensor([2, 0, 3, 1])
    owners = [torch.randint(-1, int(count), (40,), generator=generator) for count in counts]
    many, none = torch.stack(owners), torch.full((2, 5), -1)
    return [
        Case("two images, 1 and 2 objects, 3 locations", few, torch.tensor([1, 2]), crops(3, 2)),
        Case("four images, one without objects, 28 x 28", many, counts, crops(6, 28)),
        Case("no positive location", none, torch.tensor([1, 1]), crops(2, 4)),
    ]


MASKS = Exercise(
    solution=masks_to_learn,
    reference=_reference_masks_to_learn,
    make_cases=_owner_cases,
    result_axes="P, R, R",
    wrong_answers=(
        WrongAnswer(
            {" + first[:, None]": ""},
            "Every image begins at object 0 of the first one. Count the objects of the images "
            "before.",
        ),
        WrongAnswer(
            {
                "first[:, None]": "torch.arange(len(owner))[:, None]",
                "numbers[owner >= 0]": "numbers[owner >= 0].clamp(max=len(mask_crops) - 1)",
            },
            "You added the number of the image, not the number of objects before it.",
        ),
        WrongAnswer(
            {"numbers[owner >= 0]": "numbers.T[owner.T >= 0]"},
            "Your order is location by location. It should be image by image, so that logits and "
            "masks belong together.",
        ),
    ),
    hints=(
        "Object 0 of the second image: at which index of mask_crops is it?",
        "num_objects.cumsum(dim=0) - num_objects counts the objects of the images before.",
        "numbers = owner + first[:, None]; then mask_crops[numbers[owner >= 0]].",
    ),
)


@task("11.2", "The mask loss", minutes=10, difficulty=2)
def average_mask_loss(
    logits: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    """Binary cross entropy of the masks of all positive locations, weighted by centerness.

    Args:
        logits: (P, R, R); P may be 0.
        target: (P, R, R) bool.
        weight: (P,) centerness targets, 0 to 1.
        total_weight: scalar that divides the sum over the masks.

    Returns:
        Scalar: the mean over the cells of a mask, the weighted sum over the masks.
    """
    # Step 1: the entropy of every cell, straight from the logits
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    # Step 2: the mean over the cells of each mask, then the weighted sum over the masks
    return (entropy.mean(dim=(1, 2)) * weight).sum() / total_weight


def _loss_cases(generator: Generator) -> list[Case]:
    logits, target, weight = _masks(generator, 12, 28)
    far = _masks(generator, 3, 7, scale=80.0)
    zero = torch.zeros(2, 2, 2)  # an entropy of log 2 = 0.693 in every cell
    nothing = (torch.zeros(0, 28, 28), torch.zeros(0, 28, 28).bool(), torch.zeros(0))
    by_hand = (zero, zero == 0, torch.tensor([1.0, 0.5]), torch.tensor(2.0))
    return [
        Case("two masks of 2 x 2, all logits 0: (1 + 0.5) * 0.693 / 2", *by_hand),
        Case("12 masks of 28 x 28", logits, target, weight, weight.sum()),
        Case("logits of +-80", *far, torch.tensor(2.5)),
        Case("no positive location", *nothing, torch.tensor(1e-6)),
    ]


def _masks(
    generator: Generator, num: int, size: int, scale: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and weights."""
    logits = torch.randn(num, size, size, generator=generator) * scale
    target = torch.rand(num, size, size, generator=generator) > 0.5
    return logits, target, torch.rand(num, generator=generator)


LOSS = Exercise(
    solution=average_mask_loss,
    reference=mask_loss,
    make_cases=_loss_cases,
    gradients=("logits",),
    wrong_answers=(
        WrongAnswer(
            {".mean(": ".sum("},
            "You added up the cells of a mask, so the loss is R * R times too large and grows with "
            "the resolution. Take their mean.",
        ),
        WrongAnswer(
            {" * weight)": ")"},
            "All positive locations count the same: the weights are missing in the sum.",
        ),
        WrongAnswer(
            {"/ total_weight": "/ max(len(weight), 1)"},
            "You divided the sum by the number of masks. Divide by total_weight, as in the box "
            "loss.",
        ),
    ),
    hints=(
        "The loss has two different means: one over cells, one over masks.",
        "F.binary_cross_entropy_with_logits with reduction='none' keeps the cells.",
        "(entropy.mean(dim=(1, 2)) * weight).sum() / total_weight.",
    ),
)


@task("11.3", "A batch in parts, one normaliser", minutes=10, difficulty=3)
def losses_of_parts(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    """The mask losses of the parts of a batch, whose sum is the loss of the whole batch.

    Args:
        logits: (P, R, R) of all parts together; P may be 0.
        target: (P, R, R) bool.
        weight: (P,) centerness targets.
        part: (P,) int64, the part of each location, 0 to `num_parts` - 1.
        num_parts: number of parts; some may have no location.

    Returns:
        (num_parts,) losses; that of a part without locations is 0.
    """
    # Step 1: the divisor of all parts, known before any of them is computed
    total = weight.sum().clamp(min=1e-6)
    # Step 2: the weighted entropy of each part, divided by it
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    of_masks = entropy.mean(dim=(1, 2)) * weight
    return torch.stack([of_masks[part == i].sum() for i in range(num_parts)]) / total


def _reference_losses_of_parts(
    logits: Tensor, target: Tensor, weight: Tensor, part: Tensor, num_parts: int
) -> Tensor:
    total = weight.sum().clamp(min=1e-6)
    own = [part == i for i in range(num_parts)]
    return torch.stack([mask_loss(logits[i], target[i], weight[i], total) for i in own])


def _part_cases(generator: Generator) -> list[Case]:
    few, many = _masks(generator, 4, 2), _masks(generator, 30, 14)
    drawn = torch.randint(0, 3, (30,), generator=generator)
    nothing = (torch.zeros(0, 4, 4), torch.zeros(0, 4, 4).bool(), torch.zeros(0))
    return [
        Case("four masks of 2 x 2, three in the first part", *few, torch.tensor([0, 0, 0, 1]), 2),
        Case("30 masks in four parts, the last one empty", *many, drawn, 4),
        Case("hardly any weight", *few[:2], 1e-4 * few[2], torch.tensor([0, 0, 0, 1]), 2),
        Case("no positive location", *nothing, torch.zeros(0, dtype=torch.int64), 2),
    ]


PARTS = Exercise(
    solution=losses_of_parts,
    reference=_reference_losses_of_parts,
    make_cases=_part_cases,
    gradients=("logits",),
    wrong_answers=(
        WrongAnswer(
            {
                ".sum() for i": ".sum() / weight[part == i].sum().clamp(min=1e-6) for i",
                "]) / total": "])",
            },
            "You divided each part by its own weight. The sum of the parts is then about num_parts "
            "times the loss of the whole batch.",
        ),
        WrongAnswer(
            {
                ".sum() for i": ".sum() / weight[part == i].sum().clamp(min=1e-6) for i",
                "]) / total": "]) / num_parts",
            },
            "You divided each part by its own weight, then by the number of parts. The size is "
            "right, but an object in a part with few of them weighs more than one among many.",
        ),
        WrongAnswer(
            {"weight.sum().clamp(min=1e-6)": "max(len(weight), 1)"},
            "The parts share one normaliser, but the wrong one: the number of masks, not the sum "
            "of their weights.",
        ),
    ),
    hints=(
        "One part has one object, another has nine: should the one weigh as much as the nine?",
        "Divide each part by the divisor of the whole batch; 1e-6 if that is 0.",
        "average_mask_loss of the part's masks (part == i) with the weight.sum() of all.",
    ),
)


@task("11.4", "The gradient that reaches the bases", minutes=15, difficulty=4)
def gradient_of_crops(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    """The gradient of the mask loss with respect to the cropped bases r.

    Args:
        logits: (P, R, R) m = sum over k of s_k * r_k (equation 4); P may be 0.
        scores: (P, K, R, R) s.
        target: (P, R, R) bool.
        weight: (P,) centerness targets.
        total_weight: scalar that divides the loss.

    Returns:
        (P, K, R, R).
    """
    # Step 1: derivative of a cell's entropy by its logit: the probability minus the target
    error = logits.sigmoid() - target.float()
    # Step 2: the mean over R * R cells, the weight of the mask, the normaliser
    error = error * weight[:, None, None] / (total_weight * logits.shape[1] * logits.shape[2])
    # Step 3: derivative of the logit by each crop
    return error[:, None] * scores


def _reference_gradient_of_crops(
    logits: Tensor, scores: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    with torch.enable_grad():
        change = torch.zeros_like(scores, requires_grad=True)
        blended = logits.detach() + (change * scores).sum(dim=1)
        loss = mask_loss(blended, target, weight, total_weight)
        return torch.autograd.grad(loss, change)[0]


def _gradient_cases(generator: Generator) -> list[Case]:
    def case(what: str, num: int, num_bases: int, size: int) -> Case:
        logits, target, weight = _masks(generator, num, size)
        scores = torch.randn(num, num_bases, size, size, generator=generator).softmax(dim=1)
        return Case(what, logits, scores, target, weight, weight.sum() + 0.5)

    cell = torch.zeros(1, 1, 1)  # p - t = -0.5, weights 0.25 and 0.75, one cell, divided by 2
    scores = torch.tensor([0.25, 0.75])[None, :, None, None]
    by_hand = (cell, scores, cell == 0, torch.ones(1), torch.tensor(2.0))
    return [
        Case("one cell, two bases: -0.0625 and -0.1875", *by_hand),
        case("two masks of 2 x 2, two bases", 2, 2, 2),
        case("five masks of 28 x 28, four bases", 5, 4, 28),
        case("no mask", 0, 4, 7),
    ]


GRADIENT = Exercise(
    solution=gradient_of_crops,
    reference=_reference_gradient_of_crops,
    make_cases=_gradient_cases,
    result_axes="P, K, R, R",
    tolerance=1e-5,
    wrong_answers=(
        WrongAnswer(
            {" * logits.shape[1] * logits.shape[2]": ""},
            "The mean over the R * R cells is missing: each cell counts 1 / (R * R).",
        ),
        WrongAnswer(
            {"logits.sigmoid() - target.float()": "target.float() - logits.sigmoid()"},
            "The sign is wrong. If the probability is too high, the gradient is positive; the "
            "optimizer moves against it.",
        ),
        WrongAnswer(
            {"* scores": "* torch.ones_like(scores)"},
            "All bases get the same gradient. The blender multiplies crop k by s_k, so the "
            "gradient is multiplied by it, too.",
        ),
        WrongAnswer(
            {"logits.sigmoid()": "logits"},
            "The logit minus the target is the derivative of a squared error. The derivative of "
            "the entropy has the probability instead.",
        ),
    ),
    hints=(
        "The derivative of the entropy by the logit m is sigma(m) - t. Derive it once.",
        "The chain: 1 / total_weight, the mask's weight, 1 / (R * R), sigma(m) - t, and dm/dr.",
        "dm / dr_k = s_k: multiply the error (P, 1, R, R) by the scores (P, K, R, R).",
    ),
)


@task("11.5", "Four losses and their divisors", minutes=30, difficulty=4)
def batch_losses(
    class_logits: Tensor,
    ltrb: Tensor,
    centerness_logits: Tensor,
    mask_logits: Tensor,
    labels: Tensor,
    true_ltrb: Tensor,
    strides: Tensor,
    masks: Tensor,
) -> Tensor:
    """The losses of a batch, put together from your own of chapters 04 and 11.

    Args:
        class_logits: (B, L, C).
        ltrb: (B, L, 4) predicted distances, pixels.
        centerness_logits: (B, L).
        mask_logits: (P, R, R) of the positive locations, image by image; P may be 0.
        labels: (B, L) int64, the class that each location learns; -1 for background.
        true_ltrb: (P, 4) distances to the sides of the true boxes, pixels, > 0.
        strides: (L,) of the locations' levels, pixels.
        masks: (P, R, R) bool, true masks.

    Returns:
        (4,) losses: class (alpha 0.25, gamma 2), box, centerness, mask. The number of positive
        locations, but at least 1, divides the first and the third; the sum of their centerness,
        but at least 1e-6, divides the other two. Without a positive location, three are 0.
    """
    # Step 1: the positive locations and the divisors; centerness weighs boxes and masks
    image, location = (labels >= 0).nonzero().unbind(dim=1)
    num_positive = torch.tensor(float(max(len(location), 1)))
    weight = centerness(true_ltrb)
    total_weight = weight.sum().clamp(min=1e-6)
    # Step 2: the box loss in strides; without a positive location its mean would be 0 / 0
    stride = strides[location, None]
    own = ltrb[image, location] / stride
    box = box_loss(own, true_ltrb / stride, weight) if len(location) else own.sum()
    # Step 3: all four
    return torch.stack(
        [
            focal_loss(class_logits, labels, num_positive, 0.25, 2.0),
            box,
            centerness_loss(centerness_logits[image, location], weight, num_positive),
            average_mask_loss(mask_logits, masks, weight, total_weight),
        ]
    )


def _reference_batch_losses(
    class_logits: Tensor,
    ltrb: Tensor,
    centerness_logits: Tensor,
    mask_logits: Tensor,
    labels: Tensor,
    true_ltrb: Tensor,
    strides: Tensor,
    masks: Tensor,
) -> Tensor:
    image, location = (labels >= 0).nonzero().unbind(dim=1)
    num, weight = torch.tensor(float(max(len(location), 1))), package_centerness(true_ltrb)
    total = weight.sum().clamp(min=1e-6)
    own, unit = ltrb[image, location], strides[location]
    return torch.stack(
        [
            losses.focal_loss(class_logits, labels, num),
            losses.box_loss(own, true_ltrb, unit, weight, total),
            losses.centerness_loss(centerness_logits[image, location], weight, num),
            mask_loss(mask_logits, masks, weight, total),
        ]
    )


def _batch_cases(generator: Generator) -> list[Case]:
    def drawn(num_classes: int, labels: Tensor, size: int) -> tuple[Tensor, ...]:
        shape, num = labels.shape, int((labels >= 0).sum())
        return (
            torch.randn(*shape, num_classes, generator=generator),
            torch.rand(*shape, 4, generator=generator) * 30,
            torch.randn(shape, generator=generator),
            torch.randn(num, size, size, generator=generator) * 2,
            labels,
            torch.rand(num, 4, generator=generator) * 30 + 1,
            torch.tensor([4.0, 8.0, 16.0])[torch.arange(shape[1]) % 3],
            torch.rand(num, size, size, generator=generator) > 0.5,
        )

    many = torch.randint(-1, 3, (2, 20), generator=generator)
    at_side = list(drawn(1, torch.tensor([[0, -1]]), 2))
    at_side[5] = torch.tensor([[0.001, 10.0, 30.0, 10.0]])  # a centerness of 0.006
    return [
        Case("two locations, one of them positive", *drawn(1, torch.tensor([[0, -1]]), 2)),
        Case("two images, 20 locations, three classes", *drawn(3, many, 7)),
        Case("one location, almost on the side of its box", *at_side),
        Case("no positive location", *drawn(3, torch.full((2, 6), -1), 4)),
    ]


BATCH = Exercise(
    solution=batch_losses,
    reference=_reference_batch_losses,
    make_cases=_batch_cases,
    gradients=("class_logits", "ltrb", "centerness_logits", "mask_logits"),
    result_axes="loss",
    wrong_answers=(
        WrongAnswer(
            {" / stride": ""},
            "The box loss got pixels. Its + 1 is one square stride: divide both distances by the "
            "stride.",
        ),
        WrongAnswer(
            {"weight, total_weight": "weight, num_positive"},
            "The number of locations divides the mask loss. It should be the sum of their weights, "
            "as in the box loss.",
        ),
        WrongAnswer(
            {"weight = centerness(true_ltrb)": "weight = torch.ones(len(true_ltrb))"},
            "All positive locations weigh the same, and learn a centerness of 1. Compute their "
            "centerness.",
        ),
        WrongAnswer(
            {"masks, weight, total_weight": "masks, torch.ones(len(weight)), num_positive"},
            "The masks are averaged without weights. Centerness weighs them, and its sum divides.",
        ),
    ),
    hints=(
        "Which two numbers divide four losses? What are they if no location is positive?",
        "ltrb[image, location] are the distances of the positive locations, strides[location] "
        "their strides.",
        "box_loss(own / stride, true / stride, weight) if there is a positive location, else a "
        "zero that is still attached: own.sum().",
    ),
)


EXERCISES = (MASKS, LOSS, PARTS, GRADIENT, BATCH)
