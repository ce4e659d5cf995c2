"""`blendmask-lite evaluate`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blendmask_lite.checkpoint import load_model
from blendmask_lite.cli.options import (
    SHAPES,
    VALIDATION_SEED,
    add_device_options,
    apply_threads,
    find_device,
    open_dataset,
)
from blendmask_lite.countdown import counter
from blendmask_lite.datasets.panoptic import PanopticDataset
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.evaluation.panoptic import evaluate_panoptic
from blendmask_lite.evaluation.panoptic_files import panoptic_results_path
from blendmask_lite.evaluation.results_file import write_results
from blendmask_lite.figures.evaluation_report import evaluation_figures, write_evaluation_figures
from blendmask_lite.files import write_atomically
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="box and mask AP, or panoptic quality, of a checkpoint",
        description="Box and mask AP, or panoptic quality, of a checkpoint on COCO-format data.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("root", metavar="ROOT", help=f'COCO-layout folder, or "{SHAPES}"')
    parser.add_argument("--split", metavar="NAME", help="default the only one there is")
    parser.add_argument("--images", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--ids", metavar="ID,ID,...", help="only these image ids")
    parser.add_argument("--size", type=int, metavar="N", help="shorter side at test, pixels")
    parser.add_argument("--max-size", type=int, metavar="N", help="longest side at test, pixels")
    parser.add_argument("--per-class", action="store_true", help="a row for each class, too")
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON")
    parser.add_argument("--results", metavar="FILE", help="write the detections in COCO's format")
    parser.add_argument(
        "--plot",
        metavar="DIR",
        help="draw curves, bars, kinds of mistakes, the best and the worst images",
    )
    parser.add_argument(
        "--panoptic", action="store_true", help="PQ, SQ and RQ of things and stuff instead of AP"
    )
    parser.add_argument(
        "--panoptic-results",
        metavar="DIR",
        help="with --panoptic: write the segments in COCO's panoptic format",
    )
    add_device_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    if options.panoptic_results and not options.panoptic:
        raise ValueError("--panoptic-results: needs --panoptic")
    if options.results and options.panoptic:
        raise ValueError("--results: detections are not found with --panoptic")
    apply_threads(options)
    device = find_device(options.device)
    model = load_model(options.checkpoint, device=device)
    changes = {"test_size": options.size, "max_size": options.max_size}
    given = {name: value for name, value in changes.items() if value is not None}
    if options.size is not None and options.max_size is None:
        given["max_size"] = round(options.size * 5 / 3)
    model.inference = replace(model.inference, **given)
    dataset = open_dataset(
        options.root,
        split=options.split,
        seed=VALIDATION_SEED,
        has_stuff=options.panoptic and bool(model.stuff_names),
    )
    if options.ids is not None:
        dataset = dataset.select([int(each) for each in options.ids.split(",")])
    if options.panoptic:
        return _run_panoptic(options, model, dataset, device)
    results = evaluate_model(
        model, dataset, progress=counter("images"), max_images=options.images, device=device
    )
    print(results.table())
    if options.per_class:
        print(f"\n{results.class_table()}")
    if options.json:
        write_atomically(Path(options.json), (results.to_json() + "\n").encode())
    if options.results:
        write_results(Path(options.results), results.found)
    if options.plot:
        write_evaluation_figures(evaluation_figures(results, dataset), options.plot)
    return 0


def _run_panoptic(
    options: argparse.Namespace, model: BlendMask, dataset: InstanceDataset, device: torch.device
) -> int:
    results = None
    if options.panoptic_results:
        split = dataset.split if isinstance(dataset, PanopticDataset) else SHAPES
        results = panoptic_results_path(options.panoptic_results, split)
    quality = evaluate_panoptic(
        model,
        dataset,
        progress=counter("images"),
        max_images=options.images,
        device=device,
        results=results,
    )
    print(quality.table())
    if options.per_class:
        print(f"\n{quality.class_table()}")
    if options.json:
        write_atomically(Path(options.json), (quality.to_json() + "\n").encode())
    return 0
