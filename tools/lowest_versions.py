"""Builds `.venv-lowest`: the oldest packages that pyproject.toml admits, for `make test-lowest`.

Chapter: set-up. Runs on the system's Python with the standard library alone. Only packages that
pyproject.toml names are held at their floors; what these need in turn is the newest that fits.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

__all__ = ["floors", "main"]

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-lowest"
EXTRAS = (
    "course",
    "timm",
    "hub",
    "export",
    "tensorboard",
    "test",
    "dev",
)  # that the fast tests need


def floors(project: dict) -> list[str]:
    """The requirements of the package and of `EXTRAS`, each with its lowest version."""
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(name for extra in EXTRAS for name in extras[extra])]
    return [re.sub(r">=([\d.]+).*", r"==\1", requirement) for requirement in requirements]


def main() -> int:
    """Bring `.venv-lowest` up to date.

    Returns:
        The exit status of the command that failed, or 0.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = "\n".join(floors(project)) + "\n"
    constraints, stamp = VENV / "constraints.txt", VENV / "complete"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return 0
    shutil.rmtree(VENV, ignore_errors=True)
    print(f"{VENV.name}: {' '.join(wanted.split())}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    constraints.write_text(wanted, "utf-8")
    pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    package = f".[{','.join(EXTRAS)}]"
    installed = subprocess.run(
        [*pip, "--quiet", "--constraint", constraints, "--editable", package], cwd=ROOT
    )
    if installed.returncode == 0:
        stamp.write_text(wanted, "utf-8")
    return installed.returncode


if __name__ == "__main__":
    sys.exit(main())
