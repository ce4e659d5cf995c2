"""Collects the course in one folder for a room without a network: `make bundle`.

Usage: python tools/make_bundle.py [--output FOLDER]

    wheels/      every package that the notebooks need, for this system and this Python
    notebooks/   the chapters; docs/ and data/photos/, which they lead to and show
    site/        the chapters as pages, if `make site` has built them
    start.py     installs all of it from wheels/ and opens the first chapter

Runs in `.venv`. Take the folder to the room on a disk: `python start.py lab` needs Python only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import setup
from venv_state import ROOT, this_machine

__all__ = ["collect_files", "collect_wheels", "main"]

OUTPUT = ROOT / "build" / "bundle"
SITE = ROOT / "build" / "site" / "html"
TOOLS = ("commands", "setup", "venv_state", "lab")
EXTRAS = "course"
README = """\
The course blendmask_lite, complete, for {system} ({machine}) with Python {python}.

    python start.py lab      installs everything from this folder and opens the first chapter
    python start.py ready    the day before: is everything right on this machine?

Nothing is downloaded. Copy the folder to the machine's own disk first, where it stays: about
{needed:.0f} GB are needed there. In the folder site, if it is there, index.html has the chapters as
pages. If something goes wrong: docs/troubleshooting.md.
"""


def main(arguments: list[str]) -> int:
    """Collect everything; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the bundle")
    folder = parser.parse_args(arguments).output
    shutil.rmtree(folder, ignore_errors=True)
    collect_files(folder)
    try:
        collect_wheels(folder / "wheels", run_pip)
    except subprocess.CalledProcessError as error:
        print(f"bundle: pip ended with status {error.returncode}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    # Packages take some three times their wheels' space, beside them.
    text = README.format(**this_machine(), needed=4 * size)
    (folder / "START_HERE.txt").write_text(text, encoding="utf-8")
    print(f"bundle: {folder}, {size:.1f} GB")
    return 0


def collect_files(folder: Path) -> None:
    """Everything but the wheels."""
    for name in ("start.py", "LICENSE", *(f"tools/{tool}.py" for tool in TOOLS)):
        _copy(ROOT / name, folder / name)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        _copy(path, folder / "notebooks" / path.name)
    for name in ("docs", "data/photos"):
        leaves_out = shutil.ignore_patterns("site", "widgets", ".*")
        shutil.copytree(ROOT / name, folder / name, ignore=leaves_out)
    if SITE.is_dir():
        shutil.copytree(SITE, folder / "site")
    (folder / "bundle.json").write_text(json.dumps(this_machine()), encoding="utf-8")


def collect_wheels(folder: Path, pip: Callable[[list[str]], object]) -> None:
    """The course's packages as wheels, torch without CUDA where that is within reach.

    Args:
        folder: of the wheels.
        pip: runs pip with these arguments.
    """
    folder.mkdir(parents=True)
    index = setup.choose_torch_index(
        has_card=lambda: False, is_in_reach=setup.is_in_reach, platform=sys.platform
    )
    found: list[str] = []
    if index:
        pair = [name for name in setup.dependencies() if name.startswith("torch")]
        pip(["download", "--dest", str(folder), "--index-url", index, *pair])
        # These and no others: an index may have a newer torch, with CUDA.
        wheels = [path.name.split("-") for path in sorted(folder.glob("torch*.whl"))]
        found = [f"{name}=={version}" for name, version, *_ in wheels]
    places = ["--wheel-dir", str(folder), "--find-links", str(folder)]
    pip(["wheel", *places, *found, f"{ROOT}[{EXTRAS}]"])


def run_pip(arguments: list[str]) -> None:
    options = ["--disable-pip-version-check", "--no-input"]
    subprocess.run([sys.executable, "-m", "pip", *options, *arguments], check=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
