"""Reads and checks mutated COCO folders one after the other, and prints what became of each.

Run as `python fuzz_reading.py SEED FIRST LAST FOLDER`, a process of its own: its memory is limited,
and a crash of C code would end it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from fuzz_coco import mutated, write

from blendmask_lite.cli import main
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.panoptic import PanopticDataset

SECONDS = 10.0  # of the processor, for one case
MEMORY = 600_000_000  # bytes more than after the imports, of addresses
MESSAGE = 1000  # characters of an error that are passed on


class TooSlowError(BaseException):
    """Not caught by anything on its way."""


def too_slow(*_: object) -> None:
    raise TooSlowError


def read_all(root: Path) -> str | None:
    """Read everything; the error of what was refused, or None."""
    try:
        datasets = [CocoDataset(root, "train")]
        if (root / "annotations" / "panoptic_train.json").exists():
            datasets.append(PanopticDataset(root, "train"))
        for dataset in datasets:
            for sample in dataset:
                require_sound(sample, dataset)
            truth = dataset.ground_truth()
            assert len(truth["images"]) == len(dataset)
            json.dumps([each["area"] + each["bbox"][0] for each in truth["annotations"]])
    except (ValueError, FileNotFoundError) as error:
        if type(error) not in (ValueError, FileNotFoundError):
            raise
        return str(error)
    return None


def require_sound(sample: Any, dataset: CocoDataset) -> None:
    target, size = sample.target, sample.original_size
    assert sample.image.shape == (3, *size) and sample.image.dtype == torch.uint8
    assert target.masks.shape == (len(target), *size)
    assert target.masks.flatten(1).any(dim=1).all()
    assert target.semantic.shape == size and target.semantic.max() <= len(dataset.class_names)
    assert ((target.labels >= 0) & (target.labels < len(dataset.class_names))).all()
    height, width = size
    assert (target.boxes >= 0).all()
    assert (target.boxes <= torch.tensor([width, height, width, height])).all()


def check(root: Path, file: Path) -> dict[str, Any]:
    """Status, errors by kind, and output of `data check`."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    errors = io.StringIO()
    command = ["data", "check", str(root), "--split", "train", "--decode", "--json", str(file)]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(command)
    if not file.exists():
        return {"status": status, "kinds": ["refused"]}
    findings = json.loads(file.read_text())["splits"]["train"]["findings"]
    kinds = [each["kind"] for each in findings if each["severity"] == "error"]
    assert status == int(bool(kinds))
    return {"status": status, "kinds": kinds}


def outcome_of(seed: int, number: int, folder: Path) -> dict[str, Any]:
    case = mutated(seed, number)
    root = folder / f"case{number}"
    write(case, root)
    outcome: dict[str, Any] = {"number": number, "kinds": case.kinds, "is_json": case.is_json}
    begin = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        outcome["refused"] = read_all(root)
        outcome["check"] = check(root, folder / f"{number}.json")
    except (Exception, TooSlowError):
        outcome["crash"] = traceback.format_exc()[-3000:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    outcome["seconds"] = time.process_time() - begin
    if outcome.get("refused"):
        message = outcome["refused"].replace(str(root), "ROOT")
        outcome["refused"] = message[:MESSAGE]
        outcome["length"] = len(message)
    shutil.rmtree(root)
    return outcome


def run(seed: int, first: int, last: int, folder: Path) -> None:
    warnings.simplefilter("error")
    # The first uses of pycocotools' and NumPy's functions may warn; not every case is to.
    warnings.filterwarnings("ignore", module="pycocotools")
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGPROF, too_slow)
    os.fsync = lambda file: None  # nothing of this has to outlive a power cut
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, last):
        print(json.dumps(outcome_of(seed, number, folder)), flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"grown": grown * 1024}), flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
