"""The named schedules: the paper's, the released code's, and ours for a laptop."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from blendmask_lite.training.schedule import WARMUP_FACTORS, TrainConfig

__all__ = ["PRESET_SCHEDULES", "SCHEDULES", "TRAIN_PRESETS"]

_PAPER = TrainConfig(
    warmup="constant", warmup_factor=WARMUP_FACTORS["constant"], train_sizes=(800,)
)
_RELEASED_1X = TrainConfig()
_RELEASED_3X = replace(_RELEASED_1X, iterations=270_000, milestones=(210_000, 250_000))
_RELEASED_5X = replace(
    _RELEASED_1X,
    iterations=400_000,
    milestones=(280_000, 360_000),
    crop=0.9,
    train_sizes=tuple(range(640, 865)),
    max_size=1440,
)
_550: Any = {"train_sizes": tuple(range(440, 551, 22)), "max_size": 916}
_LAPTOP = TrainConfig(
    iterations=6800,
    batch_size=8,
    optimizer="adamw",
    learning_rate=5e-3,
    weight_decay=0.02,
    clip_norm=5.0,
    schedule="cosine",
    milestones=(),
    warmup_iterations=680,
    train_sizes=(128,),
    max_size=214,
    channel_permutation=True,
)

SCHEDULES: MappingProxyType[str, TrainConfig] = MappingProxyType(
    {
        # The paper's (section 4): a tenth at two milestones, constant warm-up
        "1x_paper": _PAPER,
        "3x_paper": replace(
            _PAPER,
            iterations=270_000,
            milestones=(180_000, 240_000),
            train_sizes=tuple(range(640, 801)),
        ),
        "rt_paper": replace(_PAPER, iterations=270_000, milestones=(180_000, 240_000), **_550),
        # The released code's (AdelaiDet, configs/BlendMask)
        "1x": _RELEASED_1X,
        "3x": _RELEASED_3X,
        "4x": replace(
            _RELEASED_1X,
            iterations=360_000,
            milestones=(300_000, 340_000),
            train_sizes=tuple(range(256, 609, 32)),
            max_size=900,
        ),
        "5x": _RELEASED_5X,
        "5x_1333": replace(_RELEASED_5X, max_size=1333),
        "550_1x": replace(_RELEASED_1X, **_550),
        "550_3x": replace(_RELEASED_3X, **_550),
        # 270,000 iterations, despite its name there, 550_R_50_dcni3_5x
        "550_3x_crop": replace(
            _RELEASED_3X, crop=0.9, train_sizes=tuple(range(440, 595)), max_size=990
        ),
        # Ours, found by trying: some twenty minutes on two CPU cores, for generated shapes
        "laptop": _LAPTOP,
        # Ours, for photographs: the same at twice the size and more
        "laptop_photos": replace(
            _LAPTOP,
            batch_size=4,
            learning_rate=3.5e-3,
            train_sizes=(256, 288, 320),
            max_size=533,
            channel_permutation=False,
        ),
    }
)

# Each preset's own schedule. A model that was released with several lengths has the longest of
# them, r50 its 1x.
PRESET_SCHEDULES: MappingProxyType[str, str] = MappingProxyType(
    {
        "nano": "laptop",
        "nano_panoptic": "laptop",
        "r50": "1x",
        "r101": "3x",
        "r101_dcni3": "5x",
        "r50_550": "550_3x",
        "r50_550_dcni3": "550_3x_crop",
        "rt_r50": "4x",
        "rt_r50_bn_head": "4x",
        "dla34": "4x",
        "panoptic_r50": "3x",
        "panoptic_r101": "3x",
        "panoptic_r50_dcni3": "5x",
        "panoptic_r101_dcni3": "5x_1333",
        "person_r50": "1x",
        "r50_paper": "1x_paper",
        "rt_r50_paper": "rt_paper",
        "rt_r101_paper": "rt_paper",
    }
)

TRAIN_PRESETS: MappingProxyType[str, TrainConfig] = MappingProxyType(
    {name: SCHEDULES[schedule] for name, schedule in PRESET_SCHEDULES.items()}
)
