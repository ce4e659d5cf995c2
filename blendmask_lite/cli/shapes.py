"""Generate images of overlapping objects as JSON and PNG files in COCO's layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from blendmask_lite.datasets.shapes import ShapesConfig, write_shapes
from blendmask_lite.terminal import counter

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("out", metavar="OUT", help="folder to write into")
    parser.add_argument("--images", type=int, default=1000, help="number of images; default: 1000")
    parser.add_argument("--seed", type=int, default=0, help="seed of the images; default: 0")
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="name of the split; default: train"
    )
    parser.add_argument(
        "--size", type=int, default=128, help="side of the images, 32 to 2048 pixels; default: 128"
    )
    parser.add_argument("--stuff", action="store_true", help="also write panoptic JSON and PNG")


def run(options: argparse.Namespace) -> int:
    """Write the data set."""
    if options.images < 1:
        raise ValueError(f"--images {options.images}: must be at least 1")
    config = ShapesConfig(size=options.size)
    path = Path(options.out) / "annotations" / f"instances_{options.split}.json"
    if path.is_file():
        raise FileExistsError(
            f"{path}: is there already, and its images would be lost; choose another folder or "
            "--split, or remove them first"
        )
    write_shapes(
        options.out,
        num_images=options.images,
        seed=options.seed,
        config=config,
        split=options.split,
        stuff=options.stuff,
        progress=counter("images"),
    )
    return 0
