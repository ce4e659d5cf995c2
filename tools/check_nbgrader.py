"""Grades a chapter with nbgrader itself, from release to marks: `python tools/check_nbgrader.py`.

Usage: python tools/check_nbgrader.py [NOTEBOOK]

nbgrader goes into an environment of its own, build/nbgrader: its extensions would otherwise appear
in every student's JupyterLab. Three students hand in: all solved, nothing written, the first
exercise only. Their marks must be all points, none, and those of the first exercise.
"""

from __future__ import annotations

import csv
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import nbformat

from blendmask_lite.course.exercises import notebook_exercises
from blendmask_lite.course.instructor import assignment_notebook, write_solutions

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "nbgrader"
COURSE = FOLDER / "course"


def main(arguments: list[str]) -> int:
    path = Path(arguments[0]) if arguments else ROOT / "notebooks" / "09_blender.ipynb"
    python = environment()
    shutil.rmtree(COURSE, ignore_errors=True)
    name = path.stem
    source = COURSE / "source" / name / path.name
    source.parent.mkdir(parents=True)
    nbformat.write(assignment_notebook(nbformat.read(path, as_version=4)), source)
    nbgrader(python, "generate_assignment", name, "--create")
    released = COURSE / "release" / name / path.name
    assert "SOLUTION" not in released.read_text(encoding="utf-8")
    exercises = notebook_exercises(path.stem)
    first = exercises[0]
    hand_in(released, "solves_all", {each.id for each in exercises})
    hand_in(released, "writes_nothing", set())
    hand_in(released, "solves_first", {first.id})
    nbgrader(python, "autograde", name, "--ExecutePreprocessor.timeout=600")
    nbgrader(python, "export")
    with (COURSE / "grades.csv").open(encoding="utf-8") as file:
        marks = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    total = sum(each.difficulty for each in exercises)
    expected = {"solves_all": total, "writes_nothing": 0, "solves_first": first.difficulty}
    print(f"points of {total}: {marks}")
    return 0 if marks == expected else 1


def environment() -> Path:
    """The Python of an environment with nbgrader, on top of the one that runs this."""
    python = FOLDER / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(FOLDER / "env", with_pip=True)
        [inner] = (FOLDER / "env").rglob("site-packages")
        paths = "\n".join(site.getsitepackages())
        (inner / "outer.pth").write_text(f"import site\n{paths}\n{ROOT}\n", encoding="utf-8")
        subprocess.run([python, "-m", "pip", "install", "-q", "nbgrader>=0.9"], check=True)
    return python


def hand_in(released: Path, student: str, solved: set[str]) -> None:
    """Write a student's copy with some exercises solved."""
    notebook = write_solutions(nbformat.read(released, as_version=4), solved)
    path = COURSE / "submitted" / student / released.parent.name / released.name
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


def nbgrader(python: Path, *arguments: str) -> None:
    settings = {"BLENDMASK_BUDGET": "smoke", "BLENDMASK_PROGRESS": "off", "OMP_NUM_THREADS": "1"}
    settings["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    command = [str(python), "-m", "nbgrader", *arguments]
    subprocess.run(command, check=True, cwd=COURSE, env=os.environ | settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
