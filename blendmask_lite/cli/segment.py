"""`blendmask-lite segment`."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from blendmask_lite.assets import shipped_checkpoint
from blendmask_lite.checkpoint import load_model
from blendmask_lite.cli.options import add_device_options, apply_threads, find_device
from blendmask_lite.datasets.transforms import resize_for_test
from blendmask_lite.evaluation.results_file import coco_results
from blendmask_lite.figures.detections import draw_detections
from blendmask_lite.files import write_atomically
from blendmask_lite.images import read_image

__all__ = ["add_parser"]

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "segment",
        help="find the objects of pictures",
        description="Write each picture with its objects drawn, and all of them as COCO-format "
        "JSON (results.json).",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture, or folder of pictures")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint; default the shipped one")
    parser.add_argument("-o", "--out", default="segmented", metavar="DIR", help="default segmented")
    parser.add_argument(
        "--threshold", type=float, default=0.4, metavar="X", help="least score; default 0.4"
    )
    add_device_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Segment every picture; unreadable ones are named, and the result is then 1."""
    apply_threads(options)
    if not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold}: must lie between 0 and 1")
    paths = list_images(options.images)
    device = find_device(options.device)
    model = load_model(options.weights or shipped_checkpoint(), device=device)
    out = Path(options.out)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    num_failed = 0
    for image_id, path in enumerate(paths, start=1):
        try:
            image = read_image(path)
        except (ValueError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
            num_failed += 1
            continue
        size = (image.shape[1], image.shape[2])
        resized = resize_for_test(image, model.inference.test_size, model.inference.max_size)
        # The score is the root of the product that predict thresholds.
        found = model.predict([resized], output_sizes=[size], score_threshold=options.threshold**2)[
            0
        ].to("cpu")
        drawn = draw_detections(image, found, model.class_names)
        buffer = io.BytesIO()
        Image.fromarray(drawn).save(buffer, "PNG")
        write_atomically(out / f"{image_id:04}_{path.stem}.png", buffer.getvalue())
        images.append({"id": image_id, "file_name": str(path), "height": size[0], "width": size[1]})
        annotations += coco_results(image_id, found)
        names = [model.class_names[label] for label in found.labels]
        print(f"{path}: {', '.join(names) or 'nothing found'}")
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    categories = [{"id": i, "name": name} for i, name in enumerate(model.class_names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(out / "results.json", json.dumps(content).encode())
    return 1 if num_failed else 0


def list_images(names: list[str]) -> list[Path]:
    """Files as they are, folders by the pictures in them.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder without pictures.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not found:
                raise ValueError(f"{path}: a folder without pictures")
            paths += found
        elif path.exists():
            paths.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file")
    return paths
