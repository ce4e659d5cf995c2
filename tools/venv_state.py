"""Says whether `.venv` is complete, stale or beyond mending, and where its files lie.

Chapter: set-up. Standard library alone; used by `setup.py`, `commands.py` and what they start.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = [
    "BUNDLE",
    "MODULES",
    "PYTHON",
    "ROOT",
    "VENV",
    "WHEELS",
    "become",
    "interpreter",
    "is_up_to_date",
    "reason_to_rebuild",
    "run_quietly",
    "site_packages",
    "this_machine",
    "write_stamp",
]

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup.json"
# Only in a bundle, where everything is installed from that folder; and for which machines it is.
WHEELS = ROOT / "wheels"
BUNDLE = ROOT / "bundle.json"


def interpreter(venv: Path, system: str = sys.platform) -> Path:
    """The Python of an environment."""
    return venv / "Scripts" / "python.exe" if system == "win32" else venv / "bin" / "python"


def site_packages(venv: Path, system: str = sys.platform) -> Path:
    """Where the packages of an existing environment lie."""
    if system == "win32":
        return venv / "Lib" / "site-packages"
    return next(venv.glob("lib/python*"), venv / "lib" / "python3") / "site-packages"


PYTHON = interpreter(VENV)
# Imported after every install: a package that was half written fails here, not in a notebook.
COURSE_MODULES = (
    "numpy", "safetensors", "PIL.Image", "matplotlib.figure", "pycocotools.mask", "ipywidgets",
    "jupyterlab", "ipykernel", "platformdirs", "filelock", "blendmask_lite",
)  # fmt: skip
OUR_MODULES = (
    "pytest", "xdist", "nbval", "nbstripout", "playwright", "yaml", "mypy", "importlinter",
)  # fmt: skip
MODULES = COURSE_MODULES if WHEELS.is_dir() else (*COURSE_MODULES, *OUR_MODULES)
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
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
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
    here = VENV.resolve()
    if Path(found["prefix"]).resolve() != here or home_of_scripts() not in (None, here):
        return "the folder has moved"
    return None


def glance() -> dict[str, Any] | None:
    """Version, prefix and missing modules of `.venv`, None where its interpreter does not start."""
    try:
        answer = run_quietly([PYTHON, "-I", "-c", GLANCE])
        return json.loads(answer.stdout) if answer.returncode == 0 else None
    except (OSError, ValueError):
        return None


def home_of_scripts(venv: Path = VENV) -> Path | None:
    """The folder that `.venv` was made in, to which its commands point after it has moved."""
    try:
        settings = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    made = re.search(r"^command = .* -m venv (?:--\S+ )*(.+)$", settings, flags=re.MULTILINE)
    return Path(made[1]).resolve() if made else None


def project_hash() -> str:
    """Changes with what has to be installed."""
    if WHEELS.is_dir():
        wanted = "\n".join(sorted(path.name for path in WHEELS.iterdir())).encode()
    else:
        wanted = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(wanted).hexdigest()


def this_machine() -> dict[str, str]:
    """What the wheels of a bundle depend on."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"system": platform.system(), "machine": platform.machine(), "python": python}


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
    half_written.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    half_written.replace(STAMP)
    return []


def run_quietly(command: list[object]) -> subprocess.CompletedProcess[str]:
    """Its exit status and what it says, decoded in the same way on every system."""
    words = [str(part) for part in command]
    text = {"encoding": "utf-8", "errors": "replace"}
    return subprocess.run(words, cwd=ROOT, capture_output=True, **text)


def become(command: list[str], environment: dict[str, str], system: str = sys.platform) -> int:
    """Hands this process over to a command; the exit status where the system can only wait."""
    sys.stdout.flush()
    if system != "win32":
        os.execve(command[0], command, environment)
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command has heard it, too, and decides
            continue
