"""A training run from beginning to end, on generated shapes: files, resume, refusals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blendmask_lite import PRESETS, load_model
from blendmask_lite.checkpoint import read_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.presets import PRESET_INFERENCE
from blendmask_lite.training.presets import TRAIN_PRESETS
from blendmask_lite.training.recipe import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import rescale

TRAIN = replace(
    rescale(TRAIN_PRESETS["nano"], iterations=4, batch_size=2),
    checkpoint_every=2,
    ema_decay=0.9,
    train_sizes=(64,),
    max_size=64,
)
RECIPE = Recipe(
    model=replace(PRESETS["nano"], stage_width=8, stem_channels=8, pyramid_channels=16),
    inference=PRESET_INFERENCE["nano"],
    train=TRAIN,
)


@pytest.fixture(scope="module")
def dataset():
    return ShapesDataset(6, seed=3)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_model_log_description_and_evaluation(dataset, tmp_path):
    recipe = replace(RECIPE, train=replace(TRAIN, evaluate_every=4))
    assert train_model(dataset, tmp_path / "run", recipe, validation=ShapesDataset(2, seed=9))
    model = load_model(tmp_path / "run" / "model.pt")
    assert model.class_names == dataset.class_names
    assert [row["iteration"] for row in rows(tmp_path / "run" / "metrics.csv")] == list("1234")
    (scores,) = rows(tmp_path / "run" / "evaluation.csv")
    assert scores["iteration"] == "4"
    assert 0 <= float(scores["mask AP"]) <= 100
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["train"]["seed"] == 0
    assert described["sessions"][0]["versions"]["torch"] == torch.__version__
    # What evaluations use is what is stored: the averaged weights, in both files.
    last = read_checkpoint(tmp_path / "run" / "last.pt")
    for name, value in model.state_dict().items():
        assert value.equal(last.state[name].to(value.dtype)), name


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "train",
    [
        TRAIN,
        replace(TRAIN, accumulate=2, num_workers=1),
        replace(TRAIN, optimizer="sgd", ema_decay=None, precision="bfloat16"),
    ],
    ids=["averaged", "in parts, with a worker", "sgd, bfloat16"],
)
def test_a_run_continues_bit_by_bit(dataset, tmp_path, train):
    recipe = replace(RECIPE, train=train)
    train_model(dataset, tmp_path / "whole", recipe)

    class Failing(ShapesDataset):
        loads = 0

        def load(self, index):
            Failing.loads += 1
            if Failing.loads > 6:  # in the fourth step, after the checkpoint of the second
                raise Stopped
            return super().load(index)

    with pytest.raises(Stopped):
        train_model(Failing(6, seed=3), tmp_path / "part", recipe)
    train_model(dataset, tmp_path / "part", recipe, is_resumed=True)
    whole, part = (load_model(tmp_path / name / "model.pt") for name in ("whole", "part"))
    for name, value in whole.state_dict().items():
        assert value.equal(part.state_dict()[name]), name
    assert [row["iteration"] for row in rows(tmp_path / "part" / "metrics.csv")] == list("1234")


def test_a_folder_with_a_run_is_not_overwritten(dataset, tmp_path):
    train_model(dataset, tmp_path, RECIPE)
    with pytest.raises(FileExistsError, match="--resume"):
        train_model(dataset, tmp_path, RECIPE)


def test_a_run_does_not_continue_with_other_settings(dataset, tmp_path):
    train_model(dataset, tmp_path, RECIPE)
    other = replace(RECIPE, train=replace(TRAIN, learning_rate=1.0))
    with pytest.raises(ValueError, match=r"learning_rate is 1\.0, was"):
        train_model(dataset, tmp_path, other, is_resumed=True)


def test_data_of_other_classes_is_refused(dataset, tmp_path):
    recipe = replace(RECIPE, model=replace(RECIPE.model, num_classes=3))
    with pytest.raises(ValueError, match="num_classes = 3: the data has 8"):
        train_model(dataset, tmp_path, recipe)
    assert not any(tmp_path.iterdir())


def test_weights_of_other_classes_are_a_start(dataset, tmp_path):
    train_model(dataset, tmp_path / "first", RECIPE)
    start = tmp_path / "first" / "model.pt"

    class Three(ShapesDataset):
        class_names = ("a", "b", "c")

        def load(self, index):
            sample = super().load(index)
            target = replace(sample.target, labels=sample.target.labels % 3, semantic=None)
            return replace(sample, target=target)

    recipe = replace(
        RECIPE,
        model=replace(RECIPE.model, num_classes=3),
        train=replace(
            TRAIN, iterations=1, learning_rate=1e-12, ema_decay=None, warmup_iterations=0
        ),
        start_from=start,
    )
    train_model(Three(6, seed=3), tmp_path / "second", recipe)
    first, second = load_model(start), load_model(tmp_path / "second" / "model.pt")
    assert second.class_names == ("a", "b", "c")
    own = second.state_dict()["backbone.conv1.weight"]
    assert torch.allclose(own, first.state_dict()["backbone.conv1.weight"], atol=1e-6)


@pytest.mark.slow
def test_a_killed_process_continues(tmp_path):
    command = [sys.executable, "-m", "blendmask_lite", "train", "shapes", "-o", str(tmp_path)]
    command += ["--iterations", "60", "--batch-size", "2"]
    command += ["--checkpoint-every", "2", "--evaluate-every", "1000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "last.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # saves and leaves
    assert process.wait(timeout=60) == 130
    done = read_checkpoint(tmp_path / "last.pt").metadata["iterations"]
    assert 2 <= done < 60
    assert not (tmp_path / "model.pt").exists()
    with_resume = [*command, "--resume"]
    process = subprocess.Popen(with_resume, env=environment, stderr=subprocess.DEVNULL)
    while read_checkpoint(tmp_path / "last.pt").metadata["iterations"] == done:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    iterations = [int(row["iteration"]) for row in rows(tmp_path / "metrics.csv")]
    assert iterations == list(range(1, len(iterations) + 1))
