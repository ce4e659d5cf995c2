"""The training's losses of one prediction, over all that it might be.

Chapter 04. Every number is `training.losses`' own, asked for one location at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blendmask_lite.training.losses import centerness_loss, focal_loss

__all__ = ["centerness_curve", "entropy", "focal_curve"]


def focal_curve(
    logits: Tensor, *, is_object: bool, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Focal loss and its gradient by the logit, for one location and one class.

    Args:
        logits: (n,).
        is_object: the location learns this class; otherwise background.
        alpha: weight of objects; 1 - alpha of background.
        gamma: 0 is a weighted cross entropy.

    Returns:
        (n,) losses and (n,) gradients.
    """
    label = torch.tensor([[0 if is_object else -1]])
    one = torch.ones(())

    def loss_of(logit: Tensor) -> Tensor:
        return focal_loss(logit[None, None, None], label, one, alpha=alpha, gamma=gamma)

    return _curve(loss_of, logits)


def centerness_curve(logits: Tensor, target: float) -> tuple[Tensor, Tensor]:
    """Centerness loss and its gradient by the logit, for one location.

    Args:
        logits: (n,).
        target: between 0 and 1.

    Returns:
        (n,) losses and (n,) gradients.
    """
    soft, one = torch.tensor([target]), torch.ones(())
    return _curve(lambda logit: centerness_loss(logit[None], soft, one), logits)


def entropy(targets: Tensor) -> Tensor:
    """The least binary cross entropy there is for soft targets (...): -t log t - (1-t) log(1-t)."""
    return torch.special.entr(targets) + torch.special.entr(1 - targets)


def _curve(loss_of: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of every logit by itself: what the training sums is asked for one at a time."""
    gradients, losses = torch.func.vmap(torch.func.grad_and_value(loss_of))(logits)
    return losses, gradients
