"""Opens JupyterLab on the first notebook, or prints its address where no browser can open.

Chapter: set-up (`make lab`).
"""

from __future__ import annotations

import os
import sys
import webbrowser

from venv_state import ROOT, become

__all__ = ["command", "has_browser"]

FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"


def command(*, opens_browser: bool, is_root: bool) -> list[str]:
    """The command line of a JupyterLab that this machine alone can reach.

    Args:
        opens_browser: False prints the address, token included, and waits.
        is_root: JupyterLab refuses root (containers, remote machines) unless told.
    """
    arguments = [
        sys.executable,
        *("-m", "jupyterlab"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}",
    ]
    if not opens_browser:
        arguments.append("--no-browser")
    if is_root:
        arguments.append("--allow-root")
    return arguments


def has_browser(system: str = sys.platform) -> bool:
    """True where a browser can show itself: a display and a program for it."""
    has_display = system in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
    )
    if not has_display:
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


if __name__ == "__main__":
    opens_browser = has_browser()
    if not opens_browser:
        print("No browser here: open the address with the token below on this machine,")
        print("or forward its port: ssh -L 8888:127.0.0.1:8888 THIS_MACHINE", flush=True)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    sys.exit(become(command(opens_browser=opens_browser, is_root=is_root), dict(os.environ)))
