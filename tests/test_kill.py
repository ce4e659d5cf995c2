"""`kill -9` at any moment, also inside the writing of a checkpoint, changes nothing in the end."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from event_files import events_of

from blendmask_lite.weights.checkpoint import read_checkpoint

DRIVER = Path(__file__).with_name("killed_run.py")
ITERATIONS = 60  # as in the driver
TIMES = ("images_per_second", "data_seconds", "seconds")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of the run in peace and of the killed one, and what was done to it."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), "7"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    error = folder / "error.txt"
    assert done.returncode == 0, error.read_text() if error.exists() else done.stderr
    return folder / "whole", folder / "part", json.loads(done.stdout)["kills"]


def rows(path: Path, *, without: tuple[str, ...] = ()) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in without}
            for row in csv.DictReader(file)
        ]


def tensors(value: object, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value}
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list | tuple) else []
    return {k: v for key, each in items for k, v in tensors(each, f"{name}/{key}").items()}


@pytest.mark.slow
def test_the_kills_hit_the_run_and_the_writing_of_its_checkpoints(runs):
    _, part, kills = runs
    assert len(kills) == 20
    assert all(kill["killed"] for kill in kills)
    inside = [kill for kill in kills if kill["kind"] != "any time"]
    assert len(inside) == 9
    # A kill before the renaming leaves the unfinished file, one after it does not.
    for kill in inside:
        assert kill["leftovers"] == (kill["kind"] != "after the renaming")
    sessions = json.loads((part / "run.json").read_text())["sessions"]
    assert [session["state"] for session in sessions[-3:]] == ["killed", "killed", "finished"]
    beginnings = [session["from_iteration"] for session in sessions]
    assert beginnings == sorted(beginnings)
    assert len(set(beginnings)) >= 5  # it got on between the kills
    assert beginnings[-1] < ITERATIONS


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_bytes_of_an_uninterrupted_one(runs):
    whole, part, _ = runs
    assert (whole / "model.safetensors").read_bytes() == (part / "model.safetensors").read_bytes()
    last, other = (read_checkpoint(folder / "last.pt") for folder in (whole, part))
    state, other_state = tensors(last.training), tensors(other.training)
    assert len(state) > 100
    assert state.keys() == other_state.keys()
    for name, value in state.items():
        assert value.numpy().tobytes() == other_state[name].numpy().tobytes(), name


@pytest.mark.slow
def test_the_logs_of_a_killed_run_have_no_gaps_and_no_doubles(runs):
    whole, part, _ = runs
    steps = rows(part / "metrics.csv", without=TIMES)
    assert [int(row["iteration"]) for row in steps] == list(range(1, ITERATIONS + 1))
    assert steps == rows(whole / "metrics.csv", without=TIMES)
    scores = rows(part / "evaluation.csv")
    assert [int(row["iteration"]) for row in scores] == [20, 40, 60]
    assert scores == rows(whole / "evaluation.csv")
    assert not list(part.rglob(".*.tmp"))
    snapshots = {path.name: path.read_bytes() for path in (whole / "snapshots").iterdir()}
    assert len(snapshots) > 5
    assert snapshots == {path.name: path.read_bytes() for path in (part / "snapshots").iterdir()}
    points = [(event.step, event.value) for event in events_of(part).Scalars("loss/total")]
    assert [step for step, _ in points] == [1, 10, 20, 30, 40, 50, 60]
    losses = {int(row["iteration"]): float(row["loss"]) for row in steps}
    assert points == [(step, pytest.approx(losses[step], rel=1e-4)) for step, _ in points]
