"""Trains a tiny model twice: once in peace, once killed 20 times and continued each time.

`python tests/killed_run.py FOLDER` leaves both runs in FOLDER and prints a JSON line about the
kills. Children are forked after the imports: a kill costs a fraction of a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch

from blendmask_lite import PRESETS, files
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.training.observers import Watching
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale

ITERATIONS = 60
TRAIN = replace(
    rescale(TRAIN_PRESETS["nano"], iterations=ITERATIONS, batch_size=2),
    checkpoint_every=3,
    evaluate_every=20,
    ema_decay=0.9,
    train_sizes=(48, 64),
    max_size=64,
)
RECIPE = Recipe(
    model=replace(PRESETS["nano"], stage_width=16, stem_channels=16, pyramid_channels=16),
    inference=replace(PRESET_INFERENCE["nano"], test_size=64, max_size=64),
    train=TRAIN,
)
# Where a child kills itself while it writes a checkpoint.
PLACES = ("half a temporary file", "before the renaming", "after the renaming")
NUM_KILLS, NUM_INSIDE = 20, 9


class Reporting(ShapesDataset):
    """Writes a byte into a pipe whenever a picture is loaded: the parent sees how far it is."""

    pipe: int | None = None

    def load(self, index):
        if self.pipe is not None:
            os.write(self.pipe, b".")
        return super().load(index)


def train(folder: Path, pipe: int | None = None) -> None:
    dataset = Reporting(7, seed=3)
    dataset.pipe = pipe
    finished = train_model(
        dataset,
        folder,
        RECIPE,
        validation=ShapesDataset(1, seed=9),
        is_resumed=True,
        watching=Watching(num_snapshots=8, tensorboard_every=1000, num_pictures=1),
    )
    assert finished


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside_a_write(place: str, number: int) -> None:
    """Let this process kill itself while it writes its checkpoint of this number."""
    writes = 0

    def fsync(descriptor: int) -> None:
        nonlocal writes
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        writes += Path(name).name.startswith(".last.pt.")
        if writes == number and place == PLACES[0]:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        os.fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        if writes == number and place == PLACES[1]:
            die()
        os.replace(source, target)
        if writes == number and place == PLACES[2]:
            die()

    files.os = SimpleNamespace(**(vars(os) | {"fsync": fsync, "replace": rename}))


def fork(folder: Path, place: str | None = None, number: int = 0) -> tuple[int, int]:
    """A child that trains; its process id and the end of the pipe that it writes into."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if place is not None:
            die_inside_a_write(place, number)
        train(folder, writing)
        os._exit(0)
    except BaseException:
        (folder.parent / "error.txt").write_text(traceback.format_exc())
        os._exit(1)


def wait(child: int, pipe: int) -> int | None:
    """The signal that ended the child; None where it came to its end."""
    os.close(pipe)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "the training failed: see error.txt"
    return None


def let_train(folder: Path) -> float:
    """Train to the end; seconds."""
    start = time.monotonic()
    child, pipe = fork(folder)
    while os.read(pipe, 4096):
        pass
    assert wait(child, pipe) is None
    return time.monotonic() - start


def kill_inside(folder: Path, place: str, generator: random.Random) -> bool:
    child, pipe = fork(folder, place, generator.randint(1, 2))
    while os.read(pipe, 4096):
        pass
    return wait(child, pipe) == signal.SIGKILL


def kill_any_time(folder: Path, step_seconds: float, generator: random.Random) -> bool:
    """Some pictures after the beginning, and then some time: the process knows nothing of it."""
    child, pipe = fork(folder)
    for _ in range(generator.randint(0, 10)):
        if not os.read(pipe, 1):
            break
    time.sleep(generator.uniform(0, 2 * step_seconds))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return wait(child, pipe) == signal.SIGKILL


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    generator = random.Random(seed)
    seconds = let_train(folder / "whole")
    kinds = [PLACES[i % len(PLACES)] for i in range(NUM_INSIDE)]
    kinds += ["any time"] * (NUM_KILLS - NUM_INSIDE)
    generator.shuffle(kinds)
    part, kills = folder / "part", []
    for kind in kinds:
        if kind in PLACES:
            is_killed = kill_inside(part, kind, generator)
        else:
            is_killed = kill_any_time(part, seconds / ITERATIONS, generator)
        leftovers = len(list(part.rglob(".*.tmp")))
        kills.append({"kind": kind, "killed": is_killed, "leftovers": leftovers})
    let_train(part)
    print(json.dumps({"kills": kills}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
