"""Serves the lab as a page without code, for workshops and lectures.

Chapter: set-up (`make dashboard`). Every visitor gets a kernel of their own on this machine.
"""

from __future__ import annotations

import os
import socket
import sys

from lab import has_browser
from venv_state import ROOT, become

__all__ = ["command", "environment", "free_port"]

LAB = ROOT / "blendmask_lite" / "lab"
NOTEBOOK = LAB / "dashboard.ipynb"
TEMPLATES = LAB / "jupyter"  # Voila's page, without what it fetches from the web
FIRST_PORT = 8866  # Voila's own
SECONDS_TO_START = 300  # of a kernel and the page, on a busy machine


def command(port: int, *, opens_browser: bool) -> list[str]:
    """The command line of a Voila that this machine alone can reach.

    Args:
        port: that it listens on.
        opens_browser: False prints the address and waits.
    """
    arguments = [
        sys.executable,
        *("-m", "voila", str(NOTEBOOK)),
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        "--template=blendmask",
        f"--VoilaExecutor.timeout={SECONDS_TO_START}",
    ]
    return arguments if opens_browser else [*arguments, "--no-browser"]


def environment() -> dict[str, str]:
    """This process' environment, in which Voila finds our page."""
    paths = [str(TEMPLATES), os.environ.get("JUPYTER_PATH", "")]
    return os.environ | {"JUPYTER_PATH": os.pathsep.join(filter(None, paths))}


def free_port(first: int = FIRST_PORT, most: int = 50) -> int:
    """The first port from `first` on that nobody listens on; any where all of them are taken."""
    for port in (*range(first, first + most), 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on this machine")


if __name__ == "__main__":
    number = free_port()
    opens_browser = has_browser()
    if not opens_browser:
        print(f"Open http://127.0.0.1:{number} in a browser. Ctrl+C stops it.", flush=True)
    sys.exit(become(command(number, opens_browser=opens_browser), environment()))
