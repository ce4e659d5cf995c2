"""Residual networks (He et al., "Deep Residual Learning for Image Recognition").

Chapter 02. Parameter names are torchvision's, so its weight files load as they are.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.backbones.interface import Backbone
from blendmask_lite.model.layers import DeformConv2d, conv_norm, make_norm

__all__ = ["DEPTHS", "BasicBlock", "Bottleneck", "ResNet"]

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STAGES = ("c2", "c3", "c4", "c5")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet, figure 5 left).

    Args:
        in_channels, width, out_channels: channels before, inside and after.
        stride: stride of the first convolution.
        norm: see `make_norm`.
        stride_in_1x1, is_deformable: not used; both kinds of blocks have the same arguments.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int,
        norm: str,
        stride_in_1x1: bool = False,
        is_deformable: bool = False,
    ) -> None:
        super().__init__()
        if width != out_channels or is_deformable:
            raise ValueError("a basic block has one width and no deformable convolution")
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = make_norm(norm, width)
        self.conv2 = _conv(width, out_channels, 3)
        self.bn2 = make_norm(norm, out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        out = F.relu(conv_norm(x, self.conv1, self.bn1))
        out = conv_norm(out, self.conv2, self.bn2)
        return F.relu(out + _identity(x, self.downsample))


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3, 1x1 to more, and a shortcut (ResNet, figure 5 right).

    Args:
        in_channels, width, out_channels: channels before, inside and after.
        stride: stride of the block.
        norm: see `make_norm`.
        stride_in_1x1: whether the first 1x1 has the stride, as in Caffe's weights, or the 3x3.
        is_deformable: whether the 3x3 is a `DeformConv2d`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int,
        norm: str,
        stride_in_1x1: bool = False,
        is_deformable: bool = False,
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv(in_channels, width, 1, stride_1x1)
        self.bn1 = make_norm(norm, width)
        if is_deformable:
            self.conv2: nn.Conv2d = DeformConv2d(width, width, stride=stride_3x3)
        else:
            self.conv2 = _conv(width, width, 3, stride_3x3)
        self.bn2 = make_norm(norm, width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = make_norm(norm, out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        out = F.relu(conv_norm(x, self.conv1, self.bn1))
        out = F.relu(conv_norm(out, self.conv2, self.bn2))
        out = conv_norm(out, self.conv3, self.bn3)
        return F.relu(out + _identity(x, self.downsample))


class ResNet(Backbone):
    """A stem and four stages of residual blocks.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        num_blocks: number of blocks in each of the four stages; `DEPTHS` has the published ones.
        stem: "7x7" is the published stem, followed by pooling to stride 4; "3x3" is one convolution
            with stride 2, and the first stage has stride 2 as well.
        stem_channels: channels after the stem.
        widths: channels inside the blocks of each stage.
        channels: channels after each stage.
        stride_in_1x1: see `Bottleneck`.
        norm: see `make_norm`.
        frozen_stages: 0 trains everything, 1 freezes the stem, 2 the first stage too, ...
        deform_interval: every n-th block of the last three stages is deformable; 0: none.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        num_blocks: tuple[int, ...],
        stem: Literal["7x7", "3x3"] = "7x7",
        stem_channels: int = 64,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        channels: tuple[int, ...] = (256, 512, 1024, 2048),
        stride_in_1x1: bool = False,
        norm: str = "frozen_bn",
        frozen_stages: int = 0,
        deform_interval: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.channels = dict(zip(STAGES, channels, strict=True))
        self.conv1 = _conv(3, stem_channels, 7 if stem == "7x7" else 3, 2)
        fixed = "frozen_bn" if norm == "bn" else norm  # frozen stages keep their statistics
        self.bn1 = make_norm(fixed if frozen_stages >= 1 else norm, stem_channels)
        in_channels = stem_channels
        for i, num in enumerate(num_blocks):
            blocks = []
            for j in range(num):
                is_striding = j == 0 and (i > 0 or stem == "3x3")
                is_deformable = deform_interval > 0 and i > 0 and j % deform_interval == 0
                blocks.append(
                    block(
                        in_channels=in_channels,
                        width=widths[i],
                        out_channels=channels[i],
                        stride=2 if is_striding else 1,
                        norm=fixed if frozen_stages >= i + 2 else norm,
                        stride_in_1x1=stride_in_1x1,
                        is_deformable=is_deformable,
                    )
                )
                in_channels = channels[i]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():  # after the loop above, which also sets the offsets' kernels
            if isinstance(module, DeformConv2d):
                module.reset_offset()
        frozen = [self.conv1, self.bn1, self.layer1, self.layer2, self.layer3, self.layer4]
        num_frozen = frozen_stages + 1 if frozen_stages else 0  # the stem is two modules
        for part in frozen[:num_frozen]:
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised, sides divisible by 32 -> {"c2": ..., "c5": ...}."""
        x = F.relu(conv_norm(images, self.conv1, self.bn1))
        if self.stem == "7x7":
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": c5}


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    conv = _conv(in_channels, out_channels, 1, stride)
    return nn.Sequential(conv, make_norm(norm, out_channels))


def _identity(x: Tensor, downsample: nn.Sequential | None) -> Tensor:
    if downsample is None:
        return x
    conv, norm = downsample
    assert isinstance(conv, nn.Conv2d)
    return conv_norm(x, conv, norm)
