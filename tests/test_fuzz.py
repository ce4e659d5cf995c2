"""A thousand mutated COCO folders: each is read, or refused by file and entry.

`fuzz_coco.KINDS` says what was done to them, `fuzz_reading` reads them in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fuzz_coco import KINDS, mutated

from blendmask_lite.datasets.check.problems import KINDS as PROBLEMS

pytestmark = pytest.mark.slow

SEED, NUM_CASES = 4, 1000
MINUTES = 30  # for all cases together; alone on a processor they take a third of a minute
MEMORY = 300_000_000  # bytes that all of it may need more than before, at its peak
# Findings that make a data set useless, but not unreadable.
READABLE = {"no images", "no categories"}
FILE, PICTURE = r"ROOT/annotations/\w+_train\.json: ", r"ROOT/\S+: "
NAMED = [
    FILE + r"(image|category|annotation|segment)( of image)?( number)? -?\d+",
    FILE + r"(is damaged or not JSON|is nested too deep|is missing|is no file)",
    FILE + r"(is not a COCO annotation file|has \d+ bytes, more|has no image)",
    FILE + r"has \d+ categories of stuff",
    PICTURE + r"(is \d+ x \d+ pixels|cannot be read|no such picture|holds segment \d+)",
    r"ROOT/annotations/panoptic_train: no such folder",
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of every case, and at the end how much the memory grew."""
    script = Path(__file__).with_name("fuzz_reading.py")
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, str(script), str(SEED), "0", str(NUM_CASES), str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60 * MINUTES,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    # C code that ends the process leaves its case as the one after the last line.
    assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
    return lines


@pytest.fixture(scope="module")
def cases(outcomes):
    return [each for each in outcomes if "number" in each]


def test_every_mutated_folder_is_read_or_refused_by_an_error_of_ours(cases):
    assert [each["number"] for each in cases] == list(range(NUM_CASES))
    assert [
        (each["number"], each["kinds"], each["crash"]) for each in cases if "crash" in each
    ] == []


def test_every_refusal_names_file_and_entry_in_a_line_or_two(cases):
    refused = [each for each in cases if each.get("refused")]
    pattern = re.compile("|".join(NAMED))
    nameless = [each["refused"] for each in refused if not pattern.match(each["refused"])]
    assert nameless == []
    assert max(each["length"] for each in refused) < 600
    assert not [each for each in refused if "\n" in each["refused"]]


def test_data_check_calls_an_error_what_the_readers_refuse_and_nothing_else(cases):
    differ = [
        (each["number"], each["kinds"], each["refused"], each["check"]["kinds"])
        for each in cases
        if bool(each["refused"]) != bool(set(each["check"]["kinds"]) - READABLE)
    ]
    assert differ == []


def test_memory_stays_small(outcomes):
    assert outcomes[-1]["grown"] < MEMORY


def test_cases_are_of_all_kinds_mostly_valid_json_and_repeatable(cases):
    count = Counter(name for each in cases for name in each["kinds"])
    assert set(count) == set(KINDS)
    assert min(count.values()) >= 20
    assert sum(each["is_json"] for each in cases) > 0.8 * NUM_CASES
    assert sum(each["refused"] is None for each in cases) > 0.1 * NUM_CASES
    found = {kind for each in cases for kind in each["check"]["kinds"]}
    assert found - {"refused"} <= set(PROBLEMS)
    assert len(found) >= 14
    number = NUM_CASES // 2
    assert str(mutated(SEED, number)) == str(mutated(SEED, number))
