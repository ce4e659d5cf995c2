"""The network's output: one type for training, inference and inspection."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from blendmask_lite.model.fcos import level_values

__all__ = ["BlendMaskOutput"]


@dataclass(frozen=True)
class BlendMaskOutput:
    """Everything that the network computed for a batch of B images, also in training.

    Attributes:
        features: maps by name, (B, channels, h, w): the backbone's c2-c5, the pyramid's p2-p7.
        box_features: the box tower's last map of every level, which the top layer reads.
        class_logits: (B, L, C).
        ltrb: (B, L, 4) distances to the sides, pixels, at least float32.
        centerness_logits: (B, L).
        bases: (B, K, H/s, W/s).
        locations: (L, 2) cell centers as (x, y), pixels of the padded input.
        level_shapes: (h, w) of every level; their cells add up to L.
        level_strides: stride of every level, in pixels.
        image_sizes: (height, width) of every image before padding.
    """

    features: dict[str, Tensor]
    box_features: tuple[Tensor, ...]
    class_logits: Tensor
    ltrb: Tensor
    centerness_logits: Tensor
    bases: Tensor
    locations: Tensor
    level_shapes: tuple[tuple[int, int], ...]
    level_strides: tuple[int, ...]
    image_sizes: tuple[tuple[int, int], ...]

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of locations of every level."""
        return tuple(height * width for height, width in self.level_shapes)

    @property
    def location_strides(self) -> Tensor:
        """(L,) the stride of each location's level, pixels."""
        strides = [float(stride) for stride in self.level_strides]
        return level_values(strides, self.level_sizes, device=self.locations.device)
