"""How much a mean depends on which pictures were drawn: the bootstrap.

Chapter 13 of the course. Efron and Tibshirani, "An Introduction to the Bootstrap", section 13.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bootstrap_interval"]

ENDS = (0.025, 0.975)  # of the middle 95 %


def bootstrap_interval(values: Tensor, draws: Tensor) -> Tensor:
    """The middle 95 % of the means of pictures drawn anew, with replacement.

    Args:
        values: (I,) float, one a picture.
        draws: (B, I) int64, B times I pictures.

    Returns:
        (2,) lower and upper end.

    Raises:
        ValueError: no draws.
    """
    if len(draws) == 0:
        raise ValueError("draws: at least one is needed")
    means = values[draws].mean(dim=1)
    return torch.quantile(means, torch.tensor(ENDS, dtype=means.dtype))
