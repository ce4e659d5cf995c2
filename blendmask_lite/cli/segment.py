"""Write each image with its objects drawn, and all objects as COCO-format JSON (results.json).

The status is 1 if an image could not be read, 130 after Ctrl-C; results of the others are kept.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from blendmask_lite.cli.options import add_device_options, apply_threads, find_device
from blendmask_lite.datasets.coco_format import image_record
from blendmask_lite.evaluation.results import image_results
from blendmask_lite.figures.detections import draw_detections
from blendmask_lite.files import (
    is_stream,
    read_text,
    require_apart,
    require_folder,
    require_writable,
    shipped_checkpoint,
    write_atomically,
)
from blendmask_lite.images import IMAGE_SUFFIXES, read_image, resize_for_test
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import UnpastedDetections
from blendmask_lite.terminal import clear_line, counter, first_line, printable
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["add_options", "run"]

RESULTS = "results.json"
WRITING_SHARE = 0.05  # fraction of the time that may go into rewriting results.json
LONGEST = 200  # bytes of an image's name that the result's name repeats; file systems allow 255


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, or folder of images")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint; default the shipped one")
    parser.add_argument("-o", "--out", default="segmented", metavar="DIR", help="default segmented")
    parser.add_argument("--threshold", type=float, default=0.4, help="least score; default 0.4")
    add_device_options(parser)


def run(options: argparse.Namespace) -> int:
    """Segment every image; returns 1 if some could not be read, after naming them."""
    apply_threads(options)
    if not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold}: must lie between 0 and 1")
    paths = _list_images(options.images)
    out, results_path = Path(options.out), Path(options.out) / RESULTS
    targets = [out / _drawn_name(image_id, path) for image_id, path in enumerate(paths, start=1)]
    weights = options.weights or shipped_checkpoint()
    require_apart([*targets, results_path], paths, "one of the images")
    require_apart([*targets, results_path], [weights], "the checkpoint")
    _require_own(targets, results_path)
    model = load_model(weights, device=find_device(options.device))
    require_folder(out)
    require_writable(results_path)
    report = counter("images") if len(paths) > 1 else None
    num_failed = 0
    with _stoppable(), _Results(results_path, model) as results:
        for image_id, (path, target) in enumerate(zip(paths, targets, strict=True), start=1):
            try:
                image = read_image(path)
                found = _find_objects(model, image, options.threshold)
                entries = image_results(image_id, found, model.category_ids).entries()
                drawn = draw_detections(image, found, model.class_names)
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                clear_line()
                print(f"skipped: {_reason(path, error)}", file=sys.stderr, flush=True)
                num_failed += 1
            else:
                _write_png(target, drawn)
                results.add(image_record(image_id, found.image_size, str(path)), entries)
                names = [printable(model.class_names[label]) for label in found.labels]
                clear_line()
                print(f"{printable(path)}: {', '.join(names) or 'nothing found'}", flush=True)
            if report is not None:
                report(image_id, len(paths))
    return 1 if num_failed else 0


def _find_objects(model: BlendMask, image: torch.Tensor, threshold: float) -> UnpastedDetections:
    """The objects of a (3, H, W) uint8 image that score at least `threshold`, on the CPU."""
    device = next(model.parameters()).device
    settings = model.inference
    resized = resize_for_test(image.to(device), settings.test_size, settings.max_size)
    with torch.no_grad():
        # The score is the square root of the product that the model compares with its threshold.
        found = model.place_objects(
            model([resized]),
            output_sizes=[(image.shape[1], image.shape[2])],
            score_threshold=threshold**2,
        )
    return found[0].to("cpu")


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    # Stronger compression barely makes photographs smaller, and takes longer than the network.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    write_atomically(path, buffer.getvalue())


class _Results:
    """results.json, which grows: it is rewritten whenever that costs little compared to the work.

    It is also written on leaving the `with` block, unless no image was processed.
    """

    def __init__(self, path: Path, model: BlendMask) -> None:
        self.path = path
        pairs = zip(model.category_ids, model.class_names, strict=True)
        self.categories = json.dumps([{"id": number, "name": name} for number, name in pairs])
        self.images: list[str] = []
        self.annotations: list[str] = []
        # What was sent to a pipe cannot be rewritten.
        self._due = math.inf if is_stream(path) else 0.0

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, *error: object) -> None:
        if self.images:
            self._write()

    def add(self, image: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        """Add an image's record and objects, and write the file if it is time."""
        self.images.append(json.dumps(image))
        for number, entry in enumerate(entries, start=len(self.annotations) + 1):
            self.annotations.append(json.dumps(entry | {"id": number}))
        if time.monotonic() >= self._due:
            self._write()

    def _write(self) -> None:
        start = time.monotonic()
        content = (
            f'{{"images": [{", ".join(self.images)}], '
            f'"annotations": [{", ".join(self.annotations)}], "categories": {self.categories}}}'
        )
        write_atomically(self.path, content.encode())
        end = time.monotonic()
        self._due = end + (end - start) / WRITING_SHARE


def _list_images(names: list[str]) -> list[Path]:
    """The named files, and the image files in the named folders."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            found = sorted(file for file in inside if not file.is_dir())
            if not found:
                raise ValueError(f"{path}: a folder without images")
            paths += found
        elif path.exists():
            paths.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file")
    return paths


def _drawn_name(image_id: int, path: Path) -> str:
    """The file name for an image with its objects drawn: the image's number and name."""
    stem = path.stem.encode(errors="surrogateescape")[:LONGEST].decode(errors="ignore")
    return f"{image_id:04}_{stem}.png"


def _require_own(targets: list[Path], results: Path) -> None:
    """Refuse to replace files, unless the results.json beside them shows that we wrote them."""
    written = set()
    if results.is_file():
        try:
            images = json.loads(read_text(results))["images"]
            written = {_drawn_name(image["id"], Path(image["file_name"])) for image in images}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError(
                f"{results}: is there already and was not written by segment; choose another --out"
            ) from None
    for target in targets:
        if target.is_file() and target.name not in written:
            raise ValueError(
                f"{target}: is there already, and {RESULTS} names no earlier call that wrote it; "
                "choose another --out, or remove it"
            )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make SIGTERM end the work as Ctrl-C does, so that the results are written."""
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
