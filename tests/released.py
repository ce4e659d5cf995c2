"""Weights as the released code has them, made from models of ours."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from blendmask_lite import PRESETS, BlendMask, ModelConfig
from blendmask_lite.weights.adelaidet import released_name

RELEASED_PRESETS = [
    "r50",
    "r101",
    "r101_dcni3",
    "r50_550",
    "r50_550_dcni3",
    "rt_r50",
    "rt_r50_bn_head",
    "dla34",
    "panoptic_r50",
    "panoptic_r101",
    "panoptic_r50_dcni3",
    "panoptic_r101_dcni3",
    "person_r50",
]


def thin(name: str, **changes) -> ModelConfig:
    """A released architecture with narrow layers; DLA-34 keeps its own."""
    sizes = {"stem_channels": 8, "stage_width": 8, "stage_channels": 32, "pyramid_channels": 32}
    sizes |= {"bottom_channels": 16, "semantic_channels": 16, "panoptic_channels": 32}
    return replace(PRESETS[name], **(sizes | changes))


def random_model(config: ModelConfig, seed: int = 0) -> BlendMask:
    """A model in which no two tensors are alike, norms and their statistics included."""
    torch.manual_seed(seed)
    model = BlendMask(config).eval()
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(seed + 7)
        elif value.dim() == 1:
            value.uniform_(0.5, 1.5)
    return model


def released_state(model: BlendMask) -> dict[str, Tensor]:
    """The model's tensors by the released code's names."""
    num_convs = model.config.num_bottom_convs
    return {
        released_name(name, num_bottom_convs=num_convs): value.clone()
        for name, value in model.state_dict().items()
    }
