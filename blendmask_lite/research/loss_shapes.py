"""Losses of any prediction: values, and gradients on each of the four sides.

Chapter 04.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from blendmask_lite.training.losses import centerness_loss, focal_loss

__all__ = [
    "BOX_LOSSES",
    "BoxLoss",
    "box_loss_of",
    "centerness_curve",
    "entropy",
    "focal_curve",
    "follow_gradient",
]

Box = tuple[float, float, float, float]
STEPS = tuple(0.5**halving for halving in range(9))  # step sizes that are tried, pixels
BOX_LOSSES = ("L1", "-log IoU", "1 - IoU", "1 - GIoU")


@dataclass(frozen=True)
class BoxLoss:
    """One loss of a predicted box.

    Attributes:
        value: the loss; infinite for -log IoU of boxes that do not touch.
        gradient: gradient with respect to the sides x0, y0, x1, y1 of the predicted box, per pixel;
            0 if the loss is infinite, because no direction is better than another, and for a side
            that lies on the true side.
    """

    value: float
    gradient: Box

    @property
    def has_direction(self) -> bool:
        """Whether the gradient of any side is not 0."""
        return any(part != 0 for part in self.gradient)


def box_loss_of(name: str, predicted: Sequence[float], true: Sequence[float]) -> BoxLoss:
    """One loss and its gradient.

    Args:
        name: "L1" (sum over the four sides), "-log IoU" (UnitBox, equation 2), "1 - IoU", or
            "1 - GIoU" (Rezatofighi et al., 2019, algorithm 1; without the training's smoothing).
        predicted: (x0, y0, x1, y1), pixels.
        true: (x0, y0, x1, y1), pixels.

    Raises:
        ValueError: the name is unknown, or a box has no area.
    """
    if name not in BOX_LOSSES:
        raise ValueError(f"loss {name!r}: there are {', '.join(BOX_LOSSES)}")
    for what, box in (("predicted", predicted), ("true", true)):
        if not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"{what} box {tuple(box)}: must be wider and higher than nothing")
    with torch.enable_grad():
        sides = torch.tensor(predicted, dtype=torch.float64, requires_grad=True)
        target = torch.tensor(true, dtype=torch.float64)
        loss = _loss(name, sides, target)
        if not loss.isfinite():
            return BoxLoss(loss.item(), (0.0, 0.0, 0.0, 0.0))
        (gradient,) = torch.autograd.grad(loss, sides)
    # If a side lies on the true side, the loss rises in both directions, so it should not move.
    x0, y0, x1, y1 = gradient.masked_fill(sides.detach() == target, 0).tolist()
    return BoxLoss(loss.item(), (x0, y0, x1, y1))


def follow_gradient(
    name: str, predicted: Sequence[float], true: Sequence[float], *, num_steps: int
) -> list[Box]:
    """The boxes of gradient descent, starting with the predicted box.

    In each step the side with the largest gradient moves by one pixel, and the others in
    proportion. If the loss would not decrease, a half, a quarter, ... of this step is tried.

    Args:
        name: name of the loss.
        predicted: the first box, pixels.
        true: the true box, pixels.
        num_steps: largest number of steps; there are fewer if no step decreases the loss.
    """
    x0, y0, x1, y1 = (float(side) for side in predicted)
    way: list[Box] = [(x0, y0, x1, y1)]
    for _ in range(num_steps):
        further = _step_down(name, way[-1], true)
        if further is None:
            break
        way.append(further)
    return way


def _step_down(name: str, box: Box, true: Sequence[float]) -> Box | None:
    here = box_loss_of(name, box, true)
    largest = max(abs(part) for part in here.gradient)
    if largest == 0:
        return None
    for step in STEPS:
        x0, y0, x1, y1 = (
            _moved(side, -step * part / largest, target)
            for side, part, target in zip(box, here.gradient, true, strict=True)
        )
        is_box = x0 < x1 and y0 < y1
        if is_box and box_loss_of(name, (x0, y0, x1, y1), true).value < here.value:
            return x0, y0, x1, y1
    return None


def _moved(side: float, way: float, target: float) -> float:
    """A side after a step; it stops at the true side, where all losses have a kink."""
    after = side + way
    return target if min(side, after) < target < max(side, after) else after


def _loss(name: str, predicted: Tensor, true: Tensor) -> Tensor:
    if name == "L1":
        return (predicted - true).abs().sum()
    compare = generalized_box_iou if name == "1 - GIoU" else box_iou
    overlap: Tensor = compare(predicted[None], true[None])[0, 0]
    return -overlap.log() if name == "-log IoU" else 1 - overlap


def focal_curve(
    logits: Tensor, *, is_object: bool, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Focal loss and its gradient with respect to the logit, for one location and one class.

    Args:
        logits: (n,).
        is_object: whether the location learns this class or background.
        alpha: weight of objects; the background has 1 - alpha.
        gamma: exponent; 0 gives a weighted cross entropy.

    Returns:
        (n,) losses and (n,) gradients.
    """
    label = torch.tensor([[0 if is_object else -1]])
    one = torch.ones(())

    def loss_of(logit: Tensor) -> Tensor:
        return focal_loss(logit[None, None, None], label, one, alpha=alpha, gamma=gamma)

    return _curve(loss_of, logits)


def centerness_curve(logits: Tensor, target: float) -> tuple[Tensor, Tensor]:
    """Centerness loss and its gradient with respect to the logit, for one location.

    Args:
        logits: (n,).
        target: between 0 and 1.

    Returns:
        (n,) losses and (n,) gradients.
    """
    soft, one = torch.tensor([target]), torch.ones(())
    return _curve(lambda logit: centerness_loss(logit[None], soft, one), logits)


def entropy(targets: Tensor) -> Tensor:
    """The lowest binary cross entropy for soft targets (...): -t log t - (1-t) log(1-t)."""
    return torch.special.entr(targets) + torch.special.entr(1 - targets)


def _curve(loss_of: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of every single logit; the training's losses are sums."""
    gradients, losses = torch.func.vmap(torch.func.grad_and_value(loss_of))(logits)
    return losses, gradients
