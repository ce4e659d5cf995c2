"""The named models: every released configuration, the paper's own, and ours for teaching.

The released ones are AdelaiDet's configs/BlendMask, the table of the models page has their names.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from blendmask_lite.config import InferenceConfig, ModelConfig

__all__ = ["PRESETS", "PRESET_INFERENCE"]

_R50 = ModelConfig(
    channel_order="bgr",
    pixel_mean=(103.53, 116.28, 123.675),
    pixel_std=(1.0, 1.0, 1.0),
    stride_in_1x1=True,
)
_R101 = replace(_R50, backbone="resnet101")

# Faster: no P7, one tower for classes and boxes, shorter towers.
_R50_550 = replace(
    _R50,
    levels=("p3", "p4", "p5", "p6"),
    size_limits=(64, 128, 256),
    num_shared_convs=3,
    num_class_convs=0,
    num_box_convs=0,
    num_bottom_convs=2,
)
# Real time: no P6 either, and a backbone that is trained as a whole, norms included.
_THREE_LEVELS: Any = {"levels": ("p3", "p4", "p5"), "size_limits": (64, 128)}
_TRAINED: Any = {"backbone_norm": "bn", "frozen_stages": 0}
_RT_R50 = replace(_R50_550, **_THREE_LEVELS, **_TRAINED)

_STUFF: Any = {"num_stuff_classes": 53}  # COCO's
_DEFORMABLE: Any = {"deform_interval": 3}

# The paper's real-time models (section 4.3): a Proto-FPN of four convolutions.
_RT_R50_PAPER = replace(_R50_550, num_bottom_convs=3)

# Our choice: small enough to learn 128 px pictures on two CPU cores in minutes. Their objects are
# 20 to 60 pixels large, so everything begins one level lower than for photographs, at stride 4.
_NANO = ModelConfig(
    backbone="small",
    stem_channels=32,
    stage_width=32,
    stage_channels=32,
    backbone_norm="bn",
    frozen_stages=0,
    pyramid_channels=64,
    levels=("p2", "p3", "p4"),
    num_classes=8,
    num_shared_convs=2,
    num_class_convs=0,
    num_box_convs=0,
    size_limits=(32, 64),
    bottom="deeplab",
    bottom_inputs=("p2", "p5"),
    bottom_channels=64,
    attention_size=7,
    mask_size=28,
    semantic_channels=64,
    panoptic_channels=64,
)

PRESETS: MappingProxyType[str, ModelConfig] = MappingProxyType(
    {
        "nano": _NANO,
        "nano_panoptic": replace(_NANO, num_stuff_classes=4),
        # Released
        "r50": _R50,
        "r101": _R101,
        "r101_dcni3": replace(_R101, **_DEFORMABLE),
        "r50_550": _R50_550,
        "r50_550_dcni3": replace(_R50_550, **_DEFORMABLE),
        "rt_r50": _RT_R50,
        "rt_r50_bn_head": replace(_RT_R50, head_norm="bn_per_level"),
        "dla34": replace(_R50, backbone="dla34", **_THREE_LEVELS, **_TRAINED),
        "panoptic_r50": replace(_R50, **_STUFF),
        "panoptic_r101": replace(_R101, **_STUFF),
        "panoptic_r50_dcni3": replace(_R50, **_STUFF, **_DEFORMABLE),
        "panoptic_r101_dcni3": replace(_R101, **_STUFF, **_DEFORMABLE),
        "person_r50": replace(_R50, num_classes=1),
        # The paper's, where nothing was released
        "r50_paper": replace(_R50, bottom="deeplab", bottom_inputs=("p3", "p5")),
        "rt_r50_paper": _RT_R50_PAPER,
        "rt_r101_paper": replace(_RT_R50_PAPER, backbone="resnet101"),
    }
)

_550 = InferenceConfig(test_size=550, max_size=916)
_512 = InferenceConfig(test_size=512, max_size=736)
_128 = InferenceConfig(test_size=128, max_size=214, stuff_area=64)

PRESET_INFERENCE: MappingProxyType[str, InferenceConfig] = MappingProxyType(
    dict.fromkeys(PRESETS, InferenceConfig())
    | dict.fromkeys(("nano", "nano_panoptic"), _128)
    | dict.fromkeys(("r50_550", "r50_550_dcni3", "rt_r50_paper", "rt_r101_paper"), _550)
    | dict.fromkeys(("rt_r50", "rt_r50_bn_head", "dla34"), _512)
)
