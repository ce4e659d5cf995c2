"""Writes what Google Colab needs into every notebook: a link that opens it, a cell that installs.

Usage: python tools/write_colab.py [ADDRESS]

ADDRESS is the repository's, on GitHub. It stands in pyproject.toml, from where notebooks get it.
Runs with the standard library alone.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["BUDGET", "COLAB", "cell_source", "link", "main", "repository", "written"]

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
BUDGET, COLAB = "budget", "colab"  # tags of the cells that are written
COLAB_SITE = "https://colab.research.google.com/github"
# Hidden by JupyterLab and Colab, until somebody opens it, and left out of the site.
METADATA = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "tags": [COLAB, "remove-cell"],
}
# What is replaced; whatever follows it stays.
SENTENCES = re.compile(
    r"(?:\*\*On Google Colab\*\*|\[Open in Google Colab\]).*?has\s+installed\s+everything\.",
    re.DOTALL,
)
CELL = """\
# @title Installs the course where it is missing, as on Google Colab. Anywhere else it does nothing.
import importlib.util
import pathlib
import subprocess
import sys

REPOSITORY = "{repository}"

# A folder that is no package has no origin: an installation that broke off leaves one behind.
if getattr(importlib.util.find_spec("blendmask_lite"), "origin", None) is None:
    if not pathlib.Path("blendmask_lite").exists():
        clone = ["git", "clone", "--quiet", "--depth=1", REPOSITORY, "blendmask_lite"]
        subprocess.run(clone, check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "./blendmask_lite[widgets]"]
    subprocess.run(install, check=True)
    importlib.invalidate_caches()"""


def main(arguments: list[str]) -> int:
    """Set the address if there is one, then bring all notebooks up to date."""
    if arguments:
        set_repository(arguments[0])
    address = repository()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        changed = written(notebook, path.name, address)
        text = json.dumps(changed, indent=1, ensure_ascii=False) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: {address}")
    return 0


def repository(project: Path = PROJECT) -> str:
    """The repository's address, without a slash at its end."""
    urls = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["urls"]
    return str(urls["Repository"])


def set_repository(address: str, project: Path = PROJECT) -> None:
    """Put another address into pyproject.toml.

    Raises:
        ValueError: Colab opens notebooks of repositories on GitHub only.
    """
    address = address.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address, re.ASCII):
        raise ValueError(f"{address}: expected https://github.com/ACCOUNT/REPOSITORY")
    text = project.read_text(encoding="utf-8")
    line = re.compile(r'^Repository = ".*"$', re.MULTILINE)
    project.write_text(line.sub(f'Repository = "{address}"', text), encoding="utf-8")


def link(name: str, address: str) -> str:
    """The address at which Colab opens a notebook of the repository's branch `main`."""
    place = address.removeprefix("https://github.com/")
    return f"{COLAB_SITE}/{place}/blob/main/notebooks/{name}"


def cell_source(address: str) -> str:
    """The code of the cell that installs."""
    return CELL.format(repository=address)


def written(notebook: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """A copy of a notebook with link and cell.

    Args:
        notebook: as JSON. Its cell tagged "budget" gets the link, and the cell below it the code.
        name: of its file.
        address: of the repository.
    """
    cells = [cell for cell in notebook["cells"] if COLAB not in cell["metadata"].get("tags", [])]
    tags = [cell["metadata"].get("tags", []) for cell in cells]
    [place] = [index for index, each in enumerate(tags) if BUDGET in each]
    sentences = (
        f"[Open in Google Colab]({link(name, address)}): the hidden cell below installs the course "
        "there. Anywhere else `make lab` has installed everything."
    )
    text, count = SENTENCES.subn(lambda _: sentences, "".join(cells[place]["source"]))
    if count != 1:
        raise ValueError(f"{name}: nothing about Google Colab in the cell tagged {BUDGET!r}")
    cells[place] = {**cells[place], "source": text.splitlines(keepends=True)}
    code = {
        "cell_type": "code",
        "execution_count": None,
        "id": "",
        "metadata": METADATA,
        "outputs": [],
        "source": cell_source(address).splitlines(keepends=True),
    }
    cells.insert(place + 1, code)
    # As nbstripout numbers them.
    return {**notebook, "cells": [{**cell, "id": str(i)} for i, cell in enumerate(cells)]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
