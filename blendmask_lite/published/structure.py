"""Which configuration of the released code do weights belong to? Their names and sizes tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from blendmask_lite.config import ModelConfig
from blendmask_lite.presets import PRESETS

__all__ = ["differences", "read_structure", "recognise", "with_counts_of"]

HEAD = "proposal_generator.fcos_head."
NECESSARY = (f"{HEAD}cls_logits.weight", "top_layer.weight", "basis_module.tower.0.0.weight")
RESNETS = {6: "resnet50", 23: "resnet101"}  # by the number of blocks in res4
# What training on own data changes; it is taken from the weights.
COUNTS = ("num_classes", "num_stuff_classes", "semantic_weight")


def read_structure(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `ModelConfig` that names and sizes of the released code tell.

    Args:
        state: by the released code's names.

    Returns:
        Values by field; `semantic_weight` is 0 where the auxiliary head is missing, and
        `backbone` a description where it is none of ours.

    Raises:
        ValueError: the weights are of no BlendMask.
    """
    missing = [name for name in NECESSARY if name not in state]
    if missing:
        raise ValueError(f"not AdelaiDet's BlendMask: {', '.join(missing)} missing")
    top_levels = [p for p in ("p6", "p7") if f"backbone.top_block.{p}.weight" in state]
    has_level_norms = _indices(state, re.escape(HEAD) + r"\w+_tower\.1\.(\d+)\.weight") != []
    stuff = state.get("panoptic_module.predictor.weight")
    return {
        "backbone": _backbone(state),
        "deform_interval": _deform_interval(state),
        "levels": ("p3", "p4", "p5", *top_levels),
        "num_shared_convs": _num_convs(state, "share_tower"),
        "num_class_convs": _num_convs(state, "cls_tower"),
        "num_box_convs": _num_convs(state, "bbox_tower"),
        "head_norm": "bn_per_level" if has_level_norms else "gn",
        "bottom": "proto_fpn",  # the only one of the released code
        "num_bottom_convs": len(_indices(state, r"basis_module\.tower\.(\d+)\.0\.weight")) - 1,
        "num_classes": len(state[f"{HEAD}cls_logits.weight"]),
        "num_stuff_classes": 0 if stuff is None else len(stuff) - 1,
        "semantic_weight": 0.3 if "basis_module.seg_head.0.weight" in state else 0.0,
    }


def recognise(structure: Mapping[str, Any]) -> str | None:
    """The preset that is built so; None where there is none.

    Weights of one class are taken for the published person model's.

    Args:
        structure: see `read_structure`.
    """
    names = [
        name
        for name, config in PRESETS.items()
        if config.channel_order == "bgr" and differences(structure, config) == []
    ]
    exact = [n for n in names if PRESETS[n].num_classes == structure["num_classes"]]
    return next(iter(exact + names), None)


def differences(structure: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """What is built otherwise than the config says; numbers of classes may differ."""
    found = [
        f"{name} is {value!r}, not {getattr(config, name)!r}"
        for name, value in structure.items()
        if name not in COUNTS and value != getattr(config, name)
    ]
    has_branch = structure["num_stuff_classes"] > 0
    if has_branch != (config.num_stuff_classes > 0):
        found.append(f"there is {'a' if has_branch else 'no'} panoptic branch")
    return found


def with_counts_of(structure: Mapping[str, Any], config: ModelConfig) -> ModelConfig:
    """The config with the weights' numbers of classes, and without a head that they lack."""
    return replace(
        config,
        num_classes=structure["num_classes"],
        num_stuff_classes=structure["num_stuff_classes"],
        semantic_weight=config.semantic_weight if structure["semantic_weight"] else 0.0,
    )


def _backbone(state: Mapping[str, Tensor]) -> str:
    if "backbone.bottom_up.base_layer.0.weight" in state:
        return "dla34"
    num_blocks = len(_blocks(state, "conv1"))
    return RESNETS.get(num_blocks, f"one with {num_blocks} blocks in res4")


def _deform_interval(state: Mapping[str, Tensor]) -> int:
    num_deformable = len(_blocks(state, "conv2_offset"))
    return math.ceil(len(_blocks(state, "conv1")) / num_deformable) if num_deformable else 0


def _blocks(state: Mapping[str, Tensor], conv: str) -> list[int]:
    return _indices(state, rf"backbone\.bottom_up\.res4\.(\d+)\.{conv}\.weight")


def _num_convs(state: Mapping[str, Tensor], tower: str) -> int:
    """A convolution, its norm and a ReLU make three places."""
    places = _indices(state, re.escape(f"{HEAD}{tower}.") + r"(\d+)\.weight")
    return sum(place % 3 == 0 for place in places)


def _indices(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, name) for name in state)
    return sorted({int(each[1]) for each in found if each})
