"""Times COCO's evaluation by pycocotools, faster-coco-eval and hotcoco on the same results.

The true objects of a COCO folder, or of generated shapes, moved, relabelled, doubled and left out,
stand for a model's detections. The three take turns on one thread; ratios of times are taken
within a round, and their medians are reported. `--clock cpu` counts this process' own seconds and
is the better judge on a busy machine. faster-coco-eval is not among the project's dependencies:
`pip install faster-coco-eval`.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before the libraries start their threads.
os.environ |= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}

import numpy as np
import torch
from evaluators import EVALUATORS, Results, results_of_kind

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_format import decode_masks, encode_masks, run_length
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset

__all__ = ["main"]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
REFERENCE = "pycocotools"
KINDS = {"segm": "mask", "bbox": "box"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line and print its table."""
    options = parse(arguments)
    truth = read_truth(options)
    results = make_results(truth, options.detections, random.Random(options.seed))
    print(
        f"{len(truth['images'])} images, {len(truth['annotations'])} objects, "
        f"{len(results)} detections; one thread, {options.repeats} rounds, {options.clock} clock"
    )
    report: dict[str, Any] = {name: version(name) for name in EVALUATORS}
    for kind in KINDS:
        report[kind] = measure(truth, results, kind, options.repeats, CLOCKS[options.clock])
        print(table(report[kind], KINDS[kind]))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, help="COCO folder (default: generated shapes)")
    parser.add_argument("--split", metavar="NAME", help="of the folder")
    parser.add_argument("--images", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument("--detections", type=int, default=100, metavar="N", help="an image's")
    parser.add_argument("--repeats", "-r", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="default: wall")
    parser.add_argument("--seed", type=int, default=0, help="of the detections")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    return parser.parse_args(arguments)


def read_truth(options: argparse.Namespace) -> dict[str, Any]:
    """Images, annotations with masks as run lengths, and categories."""
    dataset: CocoDataset | ShapesDataset
    if options.root is None:
        dataset = ShapesDataset(options.images, seed=1, config=ShapesConfig(size=256))
    else:
        dataset = CocoDataset(options.root, options.split)
        dataset = dataset.select(dataset.image_ids[: options.images])
    truth = dataset.ground_truth()
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for number, each in enumerate(truth["annotations"]):
        run = run_length(each["segmentation"], sizes[each["image_id"]])
        text = run["counts"]
        counts = text.decode() if isinstance(text, bytes) else text
        each["segmentation"] = {"size": list(run["size"]), "counts": counts}
        if options.root is None:
            each["iscrowd"] = int(number % 10 == 0)  # generated shapes have none of their own
    return truth


def make_results(truth: dict[str, Any], per_image: int, generator: random.Random) -> Results:
    """Detections in COCO's format: true masks moved by some pixels, of right or wrong classes.

    The first of an object are close to it and score high; the others are further and score low.
    """
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for each in truth["annotations"]:
        objects[each["image_id"]].append(each)
    categories = [each["id"] for each in truth["categories"]]
    results: Results = []
    for image_id, own in objects.items():
        size = tuple(own[0]["segmentation"]["size"])
        masks = decode_masks([each["segmentation"] for each in own], size)
        for number in range(per_image):
            chosen = generator.randrange(len(own))
            reach = 2 if number < len(own) else 40
            shift = [generator.randint(-reach, reach) for _ in range(2)]
            moved = torch.roll(masks[chosen], shift, dims=(0, 1))
            category = own[chosen]["category_id"]
            if generator.random() < 0.2:
                category = generator.choice(categories)
            x, y, width, height = own[chosen]["bbox"]
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": encode_masks(moved[None])[0],
                    "bbox": [x + shift[1], y + shift[0], width, height],
                    # Two digits, so that there are ties.
                    "score": round(generator.random() ** (1 if reach == 2 else 4), 2),
                }
            )
    return results


def measure(
    truth: dict[str, Any], results: Results, kind: str, repeats: int, clock: Any
) -> dict[str, dict[str, float]]:
    """Seconds, ratio to pycocotools and largest difference from its 12 numbers, by library."""
    entries = results_of_kind(results, kind)
    times: dict[str, list[float]] = {name: [] for name in EVALUATORS}
    numbers: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, evaluate in EVALUATORS.items():
            own = copy.deepcopy((truth, entries))  # some write into what they are given
            gc.collect()
            started = clock()
            numbers[name] = np.asarray(evaluate(*own, kind), dtype=np.float64)
            times[name].append(clock() - started)
    return {
        name: {
            "seconds": statistics.median(seconds),
            "faster": statistics.median(
                reference / own for reference, own in zip(times[REFERENCE], seconds, strict=True)
            ),
            "difference": float(np.abs(numbers[name] - numbers[REFERENCE]).max()),
            "AP": 100 * float(numbers[name][0]),
        }
        for name, seconds in times.items()
    }


def table(rows: dict[str, dict[str, float]], kind: str) -> str:
    lines = [f"\n{kind:18}   seconds    faster       AP   largest difference of 12 numbers"]
    for name, row in rows.items():
        lines.append(
            f"  {name:18}{row['seconds']:8.3f}{row['faster']:9.1f}x{row['AP']:9.3f}"
            f"   {row['difference']:.1e}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
