"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.panoptic import PanopticDataset
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesDataset

__all__ = [
    "add_device_options",
    "apply_threads",
    "find_device",
    "integers",
    "open_dataset",
]

SHAPES = "shapes"  # instead of a folder: generated pictures
VALIDATION_SEED = 1_000_000  # added to the seed: pictures that no training has seen


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """--device and --threads."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads; without it OMP_NUM_THREADS, or else all cores",
    )


def apply_threads(options: argparse.Namespace) -> None:
    """Set the number of CPU threads."""
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(f"--threads {options.threads}: must be at least 1")
        torch.set_num_threads(options.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)


def find_device(name: str) -> torch.device:
    """The device that --device names.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: no such device") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch sees no GPU here")
    return device


def integers(text: str) -> tuple[int, ...]:
    """Read `9,25,30` as (9, 25, 30), for argparse."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected whole numbers with commas between"
        ) from None


def open_dataset(
    root: str,
    *,
    split: str | None,
    num_images: int = 200,
    seed: int = 0,
    has_stuff: bool = False,
) -> InstanceDataset:
    """A COCO-layout folder, or generated pictures for the word "shapes".

    Args:
        root: folder, or "shapes" where no folder of that name is.
        split: of a folder; None is the only one there is.
        num_images: of generated pictures.
        seed: of generated pictures.
        has_stuff: read the folder's panoptic annotations, too.
    """
    if root == SHAPES and not Path(root).exists():
        return ShapesDataset(num_images, seed=seed)
    return PanopticDataset(root, split) if has_stuff else CocoDataset(root, split)
