"""EfficientNet-Lite0: a network for phones, small enough to learn from photographs on a CPU.

Chapter 02. Google's EfficientNet (Tan & Le, 2019) without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.backbones.interface import Backbone
from blendmask_lite.model.layers import conv_norm, make_norm

__all__ = ["EfficientNetLite0", "InvertedBottleneck"]

STEM_CHANNELS = 32
# For each stage: expansion of its blocks, channels, number of blocks, stride, kernel size
# (EfficientNet, table 1).
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
LAST_BLOCK = {"c2": 2, "c3": 4, "c4": 10, "c5": 15}  # index of the last block of each stride
EPSILON = 1e-3  # epsilon of the norms; the published weights were trained with it


class EfficientNetLite0(Backbone):
    """A convolution and seven stages of inverted bottlenecks; 2.9 M weights.

    The published weights expect RGB images from 0 to 255 as (image - 127) / 128.

    Args:
        norm: see `make_norm`.
        frozen_stages: 0 trains everything, 1 freezes the first convolution, n >= 2 freezes all
            layers that map c<n> depends on.
    """

    def __init__(self, *, norm: str = "frozen_bn", frozen_stages: int = 0) -> None:
        super().__init__()
        fixed = "frozen_bn" if norm == "bn" else norm  # frozen blocks keep their statistics
        is_stem_frozen = frozen_stages >= 1
        self.stem_conv = _conv(3, STEM_CHANNELS, 3, stride=2)
        self.stem_norm = make_norm(fixed if is_stem_frozen else norm, STEM_CHANNELS, eps=EPSILON)
        num_frozen = LAST_BLOCK[f"c{frozen_stages}"] + 1 if frozen_stages >= 2 else 0
        in_channels = STEM_CHANNELS
        blocks: list[InvertedBottleneck] = []
        for expansion, channels, num_blocks, stride, size in STAGES:
            for j in range(num_blocks):
                block = InvertedBottleneck(
                    in_channels=in_channels,
                    out_channels=channels,
                    expansion=expansion,
                    size=size,
                    stride=stride if j == 0 else 1,
                    norm=fixed if len(blocks) < num_frozen else norm,
                )
                blocks.append(block)
                in_channels = channels
        self.blocks = nn.ModuleList(blocks)
        self.channels = {
            level: blocks[last].project_conv.out_channels for level, last in LAST_BLOCK.items()
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Not fan-out, which PyTorch computes as for a dense kernel: after the depthwise
                # convolutions, maps would shrink to 1e-9 at c5.
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        for part in (self.stem_conv, self.stem_norm):
            part.requires_grad_(not is_stem_frozen)
        for block in blocks[:num_frozen]:
            block.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised, sides divisible by 32 -> {"c2": ..., "c5": ...}."""
        x = _padded(images, self.stem_conv)
        x = F.relu6(conv_norm(x, self.stem_conv, self.stem_norm))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return {level: outputs[last] for level, last in LAST_BLOCK.items()}


class InvertedBottleneck(nn.Module):
    """1x1 to more channels, a depthwise convolution, 1x1 to fewer (MobileNetV2, figure 3b).

    Args:
        in_channels, out_channels: channels of the input and of the output.
        expansion: factor by which the block is wider inside; with 1 there is no first 1x1.
        size: side of the kernel in the middle.
        stride: stride of the block; with stride 1 and equal channels there is a shortcut.
        norm: see `make_norm`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        expansion: int,
        size: int,
        stride: int,
        norm: str,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand_conv = _conv(in_channels, width, 1) if expansion > 1 else None
        self.expand_norm = make_norm(norm, width, eps=EPSILON) if expansion > 1 else None
        self.depthwise_conv = _conv(width, width, size, stride=stride, groups=width)
        self.depthwise_norm = make_norm(norm, width, eps=EPSILON)
        self.project_conv = _conv(width, out_channels, 1)
        self.project_norm = make_norm(norm, out_channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        out = x
        if self.expand_conv is not None and self.expand_norm is not None:
            out = F.relu6(conv_norm(out, self.expand_conv, self.expand_norm))
        out = _padded(out, self.depthwise_conv)
        out = F.relu6(conv_norm(out, self.depthwise_conv, self.depthwise_norm))
        out = conv_norm(out, self.project_conv, self.project_norm)
        return x + out if self.has_shortcut else out


def _conv(
    in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    padding = size // 2 if stride == 1 else 0  # `_padded` does the rest
    return nn.Conv2d(in_channels, out_channels, size, stride, padding, groups=groups, bias=False)


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`x` with the padding of a strided convolution, as TensorFlow's "same" for even sides.

    There is one row fewer above than below, and one column fewer on the left than on the right.
    """
    if conv.stride[0] == 1:
        return x
    missing = conv.kernel_size[0] - conv.stride[0]
    before = missing // 2
    return F.pad(x, (before, missing - before) * 2)
