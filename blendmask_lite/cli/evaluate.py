"""Box and mask AP, or panoptic quality, of a checkpoint on data in the format of COCO or LVIS."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blendmask_lite.cli.options import (
    LEAST_SIDE,
    LVIS,
    SHAPES,
    add_class_options,
    add_device_options,
    apply_threads,
    find_device,
    integers,
    open_dataset,
    told_few,
)
from blendmask_lite.datasets.coco import CocoDataset, ImageListDataset
from blendmask_lite.datasets.coco_files import list_splits
from blendmask_lite.datasets.lvis import CocoClassesOfLvis, LvisDataset
from blendmask_lite.datasets.panoptic import PanopticDataset, segments_folder
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.instances import detect_all, evaluate_model
from blendmask_lite.evaluation.panoptic import evaluate_panoptic, panoptic_results_path
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality
from blendmask_lite.evaluation.results import (
    InstanceResults,
    submission_path,
    write_results,
    write_submission,
)
from blendmask_lite.figures.evaluation import (
    EVALUATION_FIGURES,
    evaluation_figures,
    figure_paths,
    write_evaluation_figures,
)
from blendmask_lite.figures.panoptic import panoptic_quality_figure
from blendmask_lite.files import (
    find_checkpoint,
    require_apart,
    require_folder,
    require_writable,
    write_atomically,
)
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.terminal import counted, counter, printable
from blendmask_lite.training.distributed import Ranks, join_ranks, one_voice
from blendmask_lite.training.schedule import HELD_OUT_SEED
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["EPILOG", "add_options", "run"]

PANOPTIC_FIGURE = "panoptic_quality"
LVIS_DETECTIONS = 300  # LVIS's detections per image (Gupta et al., "LVIS", section 2.1)

EPILOG = """examples:
  blendmask-lite evaluate model.safetensors data/coco --split val2017 --per-class
      box and mask AP, also of each class
  blendmask-lite evaluate model.safetensors data/coco --split test-dev2017 --results sent/
      detections for COCO's server, which keeps the annotations
  blendmask-lite evaluate model.safetensors data/coco --split lvis_v1_val --coco-classes
      AP*: a model of COCO's classes on LVIS's finer outlines
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint: a file, or nano, small or photos, which come with the package",
    )
    parser.add_argument(
        "root", metavar="ROOT", help=f'COCO-layout folder, or "{SHAPES}" for generated images'
    )
    parser.add_argument(
        "--split", metavar="NAME", help="split to evaluate on; default: the only one"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        help="largest number of images computed together; default: 1, or 8 on a GPU. Results do "
        "not depend on it",
    )
    parser.add_argument("--images", type=int, help="evaluate the first N images only")
    add_class_options(parser)
    parser.add_argument(
        "--ids", type=integers, metavar="ID,ID,...", help="evaluate these images only"
    )
    parser.add_argument(
        "--folder",
        metavar="NAME",
        help="on LVIS: evaluate images of this folder only, such as val2017",
    )
    parser.add_argument("--size", type=int, help="shorter side of the resized images, in pixels")
    parser.add_argument(
        "--max-size", type=int, help="largest length of their longer side, in pixels"
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        help=f"largest number of detections per image; default: the model's, or {LVIS_DETECTIONS} "
        "on LVIS",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        help="class probability x centerness that a detection must exceed, 0 to 1",
    )
    parser.add_argument(
        "--coco-classes",
        action="store_true",
        help="on LVIS: evaluate COCO's 80 classes only, which gives AP* (the paper's table 11)",
    )
    parser.add_argument("--per-class", action="store_true", help="also print a row for each class")
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--results",
        metavar="FILE",
        help="write the detections in COCO's format; for a split without annotations also as a zip "
        "file, whose name is the one that COCO's server expects if FILE is a folder",
    )
    parser.add_argument(
        "--plot",
        metavar="DIR",
        help="draw curves, bars, kinds of mistakes, and the best and worst images into DIR",
    )
    parser.add_argument(
        "--panoptic",
        action="store_true",
        help="compute PQ, SQ and RQ of things and stuff instead of AP",
    )
    parser.add_argument(
        "--panoptic-results",
        metavar="DIR",
        help="with --panoptic: write the segments in COCO's panoptic format",
    )
    add_device_options(parser)


def run(options: argparse.Namespace) -> int:
    """Evaluate and print the table; returns 1 if there was nothing to measure."""
    if options.panoptic_results and not options.panoptic:
        raise ValueError("--panoptic-results: needs --panoptic")
    if options.results and options.panoptic:
        raise ValueError("--results: there are no detections with --panoptic")
    if options.size is not None and options.size < LEAST_SIDE:
        raise ValueError(f"--size {options.size}: must be at least {LEAST_SIDE}")
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images {options.images}: must be at least 1")
    apply_threads(options)
    with join_ranks(find_device(options.device)) as ranks, one_voice(ranks):
        return _evaluate(options, ranks)


def _evaluate(options: argparse.Namespace, ranks: Ranks) -> int:
    """Evaluate as one of the processes that share the images; the first one prints and writes."""
    options.checkpoint = find_checkpoint(options.checkpoint)
    model = load_model(options.checkpoint, device=ranks.device)
    dataset = _open(options, model)
    _require_outputs(options, dataset)
    most = LVIS_DETECTIONS if type(dataset) is LvisDataset else None
    longest = round(options.size * 5 / 3) if options.size is not None else None
    model.inference = model.inference.changed(
        test_size=options.size,
        max_size=longest if options.max_size is None else options.max_size,
        max_detections=most if options.max_detections is None else options.max_detections,
        score_threshold=options.score_threshold,
    )
    how: dict[str, Any] = {
        "progress": counter("images") if ranks.is_first else None,
        "max_images": options.images,
        "batch_size": options.batch_size,
        "share": (ranks.rank, ranks.size),
        "gather": ranks.gather,
    }
    results: InstanceResults | PanopticQuality
    if options.panoptic:
        path = _panoptic_results(options, dataset) if options.panoptic_results else None
        results = evaluate_panoptic(model, dataset, results=path, **how)
    elif isinstance(dataset, ImageListDataset):
        return _write_submission(options, model, dataset, how, ranks)
    else:
        results = evaluate_model(model, dataset, **how)
    if not ranks.is_first:
        return 0
    print(results.table())
    if options.per_class:
        print(f"\n{results.class_table()}")
    if options.json:
        write_atomically(Path(options.json), (results.to_json() + "\n").encode())
    if isinstance(results, PanopticQuality):
        if options.plot:
            figures = {PANOPTIC_FIGURE: panoptic_quality_figure(results)}
            write_evaluation_figures(figures, options.plot)
        return 0
    if options.results:
        write_results(Path(options.results), results.found)
    if options.plot:
        write_evaluation_figures(evaluation_figures(results, dataset), options.plot)
    num_objects = sum(result.num_objects for result in results.classes)
    if num_objects == 0:
        said = "nothing could be measured: no evaluated image has an object (crowds are none)"
        print(f"blendmask-lite evaluate: {said}", file=sys.stderr)
        return 1
    if few := told_few(results.num_images, num_objects):
        print(f"blendmask-lite evaluate: {few}", file=sys.stderr)
    return 0


def _open(options: argparse.Namespace, model: BlendMask) -> InstanceDataset:
    root, split = Path(options.root), options.split
    dataset: InstanceDataset
    if options.coco_classes:
        dataset = CocoClassesOfLvis(root, None if split is None else split.removeprefix(LVIS))
    elif split in set(list_splits(root, "image_info_")) - set(list_splits(root)):
        dataset = ImageListDataset(root, split)
    else:
        dataset = open_dataset(
            options.root,
            split=split,
            seed=HELD_OUT_SEED,
            size=model.inference.test_size,
            has_stuff=options.panoptic and bool(model.stuff_names),
            classes=options.classes,
            is_one_class=options.one_class,
        )
    if options.folder is not None:
        if not isinstance(dataset, LvisDataset):
            raise ValueError("--folder: is for LVIS, whose images lie in several folders")
        dataset = dataset.of_folder(options.folder)
    return dataset if options.ids is None else dataset.select(options.ids)


def _require_outputs(options: argparse.Namespace, dataset: InstanceDataset) -> None:
    """Refuse, before the work starts, outputs that cannot be written or would replace inputs."""
    outputs = [Path(file) for file in (options.json, options.results) if file]
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise ValueError(f"--json and --results: both would be written to {options.json}")
    if options.results and isinstance(dataset, ImageListDataset):
        path = submission_path(Path(options.results), dataset.split)
        outputs = [path, path.with_suffix(".zip")]
    for path in outputs:
        require_writable(path)
    if options.plot:
        names = (PANOPTIC_FIGURE,) if options.panoptic else EVALUATION_FIGURES
        outputs += figure_paths(names, options.plot)
    if options.panoptic_results:
        path = _panoptic_results(options, dataset)
        outputs += [path, *path.with_suffix("").glob("*.png")]
    require_apart(outputs, [options.checkpoint], "the checkpoint")
    require_apart(outputs, _files_of(dataset), "a file of the data set")
    for folder in (options.plot, options.panoptic_results):
        if folder:
            require_folder(folder)


def _files_of(dataset: InstanceDataset) -> Iterator[Path]:
    if isinstance(dataset, CocoDataset):
        yield from dataset.root.glob("annotations/**/*")
        yield from map(dataset.image_path, dataset.image_ids)
    if isinstance(dataset, PanopticDataset):
        yield from segments_folder(dataset.root, dataset.split).iterdir()


def _panoptic_results(options: argparse.Namespace, dataset: InstanceDataset) -> Path:
    split = dataset.split if isinstance(dataset, PanopticDataset) else SHAPES
    return panoptic_results_path(options.panoptic_results, split)


def _write_submission(
    options: argparse.Namespace,
    model: BlendMask,
    dataset: ImageListDataset,
    how: dict[str, Any],
    ranks: Ranks,
) -> int:
    """Write the detections of images whose annotations are kept on an evaluation server."""
    if not options.results or options.json or options.plot or options.per_class:
        raise ValueError(
            f"{dataset.split} has no annotations, so there are no scores; only --results writes "
            "the detections for its server"
        )
    found = detect_all(model, dataset, **how).found
    if not ranks.is_first:
        return 0
    path = submission_path(Path(options.results), dataset.split)
    archive = write_submission(path, found)
    detections = counted(sum(map(len, found)), "detection")
    print(f"{counted(len(found), 'image')}, {detections}: {printable(path)}")
    print(f"There are no scores: {printable(dataset.split)} has no annotations.")
    print(f"For its server: {printable(archive)}")
    return 0
