"""The command line: `blendmask-lite`, also as `python -m blendmask_lite`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from blendmask_lite import __version__
from blendmask_lite.cli.options import Parser
from blendmask_lite.terminal import clear_line, escape_what_cannot_be_printed, printable

__all__ = ["COMMANDS", "main"]

# What `--help` says about each command. The command's module, whose docstring is the longer
# description, is imported only when the command is called: torch, torchvision and matplotlib take
# seconds.
COMMANDS = {
    "train": "train a model on COCO-format data or generated shapes",
    "runs": "list and compare trainings",
    "evaluate": "box and mask AP, or panoptic quality, of a checkpoint",
    "segment": "find the objects of pictures",
    "shapes": "generate an instance data set in COCO format",
    "data": "fetch a part of COCO, convert labelme's files, check a data set",
    "ablations": "train the rows of a table of the paper on generated shapes",
    "models": "list the presets and the published checkpoints",
    "convert": "turn weights of the authors' released code into a checkpoint",
    "export": "write the network as ONNX or as a torch.export program",
}
EPILOG = """`blendmask-lite COMMAND --help` says more.

status:
  0     done
  1     something was wrong, said in one line; `data check` found errors, `segment` left out an
        image, or `evaluate` met no object
  2     the command line could not be understood
  130   stopped by Ctrl-C, or a training by SIGTERM
  141   the reader of the output has left
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the arguments without the program's name; by default the process's.

    Returns:
        The exit status, see `EPILOG`. With --debug, errors are raised instead.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, for example with `>&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        escape_what_cannot_be_printed(getattr(sys, name))
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _make_parser(words).parse_args(words)
    options.command_line = shlex.join(["blendmask-lite", *words])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status: int = options.run(options)
        sys.stdout.flush()  # fail here if the reader has gone away, not when Python ends
    except KeyboardInterrupt:
        print(f"blendmask-lite {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Otherwise, writing the rest would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if options.debug:
            raise
        print(f"blendmask-lite {options.command}: {_in_one_line(error)}", file=sys.stderr)
        return 1
    return status


def _make_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with all commands, and with the options of the one that is called."""
    parser = Parser(
        prog="blendmask-lite", description="Train, evaluate and use BlendMask.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    called = next((word for word in words if not word.startswith("-")), None)
    # The other commands are needed only to list them or to reject an unknown word.
    names = words[:1] if words and words[0] in COMMANDS else list(COMMANDS)
    for name in names:
        command = commands.add_parser(name, help=COMMANDS[name])
        if name == called:
            module = import_module(f"{__name__}.{name}")
            command.description = " ".join((module.__doc__ or "").split())
            command.epilog = getattr(module, "EPILOG", None)
            command.set_defaults(run=getattr(module, "run", None))
            module.add_options(command)
    return parser


def _warn(message: Warning | str, *place: object, **more: object) -> None:
    """Print a warning on a line of its own, without the line of code that it comes from."""
    clear_line()
    print(f"warning: {printable(str(message).strip().splitlines()[0])}", file=sys.stderr)


def _in_one_line(error: Exception) -> str:
    """An error's message in one line, with its type if it is not a ValueError or OSError."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error)
    line = printable((text.strip().splitlines() or [""])[0])
    if isinstance(error, ValueError | OSError):
        return line
    if isinstance(error, MemoryError) or "can't allocate memory" in line:
        return f"not enough memory ({line or 'of this machine'}); --debug shows where"
    return f"{type(error).__name__}: {line}; --debug shows where"
