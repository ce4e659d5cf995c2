"""Reads the outputs of the released code that `BLENDMASK_PARITY` points at."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blendmask_lite import PRESETS, BlendMask, InferenceConfig, ModelConfig
from blendmask_lite.weights.adelaidet import load_adelaidet_state

CONFIGS = {
    "tiny": ModelConfig(
        channel_order="bgr",
        pixel_mean=(103.53, 116.28, 123.675),
        pixel_std=(1.0, 1.0, 1.0),
        stem_channels=16,
        stage_width=8,
        stage_channels=32,
        stride_in_1x1=True,
        pyramid_channels=32,
        num_classes=5,
        num_class_convs=2,
        num_box_convs=2,
        bottom_channels=16,
        attention_size=7,
        mask_size=28,
        semantic_channels=16,
    ),
    "R_50_1x": PRESETS["r50"],
}


def parity_folder() -> Path:
    """The folder, or a skip that says why."""
    folder = os.environ.get("BLENDMASK_PARITY")
    if not folder:
        pytest.skip("BLENDMASK_PARITY is not set: no outputs of the released code at hand")
    return Path(folder)


@cache
def read_case(name: str) -> Any:
    """A file of the folder: "tiny.infer", say."""
    return torch.load(parity_folder() / f"{name}.pt", weights_only=True)


@cache
def state_of(case: str) -> dict[str, Tensor]:
    """The weights of a case, made by the folder's own recipe."""
    spec = importlib.util.spec_from_file_location("refweights", parity_folder() / "refweights.py")
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    content = read_case(f"{case}.infer")
    settings = dict(content["meta"]["weights"])
    seed = settings.pop("seed")
    return {
        name: torch.from_numpy(recipe.make_tensor(name, shape, seed, **settings))
        for name, (shape, _) in content["manifest"].items()
    }


def make_model(case: str) -> BlendMask:
    """A model with the weights of a case, in evaluation mode."""
    model = BlendMask(CONFIGS[case], inference=InferenceConfig())
    load_adelaidet_state(model, state_of(case))
    return model.eval()


def unpack(packed: Any) -> Tensor:
    """Bits as the folder stores them -> bool tensor."""
    shape = tuple(packed["shape"])
    bits = np.unpackbits(packed["bits"].numpy())[: int(np.prod(shape))]
    return torch.from_numpy(bits.reshape(shape).astype(bool))


def rgb(image: Tensor) -> Tensor:
    """The folder's images are BGR, users pass RGB."""
    return image.flip(0)
