"""A small stand-in for the authors' files, so that the appendix runs without a network.

It has their format and one of their architectures, thin, and was trained on generated shapes by
`make standin`. It says nothing about their models' quality.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from blendmask_lite.config import PRESETS

__all__ = ["STAND_IN_CONFIG", "stand_in_weights"]

STAND_IN_CONFIG = replace(
    PRESETS["rt_r50"],
    stem_channels=16,
    stage_width=16,
    stage_channels=64,
    pyramid_channels=64,
    bottom_channels=32,
    semantic_channels=32,
    num_classes=8,
    size_limits=(32, 64),
)


def stand_in_weights() -> Path:
    """The file: RT_R_50_4x_syncbn_shtw's tensors by name, a quarter as wide, half precision."""
    return Path(str(files("blendmask_lite"))) / "data" / "stand_in_released.pth"
