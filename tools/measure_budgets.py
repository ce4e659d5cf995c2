"""Runs every notebook and writes its budget line: minutes, CPU seconds, memory, download.

Usage: python tools/measure_budgets.py [--minutes] [NOTEBOOK ...]

The minutes go into the instructors' plans and playlists, too. --minutes runs nothing and writes
them alone, which is enough after a change of text or exercises. The notebooks that were run lie
in build/measured, with what their cells printed and drew.
"""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from site_notebooks import OFFLINE

from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.source import exercises_in

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
MEASURED = ROOT / "build" / "measured"
PLANS = ROOT / "docs" / "instructors" / "plans.md"
INDEX = PLANS.with_name("index.md")
WORDS_PER_MINUTE = 130  # slow reading, with figures to look at
EXERCISE = re.compile(r"\d\d\.\d")
SHOWN_MINUTES = 5  # a solution is explained, copied and checked
MEASURE = """\
import resource
_usages = [resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
# A helper such as lscpu counts for a moment as large as its parent; a training works for seconds.
_usages = [each for each in _usages if each.ru_utime > 1]
print(sum(u.ru_utime + u.ru_stime for u in _usages), sum(u.ru_maxrss for u in _usages) / 1e6)
"""


def main(arguments: list[str]) -> None:
    # A run that cannot reach the network is a proof of "0 MB".
    os.environ.update(OFFLINE, BLENDMASK_BUDGET="laptop", BLENDMASK_PROGRESS="off")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runs = "--minutes" not in arguments
    names = [name for name in arguments if name != "--minutes"]
    for path in [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if runs:
            seconds, gigabytes = measure(notebook, MEASURED / path.name)
            print(f"{path.name}: {seconds:.0f} CPU seconds, {gigabytes:.2f} GB", flush=True)
            write_line(path, budget_line(minutes(notebook), seconds, gigabytes))
        else:
            write_minutes(path, minutes(notebook))
        plans = PLANS.read_text(encoding="utf-8")
        PLANS.write_text(with_minutes(plans, path.name[:2], minutes(notebook)), encoding="utf-8")
        print(f"{path.name}: {minutes(notebook)} minutes")
    INDEX.write_text(with_playlists(INDEX.read_text(encoding="utf-8")), encoding="utf-8")


def minutes(notebook: nbformat.NotebookNode) -> int:
    """Reading time of the text, and the time that the exercises say they take, in steps of 5.

    Rounded up, so that small changes of the text do not change the file.
    """
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    ids = [
        exercise_id
        for cell in notebook.cells
        if cell.cell_type == "code"
        for exercise_id in exercises_in(cell.source)
    ]
    alone = words / WORDS_PER_MINUTE + sum(find_exercise(each).minutes for each in ids)
    return 5 * math.ceil(alone / 5)


def measure(notebook: nbformat.NotebookNode, kept: Path) -> tuple[float, float]:
    """CPU seconds and gigabytes of a run on its own, from an empty folder.

    A training that the notebook starts as a process of its own counts, too. The run is written
    to `kept`, also if a cell failed.
    """
    copy = nbformat.from_dict(notebook)
    copy.cells = [*notebook.cells, nbformat.v4.new_code_cell(MEASURE)]
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(copy, timeout=3600, resources={"metadata": {"path": folder}})
        try:
            client.execute()
        finally:
            kept.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(copy, kept)
    seconds, gigabytes = copy.cells[-1].outputs[0].text.split()
    return float(seconds), float(gigabytes)


def budget_line(minutes: int, seconds: float, gigabytes: float) -> str:
    """Rounded up, so that small differences between runs do not change the file."""
    return (
        f"**Budget:** about {minutes} minutes of reading and building, "
        f"{-(-seconds // 10) * 10:.0f} CPU seconds, "
        f"{-(-gigabytes // 0.5) * 0.5:.1f} GB of memory, download 0 MB."
    )


def write_line(path: Path, line: str) -> None:
    """Replace the text of the cell tagged "budget"; nothing else in the file changes."""
    _rewrite(path, r"\*\*Budget:\*\*.*", line)


def write_minutes(path: Path, minutes: int) -> None:
    """Replace the minutes of the cell tagged "budget"."""
    _rewrite(path, r"(?<=\*\*Budget:\*\* about )\d+(?= minutes)", str(minutes))


def with_minutes(plans: str, chapter: str, minutes: int) -> str:
    """The instructors' plans with the minutes that a student needs alone for a chapter."""
    line = re.compile(rf"(^## {chapter} [^\n]*\n+\*\*\d+ minutes, )\d+(?= of them)", re.MULTILINE)
    return line.sub(lambda found: f"{found[1]}{minutes}", plans)


def with_playlists(index: str) -> str:
    """The instructors' playlists with the minutes that follow from their talk and exercises.

    A row's minutes are its talk, its written exercises, and a fixed time for each solution that is
    shown. The reserve is what is left of the minutes in the heading; it may be negative.
    """
    row = re.compile(r"(\| [^|]+ \| (\d+) \|([^|]*)\|([^|]*)\|) \d+ \|")
    lines, left = [], 0
    for line in index.splitlines():
        if heading := re.match(r"### .*: (\d+) minutes$", line):
            left = int(heading[1])
        elif found := row.fullmatch(line):
            start, talk, written, shown = found.groups()
            took = int(talk) + SHOWN_MINUTES * len(EXERCISE.findall(shown))
            took += sum(find_exercise(each).minutes for each in EXERCISE.findall(written))
            left, line = left - took, f"{start} {took} |"
        elif line.startswith("| reserve |"):
            line = f"| reserve | | | | {left} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _rewrite(path: Path, pattern: str, text: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if "budget" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise SystemExit(f'{path}: {len(cells)} cells are tagged "budget", expected 1')
    cells[0].source = re.sub(pattern, lambda _: text, cells[0].source)
    temporary = path.with_suffix(".part")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
