"""CPU seconds of a training step on generated shapes, and their ratio to another checkout's.

    python benchmarks/training_step.py
    git worktree add ../before v1.0 && python benchmarks/training_step.py --against ../before

A step is one of `blendmask-lite train shapes` with its defaults, on one thread: the pictures of a
batch are drawn, then come network, losses, optimizer and log. Every block of steps is a process of
its own. The checkouts take turns, and the seconds are those of the process, so that whatever else
the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

CHECKOUT = Path(__file__).resolve().parent.parent
DRAWS = 10_000  # of the bootstrap
ENDS = (0.025, 0.975)  # of the middle 95 %


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line, print its numbers and return them."""
    options = parse(arguments)
    if options.block:
        block = measure_block(options.steps, options.warm_up)
        print(json.dumps(block))
        return block
    checkouts = [CHECKOUT] if options.against is None else [CHECKOUT, options.against.resolve()]
    blocks: list[list[dict[str, float]]] = [[] for _ in checkouts]
    for _ in range(options.blocks):
        for own, checkout in zip(blocks, checkouts, strict=True):
            own.append(run_block(checkout, options.steps, options.warm_up))
    result: dict[str, Any] = {
        str(checkout): {name: statistics.mean(each[name] for each in own) for name in own[0]}
        for checkout, own in zip(checkouts, blocks, strict=True)
    }
    if options.against is not None:
        pairs = zip(*blocks, strict=True)
        ratios = [own["milliseconds"] / other["milliseconds"] for own, other in pairs]
        result["ratio"] = {"mean": statistics.mean(ratios), "middle 95 %": interval_of(ratios)}
    print(json.dumps(result, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, in turns")
    parser.add_argument("--blocks", type=int, default=10, metavar="N", help="of each checkout")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="counted in each block")
    parser.add_argument("--warm-up", type=int, default=5, metavar="N", help="not counted, before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--block", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run_block(checkout: Path, steps: int, warm_up: int) -> dict[str, float]:
    """One block of steps with the package of a checkout, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--block"]
    command += ["--steps", str(steps), "--warm-up", str(warm_up)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


class EnoughError(BaseException):
    """Ends a training after the last step that counts."""


def measure_block(steps: int, warm_up: int) -> dict[str, float]:
    """CPU milliseconds of a step, and of the drawing in it, of the package that is imported."""
    from blendmask_lite.cli import main as blendmask_lite
    from blendmask_lite.datasets.shapes import ShapesDataset
    from blendmask_lite.training.schedule import TRAIN_PRESETS

    batch_size = TRAIN_PRESETS["nano"].batch_size
    last = (warm_up + steps) * batch_size
    load = ShapesDataset.load
    starts: list[float] = []  # of all pictures, seconds
    drawing: list[float] = []

    def timed_load(self: ShapesDataset, index: int) -> Any:
        starts.append(time.process_time())
        if len(starts) > last:
            raise EnoughError
        sample = load(self, index)
        drawing.append(time.process_time() - starts[-1])
        return sample

    ShapesDataset.load = timed_load  # type: ignore[method-assign]
    words = ["train", "shapes", "--threads", "1", "--out"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            blendmask_lite([*words, str(Path(folder) / "run")])
        except EnoughError:
            first = warm_up * batch_size
            return {
                "milliseconds": 1000 * (starts[last] - starts[first]) / steps,
                "of them drawing": 1000 * sum(drawing[first:]) / steps,
            }
    raise RuntimeError("the training ended before its time")


def interval_of(ratios: Sequence[float]) -> list[float]:
    """The middle 95 % of the means of ratios drawn anew, with replacement."""
    generator = random.Random(0)
    means = sorted(statistics.mean(generator.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return [means[int(end * (DRAWS - 1))] for end in ENDS]


if __name__ == "__main__":
    main()
