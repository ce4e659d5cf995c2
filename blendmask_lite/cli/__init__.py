"""The command line: `blendmask-lite`, also as `python -m blendmask_lite`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from blendmask_lite import __version__
from blendmask_lite.cli import (
    ablations,
    convert,
    data,
    evaluate,
    export,
    models,
    runs,
    segment,
    shapes,
    train,
)
from blendmask_lite.cli.parser import Parser

__all__ = ["main"]

COMMANDS = (train, runs, evaluate, segment, shapes, data, ablations, models, convert, export)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        0; 1 where something was wrong with the input, said in one line; 130 after Ctrl-C.
    """
    parser = Parser(
        prog="blendmask-lite",
        description="Train, evaluate and use BlendMask.",
        epilog="`blendmask-lite COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_parser(commands)
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    options.command_line = shlex.join(["blendmask-lite", *given])
    try:
        result: int = options.run(options)
    except (ValueError, OSError) as error:
        print(f"blendmask-lite {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"blendmask-lite {options.command}: interrupted", file=sys.stderr)
        return 130
    return result
