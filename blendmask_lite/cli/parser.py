"""A parser of command lines that takes an empty word for the slip that it is."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Refuses empty values of arguments and options, as do the parsers of its commands.

    A script whose variable is unset gives `--weights ""`. That is no request for the default, and
    as a folder it would be the current one.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.register("type", None, _not_empty)  # of whatever has no type of its own

    def add_subparsers(self, **settings: Any) -> Any:
        """As ever; the words behind a command are left to the command's own parser."""
        commands = super().add_subparsers(**settings)
        commands.type = str
        return commands


def _not_empty(text: str) -> str:
    if text == "":
        raise argparse.ArgumentTypeError("is empty; leave the option out, or give it a value")
    return text
