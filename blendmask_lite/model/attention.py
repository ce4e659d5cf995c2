"""Attentions: K maps of M x M for every object, predicted where they are needed.

Chapter 08. BlendMask, section 3.1 (top layer) and section 3.2, equations 2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TopLayer", "interpolate_attentions", "normalize_attentions"]


class TopLayer(nn.Module):
    """A 3x3 convolution from the box tower to the attentions, at chosen locations only.

    Dense, K*M*M = 784 channels on every location are the most expensive layer of the network;
    at most a hundred locations become objects. So the 3x3 neighbourhoods of these are gathered
    and multiplied with the kernel: the same numbers, gradients included.

    Args:
        in_channels: of the box tower.
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
            features: box tower's maps of all levels, (B, in_channels, h, w) each.
            index: (N, 2) int64 pairs (image, location), location counted over all levels.

        Returns:
            (N, A) raw attentions; N = 0 keeps the graph attached.
        """
        windows = gather_windows(features, index)  # (N, 9, in_channels)
        kernel = self.conv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (9 * in_channels, A)
        assert self.conv.bias is not None
        return torch.addmm(self.conv.bias, windows.flatten(1), kernel)

    def dense(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Attentions everywhere, (B, A, h, w) a level: for teaching and as the test's reference."""
        return [self.conv(level) for level in features]


def gather_windows(features: Sequence[Tensor], index: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of locations, zeros beyond the border of their level.

    Args:
        features: (B, C, h, w) of every level.
        index: (N, 2) pairs (image, location).

    Returns:
        (N, 9, C), row by row.
    """
    image, location = index.unbind(dim=1)
    places, windows, first = [], [], 0
    for level in features:
        height, width = level.shape[-2:]
        inside = location - first
        place = ((inside >= 0) & (inside < height * width)).nonzero()[:, 0]
        first += height * width
        windows.append(_level_windows(level, image[place], inside[place]))
        places.append(place)
    order = torch.cat(places).argsort()
    return torch.cat(windows)[order]


def _level_windows(level: Tensor, image: Tensor, cell: Tensor) -> Tensor:
    height, width = level.shape[-2:]
    offset = torch.arange(-1, 2, device=level.device)
    row = cell // width
    y = row[:, None, None] + offset[:, None]  # (n, 3, 1)
    x = (cell - row * width)[:, None, None] + offset  # (n, 1, 3)
    is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)  # (n, 3, 3)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    values = level.permute(0, 2, 3, 1)[image[:, None, None], y, x]  # (n, 3, 3, C)
    return (values * is_inside[..., None]).flatten(1, 2)


def interpolate_attentions(attentions: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """Enlarge attention maps to the resolution of the mask: BlendMask, equation 2.

    Args:
        attentions: (N, K, M, M).
        size: R, cells.
        mode: "bilinear" (the final models) or "nearest" (the ablation's default).

    Returns:
        (N, K, R, R).
    """
    if mode == "nearest":
        return F.interpolate(attentions, size=(size, size), mode="nearest")
    # Down and across separate: two products with the (R, M) weights of an axis give the numbers of
    # `F.interpolate` in a quarter of its time.
    identity = torch.eye(attentions.shape[-1], dtype=attentions.dtype, device=attentions.device)
    along = F.interpolate(identity[None], size=size, mode="linear", align_corners=False)[0].T
    return along @ attentions @ along.T


def normalize_attentions(attentions: Tensor) -> Tensor:
    """Let the K bases compete at every cell: BlendMask, equation 3.

    Args:
        attentions: (N, K, R, R).

    Returns:
        (N, K, R, R) score maps, their sum over K is one everywhere.
    """
    return attentions.softmax(dim=1)
