"""The weights that come with the package do what their logs and the README say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from blendmask_lite import PRESETS, load_adelaidet, load_model, shipped_checkpoint
from blendmask_lite.cli.options import VALIDATION_SEED
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.weights.zoo import STAND_IN_CONFIG, stand_in_weights

ROOT = Path(__file__).resolve().parent.parent


def logged(path: Path) -> dict:
    return json.loads(path.with_suffix(".json").read_text())


def test_shipped_checkpoint_is_the_nano_preset_and_small():
    model = load_model(shipped_checkpoint())
    assert model.config == PRESETS["nano"]
    assert model.class_names == SHAPE_CLASSES
    assert shipped_checkpoint().stat().st_size < 8e6


@pytest.mark.slow
def test_shipped_checkpoint_scores_what_its_log_says():
    num = 60  # of the log's 200
    model = load_model(shipped_checkpoint())
    scores = evaluate_model(model, ShapesDataset(num, seed=VALIDATION_SEED))
    assert scores.mask["AP"] > 60
    assert scores.box["AP"] > 67


def test_readme_tells_the_logged_score():
    [last] = logged(shipped_checkpoint())["evaluations"]
    [told] = re.findall(r"mask AP ([\d.]+) on 200 held-out", (ROOT / "README.md").read_text())
    assert told == f"{float(last['mask AP']):.1f}"
    assert float(last["mask AP"]) >= 60


@pytest.mark.slow
def test_stand_in_has_the_released_format_and_finds_shapes():
    state = torch.load(stand_in_weights(), weights_only=True)["model"]
    assert "proposal_generator.fcos_head.share_tower.0.weight" in state
    model = load_adelaidet(stand_in_weights(), STAND_IN_CONFIG, class_names=SHAPE_CLASSES)
    model.inference = PRESET_INFERENCE["nano"]  # not the released test size
    scores = evaluate_model(model, ShapesDataset(40, seed=VALIDATION_SEED))
    assert scores.mask["AP"] > 28
