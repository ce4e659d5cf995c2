"""Merging: bases and attentions become masks.

Chapters 07, 09 and 10. BlendMask, section 3.2, equations 1 to 4, and section 4.1: YOLACT and
FCIS are the same equation 4 with other score maps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from blendmask_lite.model.attention import interpolate_attentions, normalize_attentions
from blendmask_lite.model.layers import at_least_float32

__all__ = [
    "Assembler",
    "Blender",
    "Merger",
    "WeightedSum",
    "crop_bases",
    "require_merger",
    "score_maps",
]


def crop_bases(
    bases: Tensor,
    boxes: Tensor,
    image_index: Tensor,
    *,
    size: int,
    stride: float,
    pooling: str = "align",
) -> Tensor:
    """Cut the bases out along boxes and resize them: BlendMask, equation 1.

    Args:
        bases: (B, K, H/s, W/s).
        boxes: (N, 4) corners, pixels of the padded input; outside it the bases are 0.
        image_index: (N,) index of each box's image.
        size: R, in cells.
        stride: s, in pixels.
        pooling: "align" is RoIAlign with one sample per cell, "pool" is RoIPool.

    Returns:
        (N, K, R, R), at least float32: bfloat16 has no number between 1096 and 1104, so crops would
        be shifted against their targets.
    """
    bases = at_least_float32(bases)
    regions = torch.cat([image_index[:, None].to(boxes.dtype), boxes], dim=1).to(bases.dtype)
    if pooling == "pool":
        return roi_pool(bases, regions, size, spatial_scale=1 / stride)
    return roi_align(bases, regions, size, spatial_scale=1 / stride, sampling_ratio=1, aligned=True)


class Merger(nn.Module):
    """Equation 4: a mask is the sum of its bases, weighted by score maps.

    Mergers differ only in where the score maps come from. A merger of your own may be any
    `nn.Module` with `attention_channels` and the `forward` below; add `scores` if it has score maps
    to show. Pass it as `BlendMask(config, merger=...)`, train that with
    `train_model(model=...)`, and load it with `load_model(path, merger=...)`.

    Attributes:
        attention_channels: A, the number of attention values per object.
    """

    attention_channels: int

    def scores(self, attentions: Tensor, size: int) -> Tensor:
        """(N, A) raw attentions -> (N, K, size, size) score maps."""
        raise NotImplementedError

    def forward(self, crops: Tensor, attentions: Tensor) -> Tensor:
        """Masks of N objects.

        Args:
            crops: (N, K, R, R) bases, cut out along the boxes.
            attentions: (N, A) raw attentions.

        Returns:
            (N, R, R) mask logits.
        """
        return (crops * self.scores(attentions, crops.shape[-1])).sum(dim=1)


def require_merger(module: nn.Module) -> None:
    """Refuse anything that is not a merger.

    Raises:
        ValueError: its `attention_channels` is not a whole number >= 0.
    """
    channels = getattr(module, "attention_channels", None)
    if not isinstance(channels, int) or channels < 0:
        raise ValueError(
            f"merger: {type(module).__name__}.attention_channels = {channels!r}: must be the "
            "number of attentions of an object, 0 if it needs none"
        )


def score_maps(merger: nn.Module, attentions: Tensor, size: int) -> Tensor:
    """(N, A) raw attentions -> (N, K, size, size) score maps of a merger that has some.

    Raises:
        ValueError: the merger has no `scores`.
    """
    scores = getattr(merger, "scores", None)
    if scores is None:
        raise ValueError(f"{type(merger).__name__} has no score maps to show")
    return scores(attentions, size)


class Blender(Merger):
    """Mask logits as attention-weighted bases (BlendMask, section 3.2, equations 2-4).

    Every object brings K coarse maps of M x M. They are upsampled to R x R, and a softmax over K
    makes the weights of each cell add up to one. With a single base, all of its weights would be
    one, so base and attention each pass a sigmoid instead (section 4.1).

    Args:
        num_bases: K.
        attention_size: M, in cells.
        mode: interpolation of the attentions, "bilinear" or "nearest".
    """

    def __init__(self, *, num_bases: int, attention_size: int, mode: str = "bilinear") -> None:
        super().__init__()
        self.num_bases = num_bases
        self.attention_size = attention_size
        self.attention_channels = num_bases * attention_size**2
        self.mode = mode

    def enlarge(self, attentions: Tensor, size: int) -> Tensor:
        """Equation 2: (N, K*M*M), channel k*M*M + y*M + x -> (N, K, size, size)."""
        maps = attentions.unflatten(1, (self.num_bases, self.attention_size, self.attention_size))
        return interpolate_attentions(maps, size, self.mode)

    def scores(self, attentions: Tensor, size: int) -> Tensor:
        """Equations 2 and 3: (N, K*M*M) -> (N, K, size, size), sum over K = 1.

        With one base, the scores are the sigmoid of its attention instead.
        """
        maps = self.enlarge(attentions, size)
        return maps.sigmoid() if self.num_bases == 1 else normalize_attentions(maps)

    def forward(self, crops: Tensor, attentions: Tensor) -> Tensor:
        """Equations 2 to 4; see `Merger`. One base: the logit of a product of sigmoids."""
        if self.num_bases > 1:
            return super().forward(crops, attentions)
        base = crops[:, 0]
        attention = self.enlarge(attentions, crops.shape[-1])[:, 0]
        return -torch.stack([-base, -attention, -base - attention]).logsumexp(dim=0)


class WeightedSum(Merger):
    """One coefficient per base and object (YOLACT, section 3.1; BlendMask, section 4.1).

    Args:
        num_bases: K, 32 in YOLACT.
        has_tanh: the coefficients pass a tanh, as in YOLACT.
        has_relu: the crops of the bases pass a ReLU; YOLACT has it before cropping.
    """

    def __init__(self, *, num_bases: int, has_tanh: bool = False, has_relu: bool = False) -> None:
        super().__init__()
        self.num_bases = self.attention_channels = num_bases
        self.has_tanh = has_tanh
        self.has_relu = has_relu

    def scores(self, attentions: Tensor, size: int) -> Tensor:
        """(N, K) coefficients -> (N, K, size, size), constant over the box."""
        coefficients = attentions.tanh() if self.has_tanh else attentions
        return coefficients[:, :, None, None].expand(-1, -1, size, size)

    def forward(self, crops: Tensor, attentions: Tensor) -> Tensor:
        """Equation 4 after YOLACT's tanh or ReLU, if asked for; see `Merger`."""
        return super().forward(crops.relu() if self.has_relu else crops, attentions)


class Assembler(Merger):
    """Base k fills tile k of a grid over the box (FCIS, section 2; BlendMask, section 4.1).

    Nothing is learned per object: the score maps are one-hot and the same for all.

    Args:
        num_bases: K, a square number; 49 are 7 x 7 tiles.
    """

    def __init__(self, *, num_bases: int) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.attention_channels = 0
        self.num_tiles = math.isqrt(num_bases)
        if self.num_tiles**2 != num_bases:
            raise ValueError(f"num_bases = {num_bases}: must be a square number of tiles")

    def scores(self, attentions: Tensor, size: int) -> Tensor:
        """(N, 0) -> (N, K, size, size): 1 where base k owns the cell, 0 elsewhere."""
        tile = torch.arange(size, device=attentions.device) * self.num_tiles // size
        owner = tile[:, None] * self.num_tiles + tile  # (R, R)
        base = torch.arange(self.num_bases, device=attentions.device)[:, None, None]
        is_owner = (owner == base).to(attentions.dtype)  # (K, R, R)
        return is_owner.expand(attentions.shape[0], -1, -1, -1)
