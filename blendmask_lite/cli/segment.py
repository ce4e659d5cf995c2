"""Write each image with its objects drawn, and all objects as COCO-format JSON (results.json).

--write chooses among these formats, of which results.json is always written: pictures; coco; masks
(masks/*.png, in which a pixel is the 1-based number of its object, or 0); csv (results.csv);
yolo (labels/*.txt, polygons); labelme (labelme/*.json, polygons to correct by hand).
The status is 1 if an image could not be read, 130 after Ctrl-C; results of the others are kept.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from torch import Tensor

from blendmask_lite.cli.options import add_device_options, apply_threads, find_device, names
from blendmask_lite.cli.segment_files import (
    FORMATS,
    Results,
    image_contents,
    image_files,
    require_free,
)
from blendmask_lite.datasets.coco_format import image_record
from blendmask_lite.evaluation.formats import table_rows
from blendmask_lite.files import find_checkpoint
from blendmask_lite.images import list_images, read_image
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import computing_in
from blendmask_lite.structures import UnpastedDetections, find_labels
from blendmask_lite.terminal import clear_line, counter, first_line, printable
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["add_options", "run"]

FAILURES = (ValueError, OSError, RuntimeError, MemoryError)  # errors that concern a single image
NEAR = 0.5  # also find objects from this share of --threshold, to report near misses


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image, folder of images, or pattern such as 'photos/**/*.jpg'",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="also search the folders inside the folders"
    )
    parser.add_argument(
        "--weights",
        default="photos",
        metavar="FILE",
        help="checkpoint: a file, or one that comes with the package: photos (the default), or "
        "small or nano, which know generated shapes only",
    )
    parser.add_argument(
        "-o", "--out", default="segmented", metavar="DIR", help="folder; default: segmented"
    )
    parser.add_argument(
        "--write",
        type=_formats,
        default=("coco", "pictures"),
        metavar="FORMATS",
        help=f"formats to write, some of {','.join(FORMATS)}; default: pictures,coco",
    )
    parser.add_argument(
        "--threshold", type=float, default=0.4, help="smallest score of an object; default: 0.4"
    )
    parser.add_argument(
        "--classes", type=names, metavar="NAME,NAME,...", help="classes to keep; default: all"
    )
    parser.add_argument(
        "--max-detections", type=int, help="largest number per image, before --classes applies"
    )
    parser.add_argument("--nms-iou", type=float, help="largest IoU of two boxes of a class")
    parser.add_argument("--size", type=int, help="shorter side of the resized images, in pixels")
    parser.add_argument(
        "--max-size",
        type=int,
        help="largest length of their longer side; default: in the model's ratio to --size",
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, help="images computed together; default: 1"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision; default: float32",
    )
    add_device_options(parser)


def run(options: argparse.Namespace) -> int:
    """Segment every image; returns 1 if some could not be read, after naming them."""
    apply_threads(options)
    if not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold}: must lie between 0 and 1")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size {options.batch_size}: must be at least 1")
    paths = list_images(options.images, is_recursive=options.recursive)
    out, formats = Path(options.out), options.write
    weights = find_checkpoint(options.weights)
    earlier = require_free(out, paths, formats, weights)
    model = load_model(weights, device=find_device(options.device))
    model.inference = model.inference.resized(options.size, options.max_size).changed(
        # The score is the square root of the product that the model compares with its threshold.
        score_threshold=(NEAR * options.threshold) ** 2,
        nms_iou=options.nms_iou,
        max_detections=options.max_detections,
    )
    labels = None if options.classes is None else find_labels(options.classes, model.class_names)
    report = counter("images") if len(paths) > 1 else None
    num_failed = 0
    with (
        _stoppable(),
        Results(out, model, formats, earlier) as results,
        computing_in(options.precision, model.device),
    ):
        files = image_files(out, paths, formats)
        found_in = _find_objects(model, paths, options.batch_size)
        for image_id, (path, found) in enumerate(zip(paths, found_in, strict=True), start=1):
            try:
                if isinstance(found, Exception):
                    raise found
                near = found.filter(classes=labels)
                found = near.filter(score=options.threshold)
                contents = image_contents(files[image_id - 1], path, found)
                entries, rows = found.to_coco(image_id), table_rows(found)
            except FAILURES as error:
                clear_line()
                print(f"skipped: {_reason(path, error)}", file=sys.stderr, flush=True)
                num_failed += 1
            else:
                record = image_record(image_id, found.image_size, str(path))
                results.add(record, entries, rows, contents)
                clear_line()
                told = _told(found, near, options.threshold)
                print(f"{printable(path)}: {told}", flush=True)
            if report is not None:
                report(image_id, len(paths))
    print(f"written to {printable(out)}", file=sys.stderr)
    return 1 if num_failed else 0


def _find_objects(
    model: BlendMask, paths: Sequence[Path], batch_size: int
) -> Iterator[UnpastedDetections | Exception]:
    """The objects of each image, on the CPU, or the reason why there are none."""
    for start in range(0, len(paths), batch_size):
        read: list[Tensor | Exception] = []
        for path in paths[start : start + batch_size]:
            try:
                read.append(read_image(path))
            except FAILURES as error:
                read.append(error)
        found = iter(_predict(model, [image for image in read if isinstance(image, Tensor)]))
        yield from (next(found) if isinstance(image, Tensor) else image for image in read)


def _predict(model: BlendMask, images: list[Tensor]) -> list[UnpastedDetections | Exception]:
    """The objects of a batch of images; if the batch fails, images are computed one by one."""
    size, longest = model.inference.test_size, model.inference.max_size
    try:
        found = model.predict_each(
            images, test_size=size, max_size=longest, batch_size=max(len(images), 1)
        )
        return [objects.to("cpu") for objects in found]
    except FAILURES as error:
        if len(images) == 1:
            return [error]
        return [each for image in images for each in _predict(model, [image])]


def _told(found: UnpastedDetections, near: UnpastedDetections, threshold: float) -> str:
    """The classes and their counts, best first; if nothing was found, the best lower score."""
    if len(found) > 0:
        counts = Counter(map(printable, found.names))
        return ", ".join(f"{name} x {num}" if num > 1 else name for name, num in counts.items())
    missed = f"best score {near.scores[0]:.3f}" if len(near) else f"none from {NEAR * threshold:g}"
    return f"nothing found ({missed}; --threshold is {threshold:g})"


def _formats(text: str) -> tuple[str, ...]:
    """Read `masks,csv` as ("coco", "masks", "csv"), for argparse."""
    for name in (names := text.split(",")):
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"{name!r}: expected some of {','.join(FORMATS)}")
    return tuple(dict.fromkeys(["coco", *names]))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make SIGTERM end the work like Ctrl-C, which writes the results."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _reason(path: Path, error: Exception) -> str:
    said = first_line(error) or type(error).__name__
    return printable(said if str(path) in said else f"{path}: {said}")
