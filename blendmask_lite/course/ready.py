"""Is this machine ready for the course? Run it the day before: `make ready`.

`python start.py ready` does the same without make. It tries what a lesson needs:
the libraries, the trained model, a kernel with a widget, and JupyterLab's page.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from blendmask_lite.course.environment import environment
from blendmask_lite.terminal import escape_what_cannot_be_printed

__all__ = ["STEPS", "Step", "main"]

FREE_GIGABYTES = 2.0  # free memory and free disk space; a notebook takes up to 1.5 GB of memory
LAB_SECONDS = 120.0  # time limit, enough for the first start on a slow disk
KERNEL_SECONDS = 300
CELL = """\
import torch
from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab import BlenderLab

sample = ShapesDataset(1, seed=7).load(0)
model = load_model(shipped_checkpoint())
found = model.predict([sample.image], score_threshold=0.3)[0]
lab = BlenderLab(model=model, image=sample.image, target=sample.target)
print(len(found), "objects,", len(lab.figure().axes), "panels")
lab.close()
"""


@dataclass(frozen=True)
class Step:
    """One thing that must work."""

    what: str  # a few words
    run: Callable[[], str]  # tries the thing, and returns what was found
    remedy: str  # what to do if it raises


def main() -> int:
    """Try every step and print its outcome; returns 0 if all work."""
    escape_what_cannot_be_printed(sys.stdout)
    failed = 0
    for step in STEPS:
        print(f"{step.what} ... ", end="", flush=True)
        start = time.monotonic()
        try:
            found = step.run()
        except Exception as error:  # anything may be wrong with this machine
            failed += 1
            print(f"✘ {type(error).__name__}: {error}\n    {step.remedy}", flush=True)
        else:
            print(f"✔ {found} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{failed} of {len(STEPS)} steps failed." if failed else "Ready for the course.")
    return 1 if failed else 0


def look_at_libraries() -> str:
    """Versions of the libraries.

    Raises:
        RuntimeError: something is missing; the message names it.
    """
    table = environment()
    missing = [f"{what}: {found}" for is_fine, what, found in table.findings if not is_fine]
    if missing:
        raise RuntimeError("; ".join(missing))
    return ", ".join(f"{what} {found}" for _, what, found in table.findings[:3])


def look_at_space() -> str:
    """Free memory and disk space.

    Raises:
        RuntimeError: there is too little of either.
    """
    found = {"disk": shutil.disk_usage(tempfile.gettempdir()).free / 1e9}
    memory = Path("/proc/meminfo")  # only on Linux; macOS would need a library
    if memory.exists():
        found["memory"] = int(memory.read_text("utf-8").split("MemAvailable:")[1].split()[0]) / 1e6
    for name, gigabytes in found.items():
        if gigabytes < FREE_GIGABYTES:
            raise RuntimeError(f"{gigabytes:.1f} GB of {name} free, {FREE_GIGABYTES:.0f} needed")
    return ", ".join(f"{gigabytes:.0f} GB of {name}" for name, gigabytes in found.items())


def run_cell() -> str:
    """Run a kernel, the trained model and a widget; returns what the cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=KERNEL_SECONDS, resources=resources).execute()
    return str(notebook.cells[0].outputs[0].text).strip()


def open_lab() -> str:
    """Start JupyterLab, request its page, and stop it.

    Raises:
        RuntimeError: it ended at once, or did not answer in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/lab"
    options = ["--no-browser", "--allow-root", "--IdentityProvider.token=", f"--port={port}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"]
        quiet = subprocess.DEVNULL
        server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        try:
            deadline = time.monotonic() + LAB_SECONDS
            while time.monotonic() < deadline:
                if server.poll() is not None:
                    raise RuntimeError(f"JupyterLab ended with status {server.returncode}")
                try:
                    with urllib.request.urlopen(address, timeout=5) as page:
                        return f"{len(page.read()) / 1e3:.0f} kB at /lab"
                except (urllib.error.URLError, OSError):
                    time.sleep(0.3)
            raise RuntimeError(f"no answer within {LAB_SECONDS:.0f} s")
        finally:
            server.terminate()
            server.wait(timeout=30)


SET_UP = "Set up again: `make setup`, or `python start.py setup`."
STEPS = (
    Step("libraries and the trained model", look_at_libraries, SET_UP),
    Step("memory and disk", look_at_space, "Close other programs, or free some space."),
    Step("a kernel that draws a widget", run_cell, f"Delete the folder .venv. {SET_UP}"),
    Step("JupyterLab", open_lab, "Start the lab; its last lines say what is wrong."),
)

if __name__ == "__main__":
    sys.exit(main())
