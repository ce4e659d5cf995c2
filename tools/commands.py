"""The commands that a student and a teacher need: the Makefile and `start.py` both call them.

Chapter: set-up. Runs on the system's Python with the standard library alone. Whatever else has to
be installed runs in `.venv`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import setup
from venv_state import BUNDLE, PYTHON, ROOT, WHEELS, become, this_machine

__all__ = ["COMMANDS", "command_line", "main", "problem_of_bundle", "settings"]

COMMANDS = {
    "setup": "create or mend .venv; nothing to do where it is complete",
    "lab": "open JupyterLab on the first notebook",
    "segment": "objects in photographs of your own: PHOTO.jpg -o found",
    "ready": "the day before a course: is everything on this machine? (a minute)",
    "dashboard": "serve the lab as a page without code",
    "test": "all tests and every notebook, on all processors",
}
FOR_A_BUNDLE = ("setup", "lab", "segment", "ready")  # what its packages are enough for


def main(
    arguments: Sequence[str],
    *,
    set_up: Callable[[], int] = setup.main,
    start: Callable[[list[str], dict[str, str]], int] = become,
) -> int:
    """Set up what is missing, then run a command.

    Args:
        arguments: the command's name and what it passes on; none for a list of commands.
        set_up: brings `.venv` up to date; its exit status.
        start: runs a command line in an environment; its exit status, if it returns.

    Returns:
        The exit status.
    """
    names = FOR_A_BUNDLE if WHEELS.is_dir() else tuple(COMMANDS)
    if not arguments or arguments[0] not in names:
        print("python start.py COMMAND, where COMMAND is one of\n")
        print("\n".join(f"  {name:10} {COMMANDS[name]}" for name in names))
        return 2 if arguments else 0
    if problem := problem_of_bundle():
        print(f"start.py: {problem}", file=sys.stderr)
        return 1
    name, *others = arguments
    if status := set_up():
        return status
    if name == "setup":
        return 0
    return start(command_line(name, others, os.environ), settings(name, os.environ))


def command_line(name: str, others: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """What runs in `.venv` for a command other than `setup`.

    Args:
        name: of the command.
        others: arguments that it passes on.
        environment: JOBS says how many processes share the tests.
    """
    python, tools = str(PYTHON), ROOT / "tools"
    if name == "test":
        jobs = environment.get("JOBS") or "auto"
        options = ["-n", jobs, "--nbval-lax", "--nbval-cell-timeout=300"]
        return [python, "-m", "pytest", *options, *others, "tests", "notebooks"]
    if name == "segment":
        return [python, "-m", "blendmask_lite", "segment", *others]
    if name == "ready":
        return [python, "-m", "blendmask_lite.course.ready", *others]
    return [python, str(tools / f"{name}.py"), *others]


def settings(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment completed for a command: tests compute little unless told otherwise."""
    # One thread a process: faster on small pictures, and the same numbers everywhere.
    defaults = {"OMP_NUM_THREADS": "1"} | ({"BLENDMASK_BUDGET": "smoke"} if name == "test" else {})
    return defaults | {key: value for key, value in environment.items() if value}


def problem_of_bundle(bundle: Path = BUNDLE, machine: Mapping[str, str] | None = None) -> str:
    """What keeps the wheels of a bundle from being installed here, in a line; "" for nothing."""
    if not bundle.exists():
        return ""
    here = dict(machine or this_machine())
    made_for = json.loads(bundle.read_text(encoding="utf-8"))
    if made_for == here:
        return ""
    words = "Python {python} on {system} ({machine})"
    return (
        f"this folder is for {words.format(**made_for)}, and this is {words.format(**here)}: take "
        "that Python, or a folder that was made on a machine like this one"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
