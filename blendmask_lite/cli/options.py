"""The parser, and options that several commands share."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from blendmask_lite.terminal import counted

if TYPE_CHECKING:
    import torch

    from blendmask_lite.datasets.sample import InstanceDataset

__all__ = [
    "Parser",
    "add_class_options",
    "add_device_options",
    "add_threads_option",
    "apply_threads",
    "find_device",
    "integers",
    "is_generated",
    "names",
    "num_cores",
    "open_dataset",
    "require_few",
    "sizes",
    "told_few",
    "two_numbers",
]


class Parser(argparse.ArgumentParser):
    """Takes --debug and refuses empty values, as do the parsers of the commands.

    A script with an unset variable passes `--weights ""`. An empty value does not ask for the
    default, and as a folder it would mean the current folder.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help} | settings)
        self.register("type", None, _not_empty)  # for arguments without a type
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,  # else the command's False would override a True before it
            help="show the traceback of an error",
        )

    def add_subparsers(self, **settings: Any) -> Any:
        """As in argparse, but what follows a command is left to the command's own parser."""
        commands = super().add_subparsers(**settings)
        commands.type = str
        return commands

    def error(self, message: str) -> NoReturn:
        """Say what was wrong in one line; argparse would print all options before it."""
        self.exit(2, f"{self.prog}: {message}; --help says more\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As in argparse, but with the closest words instead of all, if there are any."""
        if action.choices is not None and value not in action.choices:
            near = difflib.get_close_matches(str(value), list(map(str, action.choices)), n=3)
            meant = f"did you mean {' or '.join(near)}?" if near else ""
            known = meant or f"there are {', '.join(map(str, action.choices))}"
            raise argparse.ArgumentError(action, f"there is no {value!r}; {known}")


class _Help(argparse.HelpFormatter):
    """Wraps descriptions but not lists of examples; N stands for a whole number, X for any."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        names = {int: "N", float: "X"}
        return names.get(action.type) or super()._get_default_metavar_for_optional(action)  # type: ignore[call-overload]


def _not_empty(text: str) -> str:
    if text == "":
        raise argparse.ArgumentTypeError("is empty; leave the option out, or give it a value")
    return text


SHAPES = "shapes"  # this word instead of a folder means generated images
LVIS = "lvis_"  # prefix of LVIS's annotation files and splits
FEW = 20  # the AP of fewer images or objects says little
LEAST_SIDE, LARGEST_SIDE = 16, 8192  # limits of a training's --size, pixels


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, ..., or auto (the default): a GPU if there is one",
    )
    add_threads_option(parser)


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add --threads, for `apply_threads`."""
    parser.add_argument(
        "--threads", type=int, help="number of CPU threads; default: OMP_NUM_THREADS, or all cores"
    )


def add_class_options(parser: Any) -> None:
    """Add --classes and --one-class, for `open_dataset`."""
    parser.add_argument(
        "--classes", type=names, metavar="NAME,NAME,...", help="use these classes of COCO data only"
    )
    parser.add_argument(
        "--one-class", action="store_true", help='use all classes of COCO data as one, "object"'
    )


def apply_threads(options: argparse.Namespace) -> None:
    """Set the number of CPU threads to --threads."""
    import torch

    if options.threads is not None:
        require_few("--threads", options.threads, least=1)
        torch.set_num_threads(options.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)


def find_device(name: str) -> torch.device:
    """The device that --device names, after checking that torch can compute on it."""
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
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_few(option: str, number: int, *, least: int) -> None:
    """Refuse a number of threads or processes that would bring the machine down.

    The limit is 64, or eight per core if that is more.
    """
    if number < least:
        raise ValueError(f"{option} {number}: must be at least {least}")
    most = max(64, 8 * num_cores())
    if number > most:
        raise ValueError(f"{option} {number}: at most {most} on a machine of {num_cores()} cores")


def told_few(num_images: int, num_objects: int) -> str | None:
    """A warning that an AP of few images says little; None for at least 20 images and objects.

    Mask AP of `nano` over 20 random choices of generated images has a standard deviation of 9.8
    points with 5 images, 6.8 with 10 images and 4.3 with 20 images.
    """
    if min(num_images, num_objects) >= FEW:
        return None
    return (
        f"{counted(num_images, 'image')} with {counted(num_objects, 'object')}: on so few, AP is "
        "largely chance; on other images, the same model may score 10 points higher or lower"
    )


def integers(text: str) -> tuple[int, ...]:
    """Read `9,25,30` as (9, 25, 30), for argparse; repeated numbers are refused."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, as in 9,25") from None
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: a number is repeated")
    return numbers


def names(text: str) -> tuple[str, ...]:
    """Read `person,dining table` as ("person", "dining table"), for argparse."""
    return tuple(part.strip() for part in text.split(","))


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
            said = "expected whole numbers or ranges, as in 512,640-800"
            raise argparse.ArgumentTypeError(f"{text!r}: {said}")
        if span[0] < LEAST_SIDE or span[-1] > LARGEST_SIDE:
            said = f"sides must be {LEAST_SIDE} to {LARGEST_SIDE} pixels"
            raise argparse.ArgumentTypeError(f"{text!r}: {said}")
        found += span
    return tuple(found)


def two_numbers(text: str) -> tuple[float, float]:
    """Read `0.1,2` as (0.1, 2.0), for argparse."""
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected two numbers, as in 0.1,2") from None
    return first, second


def is_generated(root: str) -> bool:
    """Whether images are to be generated: the word "shapes", and no folder has that name."""
    return root == SHAPES and not Path(root).exists()


def open_dataset(
    root: str,
    *,
    split: str | None,
    num_images: int = 200,
    seed: int = 0,
    size: int = 128,
    has_stuff: bool = False,
    filter_empty: bool = False,
    classes: tuple[str, ...] | None = None,
    is_one_class: bool = False,
) -> InstanceDataset:
    """Open a folder in the layout of COCO or LVIS, or generate images for the word "shapes".

    Args:
        root: folder, or "shapes" if there is no folder of that name.
        split: split of the folder; None if there is only one. LVIS's splits begin with "lvis_".
        num_images: number of images to generate.
        seed: seed of the generated images.
        size: side at which the model sees generated images, pixels; see `draw_shapes`.
        has_stuff: also read the folder's panoptic annotations.
        filter_empty: leave out the folder's images without any object.
        classes: the only classes to read from COCO's instances; see `CocoDataset`.
        is_one_class: read all classes of COCO's instances as one.
    """
    from blendmask_lite.datasets.coco import CocoDataset
    from blendmask_lite.datasets.lvis import LvisDataset
    from blendmask_lite.datasets.panoptic import PanopticDataset
    from blendmask_lite.datasets.shapes import draw_shapes

    is_shapes = is_generated(root)
    is_lvis = split is not None and split.startswith(LVIS)
    if (classes is not None or is_one_class) and (is_shapes or is_lvis or has_stuff):
        option = "--one-class" if classes is None else "--classes"
        raise ValueError(f"{option}: is for COCO's instances only")
    if is_shapes:
        return draw_shapes(num_images, seed=seed, size=size)
    if split is not None and is_lvis:
        return LvisDataset(root, split.removeprefix(LVIS), filter_empty=filter_empty)
    if has_stuff:
        return PanopticDataset(root, split, filter_empty=filter_empty)
    return CocoDataset(
        root, split, filter_empty=filter_empty, classes=classes, is_one_class=is_one_class
    )
