"""`blendmask-lite models` and `blendmask-lite convert` as their users type them."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from released import RELEASED_PRESETS, random_model, released_state, thin

from blendmask_lite import PRESETS, load_model
from blendmask_lite.cli import convert, main
from blendmask_lite.weights import adelaidet
from blendmask_lite.weights.adelaidet import DEAD_WEIGHTS
from blendmask_lite.weights.checkpoint import read_checkpoint
from blendmask_lite.weights.zoo import PUBLISHED


@pytest.fixture
def presets(monkeypatch, tmp_path):
    """Every preset narrow, an empty cache and no network."""
    narrow = {name: thin(name) for name in PRESETS}
    for module in (adelaidet, convert):
        monkeypatch.setattr(module, "PRESETS", narrow)
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    return narrow


def test_models_lists_presets_and_published_checkpoints(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path))
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert ["r50", "35.98", "800/1333"] in rows
    assert ["rt_r50_bn_head", "31.76", "512/736"] in rows
    assert ["R_101_dcni3_5x", "r101_dcni3", "46.8", "41.1", "-", "10", "no"] in rows
    assert ["Panoptic/R_101_3x", "panoptic_r101", "-", "-", "44.3", "-", "no"] in rows
    assert shown.endswith(f"the cache: {tmp_path}\n")
    first_words = {row[0] for row in rows if row}
    assert {*PRESETS, *PUBLISHED} <= first_words


def test_models_speaks_json_and_knows_the_cache(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path))
    (tmp_path / "DLA_34_syncbn_4x.pth").write_bytes(b"here")
    assert main(["models", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    presets = {each["name"]: each for each in content["presets"]}
    assert set(RELEASED_PRESETS) <= set(presets) == set(PRESETS)
    # Counted in the released code.
    assert round(presets["dla34"]["parameters"] / 1e6, 2) == 25.93
    assert presets["r50_550"]["test_size"] == 550
    assert presets["r50"]["published"] == ["R_50_1x", "R_50_3x"]
    checkpoints = {each["name"]: each for each in content["checkpoints"]}
    assert checkpoints["R_50_3x"]["mask_ap"] == 37.8
    assert checkpoints["Panoptic/R_50_3x"]["pq"] == 42.5
    assert [name for name, each in checkpoints.items() if each["cached"]] == ["DLA_34_4x"]
    assert content["cache"] == str(tmp_path)


def test_convert_writes_a_checkpoint_that_other_commands_read(presets, tmp_path, capsys):
    model = random_model(presets["r50"])
    source, out = tmp_path / "model_final.pth", tmp_path / "out" / "r50.pt"
    torch.save({"model": released_state(model), "iteration": 9}, source)
    assert main(["convert", str(source), "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{out}: preset r50, 80 classes, ")
    assert "in 379 tensors" in shown
    loaded = load_model(out)
    assert loaded.config == presets["r50"]
    assert loaded.class_names[0] == "person"
    assert loaded.category_ids[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)  # COCO's, with gaps
    assert loaded.category_ids[-1] == 90
    assert all(v.equal(loaded.state_dict()[n]) for n, v in model.state_dict().items())
    assert read_checkpoint(out).metadata == {"source": str(source)}


def test_convert_in_half_precision_takes_half_the_space(presets, tmp_path):
    source = tmp_path / "model_final.pth"
    torch.save(released_state(random_model(presets["r50"])), source)
    assert main(["convert", str(source), "-o", str(tmp_path / "whole.pt")]) == 0
    assert main(["convert", str(source), "-o", str(tmp_path / "half.pt"), "--half"]) == 0
    sizes = [(tmp_path / name).stat().st_size for name in ("whole.pt", "half.pt")]
    assert 0.4 < sizes[1] / sizes[0] < 0.75


def test_convert_names_own_classes_and_the_preset(presets, tmp_path, capsys):
    own = replace(presets["panoptic_r50"], num_classes=2, num_stuff_classes=3)
    source, out = tmp_path / "mine.pth", tmp_path / "mine.pt"
    torch.save(released_state(random_model(own)), source)
    assert main(["convert", str(source), "-o", str(out), "--classes", "cat,dog"]) == 0
    assert "preset panoptic_r50, 2 classes" in capsys.readouterr().out
    assert load_model(out).class_names == ("cat", "dog")
    assert load_model(out).category_ids == (1, 2)


def test_convert_takes_a_published_name_and_names_dead_weights(presets, tmp_path, capsys):
    (tmp_path / "cache").mkdir()
    state = released_state(random_model(presets["dla34"]))
    torch.save(state, tmp_path / "cache" / "DLA_34_syncbn_4x.pth")
    assert main(["convert", "DLA_34_4x", "-o", str(tmp_path / "dla.pt")]) == 0
    shown = capsys.readouterr().out
    assert "without influence on any output" in shown
    assert [line.strip() for line in shown.splitlines() if line.startswith("  ")] == list(
        DEAD_WEIGHTS
    )


class Harmful:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pth"], "missing.pth: no such file, nor the name of a published checkpoint"),
        (["R_50_3x"], "BLENDMASK_OFFLINE is set"),
        (["http://[::1"], "http://[::1: is no address"),
        (["{tmp}/r50.pth", "--preset", "r101"], "not preset r101: backbone is 'resnet50'"),
        (["{tmp}/r50.pth", "--classes", "cat"], "class_names: 1 names for num_classes = 80"),
        (["{tmp}/harmful.pth"], "harmful.pth: refused, because reading it would run code"),
        (["{tmp}/nan.pth"], "1 tensor with infinite or undefined values: top_layer.bias"),
    ],
)
def test_bad_input_is_one_line_and_a_status(arguments, message, presets, tmp_path, capsys):
    torch.save(released_state(random_model(presets["r50"])), tmp_path / "r50.pth")
    torch.save({"model": Harmful()}, tmp_path / "harmful.pth")
    state = released_state(random_model(presets["r50"]))
    torch.save(state | {"top_layer.bias": state["top_layer.bias"] / 0}, tmp_path / "nan.pth")
    words = [word.format(tmp=tmp_path) for word in arguments]
    assert main(["convert", *words, "-o", str(tmp_path / "out.pt")]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.count("\n") == 0
    assert not (tmp_path / "out.pt").exists()
