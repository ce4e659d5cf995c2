"""Measures what picture changes leave behind in the kernel: 50 in the explorer, after warm-up.

Usage: python benchmarks/explorer.py [CHANGES]
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from pathlib import Path

import torch

from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab.explorer import Explorer

CHANGES, WARM_UP = 50, 20
PAGES = ("Bases", "Figure 1")  # drawn with every change, in turns
MOST_MB = 5.0


def main(arguments: list[str]) -> int:
    changes = int(arguments[0]) if arguments else CHANGES
    torch.set_num_threads(1)
    explorer = Explorer(dataset=ShapesDataset(changes + WARM_UP + 1, seed=7))
    before, seconds = 0.0, 0.0
    for number in range(1, changes + WARM_UP + 1):
        if number == WARM_UP + 1:
            before = memory()
            seconds = time.perf_counter()
        explorer.turn_to(PAGES[number % len(PAGES)])
        explorer.controls.number.value = number
        if explorer.message.kind == "error":
            raise SystemExit(f"picture {number}: {explorer.message.text}")
    grown = memory() - before
    each = (time.perf_counter() - seconds) / changes
    print(f"{changes} picture changes: {grown:+.2f} MB, {1000 * each:.0f} ms each")
    explorer.close()
    return 0 if grown < MOST_MB else 1


def memory() -> float:
    """Resident memory of this process, MB; where the system does not tell, its largest so far."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
