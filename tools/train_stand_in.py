"""Trains the stand-in for the authors' checkpoints and writes it as their code would.

The appendix on published weights runs on it where there is no network. A run that was stopped
continues when this is called again.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from blendmask_lite import load_model
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import write_atomically
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import HELD_OUT_SEED, NUM_SHAPES, TRAIN_PRESETS, rescale
from blendmask_lite.weights.adelaidet import released_name
from blendmask_lite.weights.zoo import STAND_IN_CONFIG, stand_in_weights

RUN = Path("runs/stand_in")
ITERATIONS = 4000


def main() -> int:
    """Train, and write the weights by the released code's names."""
    torch.set_num_threads(1)
    train = replace(
        rescale(TRAIN_PRESETS["nano"], iterations=ITERATIONS),
        ema_decay=0.999,
        num_workers=1,
        evaluate_every=ITERATIONS,
    )
    recipe = Recipe(model=STAND_IN_CONFIG, inference=PRESET_INFERENCE["nano"], train=train)
    is_finished = train_model(
        ShapesDataset(NUM_SHAPES, seed=0),
        RUN,
        recipe,
        validation=ShapesDataset(200, seed=HELD_OUT_SEED),
        is_resumed=True,
    )
    if not is_finished:
        return 130
    model = load_model(RUN / "model.safetensors")
    num_convs = model.config.num_bottom_convs
    state = {
        # Statistics of norms stay as they are: their range is wider than half precision's.
        released_name(name, num_bottom_convs=num_convs): value.half() if value.dim() > 1 else value
        for name, value in model.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save({"model": state}, buffer)
    write_atomically(stand_in_weights(), buffer.getvalue())
    log = {
        "command": "python tools/train_stand_in.py",
        "run": json.loads((RUN / "run.json").read_text("utf-8")),
        "evaluation": (RUN / "evaluation.csv").read_text("utf-8").splitlines(),
    }
    text = json.dumps(log, indent=1) + "\n"
    write_atomically(stand_in_weights().with_suffix(".json"), text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
