"""Bottom modules: from feature maps to the K bases that all objects of an image share.

Chapter 06. BlendMask, section 3.1 and table 7. Where the paper gives no numbers, ours are marked as
our choice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.layers import BatchNorm2d

__all__ = ["BottomModule", "DeepLabDecoder", "ProtoFPN", "ProtoNetP3", "require_bottom"]

STRIDES = {"c2": 4, "p2": 4, "c3": 8, "p3": 8, "c4": 16, "p4": 16, "c5": 32, "p5": 32}


class BottomModule(nn.Module):
    """Protocol of bottom modules: any `nn.Module` with these two attributes is one.

    Attributes:
        inputs: names of the feature maps that it reads: c2 to c5 of the backbone, p2 to p7 of the
            pyramid.
        stride: s, the stride of the bases, pixels.
    """

    inputs: tuple[str, ...]
    stride: int

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """{name: (B, channels, h, w)} -> (B, K, H/s, W/s) bases, with no final activation."""
        raise NotImplementedError


def require_bottom(module: nn.Module) -> None:
    """Refuse anything that is not a bottom module.

    Raises:
        ValueError: it lacks `inputs` or `stride`, or reads a map that does not exist.
    """
    inputs, stride = getattr(module, "inputs", None), getattr(module, "stride", None)
    maps = [*STRIDES, "p6", "p7"]
    if not isinstance(inputs, tuple | list) or not inputs or not set(inputs) <= set(maps):
        raise ValueError(
            f"bottom: {type(module).__name__}.inputs = {inputs!r}: must name maps out of "
            f"{', '.join(sorted(maps))}"
        )
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(
            f"bottom: {type(module).__name__}.stride = {stride!r}: must be the stride of its "
            "bases, pixels"
        )


class ProtoFPN(BottomModule):
    """P3, P4 and P5 brought to one width, summed at stride 8, refined, upsampled to stride 4.

    This is the last row of the paper's table 7, with the kernel sizes of the released code.

    Args:
        in_channels: channels of the pyramid.
        channels: channels of its own convolutions.
        num_convs: 3x3 convolutions between the sum and the upsampling.
        num_bases: K.
    """

    def __init__(
        self, *, in_channels: int, channels: int = 128, num_convs: int = 3, num_bases: int = 4
    ) -> None:
        super().__init__()
        self.inputs = ("p3", "p4", "p5")
        self.stride = 4
        self.refine = nn.ModuleDict(
            {name: _conv_block(in_channels, channels) for name in self.inputs}
        )
        self.tower = nn.Sequential(*(_conv_block(channels, channels) for _ in range(num_convs)))
        self.last = _conv_block(channels, channels)
        self.bases = nn.Conv2d(channels, num_bases, 1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Read p3, p4 and p5; see `BottomModule`."""
        x = self.tower(self.join(features))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.bases(self.last(x))

    def join(self, features: Mapping[str, Tensor]) -> Tensor:
        """(B, channels, H/8, W/8): the three levels, refined, upsampled to p3's size and summed."""
        total: Tensor = self.refine["p3"](features["p3"])
        for name in ("p4", "p5"):
            total = total + _resized(self.refine[name](features[name]), total)
        return total


class ProtoNetP3(BottomModule):
    """YOLACT's protonet: 3x3 convolutions on P3, upsampled to stride 4 (YOLACT, section 3.1).

    Args:
        in_channels: channels of the pyramid.
        channels: channels of its own convolutions; 256 in YOLACT.
        num_convs: 3x3 convolutions before the upsampling; 3 in YOLACT.
        num_bases: K.
    """

    def __init__(
        self, *, in_channels: int, channels: int = 256, num_convs: int = 3, num_bases: int = 4
    ) -> None:
        super().__init__()
        self.inputs = ("p3",)
        self.stride = 4
        widths = [in_channels] + [channels] * num_convs
        self.tower = nn.Sequential(*(_conv_block(width, channels) for width in widths[:-1]))
        self.last = _conv_block(widths[-1], channels)
        self.bases = nn.Conv2d(channels, num_bases, 1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Read p3; see `BottomModule`."""
        x = self.tower(features["p3"])
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.bases(self.last(x))


class DeepLabDecoder(BottomModule):
    """DeepLabV3+'s decoder, the paper's first choice (Chen et al., 2018, section 3.1).

    Atrous pyramid pooling on a coarse map, upsampled and joined with a fine one. Where BlendMask
    gives no numbers, our choice is 48 channels for the fine map, as in DeepLabV3+, and rates 6, 12
    and 18 at stride 16, halved at stride 32.

    Args:
        inputs: (fine, coarse), such as ("c3", "c5"), ("p3", "p5") or ("p2", "p5").
        in_channels: channels of these two maps.
        channels: channels of its own convolutions; 128 or 256 in the paper.
        num_bases: K.
    """

    def __init__(
        self,
        *,
        inputs: tuple[str, str],
        in_channels: tuple[int, int],
        channels: int = 128,
        num_bases: int = 4,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.stride = STRIDES[inputs[0]]
        rates = (6, 12, 18) if STRIDES[inputs[1]] == 16 else (3, 6, 9)
        self.pyramid = AtrousPyramidPooling(
            in_channels=in_channels[1], channels=channels, rates=rates
        )
        self.fine = _conv_block(in_channels[0], 48, size=1)
        self.tower = nn.Sequential(
            _conv_block(channels + 48, channels), _conv_block(channels, channels)
        )
        self.bases = nn.Conv2d(channels, num_bases, 1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Read both inputs; see `BottomModule`."""
        fine = self.fine(features[self.inputs[0]])
        coarse = self.pyramid(features[self.inputs[1]])
        joined = torch.cat([_resized(coarse, fine), fine], dim=1)
        return self.bases(self.tower(joined))


class AtrousPyramidPooling(nn.Module):
    """Branches at several scales (DeepLabV3, section 3.3): 1x1, dilated 3x3, whole image."""

    def __init__(self, *, in_channels: int, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        branches = [_conv_block(in_channels, channels, size=1)]
        branches += [_conv_block(in_channels, channels, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList(branches)
        # Groups of 8 channels; batch norm learns nothing from one value per image at batch size 1.
        self.image = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, bias=False),
            nn.GroupNorm(max(channels // 8, 1), channels),
            nn.ReLU(),
        )
        self.join = _conv_block(channels * (len(rates) + 2), channels, size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)."""
        looks = [branch(x) for branch in self.branches]
        image = self.image(x.mean(dim=(2, 3), keepdim=True))
        looks.append(image.expand_as(looks[0]))
        return self.join(torch.cat(looks, dim=1))


def _conv_block(
    in_channels: int, out_channels: int, *, size: int = 3, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (size // 2)
    conv = nn.Conv2d(
        in_channels, out_channels, size, padding=padding, dilation=dilation, bias=False
    )
    nn.init.kaiming_uniform_(conv.weight, a=1)  # Caffe2's "Xavier", as in the released code
    return nn.Sequential(conv, BatchNorm2d(out_channels), nn.ReLU())


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
