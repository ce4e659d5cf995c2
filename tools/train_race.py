"""Trains what chapter 10's race is run on, and runs it with several seeds: `make race`.

First a network that learns boxes alone, then every contestant from new last layers on its features.
If it was stopped, the training of the features continues; the race begins anew. Features, scores
and the first seed's weights are written into the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from train_checkpoint import DATA, training_log

from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import RACE_FILES, write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research.ablations.run import score_true_boxes
from blendmask_lite.research.race import (
    CONTESTANTS,
    ON_THE_WALL,
    NoBases,
    learn,
    load_features,
    make_contestant,
    new_parts,
    prepare_lessons,
)
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import HELD_OUT_SEED, TRAIN_PRESETS, rescale

ITERATIONS = 6000  # of the features' training
LENGTHS = (100, 500)  # steps of the race
SEEDS = range(5)
NUM_IMAGES, NUM_HELD_OUT = 512, 200


def train_features(run: Path) -> bool:
    """Train backbone, pyramid and detector with the losses of classes, boxes and centerness."""
    config = replace(CONTESTANTS["BlendMask"], merger="assembler", num_bases=1)
    schedule = replace(rescale(TRAIN_PRESETS["nano"], iterations=ITERATIONS), ema_decay=0.999)
    torch.manual_seed(schedule.seed)
    model = BlendMask(config, bottom=NoBases())
    recipe = Recipe(config, PRESET_INFERENCE["nano"], schedule)
    return train_model(ShapesDataset(20_000), run, recipe, model=model, is_resumed=True, half=True)


def race(log: dict[str, Any]) -> None:
    """Run every contestant with every seed and length, and write scores and weights."""
    features = load_features()
    samples = list(ShapesDataset(NUM_IMAGES, seed=11))
    lessons = prepare_lessons(features, [s.image for s in samples], [s.target for s in samples])
    held_out = ShapesDataset(NUM_HELD_OUT, seed=HELD_OUT_SEED)
    scores: dict[str, Any] = {f"{length}": {} for length in LENGTHS}
    weights: dict[str, Tensor] = {}
    for length in LENGTHS:
        for name, config in CONTESTANTS.items():
            found = []
            for seed in SEEDS:
                contestant = make_contestant(features, config, seed=seed)
                for _ in learn(contestant, lessons, num_steps=length):
                    pass
                found.append(score_true_boxes(contestant, held_out).means())
                print(length, name, seed, found[-1], flush=True)
                if (length, seed) == (LENGTHS[-1], SEEDS[0]) and name in ON_THE_WALL:
                    own = new_parts(contestant).items()
                    weights |= {f"{name}/{part}": value.half().contiguous() for part, value in own}
            columns = {group: [each[group] for each in found] for group in found[0]}
            scores[f"{length}"][name] = columns
    content = {
        "command": "make race",
        "num_images": NUM_IMAGES,
        "num_held_out": NUM_HELD_OUT,
        "seeds": list(SEEDS),
        "scores": scores,
        "features": log,
    }
    write_atomically(DATA / RACE_FILES["weights"], safetensors.torch.save(weights))
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(DATA / RACE_FILES["scores"], text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the features of the race, and race.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    run = parser.parse_args().runs / "boxes_shapes"
    if not (run / "model.safetensors").exists() and not train_features(run):
        sys.exit(1)
    shutil.copy(run / "model.safetensors", DATA / RACE_FILES["features"])
    race(training_log(run))
