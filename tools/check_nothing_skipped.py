"""Fails if the test run of a JUnit report left a test out, those for a GPU excepted.

Chapter: set-up (`.ci/run`). A skipped test is a hole that nobody sees in a green summary.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

__all__ = ["skipped_tests"]

GPU_REASON = "needs a CUDA device"


def skipped_tests(report: Path) -> list[str]:
    """The names and reasons of the tests that did not run, those that need a GPU left out.

    Args:
        report: what `pytest --junitxml` wrote.

    Raises:
        ValueError: the report holds no test at all.
    """
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    if not cases:
        raise ValueError(f"{report}: no test ran")
    left_out = []
    for case in cases:
        skip = case.find("skipped")
        reason = "" if skip is None else skip.get("message", "")
        if skip is not None and GPU_REASON not in reason:
            left_out.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return left_out


if __name__ == "__main__":
    left_out = skipped_tests(Path(sys.argv[1]))
    for line in left_out:
        print(f"not run: {line}", file=sys.stderr)
    sys.exit(1 if left_out else 0)
