"""Runs every notebook and writes its budget line: minutes, CPU seconds, memory, download.

Usage: python tools/measure_budgets.py [NOTEBOOK ...]
"""

from __future__ import annotations

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

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
WORDS_PER_MINUTE = 130  # slow reading, with figures to look at
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
    for path in [Path(name) for name in arguments] or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        seconds, gigabytes = measure(notebook)
        line = budget_line(minutes(notebook), seconds, gigabytes)
        write_line(path, line)
        print(f"{path.name}: {line}")


def minutes(notebook: nbformat.NotebookNode) -> float:
    """Reading time of the text, and the time that the exercises say they take."""
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    ids = [
        exercise_id
        for cell in notebook.cells
        if cell.cell_type == "code"
        for exercise_id in exercises_in(cell.source)
    ]
    return words / WORDS_PER_MINUTE + sum(find_exercise(each).minutes for each in ids)


def measure(notebook: nbformat.NotebookNode) -> tuple[float, float]:
    """CPU seconds and gigabytes of a run on its own, from an empty folder.

    A training that the notebook starts as a process of its own counts, too.
    """
    copy = nbformat.from_dict(notebook)
    copy.cells = [*notebook.cells, nbformat.v4.new_code_cell(MEASURE)]
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(copy, timeout=3600, resources={"metadata": {"path": folder}})
        client.execute()
    seconds, gigabytes = copy.cells[-1].outputs[0].text.split()
    return float(seconds), float(gigabytes)


def budget_line(minutes: float, seconds: float, gigabytes: float) -> str:
    """Rounded up, so that small differences between runs do not change the file."""
    return (
        f"**Budget:** about {-(-minutes // 5) * 5:.0f} minutes of reading and building, "
        f"{-(-seconds // 10) * 10:.0f} CPU seconds, "
        f"{-(-gigabytes // 0.5) * 0.5:.1f} GB of memory, download 0 MB."
    )


def write_line(path: Path, line: str) -> None:
    """Replace the text of the cell tagged "budget"; nothing else in the file changes."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if "budget" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise SystemExit(f'{path}: {len(cells)} cells are tagged "budget", expected 1')
    cells[0].source = re.sub(r"\*\*Budget:\*\*.*", lambda _: line, cells[0].source)
    temporary = path.with_suffix(".part")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
