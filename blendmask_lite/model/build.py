"""The network's parts, built as the config says."""

from __future__ import annotations

from collections.abc import Sequence

from blendmask_lite.config import LEVEL_STRIDES, ModelConfig
from blendmask_lite.model.attention import TopLayer
from blendmask_lite.model.bottom import BottomModule, DeepLabDecoder, ProtoFPN, ProtoNetP3
from blendmask_lite.model.fpn import FPN
from blendmask_lite.model.merge import Assembler, Blender, Merger, WeightedSum
from blendmask_lite.model.panoptic import NUM_STEPS, PanopticHead, SemanticHead

__all__ = [
    "make_bottom",
    "make_fpn",
    "make_merger",
    "make_panoptic_head",
    "make_semantic_head",
    "make_top_layer",
]


def make_fpn(
    config: ModelConfig, channels: dict[str, int], *, bottom_inputs: Sequence[str] | None = None
) -> FPN:
    """The pyramid, with only those levels that the detector, bottom module or semantic head reads.

    A level that nothing reads would have weights without a gradient, which stop training in several
    processes.

    Raises:
        ValueError: the lowest level needs a map that the backbone does not give.
    """
    inputs = bottom_inputs or config.bottom_inputs
    needs = {name for name in (*config.levels, *inputs, "p3") if name[0] == "p"}
    if config.num_stuff_classes:
        needs |= set(NUM_STEPS)
    if "p6" in needs:
        needs.add("p5")
    lowest = min(needs, key=lambda name: LEVEL_STRIDES[name])
    if lowest == "p2" and "c2" not in channels:
        raise ValueError("backbone: gives no c2, and the config's levels or bottom module need p2")
    return FPN(
        in_channels={name: n for name, n in channels.items() if name[1] >= lowest[1]},
        out_channels=config.pyramid_channels,
        num_top_levels=sum(name in ("p6", "p7") for name in config.levels),
        levels=needs,
    )


def make_bottom(config: ModelConfig, channels: dict[str, int]) -> BottomModule:
    """The module that predicts the bases."""
    if config.bottom == "deeplab":
        fine, coarse = config.bottom_inputs
        pyramid = config.pyramid_channels
        return DeepLabDecoder(
            inputs=(fine, coarse),
            in_channels=(channels.get(fine, pyramid), channels.get(coarse, pyramid)),
            channels=config.bottom_channels,
            num_bases=config.num_bases,
        )
    kind = ProtoFPN if config.bottom == "proto_fpn" else ProtoNetP3
    return kind(
        in_channels=config.pyramid_channels,
        channels=config.bottom_channels,
        num_convs=config.num_bottom_convs,
        num_bases=config.num_bases,
    )


def make_merger(config: ModelConfig) -> Merger:
    """The blender, or the merger that the config names instead."""
    if config.merger == "weighted_sum":
        return WeightedSum(num_bases=config.num_bases, has_tanh=True, has_relu=True)
    if config.merger == "assembler":
        return Assembler(num_bases=config.num_bases)
    return Blender(
        num_bases=config.num_bases,
        attention_size=config.attention_size,
        mode=config.attention_interpolation,
    )


def make_top_layer(config: ModelConfig, attention_channels: int) -> TopLayer | None:
    """The layer that predicts attentions; None if the merger needs none."""
    if attention_channels == 0:
        return None
    return TopLayer(in_channels=config.pyramid_channels, attention_channels=attention_channels)


def make_semantic_head(config: ModelConfig) -> SemanticHead | None:
    """The auxiliary head; None if its loss has no weight."""
    if config.semantic_weight == 0:
        return None
    return SemanticHead(
        in_channels=config.pyramid_channels,
        channels=config.semantic_channels,
        num_classes=config.num_classes,
    )


def make_panoptic_head(config: ModelConfig) -> PanopticHead | None:
    """The panoptic branch; None if there is no stuff."""
    if config.num_stuff_classes == 0:
        return None
    return PanopticHead(
        in_channels=config.pyramid_channels,
        channels=config.panoptic_channels,
        num_stuff_classes=config.num_stuff_classes,
    )
