"""Deep layer aggregation (Yu et al., 2018): blocks joined by trees instead of one after another.

Names are the same as in the published ImageNet weights, which load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.backbones.interface import Backbone
from blendmask_lite.model.layers import make_norm

__all__ = ["DLA", "Tree"]

CHANNELS = (16, 32, 64, 128, 256, 512)  # channels of levels 0 to 5 of DLA-34
DEPTHS = {2: 1, 3: 2, 4: 2, 5: 1}  # depth of the tree of each level


class DLA(Backbone):
    """DLA-34: two plain convolutions and four trees (DLA, figure 3 and table 1).

    Args:
        norm: see `make_norm`.
        channels: channels of the six levels, whose strides are 1, 2, 4, 8, 16 and 32.
    """

    def __init__(self, *, norm: str = "bn", channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.channels = dict(zip(("c2", "c3", "c4", "c5"), channels[2:], strict=True))
        self.base_layer = _conv_block(3, channels[0], size=7, norm=norm)
        self.level0 = _conv_block(channels[0], channels[0], norm=norm)
        self.level1 = _conv_block(channels[0], channels[1], stride=2, norm=norm)
        trees = [
            Tree(
                depth=depth,
                in_channels=channels[level - 1],
                out_channels=channels[level],
                stride=2,
                has_level_root=level > 2,
                norm=norm,
            )
            for level, depth in DEPTHS.items()
        ]
        self.level2, self.level3, self.level4, self.level5 = trees
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised, sides divisible by 32 -> {"c2": ..., "c5": ...}."""
        x = self.level1(self.level0(self.base_layer(images)))
        c2 = self.level2(x)
        c3 = self.level3(c2)
        c4 = self.level4(c3)
        c5 = self.level5(c4)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": c5}


class Tree(nn.Module):
    """Two halves and a root that joins them with earlier maps (DLA, figure 2 and equation 2).

    Args:
        depth: 1 has two blocks, 2 has two trees of depth 1, and so on.
        in_channels, out_channels: channels of the input and of the output.
        stride: stride of the whole tree.
        has_level_root: whether the root also gets the tree's input.
        root_channels: channels of the maps that outer trees pass on to the root.
        norm: see `make_norm`.
    """

    def __init__(
        self,
        *,
        depth: int,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        has_level_root: bool = False,
        root_channels: int = 0,
        norm: str = "bn",
    ) -> None:
        super().__init__()
        self.depth = depth
        self.stride = stride
        self.has_level_root = has_level_root
        handed_down = root_channels + (in_channels if has_level_root else 0)
        if depth == 1:
            self.tree1: nn.Module = Block(in_channels, out_channels, stride=stride, norm=norm)
            self.tree2: nn.Module = Block(out_channels, out_channels, norm=norm)
            self.root = Root(2 * out_channels + handed_down, out_channels, norm=norm)
        else:
            self.tree1 = Tree(
                depth=depth - 1,
                in_channels=in_channels,
                out_channels=out_channels,
                stride=stride,
                norm=norm,
            )
            self.tree2 = Tree(
                depth=depth - 1,
                in_channels=out_channels,
                out_channels=out_channels,
                root_channels=out_channels + handed_down,
                norm=norm,
            )
        self.project: nn.Sequential | None = None
        if in_channels != out_channels:
            self.project = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), make_norm(norm, out_channels)
            )
            # In a deep tree nothing reads this layer: the inner trees have their own projections.
            # It is kept because the published weights have it, and is never trained.
            self.project.requires_grad_(depth == 1)

    def forward(self, x: Tensor, children: tuple[Tensor, ...] = ()) -> Tensor:
        """Aggregate the maps of both halves and of the outer trees.

        Args:
            x: (B, in_channels, H, W).
            children: maps (B, ..., H / stride, W / stride) that are passed on to the root.

        Returns:
            (B, out_channels, H / stride, W / stride).
        """
        bottom = F.max_pool2d(x, self.stride) if self.stride > 1 else x
        if self.has_level_root:
            children = (*children, bottom)
        if self.depth == 1:
            residual = bottom if self.project is None else self.project(bottom)
            first = self.tree1(x, residual)
            second = self.tree2(first, first)
            return self.root((second, first, *children))
        first = self.tree1(x)
        return self.tree2(first, (*children, first))


class Block(nn.Module):
    """ResNet's basic block; the tree computes its shortcut."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = make_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = make_norm(norm, channels)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """`x` (B, in_channels, H, W) and the shortcut -> (B, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + residual)


class Root(nn.Module):
    """A 1x1 convolution over the concatenated parts."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = make_norm(norm, out_channels)

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        """(B, ..., H, W) each -> (B, out_channels, H, W)."""
        return F.relu(self.bn(self.conv(torch.cat(parts, dim=1))))


def _conv_block(
    in_channels: int, out_channels: int, *, size: int = 3, stride: int = 1, norm: str
) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, make_norm(norm, out_channels), nn.ReLU())
