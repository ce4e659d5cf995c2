"""A convolution that chooses where it looks: modulated deformable convolution.

Deformable ConvNets v2 (Zhu et al., 2019), equation 1. BlendMask's strongest models have one in
every third block of the backbone.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from blendmask_lite.model.precision import at_least_float32, without_autocast

__all__ = ["DeformConv2d"]


class DeformConv2d(nn.Conv2d):
    """A 3x3 convolution whose nine samples each have an offset and a weight of their own.

    A second convolution predicts them at every place. It starts at zero: no offsets, and weights
    of one half.

    Args:
        in_channels, out_channels: before and after.
        stride: of the samples, pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.offset = nn.Conv2d(in_channels, 27, 3, stride=stride, padding=1)
        self.reset_offset()

    def reset_offset(self) -> None:
        """Look where an ordinary convolution looks."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        predicted = self.offset(x)
        # In float32: torchvision has no kernel for bfloat16, and where a sample lies needs it.
        samples = at_least_float32(predicted)
        offsets = samples[:, :18]  # (dy, dx) of the nine samples, row by row
        weights = samples[:, 18:].sigmoid()
        with without_autocast(x.device):
            out: Tensor = deform_conv2d(
                at_least_float32(x),
                offsets,
                at_least_float32(self.weight),
                stride=self.stride,
                padding=self.padding,
                mask=weights,
            )
        return out.to(predicted.dtype)
