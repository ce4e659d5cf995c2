"""Builds `.venv`, or mends it, or finds that there is nothing to do.

Chapter: set-up. Runs on the system's Python with the standard library alone (`make setup`).
Every failure ends in one line that says what is missing; pip's own words are in `.venv/pip.log`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import TextIO

from venv_state import (
    MODULES,
    PYTHON,
    ROOT,
    VENV,
    is_up_to_date,
    reason_to_rebuild,
    run_quietly,
    write_stamp,
)

__all__ = ["main"]

LOG = VENV / "pip.log"

CUDA_SPACE_GB = 8.0  # what torch with its CUDA libraries takes, wheels being unpacked included
CPU_SPACE_GB = 3.0  # the same for wheels without CUDA

VERIFY = f"""
import importlib
for name in {MODULES!r}:
    importlib.import_module(name)
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]
cuda = torch.version.cuda or "none"
print(f"torch {{torch.__version__}}, torchvision {{torchvision.__version__}}, CUDA {{cuda}}")
"""
# JupyterLab asks on its first start whether it may fetch news; the course works offline.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
    }
}


class SetupError(Exception):
    """One line for the user."""


def main() -> int:
    """Brings `.venv` up to date.

    Returns:
        0, or 1 after one line on stderr.
    """
    try:
        if is_up_to_date():
            return 0
        started = time.monotonic()
        if (reason := reason_to_rebuild()) is not None:
            say(f"{reason}: building .venv anew")
            shutil.rmtree(VENV)
        is_fresh = not VENV.exists()
        install()
        versions = verify()
        if versions is None and not is_fresh:
            say("the packages in .venv do not work together: building it anew")
            shutil.rmtree(VENV)
            install()
            versions = verify()
        if versions is None:
            raise SetupError(f"installed, but not working: {last_line(LOG)} (all of it in {LOG})")
        write_lab_settings()
        if missing := write_stamp():
            raise SetupError(f"installed, but {', '.join(missing)} cannot be found")
        say(f"ready in {time.monotonic() - started:.0f} s: {versions}")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; `make setup` goes on from here", file=sys.stderr)
        return 130
    return 0


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


# ------------------------------------------------------------------ what is done


def install() -> None:
    """Creates `.venv` where there is none and installs the project, editable, with its extras."""
    check_space()
    if not VENV.exists():
        say(f"creating .venv with Python {sys.version.split()[0]}")
        made = run_quietly([sys.executable, "-m", "venv", VENV])
        if made.returncode != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            raise SetupError(
                "this Python cannot create environments: install its venv package "
                "(Debian, Ubuntu: `apt install python3-venv`)"
            )
    if run_quietly([PYTHON, "-m", "pip", "--version"]).returncode != 0:
        say("pip is broken or missing in .venv: putting it back")
        shutil.rmtree(next((VENV / "lib").glob("python*")) / "site-packages/pip", True)
        if run_quietly([PYTHON, "-m", "ensurepip", "--upgrade"]).returncode != 0:
            raise SetupError("cannot put pip back: delete .venv and run `make setup` again")
    torch_index = os.environ.get("TORCH_INDEX")
    with LOG.open("w") as log:
        if torch_index:
            requirements = [name for name in dependencies() if name.startswith("torch")]
            pip(log, "install", "--upgrade", "--index-url", torch_index, *requirements)
        pip(
            log,
            "install",
            "--editable",
            ".[course,timm,hub,supervision,export,tensorboard,dashboard,site,test,dev]",
        )


def check_space() -> None:
    """Refuses to start a download that the disk cannot hold."""
    if any(VENV.glob("lib/python*/site-packages/torch/lib")):
        return
    is_cuda = sys.platform == "linux" and not os.environ.get("TORCH_INDEX")
    needed = CUDA_SPACE_GB if is_cuda else CPU_SPACE_GB
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        hint = "; TORCH_INDEX=URL takes smaller, CPU-only wheels" if is_cuda else ""
        raise SetupError(f"{ROOT} has {free:.1f} GB free, {needed:.0f} GB are needed{hint}")
    scratch = Path(tempfile.gettempdir())
    free = shutil.disk_usage(scratch).free / 1e9
    if free < needed / 2:
        raise SetupError(
            f"{scratch} has {free:.1f} GB free, pip unpacks {needed / 2:.0f} GB there: "
            "make room or name another folder with TMPDIR"
        )


def pip(log: TextIO, *arguments: str) -> None:
    """Runs pip, shows the large downloads, keeps every word in the log."""
    say("installing packages (some minutes and gigabytes the first time)")
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)
        log.flush()
        if match := re.search(r"Downloading ([^-]+-[^-]+)\S* \((\d{2,}\.\d MB|\S+ GB)\)", line):
            say(f"  downloading {match[1]}, {match[2]}")
        elif line.startswith("Installing collected"):
            say("  unpacking")
    if process.wait() != 0:
        raise SetupError(f"{explain(LOG.read_text())} (pip's own words: {LOG})")


def explain(log: str) -> str:
    """Pip's failure in one line."""
    if re.search(r"No space left|Errno 28", log):
        return "the disk is full"
    unreachable = r"Failed to establish|NameResolution|Max retries|ProxyError|timed out|SSLError"
    if re.search(f"{unreachable}|Connection (refused|broken|aborted|reset)", log):
        return "no network: pip cannot reach the package index"
    errors = re.findall(r"^ERROR: (.*)", log, flags=re.MULTILINE)
    return f"pip failed: {errors[-1] if errors else 'no reason given'}"


def verify() -> str | None:
    """The installed versions, None where something cannot be imported or nms does not run."""
    answer = run_quietly([PYTHON, "-I", "-c", VERIFY])
    if answer.returncode == 0:
        return answer.stdout.strip()
    with LOG.open("a") as log:
        log.write(answer.stdout + answer.stderr)
    return None


def write_lab_settings() -> None:
    path = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(LAB_SETTINGS, indent=2) + "\n")


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def last_line(path: Path) -> str:
    return path.read_text().strip().rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main())
