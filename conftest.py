"""Spreads the tests over processes (`pytest -n 2`): what belongs together stays together.

The tests of a file share fixtures, the cells of a notebook a kernel, so a file goes to one process.
All files that drive a browser go to one, too: two browsers at once would wait for each other.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

BROWSER_FOLDER = "tests/browser/"


def group_of(test_id: str) -> str:
    """What goes to one process: a file, or all files that drive a browser."""
    return "browser" if test_id.startswith(BROWSER_FOLDER) else test_id.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins early, so that no process is left alone with it at the end."""
    sizes = Counter(group_of(item.nodeid) for item in items)
    slow = {group_of(item.nodeid) for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> tuple[bool, bool, int]:
        group = group_of(item.nodeid)
        return group != "browser", group not in slow, -sizes[group]

    items.sort(key=place)


def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto` a process for each processor, and at least two."""
    return max(2, os.cpu_count() or 2)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """One group after the other, in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return Groups(config, log)


class Groups(LoadScopeScheduling):
    """Gives every process whole groups."""

    # The `loadgroup` of pytest-xdist 3.8 does not see its groups under pytest 9.2.
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
