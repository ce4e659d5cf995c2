"""Trains chapter 12's model with several seeds and scores what its bases learned.

    python benchmarks/training_course.py --json numbers.json
    python benchmarks/training_course.py --seeds 0 --iterations 4 --images 8 --untrained 1
                                                      any machine, in seconds

Each seed is the very command that the notebook starts; it evaluates on 200 pictures of the seed's
own, and this script once more on the same ones for all. What is done is kept: started again, the
script continues the seed that was interrupted, and goes on with the next.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blendmask_lite import load_model
from blendmask_lite.cli import main as blendmask_lite
from blendmask_lite.course.training_recipe import (
    ITERATIONS,
    HeldOutPictures,
    LearnedBases,
    learned_bases,
    training_options,
    untrained_model,
)
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.files import write_atomically
from blendmask_lite.terminal import counter
from blendmask_lite.training.run_folder import read_run
from blendmask_lite.training.session import versions

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score from the command line; 0, or what a training that was stopped returned."""
    options = parse(arguments)
    torch.set_num_threads(1)
    report: dict[str, Any] = {"iterations": options.iterations, "versions": versions()}
    report["trained"] = {}
    for seed in options.seeds:
        folder = options.folder / f"{options.iterations}-seed{seed}"
        if not (folder / "model.safetensors").exists():
            command = training_options(seed=seed, iterations=options.iterations)
            status = blendmask_lite(["train", *command, "--out", str(folder), "--resume"])
            if status:
                return status
        model = load_model(folder / "model.safetensors")
        progress = counter(f"pictures, seed {seed}")
        bases = learned_bases(model, options.images, progress=progress)
        run = read_run(folder)
        report["trained"][seed] = {
            **{name: run.scores[name] for name in ("mask AP", "box AP")},
            "held-out mask AP": evaluate_model(model, HeldOutPictures(options.images)).mask["AP"],
            "seconds": sum(run.steps["seconds"]),
            **plain(bases),
        }
        write(options.json, report)
    report["untrained"] = {}
    for seed in range(options.untrained):
        progress = counter(f"pictures, untrained {seed}")
        bases = learned_bases(untrained_model(seed), options.images, progress=progress)
        report["untrained"][seed] = plain(bases)
        write(options.json, report)
    print(table(report))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, metavar="N")
    parser.add_argument("--images", type=int, default=200, metavar="N", help="that are scored")
    parser.add_argument("--untrained", type=int, default=10, metavar="N", help="random networks")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/course"), metavar="DIR", help="of the trainings"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    return parser.parse_args(arguments)


def plain(bases: LearnedBases) -> dict[str, Any]:
    """The numbers of all bases and the two that count."""
    scores = bases.scores
    return {
        "object AUC": bases.object_auc,
        "position r": bases.position,
        "typical position r": bases.typical_position,
        "bases": {
            "object AUC": scores.object_auc.tolist(),
            "depth r": scores.depth.tolist(),
            "x r": scores.x.tolist(),
            "y r": scores.y.tolist(),
            "y r upside down": bases.upside_down_y.tolist(),
        },
    }


def table(report: dict[str, Any]) -> str:
    """A row for each seed, trained and not."""
    lines = ["           seed  mask AP  held out  object AUC  position r: strongest  typical"]
    for kind in ("trained", "untrained"):
        for seed, row in report[kind].items():
            names = ("mask AP", "held-out mask AP")
            ap, held_out = (f"{row[name]:.1f}" if name in row else "-" for name in names)
            auc, r, typical = (row[n] for n in ("object AUC", "position r", "typical position r"))
            numbers = f"{auc:>10.2f}  {r:>21.2f}  {typical:>7.2f}"
            lines.append(f"{kind:<9}  {seed:>4}  {ap:>7}  {held_out:>8}  {numbers}")
    return "\n".join(lines)


def write(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    raise SystemExit(main())
