"""Builds `.venv`, or mends it, or finds that there is nothing to do.

Chapter: set-up. Runs on the system's Python with the standard library alone (`make setup`,
`python start.py setup`). On a machine without an NVIDIA card, torch comes without CUDA. In a bundle
everything comes from its folder. Every failure ends in one line that says what is missing; pip's
own words are in `.venv/pip.log`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from venv_state import (
    MODULES,
    PYTHON,
    ROOT,
    VENV,
    WHEELS,
    is_up_to_date,
    reason_to_rebuild,
    run_quietly,
    site_packages,
    write_stamp,
)

__all__ = ["CPU_INDEX", "choose_torch_index", "main"]

LOG = VENV / "pip.log"

CUDA_SPACE_GB = 8.0  # what torch with its CUDA libraries takes, wheels being unpacked included
CPU_SPACE_GB = 3.0  # the same for wheels without CUDA
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # torch without CUDA, 0.2 GB in place of 3
SECONDS_TO_ANSWER = 10  # of an index that is within reach
EXTRAS = "course,widgets,timm,hub,supervision,export,tensorboard,dashboard,site,test,dev"

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
# A large file, in the words of pip: "Downloading torch-2.14-....whl (190.1 MB)", and of uv:
# "Downloading nvidia-cublas (386.1MiB)".
DOWNLOAD = re.compile(
    r"Downloading (\S+?(?:-\d[^-\s]*)?)(?:-\S+\.whl)? \((\d{2,}\.\d ?Mi?B|\d+\.\d ?Gi?B)\)"
)
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
        print("\nsetup: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


# ------------------------------------------------------------------ what is done


def install() -> None:
    """Creates `.venv` where there is none and installs the project, editable, with its extras."""
    torch_index = ""
    if not WHEELS.is_dir():
        torch_index = choose_torch_index(
            has_card=has_nvidia_card, is_in_reach=is_in_reach, platform=sys.platform
        )
    check_space(torch_index)
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
        shutil.rmtree(site_packages(VENV) / "pip", ignore_errors=True)
        if run_quietly([PYTHON, "-m", "ensurepip", "--upgrade"]).returncode != 0:
            raise SetupError("cannot put pip back: delete .venv and try again")
    with LOG.open("w", encoding="utf-8") as log:
        if WHEELS.is_dir():
            pip(log, "--no-index", "--find-links", str(WHEELS), "blendmask_lite[course]")
            return
        if torch_index:
            # Together, so that they fit each other.
            requirements = [name for name in dependencies() if name.startswith("torch")]
            is_asked_for = bool(os.environ.get("TORCH_INDEX"))
            options = ["--upgrade"] if is_asked_for else []
            try:
                pip(log, *options, "--index-url", torch_index, *requirements)
            except SetupError as error:
                if is_asked_for:
                    raise
                say(f"{error}; torch comes from the default index")
        pip(log, "--editable", f".[{EXTRAS}]")


def choose_torch_index(
    *, has_card: Callable[[], bool], is_in_reach: Callable[[str], bool], platform: str
) -> str:
    """The address of the index that torch comes from, "" for the default one.

    TORCH_INDEX names it. Without that, Linux without an NVIDIA card takes `CPU_INDEX`, since the
    default index has only torch with CUDA for it; other systems get a small torch from there.
    """
    if index := os.environ.get("TORCH_INDEX"):
        return index
    if platform != "linux" or has_card():
        return ""
    if is_in_reach(CPU_INDEX):
        say("no NVIDIA card: torch comes without CUDA")
        return CPU_INDEX
    say(f"no NVIDIA card, but {CPU_INDEX} is out of reach: torch comes with CUDA (3 GB)")
    return ""


def has_nvidia_card() -> bool:
    """Whether the driver of an NVIDIA card lists one."""
    # Windows' driver lends it to WSL, in a folder that is not always on the path.
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    try:
        return program is not None and "GPU" in run_quietly([program, "-L"]).stdout
    except OSError:
        return False


def is_in_reach(index: str) -> bool:
    """Whether an index has a page for torch."""
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=SECONDS_TO_ANSWER) as page:
            return page.status == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False


def check_space(torch_index: str) -> None:
    """Refuses to start a download that the disk cannot hold."""
    if (site_packages(VENV) / "torch" / "lib").exists():
        return
    is_cuda = sys.platform == "linux" and not torch_index and not WHEELS.is_dir()
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


def pip(log: TextIO, *requirements: str) -> None:
    """Installs with uv where it is installed, and with pip where there is no uv or it fails."""
    say("installing packages (some minutes and gigabytes the first time)")
    if (uv := shutil.which("uv")) is not None:
        if run_installer(log, [uv, "pip", "install", "--python", str(PYTHON), *requirements]):
            return
        say("uv failed: trying pip")
    options = ("--disable-pip-version-check", "--no-input")
    begin = LOG.stat().st_size  # what is there says why something else failed
    if not run_installer(log, [str(PYTHON), "-m", "pip", *options, "install", *requirements]):
        words = LOG.read_bytes()[begin:].decode("utf-8")
        raise SetupError(f"{explain(words)} (pip's own words: {LOG})")


def run_installer(log: TextIO, command: list[str]) -> bool:
    """Whether it succeeds. Shows the large downloads, keeps every word in the log."""
    text = {"encoding": "utf-8", "errors": "replace"}
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **text
    )
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)
        log.flush()
        if match := DOWNLOAD.search(line):
            say(f"  downloading {match[1]}, {match[2]}")
        elif line.startswith("Installing collected"):
            say("  unpacking")
    return process.wait() == 0


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
    with LOG.open("a", encoding="utf-8") as log:
        log.write(answer.stdout + answer.stderr)
    return None


def write_lab_settings() -> None:
    path = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(LAB_SETTINGS, indent=2) + "\n", encoding="utf-8")


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def last_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip().rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main())
