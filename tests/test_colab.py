"""Google Colab: one address, written into every notebook, and a cell that installs from it."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import write_colab  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ELSEWHERE = "https://github.com/somebody/fork"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source_of(notebook: dict, tag: str) -> str:
    [cell] = [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_the_link_and_the_cell_of_the_projects_address(path):
    """If this fails: `python tools/write_colab.py` writes both."""
    notebook = read(path)
    assert write_colab.written(notebook, path.name, write_colab.repository()) == notebook


def test_another_address_changes_the_link_and_the_cell_and_nothing_else():
    path = NOTEBOOKS[9]
    before = read(path)
    after = write_colab.written(copy.deepcopy(before), path.name, ELSEWHERE)
    mine = write_colab.repository()
    budget = source_of(after, write_colab.BUDGET)
    link = f"colab.research.google.com/github/somebody/fork/blob/main/notebooks/{path.name}"
    assert link in budget and budget.endswith("No graphics card and no network are needed.")
    assert f'"{ELSEWHERE}"' in source_of(after, write_colab.COLAB)
    name = mine.removeprefix("https://github.com/")
    assert json.dumps(before).replace(name, "somebody/fork") == json.dumps(after)


def test_notebook_without_a_cell_gets_one_below_its_budget():
    path = NOTEBOOKS[9]
    before = read(path)
    bare = copy.deepcopy(before)
    bare["cells"] = [cell for cell in bare["cells"] if "remove-cell" not in str(cell["metadata"])]
    assert len(bare["cells"]) == len(before["cells"]) - 1
    assert write_colab.written(bare, path.name, write_colab.repository()) == before
    bare["cells"][1]["source"] = ["**Budget:** none"]
    with pytest.raises(ValueError, match="nothing about Google Colab"):
        write_colab.written(bare, path.name, ELSEWHERE)


def test_address_is_set_in_one_place_and_must_be_on_github(tmp_path):
    project = tmp_path / "pyproject.toml"
    shutil.copy(ROOT / "pyproject.toml", project)
    write_colab.set_repository(f"{ELSEWHERE}.git/", project)
    assert write_colab.repository(project) == ELSEWHERE
    before, after = (
        (each / "pyproject.toml").read_text().splitlines() for each in (ROOT, tmp_path)
    )
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    for wrong in ("https://example.org/a/b", "git@github.com:a/b", f"{ELSEWHERE}/tree/main"):
        with pytest.raises(ValueError, match="expected https://"):
            write_colab.set_repository(wrong, project)


def test_cell_does_nothing_where_the_course_is_installed(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: pytest.fail(f"ran {words}"))
    exec(write_colab.cell_source(ELSEWHERE), {})


BARE = """
import json, subprocess, sys
notebook = json.load(open(sys.argv[1], encoding="utf-8"))
[cell] = [each for each in notebook["cells"] if "colab" in each["metadata"].get("tags", [])]
run, ran = subprocess.run, []
def watched(command, **options):
    ran.append(command[0])
    if len(ran) == 2:
        raise KeyboardInterrupt  # the first installation is stopped
    run(command, **options)
subprocess.run = watched
for attempt in range(3):
    try:
        exec("".join(cell["source"]), {})
    except KeyboardInterrupt:
        print("stopped")
assert ran == ["git", sys.executable, sys.executable], ran
import blendmask_lite
from blendmask_lite.files import photos_folder
print(blendmask_lite.__file__)
print(photos_folder())
"""


@pytest.mark.slow
def test_cell_installs_the_course_and_goes_on_after_it_was_stopped(tmp_path):
    """From a repository on this machine, into an environment with all but the course, offline."""
    venv, place, origin = (tmp_path / name for name in ("venv", "content", "origin"))
    shutil.copytree(ROOT / "blendmask_lite", origin / "blendmask_lite")
    shutil.copytree(ROOT / "data" / "photos", origin / "data" / "photos")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, origin / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "all"]):
        subprocess.run([*git, *words], cwd=origin, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    [packages] = venv.glob("lib/python*/site-packages")
    # A folder named in a .pth file lends its packages, but not those that its own .pth files name.
    (packages / "others.pth").write_text(f"{Path(torch.__file__).parent.parent}\n")
    notebook = write_colab.written(read(NOTEBOOKS[0]), NOTEBOOKS[0].name, origin.as_uri())
    (tmp_path / "chapter.ipynb").write_text(json.dumps(notebook))
    place.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", BARE, tmp_path / "chapter.ipynb"],
        cwd=place,
        env=environment | {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stopped, package, photographs = done.stdout.split()
    assert stopped == "stopped"
    assert Path(package).is_relative_to(packages)
    assert Path(photographs) == place / "blendmask_lite" / "data" / "photos"
