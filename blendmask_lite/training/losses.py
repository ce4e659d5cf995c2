"""The losses, each a plain function.

Chapters 04 and 11. Focal loss (Lin et al., 2017), FCOS section 3.2, and BlendMask's mask loss as in
the released code. Inputs are float32. An empty sum is 0 and stays attached to the graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.boxes import ltrb_giou
from blendmask_lite.model.panoptic import enlarge_logits
from blendmask_lite.structures import UNLABELLED

__all__ = [
    "box_loss",
    "centerness_loss",
    "focal_loss",
    "mask_loss",
    "panoptic_loss",
    "semantic_loss",
    "sigmoid_entropy",
]


def focal_loss(
    logits: Tensor, labels: Tensor, num_positive: Tensor, *, alpha: float = 0.25, gamma: float = 2
) -> Tensor:
    """Sigmoid focal loss, summed over locations and classes (focal loss, equation 5).

    Args:
        logits: (B, L, C).
        labels: (B, L) 0 to C-1, -1 for background.
        num_positive: scalar that the sum is divided by, at least 1.
        alpha: weight of the positive class; the negative class has 1 - alpha.
        gamma: how fast easy examples lose their weight.

    Returns:
        Scalar.
    """
    is_class = F.one_hot(labels + 1, logits.shape[-1] + 1)[..., 1:].to(logits.dtype)
    error = (logits.sigmoid() - is_class).abs()  # 1 - probability of the true answer
    weight = (1 - alpha) + (2 * alpha - 1) * is_class
    return (weight * error**gamma * sigmoid_entropy(logits, is_class)).sum() / num_positive


def box_loss(
    predicted: Tensor, target: Tensor, unit: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    """1 - GIoU of the positive locations, weighted by centerness.

    Args:
        predicted: (P, 4) side distances, pixels.
        target: (P, 4) side distances of the true boxes, pixels.
        unit: (P,) strides, pixels; see `ltrb_giou`.
        weight: (P,) centerness targets.
        total_weight: scalar that the sum is divided by, above 0.

    Returns:
        Scalar.
    """
    return ((1 - ltrb_giou(predicted, target, unit)) * weight).sum() / total_weight


def centerness_loss(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    """Binary cross entropy of the positive locations (FCOS, section 3.2).

    Targets between 0 and 1 have an entropy of their own, and the loss cannot fall below it.

    Args:
        logits: (P,).
        target: (P,) between 0 and 1.
        num_positive: scalar that the sum is divided by, at least 1.

    Returns:
        Scalar.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return entropy / num_positive


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor, total_weight: Tensor) -> Tensor:
    """Binary cross entropy of the masks of all positive locations, weighted by centerness.

    Args:
        logits: (P, R, R).
        target: (P, R, R) bool.
        weight: (P,) centerness targets.
        total_weight: scalar that the sum is divided by, the same as in the box loss.

    Returns:
        Scalar: the mean over the cells of each mask, then the weighted sum over masks.
    """
    entropy = sigmoid_entropy(logits, target.to(logits.dtype))
    return (entropy.mean(dim=(1, 2)) * weight).sum() / total_weight


def sigmoid_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy at every element, as `F.binary_cross_entropy_with_logits` computes it.

    PyTorch calls log1p, which on the CPU is eight times as slow as log. It is no better here: any
    sum would lose the digits of log(1 + e), 0 < e <= 1, that log loses.

    Args:
        logits: a tensor of any shape.
        target: the same shape, 0 to 1; no gradient reaches it.

    Returns:
        The same shape, >= 0.
    """
    if logits.device.type != "cpu":
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _SigmoidEntropy.apply(logits, target)


class _SigmoidEntropy(torch.autograd.Function):
    """max(x, 0) - x t + log(1 + exp(-|x|)), whose gradient is sigmoid(x) - t."""

    generate_vmap_rule = True  # the loss playground takes gradients of many logits at once

    @staticmethod
    def forward(logits: Tensor, target: Tensor) -> Tensor:
        entropy = logits.abs().neg_().exp_().add_(1).log_()
        return entropy.add_(logits.clamp(min=0)).sub_(logits * target)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, target = ctx.saved_tensors
        return (logits.sigmoid() - target) * gradient, None


def semantic_loss(logits: Tensor, cells: Tensor, num_cells: Tensor | None = None) -> Tensor:
    """Cross entropy over background and classes, the mean over all cells.

    Args:
        logits: (B, C+1, H/8, W/8).
        cells: (B, H/8, W/8) int64, every eighth pixel of the semantic maps, padded with 0; see
            `semantic_cells`.
        num_cells: scalar that the sum is divided by; by default the number of cells of this batch.

    Returns:
        Scalar.
    """
    total = F.cross_entropy(logits, cells, reduction="sum")
    return total / (cells.numel() if num_cells is None else num_cells)


def panoptic_loss(logits: Tensor, stuff: Tensor, num_labelled: Tensor | None = None) -> Tensor:
    """Cross entropy over things and stuff (Panoptic FPN, section 3), the mean over labelled pixels.

    Args:
        logits: (B, 1+S, H/4, W/4) logits of the panoptic branch; they are compared at every pixel.
        stuff: (B, H, W) int64, 0 things, 1 to S stuff, 255 ignored.
        num_labelled: scalar that the sum is divided by, at least 1; by default the number of
            labelled pixels of this batch.

    Returns:
        Scalar; 0 if no pixel is labelled.
    """
    pixels = enlarge_logits(logits)
    total = F.cross_entropy(pixels, stuff, ignore_index=UNLABELLED, reduction="sum")
    if num_labelled is None:
        num_labelled = (stuff != UNLABELLED).sum().clamp(min=1)
    return total / num_labelled
