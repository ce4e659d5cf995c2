"""Options that say what a training records besides its numbers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blendmask_lite.training.recording import Watching

__all__ = ["add_watching_options", "make_watching"]

PICTURES_EVERY = 500  # iterations
LIMITS = {"tensorboard": (1, 10**9), "snapshots": (2, 10**6), "watched_pictures": (1, 10**4)}


def add_watching_options(parser: argparse.ArgumentParser) -> None:
    """--tensorboard and --snapshots."""
    group = parser.add_argument_group(
        "watching", "on the first pictures with objects, of the validation data if there is some"
    )
    group.add_argument(
        "--tensorboard",
        nargs="?",
        type=int,
        const=PICTURES_EVERY,
        metavar="N",
        help="log for TensorBoard; masks and bases as pictures every N iterations, "
        f"{PICTURES_EVERY} without a number",
    )
    group.add_argument(
        "--snapshots",
        type=int,
        metavar="N",
        help="keep bases, attentions and masks at N moments, more of them early",
    )
    group.add_argument(
        "--watched-pictures", type=int, metavar="N", help="how many both show; default 4"
    )


def make_watching(options: argparse.Namespace) -> Watching:
    """What the options ask for.

    Raises:
        ValueError: a number that is too small or too large, with its option.
    """
    from blendmask_lite.training.recording import Watching

    for name, (least, most) in LIMITS.items():
        value, option = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is not None and value < least:
            raise ValueError(f"{option} {value}: must be at least {least}")
        if value is not None and value > most:
            raise ValueError(f"{option} {value}: must be at most {most:,}")
    return Watching(
        num_snapshots=options.snapshots or 0,
        tensorboard_every=options.tensorboard or 0,
        num_pictures=options.watched_pictures or Watching.num_pictures,
    )
