"""Backbones: networks that turn an image into maps c2 to c5 at strides 4 to 32, by config name.

Chapter 02.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from blendmask_lite.config import BACKBONE_LIBRARIES, ModelConfig
from blendmask_lite.model.backbones.dla import DLA
from blendmask_lite.model.backbones.efficientnet_lite import EfficientNetLite0
from blendmask_lite.model.backbones.interface import Backbone, require_backbone
from blendmask_lite.model.backbones.library import LibraryBackbone
from blendmask_lite.model.backbones.resnet import DEPTHS, BasicBlock, Bottleneck, ResNet

__all__ = ["BACKBONES", "Backbone", "make_backbone", "require_backbone"]


def make_backbone(config: ModelConfig) -> Backbone:
    """The backbone that a config names: one of ours, or one of timm's or torchvision's.

    Raises:
        ImportError: timm is not installed.
        ValueError: the library has no such network, or the network has no maps at these strides.
    """
    library, _, name = config.backbone.partition("/")
    if library in BACKBONE_LIBRARIES:
        return LibraryBackbone(
            library=library,
            name=name,
            norm=config.backbone_norm,
            frozen_stages=config.frozen_stages,
        )
    return BACKBONES[config.backbone](config)


def _small(config: ModelConfig) -> ResNet:
    widths = tuple(config.stage_width * i for i in (1, 2, 4, 6))
    return ResNet(
        block=BasicBlock,
        num_blocks=(1, 1, 1, 1),
        stem="3x3",
        stem_channels=config.stem_channels,
        widths=widths,
        channels=widths,
        norm=config.backbone_norm,
        frozen_stages=config.frozen_stages,
    )


def _resnet(config: ModelConfig, *, depth: int) -> ResNet:
    doubling = (1, 2, 4, 8)
    return ResNet(
        block=Bottleneck if depth >= 50 else BasicBlock,
        num_blocks=DEPTHS[depth],
        stem_channels=config.stem_channels,
        widths=tuple(config.stage_width * i for i in doubling),
        channels=tuple(config.stage_channels * i for i in doubling),
        stride_in_1x1=config.stride_in_1x1,
        norm=config.backbone_norm,
        frozen_stages=config.frozen_stages,
        deform_interval=config.deform_interval,
    )


BACKBONES: dict[str, Callable[[ModelConfig], Backbone]] = {
    "small": _small,
    **{f"resnet{depth}": partial(_resnet, depth=depth) for depth in DEPTHS},
    "dla34": lambda config: DLA(norm=config.backbone_norm),
    "efficientnet_lite0": lambda config: EfficientNetLite0(
        norm=config.backbone_norm, frozen_stages=config.frozen_stages
    ),
}
