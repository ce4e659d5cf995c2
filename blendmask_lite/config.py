"""Settings of a model and of its use: two frozen dataclasses, and the named models.

The comments on the fields give the paper's letters (R, K, M) and units. `PRESETS` holds all
released configurations (AdelaiDet's configs/BlendMask), the paper's, and ours for teaching.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from blendmask_lite.fields import require_ranges, require_types

__all__ = ["PRESETS", "PRESET_INFERENCE", "InferenceConfig", "ModelConfig"]

Norm = Literal["frozen_bn", "bn", "gn"]
HeadNorm = Literal["gn", "bn_per_level"]
Bottom = Literal["proto_fpn", "proto_p3", "deeplab"]
MergerKind = Literal["blender", "weighted_sum", "assembler"]
Interpolation = Literal["bilinear", "nearest"]
Pooling = Literal["align", "pool"]

# Our own backbones; others are named LIBRARY/NAME, such as timm/convnext_tiny.
OWN_BACKBONES = (
    "small",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "dla34",
    "efficientnet_lite0",
)
BACKBONE_LIBRARIES = ("timm", "torchvision")
# Strides of the backbone's layers, in pixels; below, the strides of the pyramid's levels.
BACKBONE_STRIDES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}
BOTTOM_INPUTS = {
    "proto_fpn": (("p3", "p4", "p5"),),
    "proto_p3": (("p3",),),
    "deeplab": (("c3", "c5"), ("c2", "c5"), ("p3", "p5"), ("p2", "p5")),
}
LEVEL_STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}

# Smallest and largest value of each field. The upper limits are our choice: far beyond every
# published model, and low enough that a config from a file cannot ask for endless layers.
CHANNELS = (1, 8192)
CONVS = (0, 64)
CLASSES = 100_000
MODEL_RANGES: dict[str, tuple[float, float]] = {
    "size_divisor": (32, 1024),
    "stem_channels": CHANNELS,
    "stage_width": CHANNELS,
    "stage_channels": CHANNELS,
    "frozen_stages": (0, 5),  # a ResNet has a stem and 4 stages
    "deform_interval": (0, 100),
    "pyramid_channels": CHANNELS,
    "num_classes": (1, CLASSES),
    "num_shared_convs": CONVS,
    "num_class_convs": CONVS,
    "num_box_convs": CONVS,
    "center_radius": (0, math.inf),  # infinite: the whole box is positive
    "bottom_channels": CHANNELS,
    "num_bottom_convs": CONVS,
    "num_bases": (1, 1024),
    "attention_size": (1, 512),
    "mask_size": (1, 512),
    "semantic_weight": (0, 1000),
    "semantic_channels": CHANNELS,
    "num_stuff_classes": (0, CLASSES),
    "panoptic_channels": CHANNELS,
    "panoptic_weight": (0, 1000),
}
INFERENCE_RANGES: dict[str, tuple[float, float]] = {
    "test_size": (1, 8192),
    "max_size": (1, 65_536),
    "score_threshold": (0, 1),
    "candidates_per_level": (1, 100_000),
    "nms_iou": (0, 1),
    "max_detections": (1, 100_000),
    "mask_threshold": (0, 1),
    "panoptic_score_threshold": (0, 1),
    "panoptic_overlap": (0, 1),
    "stuff_area": (0, 10**9),
}


@dataclass(frozen=True)
class ModelConfig:
    """The architecture and the input convention; stored in every checkpoint.

    Raises:
        ValueError: a value has the wrong type, is out of range, or does not work with the others;
            the message names its field.
    """

    # Input convention: users pass RGB, the model converts it to what its weights were trained on
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # in channel order, 0-255
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    size_divisor: int = 32  # pixels; images are padded on the right and below to a multiple of it
    # Backbone
    backbone: str = "resnet50"  # one of ours, or "timm/NAME" or "torchvision/NAME"
    stem_channels: int = 64
    stage_width: int = 64  # channels inside the first stage's blocks; doubles from stage to stage
    stage_channels: int = 256  # channels after the first stage; doubles from stage to stage
    stride_in_1x1: bool = False  # Caffe-style: stride 2 in the first 1x1, not in the 3x3
    backbone_norm: Norm = "frozen_bn"
    frozen_stages: int = 2  # 0: none, 1: the stem, 2: the first stage too, ...
    deform_interval: int = 0  # every n-th block of c3, c4, c5 is deformable; 0: none
    # Feature pyramid
    pyramid_channels: int = 256
    levels: tuple[str, ...] = ("p3", "p4", "p5", "p6", "p7")  # the levels that the detector uses
    # FCOS
    num_classes: int = 80  # C
    num_shared_convs: int = 0  # convolutions in the tower that classes and boxes share
    num_class_convs: int = 4
    num_box_convs: int = 4
    head_norm: HeadNorm = "gn"
    size_limits: tuple[float, ...] = (64, 128, 256, 512)  # each separates two levels, pixels
    center_radius: float = 1.5  # half side of the positive square, strides of the level
    # Bottom module
    bottom: Bottom = "proto_fpn"
    bottom_inputs: tuple[str, ...] = ("p3", "p4", "p5")
    bottom_channels: int = 128
    num_bottom_convs: int = 3  # 3x3 convolutions before the last upsampling
    num_bases: int = 4  # K
    # Attentions and merging
    merger: MergerKind = "blender"
    attention_size: int = 14  # M: side of an attention map, cells
    mask_size: int = 56  # R: side of a crop and of a predicted mask, cells
    attention_interpolation: Interpolation = "bilinear"
    bases_pooling: Pooling = "align"  # RoIAlign with one sample per bin, or RoIPool
    # Auxiliary semantic loss ("+semantic" in the paper's ablation, section 5)
    semantic_weight: float = 0.3  # 0: no semantic head
    semantic_channels: int = 128
    # Panoptic branch (section 4.4; Panoptic FPN)
    num_stuff_classes: int = 0  # S, not counting the one class for all things; 0: no branch
    panoptic_channels: int = 128
    panoptic_weight: float = 0.5  # weight of the branch's loss

    def __post_init__(self) -> None:
        require_types(self, unbounded=("center_radius",))
        require_ranges(self, MODEL_RANGES)
        for name, is_met, reason in self._checks():
            if not is_met:
                raise ValueError(f"{name} = {reprlib.repr(getattr(self, name))}: {reason}")

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Stride of every detection level, pixels."""
        return tuple(LEVEL_STRIDES[level] for level in self.levels)

    @property
    def size_ranges(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest max(l, t, r, b) that each level learns, pixels."""
        edges = (-1.0, *self.size_limits, math.inf)
        return tuple(pairwise(edges))

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        """Yields a field, whether it fits, and why not; later checks rely on earlier ones."""
        yield "center_radius", self.center_radius > 0, "must be above 0"
        yield "pixel_std", min(self.pixel_std) > 0, "must be above 0"
        library, _, name = self.backbone.partition("/")
        is_of_library = library in BACKBONE_LIBRARIES and name != ""
        names = ", ".join((*OWN_BACKBONES, *(f"{library}/NAME" for library in BACKBONE_LIBRARIES)))
        is_known = is_of_library or self.backbone in OWN_BACKBONES
        yield "backbone", is_known, f"must be one of {names}"
        is_possible = self.backbone != "dla34" or self.frozen_stages == 0
        yield "frozen_stages", is_possible, "dla34 trains all of it or nothing of it"
        is_possible = self.deform_interval == 0 or self.backbone in ("resnet50", "resnet101")
        yield "deform_interval", is_possible, "only resnet50 and resnet101 deform"
        if is_of_library:
            yield "frozen_stages", self.frozen_stages != 1, f"{library} marks no stem"
            yield "backbone_norm", self.backbone_norm != "gn", f"{library} has its own"

        levels, num = list(LEVEL_STRIDES), len(self.levels)
        is_known = num > 0 and set(self.levels) <= set(levels)
        yield "levels", is_known, f"must be some of {', '.join(levels)}"
        first = levels.index(self.levels[0])
        is_run = list(self.levels) == levels[first : first + num]
        yield "levels", is_run, "must follow each other upwards"
        yield "levels", first < 2, "must begin at p2 or p3"
        yield "size_limits", len(self.size_limits) == num - 1, f"{num} levels need {num - 1}"
        ascends = list(self.size_limits) == sorted(set(self.size_limits))
        yield "size_limits", ascends, "must ascend"
        yield "size_limits", min(self.size_limits, default=1) > 0, "must be above 0"
        fits = self.size_divisor % 32 == 0
        yield "size_divisor", fits, "must be a multiple of 32, the stride of c5"

        allowed = BOTTOM_INPUTS[self.bottom]
        text = " or ".join(",".join(inputs) for inputs in allowed)
        yield "bottom_inputs", self.bottom_inputs in allowed, f"{self.bottom} reads {text}"
        if self.merger == "assembler":
            is_square = math.isqrt(self.num_bases) ** 2 == self.num_bases
            yield "num_bases", is_square, "the assembler needs a square number of tiles"
        if self.merger == "blender":
            fits = self.attention_size <= self.mask_size
            yield "attention_size", fits, f"must not exceed mask_size = {self.mask_size}"


@dataclass(frozen=True)
class InferenceConfig:
    """Settings for turning predictions into detections; they do not depend on the weights.

    Raises:
        ValueError: a value has the wrong type or is out of range; the message names its field.
    """

    test_size: int = 800  # shorter side of the resized image, pixels
    max_size: int = 1333  # longest side allowed, pixels
    score_threshold: float = 0.05  # class probability x centerness, before the square root
    candidates_per_level: int = 1000  # best (location, class) pairs before NMS
    nms_iou: float = 0.6  # boxes of one class that overlap more are one object
    max_detections: int = 100
    mask_threshold: float = 0.5  # probability from which a pixel belongs to the mask
    # Merging of things and stuff (Panoptic FPN, section 3); the released code's settings
    panoptic_score_threshold: float = 0.45  # an instance's lowest score; paper: 0.2 (section 4.4)
    panoptic_overlap: float = 0.4  # an instance that is covered by more than this share is left out
    stuff_area: int = 4096  # smaller regions of stuff are left out, pixels

    def __post_init__(self) -> None:
        require_types(self)
        require_ranges(self, INFERENCE_RANGES)
        if self.max_size < self.test_size:
            raise ValueError(f"max_size = {self.max_size}: below test_size = {self.test_size}")

    def changed(self, **values: float | None) -> InferenceConfig:
        """A copy in which the values that are not None replace its own."""
        given: dict[str, Any] = {
            # NumPy's and PyTorch's numbers become Python's.
            name: value.item() if hasattr(value, "item") else value
            for name, value in values.items()
            if value is not None
        }
        return replace(self, **given) if given else self

    def resized(self, test_size: int | None, max_size: int | None) -> InferenceConfig:
        """A copy with another test size; `max_size` keeps its ratio to it unless it is given."""
        if test_size is None or max_size is not None:
            return self.changed(test_size=test_size, max_size=max_size)
        longest = INFERENCE_RANGES["max_size"][1]
        checked = self.changed(test_size=test_size, max_size=int(longest))
        ratio = self.max_size / self.test_size
        return self.changed(test_size=test_size, max_size=round(checked.test_size * ratio))


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
# Real-time: P6 is left out too, and the whole backbone is trained, including its norms.
_THREE_LEVELS: Any = {"levels": ("p3", "p4", "p5"), "size_limits": (64, 128)}
_TRAINED: Any = {"backbone_norm": "bn", "frozen_stages": 0}
_RT_R50 = replace(_R50_550, **_THREE_LEVELS, **_TRAINED)

_STUFF: Any = {"num_stuff_classes": 53}  # COCO's
_DEFORMABLE: Any = {"deform_interval": 3}

# The paper's real-time models (section 4.3): a Proto-FPN of four convolutions.
_RT_R50_PAPER = replace(_R50_550, num_bottom_convs=3)

# Our choice: small enough to learn 128 px images on two CPU cores in minutes. Their objects are
# 20 to 60 pixels large, so everything starts one level lower than for photographs, at stride 4.
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

# The same scenes at 192 px, with objects of 40 to 120 pixels: levels start at stride 8, and R and M
# are the paper's. With these size limits, all levels get about as many positive locations.
_SMALL = replace(
    _NANO, levels=("p3", "p4", "p5"), size_limits=(48, 60), attention_size=14, mask_size=56
)

# Our choice for photographs on a laptop: a narrow pyramid, and a backbone for phones that was
# trained on ImageNet; its first five blocks stay frozen.
_PHOTOS = ModelConfig(
    pixel_mean=(127.0,) * 3,
    pixel_std=(128.0,) * 3,
    backbone="efficientnet_lite0",
    frozen_stages=3,
    pyramid_channels=96,
    levels=("p3", "p4", "p5"),
    num_shared_convs=2,
    num_class_convs=0,
    num_box_convs=0,
    size_limits=(64, 128),
    bottom="deeplab",
    bottom_inputs=("p2", "p5"),
    bottom_channels=64,
    semantic_channels=64,
    panoptic_channels=64,
)

PRESETS: MappingProxyType[str, ModelConfig] = MappingProxyType(
    {
        "nano": _NANO,
        "small": _SMALL,
        "nano_panoptic": replace(_NANO, num_stuff_classes=4),
        "photos": _PHOTOS,
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
        # From the paper; nothing was released for these
        "r50_paper": replace(_R50, bottom="deeplab", bottom_inputs=("p3", "p5")),
        "rt_r50_paper": _RT_R50_PAPER,
        "rt_r101_paper": replace(_RT_R50_PAPER, backbone="resnet101"),
    }
)

_550 = InferenceConfig(test_size=550, max_size=916)
_512 = InferenceConfig(test_size=512, max_size=736)
_128 = InferenceConfig(test_size=128, max_size=214, stuff_area=64)
_192 = InferenceConfig(test_size=192, max_size=320, stuff_area=144)
_288 = InferenceConfig(test_size=288, max_size=534, stuff_area=324)

PRESET_INFERENCE: MappingProxyType[str, InferenceConfig] = MappingProxyType(
    dict.fromkeys(PRESETS, InferenceConfig())
    | dict.fromkeys(("nano", "nano_panoptic"), _128)
    | {"small": _192, "photos": _288}
    | dict.fromkeys(("r50_550", "r50_550_dcni3", "rt_r50_paper", "rt_r101_paper"), _550)
    | dict.fromkeys(("rt_r50", "rt_r50_bn_head", "dla34"), _512)
)
