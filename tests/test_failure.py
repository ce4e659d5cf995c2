"""What a run leaves behind when it cannot go on: a loss that is not a number, a full disk."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import replace

import pytest
import torch

from blendmask_lite import PRESETS, load_model
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.training import criterion
from blendmask_lite.training.engine import NonFiniteLossError, what_helps
from blendmask_lite.training.failure import read_failure, replay_failure
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.run_folder import CsvLog
from blendmask_lite.training.schedule import TRAIN_PRESETS, TrainConfig, rescale
from blendmask_lite.weights.checkpoint import read_checkpoint

RECIPE = Recipe(
    model=replace(PRESETS["nano"], stage_width=16, stem_channels=16, pyramid_channels=16),
    inference=PRESET_INFERENCE["nano"],
    train=replace(
        rescale(TRAIN_PRESETS["nano"], iterations=4, batch_size=2),
        checkpoint_every=1,
        train_sizes=(64,),
        max_size=64,
    ),
)


@pytest.fixture(scope="module")
def dataset():
    return ShapesDataset(6, seed=3)


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "in parts"])
def exploded(request, dataset, tmp_path_factory):
    """(folder, error) of a run whose learning rate is far too high."""
    train = replace(
        RECIPE.train,
        optimizer="sgd",
        learning_rate=1e20,
        warmup_iterations=0,
        clip_norm=None,
        accumulate=request.param,
    )
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(NonFiniteLossError) as caught:
        train_model(dataset, folder, replace(RECIPE, train=train))
    return folder, caught.value


def test_a_step_that_failed_is_kept_and_can_be_done_again(exploded):
    folder, error = exploded
    failed = read_failure(folder / "failure.pt")
    assert failed.iteration >= 1
    assert f"iteration {failed.iteration}, images " in str(error)
    assert "failure.pt" in str(error)
    assert all(str(image_id) in str(error) for image_id in failed.image_ids[:1])
    assert [tuple(image.shape) for image in failed.images] == [(3, 64, 64)] * 2
    assert [len(target) > 0 for target in failed.targets] == [True, True]
    again = replay_failure(folder / "failure.pt")
    bad = {name for name, value in failed.values.items() if not math.isfinite(value)}
    assert bad
    for name, value in failed.values.items():
        assert again[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name


def test_the_weights_kept_are_those_before_the_step(exploded):
    folder, _ = exploded
    failed, last = (read_checkpoint(folder / name) for name in ("failure.pt", "last.pt"))
    assert last.metadata["iterations"] == read_failure(folder / "failure.pt").iteration
    trained = dict(load_model(folder / "last.pt").named_parameters())
    for name, value in trained.items():
        assert failed.state[name].equal(value), name


def test_a_loss_of_a_healthy_step_is_computed_again_to_the_bit(dataset, tmp_path, monkeypatch):
    whole = criterion.mask_loss

    def bad(*values):
        return whole(*values) * math.nan

    monkeypatch.setattr(criterion, "mask_loss", bad)
    with pytest.raises(NonFiniteLossError, match="mask is nan"):
        train_model(dataset, tmp_path, RECIPE)
    kept = read_failure(tmp_path / "failure.pt").values
    monkeypatch.undo()
    again = replay_failure(tmp_path / "failure.pt")
    assert math.isnan(kept["mask"]) and math.isfinite(again["mask"])
    for name in kept.keys() - {"mask"}:
        assert again[name] == kept[name], name
    assert math.isfinite(again["gradient norm"])


def test_another_checkpoint_is_no_failed_step(dataset, tmp_path):
    train_model(dataset, tmp_path, replace(RECIPE, train=replace(RECIPE.train, iterations=1)))
    with pytest.raises(ValueError, match=r"last\.pt: no failed step"):
        read_failure(tmp_path / "last.pt")


SGD = TrainConfig(batch_size=2, learning_rate=0.01)


@pytest.mark.parametrize(
    ("config", "iteration", "said", "unsaid"),
    [
        (SGD, 10, ["--learning-rate 0.00125, which is 0.01 for 16", "it was 0.01"], ["bfloat16"]),
        (replace(SGD, learning_rate=0.001), 10, ["--learning-rate 0.0005, half"], ["0.00125"]),
        (SGD, 10, ["--warmup-iterations 2000", "--clip-norm 5"], []),
        (SGD, 50_000, ["--learning-rate"], ["warm-up"]),
        (replace(SGD, warmup_iterations=0), 50_000, ["--warmup-iterations 1000"], []),
        (replace(SGD, clip_norm=1.0), 10, [], ["--clip-norm"]),
        (replace(SGD, precision="bfloat16"), 10, ["--precision float32"], []),
    ],
)
def test_advice_is_that_of_the_case(config, iteration, said, unsaid):
    advice = what_helps(iteration, config)
    assert all(each in advice for each in said), advice
    assert not any(each in advice for each in unsaid), advice


def test_boxes_that_are_no_numbers_are_the_datas_fault():
    assert "check the data" in what_helps(10, SGD, has_bad_boxes=True)


class FullDisk:
    """In place of os.fsync: the disk is full in the middle of a file of weights.

    Args:
        place: which of them, from 1.
    """

    def __init__(self, place):
        self.left = place

    def __call__(self, descriptor):
        if os.fstat(descriptor).st_size < 100_000:
            return
        self.left -= 1
        if self.left == 0:
            os.truncate(descriptor, 100_000)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
# A checkpoint every iteration, then the model.
@pytest.mark.parametrize(("place", "done"), [(3, 2), (5, 4)], ids=["checkpoint", "model"])
def test_a_full_disk_leaves_the_last_checkpoint_whole(dataset, tmp_path, monkeypatch, place, done):
    assert train_model(dataset, tmp_path / "undisturbed", RECIPE)
    folder = tmp_path / "run"
    monkeypatch.setattr(os, "fsync", FullDisk(place))
    with pytest.raises(OSError, match=r"no space left on the disk; the last checkpoint.*--resume"):
        train_model(dataset, folder, RECIPE)
    monkeypatch.undo()
    assert read_checkpoint(folder / "last.pt").metadata["iterations"] == done
    assert not list(folder.glob(".*.tmp"))
    assert train_model(dataset, folder, RECIPE, is_resumed=True)
    expected, got = (
        load_model(tmp_path / name / "model.safetensors") for name in ("undisturbed", "run")
    )
    for name, value in expected.state_dict().items():
        assert value.equal(got.state_dict()[name]), name


def test_a_full_disk_under_the_log_says_the_same(dataset, tmp_path, monkeypatch):
    def fail(self, row):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CsvLog, "append", fail)
    with pytest.raises(OSError, match=r"no space left on the disk; free some and continue"):
        train_model(dataset, tmp_path, RECIPE)


def test_other_errors_of_the_disk_keep_their_own_words(dataset, tmp_path, monkeypatch):
    def fail(self, row):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "metrics.csv")

    monkeypatch.setattr(CsvLog, "append", fail)
    with pytest.raises(OSError, match=r"Input/output error: 'metrics\.csv'"):
        train_model(dataset, tmp_path, RECIPE)


def test_torch_reads_the_file_without_running_code(exploded):
    folder, _ = exploded
    content = torch.load(folder / "failure.pt", weights_only=True)
    assert content["training"]["step"]["targets"][0]["boxes"].shape[1] == 4
