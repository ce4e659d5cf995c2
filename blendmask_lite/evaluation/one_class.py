"""Average precision of one class at one IoU, step by step: the basis of COCO's numbers.

Chapter 05. Lin et al., "Microsoft COCO". `average_precision.py` evaluates whole data sets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["COCO_RECALLS", "average_precision", "precision_recall"]


# 0, 0.01, ..., 1 as NumPy rounds them, which matters if a recall is only just reached.
COCO_RECALLS = torch.from_numpy(np.linspace(0, 1, 101))


def precision_recall(is_right: Tensor, num_objects: int) -> tuple[Tensor, Tensor]:
    """Precision and recall after the best detection, the best two, and so on.

    Args:
        is_right: (D,) bool, whether each detection finds a new object; detections of all images,
            best first.
        num_objects: number of true objects, at least 1.

    Returns:
        Precision and recall, (D,) float64 each.
    """
    num_right = is_right.double().cumsum(dim=0)
    num_found = torch.arange(1, len(is_right) + 1, dtype=torch.float64)
    return num_right / num_found, num_right / num_objects


def average_precision(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    """The best precision at a given recall or above, averaged over the given recalls.

    Args:
        is_right: (D,) bool, as in `precision_recall`.
        num_objects: number of true objects, at least 1.
        recalls: (T,) float64, ascending; COCO's are `COCO_RECALLS`.

    Returns:
        A float64 scalar, 0 to 1; a recall that is never reached counts as 0.
    """
    precision, recall = precision_recall(is_right, num_objects)
    envelope = precision.flip(0).cummax(dim=0).values.flip(0)
    place = torch.searchsorted(recall, recalls)  # the first detection with at least this recall
    return torch.cat([envelope, envelope.new_zeros(1)])[place].mean()
