"""The losses, each one a plain function.

Chapters 04 and 11. Focal loss (Lin et al., 2017), FCOS section 3.2, BlendMask's mask loss as the
released code has it. Inputs are float32; every sum over nothing is a zero that stays attached.
"""

from __future__ import annotations

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
]


def focal_loss(
    logits: Tensor, labels: Tensor, num_positive: Tensor, *, alpha: float = 0.25, gamma: float = 2
) -> Tensor:
    """Sigmoid focal loss, summed over locations and classes (focal loss, equation 5).

    Args:
        logits: (B, L, C).
        labels: (B, L) 0 to C-1, -1 for background.
        num_positive: scalar that the sum is divided by, at least 1.
        alpha: weight of the positive class; 1 - alpha of the negative.
        gamma: how fast easy examples lose their weight.

    Returns:
        Scalar.
    """
    is_class = F.one_hot(labels + 1, logits.shape[-1] + 1)[..., 1:].to(logits.dtype)
    probability = logits.sigmoid()
    error = probability + is_class - 2 * probability * is_class  # 1 - p of what is true
    weight = (1 - alpha) + (2 * alpha - 1) * is_class
    entropy = F.binary_cross_entropy_with_logits(logits, is_class, reduction="none")
    return (weight * error**gamma * entropy).sum() / num_positive


def box_loss(
    predicted: Tensor, target: Tensor, unit: Tensor, weight: Tensor, total_weight: Tensor
) -> Tensor:
    """1 - GIoU of the positive locations, weighted by centerness.

    Args:
        predicted: (P, 4) side distances, pixels.
        target: (P, 4) the same of the true box.
        unit: (P,) strides, pixels; see `ltrb_giou`.
        weight: (P,) centerness targets.
        total_weight: scalar that the sum is divided by, above 0.

    Returns:
        Scalar.
    """
    return ((1 - ltrb_giou(predicted, target, unit)) * weight).sum() / total_weight


def centerness_loss(logits: Tensor, target: Tensor, num_positive: Tensor) -> Tensor:
    """Binary cross entropy of the positive locations (FCOS, section 3.2).

    Targets between 0 and 1 have an entropy of their own: the loss cannot fall below some 0.6.

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
        total_weight: scalar that the sum is divided by, the box loss' own.

    Returns:
        Scalar: the mean over the cells of a mask, the weighted sum over the masks.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return (entropy.mean(dim=(1, 2)) * weight).sum() / total_weight


def semantic_loss(logits: Tensor, semantic: Tensor, num_cells: Tensor | None = None) -> Tensor:
    """Cross entropy over background and classes, the mean over all cells.

    Args:
        logits: (B, C+1, H/8, W/8).
        semantic: (B, H, W) int64, padded with 0; read at every eighth pixel, as the released
            code's nearest resizing does.
        num_cells: scalar that the sum is divided by; None: the cells of this batch.

    Returns:
        Scalar.
    """
    cells = semantic[:, ::8, ::8]
    total = F.cross_entropy(logits, cells, reduction="sum")
    return total / (cells.numel() if num_cells is None else num_cells)


def panoptic_loss(logits: Tensor, stuff: Tensor, num_labelled: Tensor | None = None) -> Tensor:
    """Cross entropy over things and stuff (Panoptic FPN, section 3), the mean over labelled pixels.

    Args:
        logits: (B, 1+S, H/4, W/4) of the panoptic branch; compared at every pixel.
        stuff: (B, H, W) int64, 0 things, 1 to S stuff, 255 does not count.
        num_labelled: scalar that the sum is divided by, at least 1; None: the labelled pixels of
            this batch.

    Returns:
        Scalar; 0 where no pixel is labelled.
    """
    pixels = enlarge_logits(logits)
    total = F.cross_entropy(pixels, stuff, ignore_index=UNLABELLED, reduction="sum")
    if num_labelled is None:
        num_labelled = (stuff != UNLABELLED).sum().clamp(min=1)
    return total / num_labelled
