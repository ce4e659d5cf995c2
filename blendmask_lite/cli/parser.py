"""The parser of the command line: what holds for every command."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["Parser"]


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
