"""Where reduced precision ends: geometry, masks and losses are float32, whatever came before.

Chapter 12. Backbone, pyramid, towers and bases may run in bfloat16, which has 8 bits: 1101 pixels
become 1104. So distances, boxes, crops, equations 2 to 4 and all losses have at least 24.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

__all__ = ["at_least_float32", "is_autocast_on", "without_autocast"]


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32; a tensor of float64 stays what it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def is_autocast_on(device: torch.device) -> bool:
    """Whether products on this device are autocast here; False on devices that have no autocast."""
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside of it products and convolutions keep the dtype of their inputs.

    A cast alone is not enough: autocast takes float32 factors back to bfloat16.
    """
    if is_autocast_on(device):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()  # and `torch.export` sees no context at all
