"""The parser, and options that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from blendmask_lite.datasets.sample import InstanceDataset

__all__ = [
    "Parser",
    "add_augmentation_options",
    "add_device_options",
    "apply_threads",
    "find_device",
    "integers",
    "num_cores",
    "open_dataset",
    "require_few",
    "sizes",
    "two_numbers",
]


class Parser(argparse.ArgumentParser):
    """Takes --debug and refuses empty values, as do the parsers of its commands.

    A script whose variable is unset gives `--weights ""`. That is no request for the default, and
    as a folder it would be the current one.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.register("type", None, _not_empty)  # of whatever has no type of its own
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,  # or the command's False would replace the True before it
            help="show the traceback of an error",
        )

    def add_subparsers(self, **settings: Any) -> Any:
        """As ever; the words behind a command are left to the command's own parser."""
        commands = super().add_subparsers(**settings)
        commands.type = str
        return commands


def _not_empty(text: str) -> str:
    if text == "":
        raise argparse.ArgumentTypeError("is empty; leave the option out, or give it a value")
    return text


SHAPES = "shapes"  # instead of a folder: generated pictures
LVIS = "lvis_"  # what LVIS's annotation files, and so its splits, begin with
LEAST_SIDE, LARGEST_SIDE = 16, 8192  # of a training's --size, pixels
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
        help="CPU threads; by default OMP_NUM_THREADS, or else all cores",
    )


def add_augmentation_options(group: Any) -> None:
    """--size, --max-size, --jitter and --no-flip of a training."""
    group.add_argument(
        "--size",
        type=sizes,
        metavar="N,N-N,...",
        help="shorter sides to draw from, pixels, such as 480,512 or 640-800; tests use the last",
    )
    group.add_argument("--max-size", type=int, metavar="N", help="longest side, pixels")
    group.add_argument(
        "--jitter",
        type=two_numbers,
        metavar="X,X",
        help="large-scale jitter, such as 0.1,2: enlarge by a factor from this range, then cut or "
        "fill a square of a side of --size",
    )
    group.add_argument("--no-flip", action="store_true", help="no mirrored images")


def apply_threads(options: argparse.Namespace) -> None:
    """Set the number of CPU threads.

    Raises:
        ValueError: less than one, or more than any machine of this size has a use for.
    """
    import torch

    if options.threads is not None:
        require_few("--threads", options.threads, least=1)
        torch.set_num_threads(options.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)


def find_device(name: str) -> torch.device:
    """The device that --device names.

    Raises:
        ValueError: there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: no such device") from None
    if device.type == "cuda":
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if num_gpus == 0:
            raise ValueError(f"--device {name}: torch sees no GPU here")
        if device.index is not None and device.index >= num_gpus:
            raise ValueError(f"--device {name}: torch sees {num_gpus} GPUs here, from cuda:0 on")
    elif device.type != "cpu":
        try:
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, AssertionError, ImportError):
            raise ValueError(f"--device {name}: torch cannot compute on it here") from None
    return device


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_few(option: str, number: int, *, least: int) -> None:
    """Refuse a number of threads or processes that would bring the machine down.

    Raises:
        ValueError: `number` is below `least`, or above 64 and above eight for every core.
    """
    if number < least:
        raise ValueError(f"{option} {number}: must be at least {least}")
    most = max(64, 8 * num_cores())
    if number > most:
        raise ValueError(f"{option} {number}: at most {most} on a machine of {num_cores()} cores")


def integers(text: str) -> tuple[int, ...]:
    """Read `9,25,30` as (9, 25, 30), for argparse; none of them twice."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected whole numbers with commas between"
        ) from None
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: a number stands there twice")
    return numbers


def sizes(text: str) -> tuple[int, ...]:
    """Read `480,640-643` as (480, 640, 641, 642, 643), for argparse."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            span = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            span = range(0)
        if not span:
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected whole numbers or ranges such as 640-800, with commas between"
            )
        if span[0] < LEAST_SIDE or span[-1] > LARGEST_SIDE:
            raise argparse.ArgumentTypeError(
                f"{text!r}: sides of {LEAST_SIDE} to {LARGEST_SIDE} pixels"
            )
        found += span
    return tuple(found)


def two_numbers(text: str) -> tuple[float, float]:
    """Read `0.1,2` as (0.1, 2.0), for argparse."""
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected two numbers with a comma between"
        ) from None
    return first, second


def open_dataset(
    root: str,
    *,
    split: str | None,
    num_images: int = 200,
    seed: int = 0,
    size: int = 128,
    has_stuff: bool = False,
    filter_empty: bool = False,
) -> InstanceDataset:
    """A folder in the layout of COCO or LVIS, or generated pictures for the word "shapes".

    Args:
        root: folder, or "shapes" where no folder of that name is.
        split: of a folder; None is the only one there is. LVIS's begin with "lvis_".
        num_images: of generated pictures.
        seed: of generated pictures.
        size: side at which the model sees them, pixels. Pictures are drawn at this size if it is
            between 128 and 2048, and otherwise at the nearer of these two.
        has_stuff: read the folder's panoptic annotations, too.
        filter_empty: leave out the folder's images without any object.
    """
    from blendmask_lite.datasets.coco import CocoDataset
    from blendmask_lite.datasets.lvis import LvisDataset
    from blendmask_lite.datasets.panoptic import PanopticDataset
    from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset

    if root == SHAPES and not Path(root).exists():
        drawn = ShapesConfig(size=min(max(size, 128), 2048))
        return ShapesDataset(num_images, seed=seed, config=drawn)
    if split is not None and split.startswith(LVIS):
        return LvisDataset(root, split.removeprefix(LVIS), filter_empty=filter_empty)
    kind = PanopticDataset if has_stuff else CocoDataset
    return kind(root, split, filter_empty=filter_empty)
