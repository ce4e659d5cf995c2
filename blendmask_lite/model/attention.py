"""Attentions: K maps of M x M for every object, predicted where they are needed.

Chapter 08. BlendMask, section 3.1 (top layer) and section 3.2, equations 2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.fcos import flatten_levels, level_values
from blendmask_lite.model.layers import at_least_float32, without_autocast

__all__ = ["TopLayer", "interpolate_attentions", "normalize_attentions"]


class TopLayer(nn.Module):
    """A 3x3 convolution from the box tower to the attentions, at chosen locations only.

    Computed densely, K*M*M = 784 channels at every location would be the most expensive layer of
    the network, yet at most a hundred locations become objects. So only the 3x3 neighbourhoods of
    those locations are gathered and multiplied with the kernel. Values and gradients are the same
    as in the dense computation.

    Args:
        in_channels: channels of the box tower.
        attention_channels: A, such as K*M*M.
    """

    def __init__(self, *, in_channels: int, attention_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, attention_channels, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor], index: Tensor) -> Tensor:
        """Attentions at some locations.

        Args:
            features: the box tower's maps, one per level, (B, in_channels, h, w) each.
            index: (N, 2) int64 pairs (image, location), with locations counted over all levels.

        Returns:
            (N, A) raw attentions, at least float32; attached to the graph even for N = 0.
        """
        windows = at_least_float32(gather_windows(features, index))  # (N, 9, in_channels)
        kernel = self.conv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (9 * in_channels, A)
        assert self.conv.bias is not None
        with without_autocast(windows.device):
            return torch.addmm(
                self.conv.bias.to(windows.dtype), windows.flatten(1), kernel.to(windows.dtype)
            )

    def dense(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Attentions everywhere, (B, A, h, w) per level: for teaching and as a test reference."""
        return [self.conv(level) for level in features]


def gather_windows(features: Sequence[Tensor], index: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of some locations, with zeros beyond the border of their level.

    Args:
        features: one map (B, C, h, w) per level.
        index: (N, 2) pairs (image, location).

    Returns:
        (N, 9, C), row by row.
    """
    image, location = index.unbind(dim=1)
    heights, widths = zip(*(level.shape[-2:] for level in features), strict=True)
    sizes = [height * width for height, width in zip(heights, widths, strict=True)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    device = location.device
    first, height, width = (
        level_values(values, sizes, device=device)[location] for values in (starts, heights, widths)
    )
    row = (location - first) // width
    column = (location - first) - row * width
    offset = torch.arange(-1, 2, device=device)
    y = row[:, None, None] + offset[:, None]  # (N, 3, 1)
    x = column[:, None, None] + offset  # (N, 1, 3)
    last_y, last_x = (height - 1)[:, None, None], (width - 1)[:, None, None]
    is_inside = (y >= 0) & (y <= last_y) & (x >= 0) & (x <= last_x)  # (N, 3, 3)
    y, x = y.clamp(min=0).minimum(last_y), x.clamp(min=0).minimum(last_x)
    neighbour = first[:, None, None] + y * width[:, None, None] + x  # (N, 3, 3)
    values = flatten_levels(features)[image[:, None, None], neighbour]  # (N, 3, 3, C)
    return (values * is_inside[..., None]).flatten(1, 2)


def interpolate_attentions(attentions: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """Upsample attention maps to the resolution of the mask: BlendMask, equation 2.

    Args:
        attentions: (N, K, M, M).
        size: R, in cells.
        mode: "bilinear" (the final models) or "nearest" (the ablation's default).

    Returns:
        (N, K, R, R).
    """
    if mode == "nearest":
        return F.interpolate(attentions, size=(size, size), mode="nearest")
    # Down and across are separate: two products with one axis's (R, M) weights give the same
    # numbers as `F.interpolate` in a quarter of its time.
    identity = torch.eye(attentions.shape[-1], dtype=attentions.dtype, device=attentions.device)
    along = F.interpolate(identity[None], size=size, mode="linear", align_corners=False)[0].T
    return along @ attentions @ along.T


def normalize_attentions(attentions: Tensor) -> Tensor:
    """Softmax over the K bases at every cell: BlendMask, equation 3.

    Args:
        attentions: (N, K, R, R).

    Returns:
        (N, K, R, R) score maps; their sum over K is one everywhere.
    """
    return attentions.softmax(dim=1)
