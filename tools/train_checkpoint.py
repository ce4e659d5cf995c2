"""Trains the checkpoints that come with the package: `make checkpoint`, or with a preset's name.

Nothing but `blendmask-lite train` with the options below; a run that was stopped continues when
this is called again. Model and log are then copied into the package; `SHIPPED_MODELS` in `files.py`
names the files. `photos` needs a folder of COCO (`--coco`) and the package with the backbone's
weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from torch.nn import functional as F

from blendmask_lite.cli import main
from blendmask_lite.config import PRESET_INFERENCE, PRESETS
from blendmask_lite.files import shipped_checkpoint, write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights.checkpoint import load_model, save_model

DATA = Path(__file__).parent.parent / "blendmask_lite" / "data"
OPTIONS = {
    "nano": "shapes --iterations 15000 --ema 0.999 --workers 1 --threads 1 --half",
    "small": "shapes --iterations 15000 --ema 0.999 --threads 1 --half --learning-rate 0.003",
    "photos": "COCO --split train2017 --validation val2017 --one-class --backbone-weights imagenet "
    "--iterations 1600 --precision bfloat16 --threads 1 --half --evaluate-every 800",
}
FILES = {"photos": "photos.safetensors"}  # of the others, PRESET_shapes.safetensors


def train(preset: str, folder: Path, coco: str) -> int:
    """Train, and copy model and log into the package; the log says COCO for the folder `coco`."""
    name = FILES.get(preset, f"{preset}_shapes.safetensors")
    run = folder / Path(name).stem
    told = ["train", *OPTIONS[preset].split(), "--preset", preset, "-o", str(run), "--resume"]
    arguments = [coco if word == "COCO" else word for word in told]
    if preset == "small":
        start = folder / "small_from_nano.safetensors"
        if not start.exists():
            save_model(small_from_nano(load_model(shipped_checkpoint())), start)
        told += ["--weights", str(start)]
        arguments += told[-2:]
    if status := main(arguments):
        return status
    DATA.mkdir(exist_ok=True)
    shutil.copy(run / "model.safetensors", DATA / name)
    with (run / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        evaluations = list(csv.DictReader(file))
    log = {
        "command": f"blendmask-lite {' '.join(told)}",
        **training_log(run),
        "evaluations": evaluations,
    }
    content = (json.dumps(log, indent=1) + "\n").replace(str(Path(coco).absolute()), "COCO")
    write_atomically((DATA / name).with_suffix(".json"), content.encode())
    return 0


def training_log(run: Path) -> dict[str, Any]:
    """Settings, versions and time of a training, and some sixty of its steps."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        steps = list(csv.DictReader(file))
    return {
        "run": json.loads((run / "run.json").read_text("utf-8")),
        "training_seconds": round(sum(float(step["seconds"]) for step in steps)),
        "losses": steps[:: len(steps) // 60] + steps[-1:],
    }


def small_from_nano(nano: BlendMask) -> BlendMask:
    """A `small` that begins with what `nano` learned; only the attentions have another size.

    Each of nano's M x M attention cells becomes the same in all cells of `small` that it covers.
    """
    small = BlendMask(
        PRESETS["small"], class_names=nano.class_names, inference=PRESET_INFERENCE["small"]
    )
    state = nano.state_dict()
    K, M = nano.config.num_bases, nano.config.attention_size
    size = small.config.attention_size
    for name in ("top_layer.conv.weight", "top_layer.conv.bias"):
        value = state[name]
        grids = value.reshape(K, M, M, -1).permute(0, 3, 1, 2)  # (K, inputs, M, M)
        grids = F.interpolate(grids, size=(size, size), mode="nearest")
        state[name] = grids.permute(0, 2, 3, 1).reshape(K * size**2, *value.shape[1:])
    small.load_state_dict(state)
    return small.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a checkpoint that the package ships.")
    parser.add_argument("preset", nargs="?", choices=list(OPTIONS), default="nano")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--coco", default="coco", metavar="ROOT", help="of photos: COCO's folder")
    chosen = parser.parse_args()
    sys.exit(train(chosen.preset, chosen.runs, chosen.coco))
