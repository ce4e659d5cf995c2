"""`blendmask-lite data`: what is done to data sets."""

from __future__ import annotations

import argparse
from typing import Any

from blendmask_lite.cli.data_check import add_check

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "data",
        help="check a data set",
        description="Check data sets in COCO's layout.",
    )
    subcommands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    add_check(subcommands)
