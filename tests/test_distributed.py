"""Several processes train as one does: the same weights, one voice, one end."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from together import CONFIG, NUM_IMAGES, RECIPE, objects_of

from blendmask_lite.datasets.shapes import ShapesDataset, write_shapes
from blendmask_lite.training.data import BatchSampler
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.failure import read_failure
from blendmask_lite.training.run import train_model
from blendmask_lite.weights.checkpoint import read_checkpoint

SCRIPT = Path(__file__).with_name("together.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process and what two processes wrote, and what they said."""
    path = tmp_path_factory.mktemp("together")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = str(chosen.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path), port], env=environment, timeout=240
    )
    said = {each.name: each.read_text() for each in path.glob("said_*.txt")}
    assert done.returncode == 0, said
    return path


def relative_error(folder, way):
    """Relative L2 distances (losses, weights) to one process with whole batches."""
    got, wanted = (torch.load(folder / f"{name}.pt", weights_only=True) for name in (way, "whole"))

    def flat(weights):
        return torch.cat([value.flatten().double() for value in weights.values()])

    pairs = (
        (got["losses"], wanted["losses"]),
        (flat(got["weights"]), flat(wanted["weights"])),
    )
    return [((a - b).norm() / b.norm()).item() for a, b in pairs]


def test_the_batches_leave_a_process_without_objects_at_times():
    sampler = BatchSampler(NUM_IMAGES, CONFIG.batch_size, CONFIG.seed, 0, CONFIG.iterations)
    shares = [[objects_of(key.index) for key in keys[:2]] for keys in sampler]
    assert [0, 0] in shares


@pytest.mark.slow
@pytest.mark.parametrize("way", ["parts", "shared", "shared in parts"])
def test_however_a_batch_is_divided_the_weights_are_the_same(folder, way):
    losses, weights = relative_error(folder, way)
    assert losses < 1e-12
    assert weights < 1e-12


@pytest.mark.slow
def test_counts_of_each_process_alone_would_be_seen(folder):
    losses, weights = relative_error(folder, "own")
    assert losses > 1e-2
    assert weights > 1e-3


@pytest.fixture(scope="module")
def happened(folder):
    return [json.loads((folder / f"happened_{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_finish_one_run(folder, happened):
    run = folder / "undisturbed"
    assert [each["undisturbed"] for each in happened] == [True, True]
    with (run / "metrics.csv").open(newline="") as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == list("123")
    assert len((run / "evaluation.csv").read_text().splitlines()) == 2
    assert (run / "model.safetensors").exists()
    assert json.loads((run / "run.json").read_text())["num_processes"] == 2
    assert "3/3" in (folder / "said_0.txt").read_text()
    assert (folder / "said_1.txt").read_text() == ""


@pytest.mark.slow
def test_a_model_that_reads_no_p5_is_trained_by_two_processes(folder, happened):
    # Weights without gradients would stop it at its second step.
    assert [each["p3 alone"] for each in happened] == [True, True]
    assert (folder / "p3 alone" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_stops_all(folder, happened):
    assert [each["terminated"] for each in happened] == [False, False]
    assert read_checkpoint(folder / "terminated" / "last.pt").metadata["iterations"] == 2
    assert not (folder / "terminated" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_run_of_two_processes_continues_in_one(folder, happened):
    data = ShapesDataset(6, seed=3)
    assert train_model(data, folder / "terminated", RECIPE, is_resumed=True)
    with (folder / "terminated" / "metrics.csv").open(newline="") as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == list("123")


@pytest.mark.slow
def test_a_bad_loss_of_one_process_is_one_message_with_its_images(folder, happened):
    ends = sorted(each["not a number"] for each in happened)
    assert ends[1] == "SystemExit: 1"
    keys = BatchSampler(6, 4, RECIPE.train.seed, 0, 1).keys_at(0)
    ids = ShapesDataset(6, seed=3).image_ids
    batch = [ids[key.index] for key in keys]
    named = ", ".join(str(image_id) for image_id in batch[2:])
    assert ends[0].startswith(f"NonFiniteLossError: iteration 0, images {named}: box is nan")
    kept = read_failure(folder / "not a number" / "failure.pt")
    assert kept.image_ids == batch
    assert kept.num_parts == 4


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_batches_do_not_depend_on_the_number_of_processes(num_processes):
    whole = list(BatchSampler(7, 4, 3, 2, 6))
    shares = [
        list(BatchSampler(7, 4, 3, 2, 6, share=(rank, num_processes)))
        for rank in range(num_processes)
    ]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size = 4: cannot be divided equally among 3"):
        train_model(ShapesDataset(6, seed=3), tmp_path / "run", RECIPE, ranks=Ranks(size=3))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun_starts_the_command(tmp_path):
    write_shapes(tmp_path / "data", num_images=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "blendmask_lite", "train", str(tmp_path / "data")]
    command += ["-o", str(tmp_path / "run"), "--iterations", "1", "--batch-size", "2"]
    command += ["--size", "64"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert done.stderr.count("1/1") == 1
