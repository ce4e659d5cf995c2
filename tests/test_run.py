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
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import StopRequest, deterministic, train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, learning_rate_at, rescale
from blendmask_lite.weights.checkpoint import read_checkpoint

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
    model = load_model(tmp_path / "run" / "model.safetensors")
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
    whole, part = (load_model(tmp_path / name / "model.safetensors") for name in ("whole", "part"))
    for name, value in whole.state_dict().items():
        assert value.equal(part.state_dict()[name]), name
    assert [row["iteration"] for row in rows(tmp_path / "part" / "metrics.csv")] == list("1234")


def test_a_folder_with_a_run_is_not_overwritten(dataset, tmp_path):
    train_model(dataset, tmp_path, RECIPE)
    with pytest.raises(FileExistsError, match="--resume"):
        train_model(dataset, tmp_path, RECIPE)


@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors"])
def test_a_model_of_something_else_is_not_overwritten(name, is_resumed, dataset, tmp_path):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"{name}: is there already"):
        train_model(dataset, tmp_path, RECIPE, is_resumed=is_resumed)
    assert [path.name for path in tmp_path.iterdir()] == [name]  # no lock either
    assert (tmp_path / name).read_bytes() == b"precious"


def test_a_finished_run_without_its_checkpoint_does_not_begin_again(dataset, tmp_path):
    train_model(dataset, tmp_path, RECIPE)
    (tmp_path / "last.pt").unlink()
    before = (tmp_path / "model.safetensors").read_bytes()
    for is_resumed in (False, True):
        with pytest.raises(FileExistsError, match=r"model\.\w+: is there already, without a last"):
            train_model(dataset, tmp_path, RECIPE, is_resumed=is_resumed)
    assert (tmp_path / "model.safetensors").read_bytes() == before


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
    start = tmp_path / "first" / "model.safetensors"

    class Three(ShapesDataset):
        class_names = ("a", "b", "c")
        category_ids = (1, 2, 3)

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
    first, second = load_model(start), load_model(tmp_path / "second" / "model.safetensors")
    assert second.class_names == ("a", "b", "c")
    own = second.state_dict()["backbone.conv1.weight"]
    assert torch.allclose(own, first.state_dict()["backbone.conv1.weight"], atol=1e-6)


@pytest.mark.slow
def test_a_killed_process_continues(tmp_path):
    command = [sys.executable, "-m", "blendmask_lite", "train", "shapes", "-o", str(tmp_path)]
    command += ["--iterations", "200", "--batch-size", "1", "--size", "64"]
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
    assert 2 <= done < 200
    assert not (tmp_path / "model.safetensors").exists()
    with_resume = [*command, "--resume"]
    process = subprocess.Popen(with_resume, env=environment, stderr=subprocess.DEVNULL)
    while read_checkpoint(tmp_path / "last.pt").metadata["iterations"] == done:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    iterations = [int(row["iteration"]) for row in rows(tmp_path / "metrics.csv")]
    assert iterations == list(range(1, len(iterations) + 1))


# ------------------------------------------------------------------ longer, better, reproducible


def weights_of(folder):
    return load_model(folder / "model.safetensors").state_dict()


def assert_same_weights(one, other):
    first, second = weights_of(one), weights_of(other)
    for name, value in first.items():
        assert value.equal(second[name]), name


def stop_after(monkeypatch, num_steps):
    """Let the run be asked to stop after some steps of this process."""
    calls = iter(range(num_steps - 1))
    monkeypatch.setattr(StopRequest, "__call__", lambda self: next(calls, None) is None)


def score_by_iteration(monkeypatch, scores):
    """Replace evaluations by known ones."""

    def known(state, *rest):
        return {"mask AP": scores[state.iteration], "box AP": 1.0}

    monkeypatch.setattr("blendmask_lite.training.run._scores", known)


def test_evaluations_change_no_weight(dataset, tmp_path):
    train_model(dataset, tmp_path / "without", RECIPE)
    recipe = replace(RECIPE, train=replace(TRAIN, evaluate_every=1, patience=9))
    train_model(dataset, tmp_path / "with", recipe, validation=ShapesDataset(2, seed=9))
    assert_same_weights(tmp_path / "without", tmp_path / "with")


def test_the_model_with_the_best_mask_ap_is_kept(dataset, tmp_path, monkeypatch):
    score_by_iteration(monkeypatch, {1: 5.0, 2: 7.0, 3: 7.0, 4: 6.0})
    recipe = replace(RECIPE, train=replace(TRAIN, evaluate_every=1, checkpoint_every=1))
    assert train_model(dataset, tmp_path / "run", recipe, validation=ShapesDataset(1, seed=9))
    best = read_checkpoint(tmp_path / "run" / "best.safetensors")
    assert (best.metadata["iterations"], best.metadata["mask AP"]) == (2, 7.0)
    stop_after(monkeypatch, 2)
    recipe = replace(RECIPE, train=TRAIN)
    assert not train_model(dataset, tmp_path / "two steps", recipe)
    expected = read_checkpoint(tmp_path / "two steps" / "last.pt").state
    for name, value in load_model(tmp_path / "run" / "best.safetensors").state_dict().items():
        assert value.equal(expected[name].to(value.dtype)), name


def test_patience_ends_a_run_and_a_stop_in_between_changes_nothing(dataset, tmp_path, monkeypatch):
    score_by_iteration(
        monkeypatch, {1: 5.0, 2: 7.0, 3: 6.0, 4: 7.0, 5: 9.0, 6: 9.0, 7: 9.0, 8: 9.0}
    )
    train = replace(TRAIN, iterations=8, evaluate_every=1, checkpoint_every=8, patience=2)
    recipe = replace(RECIPE, train=train)
    validation = ShapesDataset(1, seed=9)
    assert train_model(dataset, tmp_path / "whole", recipe, validation=validation)
    with monkeypatch.context() as stopped:
        stop_after(stopped, 3)  # after the evaluation that was no better, of the third iteration
        assert not train_model(dataset, tmp_path / "part", recipe, validation=validation)
    for _ in range(2):  # and once it has ended, it stays so
        assert train_model(
            dataset, tmp_path / "part", recipe, validation=validation, is_resumed=True
        )
        for name in ("whole", "part"):
            assert [row["iteration"] for row in rows(tmp_path / name / "metrics.csv")] == list(
                "1234"
            )
            best = read_checkpoint(tmp_path / name / "best.safetensors").metadata
            assert (best["iterations"], best["mask AP"]) == (2, 7.0)
            session = json.loads((tmp_path / name / "run.json").read_text())["sessions"][-1]
            assert session["state"] == "finished"
            assert session["reason"] == (
                "no better mask AP than 7.0, at iteration 2, in 2 evaluations"
            )
        assert_same_weights(tmp_path / "whole", tmp_path / "part")


def test_patience_needs_evaluations(dataset, tmp_path):
    recipe = replace(RECIPE, train=replace(TRAIN, patience=2))
    with pytest.raises(ValueError, match="patience = 2: needs data to evaluate on"):
        train_model(dataset, tmp_path, recipe)


def test_a_finished_run_becomes_longer_and_says_so(dataset, tmp_path, capsys):
    assert train_model(dataset, tmp_path, RECIPE)
    longer = rescale(TRAIN, iterations=6)
    assert longer.warmup_iterations != TRAIN.warmup_iterations or longer.milestones == ()
    recipe = replace(RECIPE, train=longer)
    capsys.readouterr()
    assert train_model(dataset, tmp_path, recipe, is_resumed=True)
    said = capsys.readouterr().err
    assert "continues to 6 iterations instead of 4" in said
    assert "differs from a run planned at this length" in said
    assert [row["iteration"] for row in rows(tmp_path / "metrics.csv")] == list("123456")
    rates = [float(row["learning_rate"]) for row in rows(tmp_path / "metrics.csv")]
    assert rates[4:] == pytest.approx([learning_rate_at(i, longer) for i in (4, 5)], rel=1e-4)
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["train"]["iterations"] == 6
    change = {"at_iteration": 4, "from_iterations": 4, "to_iterations": 6}
    assert described["made_longer"] == [change]
    assert load_model(tmp_path / "model.safetensors") is not None
    with pytest.raises(ValueError, match="iterations is 4, was 6"):
        train_model(dataset, tmp_path, RECIPE, is_resumed=True)


def test_a_run_does_not_continue_on_other_data_or_another_model(dataset, tmp_path):
    train_model(dataset, tmp_path, RECIPE)
    before = (tmp_path / "run.json").read_bytes()
    way = "a new run can begin with its weights: --weights .*last.pt -o another folder"
    with pytest.raises(ValueError, match=f"on other data: 5 images, were 6; {way}"):
        train_model(ShapesDataset(5, seed=3), tmp_path, RECIPE, is_resumed=True)

    class Renamed(ShapesDataset):
        class_names = tuple("abcdefgh")

    with pytest.raises(ValueError, match=f"on other data: its classes are others; {way}"):
        train_model(Renamed(6, seed=3), tmp_path, RECIPE, is_resumed=True)
    other = replace(RECIPE, model=replace(RECIPE.model, stem_channels=16))
    with pytest.raises(ValueError, match="stem_channels is 16, was 8"):
        train_model(dataset, tmp_path, other, is_resumed=True)
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_deterministic_run_is_the_same_on_the_cpu_and_leaves_torch_as_it_was(dataset, tmp_path):
    modes = []

    class Watching(ShapesDataset):
        def load(self, index):
            modes.append(torch.are_deterministic_algorithms_enabled())
            return super().load(index)

    train_model(dataset, tmp_path / "plain", RECIPE)
    recipe = replace(RECIPE, train=replace(TRAIN, is_deterministic=True))
    train_model(Watching(6, seed=3), tmp_path / "deterministic", recipe)
    assert modes and all(modes)
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same_weights(tmp_path / "plain", tmp_path / "deterministic")
    with pytest.raises(ValueError, match="is_deterministic is False, was True"):
        train_model(dataset, tmp_path / "deterministic", RECIPE, is_resumed=True)


def test_what_torch_has_no_deterministic_version_of_is_said_once():
    said = []
    values, index = torch.zeros(3), torch.tensor([0])
    with deterministic(True, said.append):
        for _ in range(3):
            values.put_(index, torch.ones(1))  # one of torch's list, on the CPU, too
    assert len(said) == 1
    assert said[0].endswith("torch has nothing else: put_")
    with deterministic(False, said.append):
        assert not torch.are_deterministic_algorithms_enabled()
