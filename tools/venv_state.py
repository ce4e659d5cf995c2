"""Says whether `.venv` is complete, stale or beyond mending.

Chapter: set-up. Standard library alone; used by `setup.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = [
    "MODULES",
    "PYTHON",
    "ROOT",
    "VENV",
    "is_up_to_date",
    "reason_to_rebuild",
    "run_quietly",
    "write_stamp",
]

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup.json"

# Imported after every install: a package that was half written fails here, not in a notebook.
MODULES = (
    "numpy", "safetensors", "PIL.Image", "matplotlib.figure", "pycocotools.mask", "ipywidgets",
    "jupyterlab", "ipykernel", "platformdirs", "filelock", "pytest", "xdist", "nbval", "nbstripout",
    "playwright", "yaml", "mypy", "importlinter", "blendmask_lite",
)  # fmt: skip
# Cheap enough to be asked on every `make`: found, not imported.
GLANCE = f"""
import importlib.util, json, sys
names = [name.partition(".")[0] for name in {(*MODULES, "torch", "torchvision", "pip")!r}]
missing = [name for name in names if importlib.util.find_spec(name) is None]
print(json.dumps({{"version": sys.version.split()[0], "prefix": sys.prefix, "missing": missing}}))
"""


def is_up_to_date() -> bool:
    """True where the last complete set-up still fits the project, its folder and the request."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    if stamp.get("project") != project_hash() or reason_to_rebuild() is not None:
        return False
    if (wanted := os.environ.get("TORCH_INDEX")) and wanted != stamp.get("torch_index"):
        return False
    found = glance()
    return found is not None and found["missing"] == [] and found["version"] == stamp.get("python")


def reason_to_rebuild() -> str | None:
    """What makes the present `.venv` beyond mending, None where there is none or it is sound."""
    if not VENV.exists():
        return None
    found = glance()
    if found is None:
        return "the interpreter of .venv does not start"
    version = tuple(int(part) for part in re.findall(r"\d+", found["version"])[:2])
    if version < (3, 11):
        return f".venv has Python {found['version']}, 3.11 is the oldest that works"
    if os.environ.get("PYTHON") and version != sys.version_info[:2]:
        return f".venv has Python {found['version']}, PYTHON asks for {sys.version.split()[0]}"
    if Path(found["prefix"]).resolve() != VENV.resolve() or home_of_scripts() not in (None, VENV):
        return "the folder has moved"
    return None


def glance() -> dict[str, Any] | None:
    """Version, prefix and missing modules of `.venv`, None where its interpreter does not start."""
    try:
        answer = run_quietly([PYTHON, "-I", "-c", GLANCE])
        return json.loads(answer.stdout) if answer.returncode == 0 else None
    except (OSError, ValueError):
        return None


def home_of_scripts() -> Path | None:
    """The `.venv` that the installed commands point to, which a moved folder leaves behind."""
    try:
        first_line = (VENV / "bin" / "pip").read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None
    interpreter = Path(first_line.removeprefix("#!").strip())
    # A path too long for a first line is written otherwise: "#!/bin/sh".
    return interpreter.parent.parent.resolve() if interpreter.name.startswith("python") else None


def project_hash() -> str:
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def write_stamp() -> list[str]:
    """Notes what has been installed for what, unless modules are missing, which are returned."""
    found = glance()
    if found is None or found["missing"]:
        return ["the interpreter"] if found is None else found["missing"]
    stamp = {
        "project": project_hash(),
        "python": found["version"],
        "torch_index": os.environ.get("TORCH_INDEX", ""),
    }
    half_written = STAMP.with_suffix(".tmp")
    half_written.write_text(json.dumps(stamp, indent=2) + "\n")
    half_written.replace(STAMP)
    return []


def run_quietly(command: list[object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
