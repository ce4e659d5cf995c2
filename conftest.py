"""Spreads the tests over processes (`pytest -n 2`): what belongs together stays together.

The tests of a file share fixtures, the cells of a notebook a kernel, so a file goes to one process.
So do all files that drive a browser in JupyterLab, and all whose pages need none: each of the two
groups shares a browser. Kernels of notebooks are forked from a process that has imported torch.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

BROWSER_FOLDER = "tests/browser/"
# Of that folder, what opens pages of its own; the rest shares a JupyterLab.
PAGES = tuple(f"{BROWSER_FOLDER}test_{name}.py" for name in ("playground", "site", "equations"))
SLOW = 50  # of the other tests take as long as a slow one
RUN_NOTEBOOKS = (BROWSER_FOLDER, "tests/test_notebooks.py", "notebooks/")
FORKED_KERNEL = Path(__file__).parent / "tests" / "forked_kernel.py"


def group_of(test_id: str) -> str:
    """What goes to one process: a file, or all files that share a browser."""
    if test_id.startswith(PAGES):
        return "browser: pages"
    return "browser: lab" if test_id.startswith(BROWSER_FOLDER) else test_id.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins early, so that no process is left alone with it at the end."""
    sizes: Counter[str] = Counter()
    for item in items:
        sizes[group_of(item.nodeid)] += SLOW if item.get_closest_marker("slow") else 1

    def place(item: pytest.Item) -> tuple[bool, int]:
        group = group_of(item.nodeid)
        return not group.startswith("browser"), -sizes[group]

    items.sort(key=place)


def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto` one process more than processors: the browser's waits most of the time."""
    return 1 + (os.cpu_count() or 2)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """One group after the other, in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return Groups(config, log)


class Groups(LoadScopeScheduling):
    """Gives every process whole groups."""

    # The `loadgroup` of pytest-xdist 3.8 does not see its groups under pytest 9.2.
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


# ------------------------------------------------------------------ time

# Thresholds of Python's garbage collector. With its own, (700, 10, 10), three files of tests took
# 6 % more of the processor's time.
SELDOM = (100_000, 50, 50)

# A parser of addresses that jsonschema, and so nbformat, would build for 2 seconds in each process.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: to look for garbage in it again and again is slow."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*SELDOM)
        gc.enable()


# ------------------------------------------------------------------ kernels

KERNELS = pytest.StashKey[tuple[subprocess.Popen[bytes], tempfile.TemporaryDirectory[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the process that kernels are forked from; it imports nothing until the first asks."""
    if not hasattr(os, "fork") or hasattr(config, "workerinput"):
        return
    home = tempfile.TemporaryDirectory()
    address = f"{home.name}/socket"
    # -S and -E: what Jupyter starts imports next to nothing.
    start = [sys.executable, "-S", "-E", str(FORKED_KERNEL), "run", address]
    spec = {"argv": [*start, "-f", "{connection_file}"], "display_name": "Python 3"}
    file = Path(home.name) / "kernels" / "python3" / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(spec | {"language": "python"}))
    command = [sys.executable, str(FORKED_KERNEL), "serve", address]
    config.stash[KERNELS] = subprocess.Popen(command, stdin=subprocess.PIPE), home


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All processes that share the tests share it."""
    if KERNELS in node.config.stash:
        node.workerinput["kernels"] = node.config.stash[KERNELS][1].name


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """From the first notebook on, kernels of this process' tests are forked."""
    if not item.nodeid.startswith(RUN_NOTEBOOKS):
        return
    if KERNELS in item.config.stash:
        os.environ["JUPYTER_PATH"] = item.config.stash[KERNELS][1].name
    elif "kernels" in getattr(item.config, "workerinput", {}):
        os.environ["JUPYTER_PATH"] = item.config.workerinput["kernels"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process that kernels are forked from, and those that are left with it."""
    if KERNELS in config.stash:
        server, home = config.stash[KERNELS]
        server.communicate()  # closes its standard input
        home.cleanup()
