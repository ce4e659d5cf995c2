"""Trains the checkpoint that comes with the package: `make checkpoint`.

Nothing but `blendmask-lite train shapes` with the options below; a run that was stopped continues
when this is called again. Model and log are then copied to where the package finds them.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

from blendmask_lite.cli import main
from blendmask_lite.files import SHIPPED_CHECKPOINT, write_atomically

RUN = Path("runs/nano_shapes")
DATA = Path(__file__).parent.parent / "blendmask_lite" / "data"
OPTIONS = "--iterations 15000 --ema 0.999 --workers 1 --threads 1 --half"


def train() -> int:
    """Train, and copy model and log into the package."""
    arguments = ["train", "shapes", "-o", str(RUN), "--resume", *OPTIONS.split()]
    if status := main(arguments):
        return status
    DATA.mkdir(exist_ok=True)
    shutil.copy(RUN / "model.pt", DATA / SHIPPED_CHECKPOINT)
    description = json.loads((RUN / "run.json").read_text())
    with (RUN / "evaluation.csv").open(newline="") as file:
        evaluations = list(csv.DictReader(file))
    with (RUN / "metrics.csv").open(newline="") as file:
        steps = list(csv.DictReader(file))
    log = {
        "command": f"blendmask-lite {' '.join(arguments)}",
        "run": description,
        "training_seconds": round(sum(float(step["seconds"]) for step in steps)),
        "evaluations": evaluations,
        "losses": steps[:: len(steps) // 60] + steps[-1:],
    }
    target = (DATA / SHIPPED_CHECKPOINT).with_suffix(".json")
    write_atomically(target, (json.dumps(log, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(train())
