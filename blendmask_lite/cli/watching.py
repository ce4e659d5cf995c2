"""Options that say what a training records besides its numbers."""

from __future__ import annotations

import argparse

from blendmask_lite.training.watching import Watching

__all__ = ["add_watching_options", "make_watching"]

PICTURES_EVERY = 500  # iterations


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
        ValueError: a number that is too small, with its option.
    """
    least = {"tensorboard": 1, "snapshots": 2, "watched_pictures": 1}
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least {smallest}")
    return Watching(
        num_snapshots=options.snapshots or 0,
        tensorboard_every=options.tensorboard or 0,
        num_pictures=options.watched_pictures or Watching.num_pictures,
    )
