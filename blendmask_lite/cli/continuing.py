"""A training that continues: the options that it began with, from its run.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from blendmask_lite.cli.train_options import DEFAULT_PRESET
from blendmask_lite.training.run_folder import RunFolder

__all__ = ["options_to_store", "take_stored_options"]

# Said anew by every process.
NOT_STORED = ("run", "command", "command_line", "out", "resume", "debug")
# Where a run begins and what it sees. Everything else is compared as the settings that follow.
KEPT = ("preset", "split", "validation", "images", "weights", "backbone_weights")
PLACES = ("root", "weights", "backbone_weights")  # files and folders, or a word


def options_to_store(options: argparse.Namespace) -> dict[str, Any]:
    """Those that were given, as plain values; folders and files by their whole paths."""
    given = {name: value for name, value in vars(options).items() if not _is_missing(value)}
    return {
        name: _whole_path(value) if name in PLACES else value
        for name, value in given.items()
        if name not in NOT_STORED
    }


def take_stored_options(options: argparse.Namespace) -> None:
    """Fill in, in place, the options of the run to continue where nothing else was said.

    Nothing changes where there is no run yet and a ROOT to begin one with.

    Raises:
        ValueError: there is nothing to continue; run.json does not hold the options; or one of
            those that a run keeps was given and is another.
    """
    run = RunFolder(options.out)
    if options.root is not None and not run.last.exists():
        return
    stored = _read_stored(run)
    if stored is None:
        if options.root is None:
            reason = "does not say how the run was begun" if run.path.exists() else "is missing"
            raise ValueError(
                f"{run.description}: {reason}; --resume needs ROOT and the options of the beginning"
            )
        return
    for name in KEPT:
        default = DEFAULT_PRESET if name == "preset" else None
        value, known = getattr(options, name), stored.get(name, default)
        is_new = known is None and name in ("split", "validation", "images")
        if not _is_missing(value) and not is_new and _comparable(value) != _comparable(known):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{run.path}: cannot continue with other settings: {option} is {value!r}, "
                f"was {known!r}"
            )
    options.is_root_stored = options.root is None
    for name, value in stored.items():
        if hasattr(options, name) and _is_missing(getattr(options, name)):
            setattr(options, name, tuple(value) if isinstance(value, list) else value)


def _read_stored(run: RunFolder) -> dict[str, Any] | None:
    try:
        content = json.loads(run.description.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{run.description}: cannot be read ({error})") from None
    stored = content.get("options") if isinstance(content, dict) else None
    return stored if isinstance(stored, dict) else None


def _is_missing(value: object) -> bool:
    return value is None or value is False


def _whole_path(text: str) -> str:
    path = Path(text)
    return str(path.absolute()) if path.exists() else text


def _comparable(value: object) -> object:
    if isinstance(value, str):
        return _whole_path(value)
    return list(value) if isinstance(value, tuple) else value
