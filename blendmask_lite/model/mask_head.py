"""The paper's mask branch: bases, attentions, and the merger that turns both into masks.

Chapters 06 to 09. `BlendMask` uses it, and any other detector can: it needs feature maps, boxes,
and something to predict an object's attentions from (`course/torchvision_masks.py` has three).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_lite.model.bottom import BottomModule, require_bottom
from blendmask_lite.model.layers import at_least_float32, without_autocast
from blendmask_lite.model.merge import Merger, crop_bases, require_merger

__all__ = ["MaskHead"]


class MaskHead(nn.Module):
    """Masks for the boxes of any detector (BlendMask, figure 2 and section 3).

    Args:
        bottom: predicts the K bases that all objects of an image share; see `BottomModule`.
        top_layer: predicts (N, A) raw attentions from what the detector knows of its objects:
            `TopLayer` from a box tower's maps at the objects' locations, `nn.Linear` from features
            that each object already has. None if the merger needs no attentions (A = 0).
        merger: turns crops and attentions into masks; see `Merger`.
        mask_size: R, side of a crop and of a predicted mask, in cells.
        pooling: "align" (RoIAlign, one sample per cell) or "pool" (RoIPool).

    Raises:
        ValueError: a part lacks what its protocol asks for, or the merger needs attentions and
            there is no top layer.
    """

    def __init__(
        self,
        bottom: BottomModule,
        top_layer: nn.Module | None,
        merger: Merger,
        *,
        mask_size: int = 56,
        pooling: str = "align",
    ) -> None:
        super().__init__()
        require_bottom(bottom)
        require_merger(merger)
        if top_layer is None and merger.attention_channels > 0:
            raise ValueError(
                f"top_layer = None: {type(merger).__name__} needs "
                f"{merger.attention_channels} attentions an object"
            )
        self.bottom, self.top_layer, self.merger = bottom, top_layer, merger
        self.mask_size, self.pooling = mask_size, pooling

    def bases(self, features: Mapping[str, Tensor]) -> Tensor:
        """(B, K, H/s, W/s) bases of all images, from feature maps by name."""
        return self.bottom(features)

    def attentions(self, *known: Any) -> Tensor:
        """Raw attentions of N objects.

        Args:
            *known: what the top layer is called with. The last one is a tensor with one row per
                object: (maps of all levels, (N, 2) pairs of image and location) for `TopLayer`,
                ((N, channels) features,) for `nn.Linear`.

        Returns:
            (N, A); A = 0 if there is no top layer.
        """
        if self.top_layer is None:
            return torch.zeros(known[-1].shape[0], 0, device=known[-1].device)
        return self.top_layer(*known)

    def crops(self, bases: Tensor, image_index: Tensor, boxes: Tensor) -> Tensor:
        """Equation 1: (N, K, R, R) bases, cut out along (N, 4) boxes of their (N,) images."""
        return crop_bases(
            bases,
            boxes,
            image_index,
            size=self.mask_size,
            stride=self.bottom.stride,
            pooling=self.pooling,
        )

    def merge(self, crops: Tensor, attentions: Tensor) -> Tensor:
        """Equations 2 to 4, in float32: crops and (N, A) raw attentions -> (N, R, R) logits."""
        with without_autocast(crops.device):
            logits: Tensor = self.merger(at_least_float32(crops), at_least_float32(attentions))
        return logits

    def forward(
        self, bases: Tensor, attentions: Tensor, image_index: Tensor, boxes: Tensor
    ) -> Tensor:
        """Masks of N objects (equations 1 to 4).

        Args:
            bases: (B, K, H/s, W/s), the result of `bases`.
            attentions: (N, A) raw attentions, the result of `attentions`.
            image_index: (N,) int64, index of each object's image.
            boxes: (N, 4) corners, pixels of the detector's input.

        Returns:
            (N, R, R) mask logits over the boxes; `paste_masks` brings their probabilities to the
            size of an image.
        """
        return self.merge(self.crops(bases, image_index, boxes), attentions)
