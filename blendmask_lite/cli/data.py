"""`blendmask-lite data`: what is done to data sets."""

from __future__ import annotations

import argparse
from typing import Any

from blendmask_lite.cli.data_check import add_check
from blendmask_lite.cli.data_coco import add_coco

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "data",
        description="Fetch and check data sets in COCO's layout.",
    )
    subcommands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    add_coco(subcommands)
    add_check(subcommands)
