"""What a training process keeps of the memory that it frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from blendmask_lite.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for step in range(9):
    if step == 6:  # glibc adapts to what it has seen
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(1_000_000) for _ in range(40)]
    while maps:
        maps.pop()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_process_that_keeps_its_memory_is_given_no_page_twice():
    pages = {}
    for kind in ("kept", "returned"):
        command = [sys.executable, "-c", CODE, kind]
        pages[kind] = int(subprocess.run(command, check=True, capture_output=True).stdout)
    # 3 x 160 MB are 117,000 pages of 4 kB, or 234 of 2 MB; a few are Python's own.
    assert pages["kept"] < 100 < pages["returned"]
