"""A lock that lets one process at a time train in a run's folder, and its entry in run.json."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from filelock import FileLock, Timeout

import blendmask_lite
from blendmask_lite.files import read_text, require_folder
from blendmask_lite.terminal import counted
from blendmask_lite.training.run_folder import RunFolder

__all__ = ["RunSession", "commit", "versions"]

PATIENCE = 10.0  # seconds that a killed process's workers may hold on to the folder


class RunSession:
    """Holds the folder of a run while one process trains in it, and keeps run.json.

    The file has the settings once, and an entry in `sessions` for every process: its command,
    versions, commit, device and threads, the time and iteration at which it began and ended, and
    its state: running, finished, stopped on request, failed with a reason, or killed. The next
    process writes "killed".

    Args:
        run: the run's folder; it is created.
        device: device that the process trains on.
        is_recorded: if False, nothing is done, because only one of several processes keeps the
            file.
    """

    def __init__(
        self, run: RunFolder, *, device: torch.device | str = "cpu", is_recorded: bool = True
    ) -> None:
        self.run = run
        self.device = torch.device(device)
        self.is_recorded = is_recorded
        self._lock = FileLock(run.lock, timeout=PATIENCE)
        self._content: dict[str, Any] | None = None
        self._made: list[Path] = []  # made by this process: the lock, then folders, innermost first

    def __enter__(self) -> RunSession:
        """Claim the folder.

        Raises:
            ValueError: another process trains in it.
            OSError: the folder cannot be written to.
        """
        if self.is_recorded:
            path = self.run.path
            self._made = [
                made for made in (self.run.lock, path, *path.parents) if not made.exists()
            ]
            require_folder(path)
            try:
                self._lock.acquire()
            except Timeout:
                raise ValueError(f"{self.run.path}: another process trains in it") from None
        return self

    def require_same_data(self, num_images: int) -> None:
        """Refuse to continue the run on other data, as far as run.json can tell.

        Raises:
            ValueError: the number of images has changed.
        """
        then = self._earlier().get("num_images", num_images)
        if num_images != then:
            raise ValueError(
                f"{self.run.path}: cannot continue on other data: "
                f"{counted(num_images, 'image')}, were {then}; {self.run.new_run()}"
            )

    def begin(
        self,
        description: Mapping[str, Any],
        *,
        iteration: int,
        iterations_before: int | None = None,
    ) -> None:
        """Write run.json, or add this process to it if the run continues.

        Args:
            description: settings of the run, and as `command` the command of this process.
            iteration: iteration at which this process begins.
            iterations_before: the length planned before, if the run becomes longer.
        """
        if not self.is_recorded:
            return
        earlier = self._earlier()
        sessions = earlier.pop("sessions", [])
        for session in sessions:
            if session.get("state") == "running":
                session["state"] = "killed"
        content = earlier if iteration and earlier else dict(description)
        if "options" in description:
            content["options"] = description["options"]
        if iterations_before is not None:
            content["train"] = description["train"]
            change = {
                "at_iteration": iteration,
                "from_iterations": iterations_before,
                "to_iterations": description["train"]["iterations"],
            }
            if content.get("made_longer", [])[-1:] != [change]:
                content["made_longer"] = [*content.get("made_longer", []), change]
        sessions.append(
            {
                "state": "running",
                "command": description.get("command"),
                "start": _now(),
                "end": None,
                "from_iteration": iteration,
                "until_iteration": None,
                "commit": commit(),
                "host": host(self.device),
                "versions": versions(),
            }
        )
        self._content = {**content, "sessions": sessions}
        self.run.describe(self._content)

    def finish(self, *, is_finished: bool, iteration: int, reason: str | None = None) -> None:
        """Record that the run is finished, with a reason if early, or was stopped on request."""
        self._end("finished" if is_finished else "stopped", iteration, reason)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Record an error, release the folder, and remove the empty folders that it made."""
        if error is not None:
            with contextlib.suppress(OSError):  # a full disk: the error itself matters more
                self._end("failed", None, f"{type(error).__name__}: {error}")
        self._lock.release()
        if error is not None and self._content is None:
            with contextlib.suppress(OSError):  # something else is in the folder
                for made in self._made:
                    made.unlink() if made == self.run.lock else made.rmdir()

    def _earlier(self) -> dict[str, Any]:
        try:
            content = json.loads(read_text(self.run.description))
        except (OSError, ValueError):
            return {}
        is_ours = isinstance(content, dict) and isinstance(content.get("sessions", []), list)
        return content if is_ours else {}

    def _end(self, state: str, iteration: int | None, reason: str | None = None) -> None:
        if self._content is None:
            return
        session = self._content["sessions"][-1]
        session |= {"state": state, "end": _now(), "until_iteration": iteration}
        if reason is not None:
            session["reason"] = reason
        self.run.describe(self._content)


def versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    # Plain strings: torch's own subclass of str would make a checkpoint that refuses to load.
    return {
        "blendmask_lite": blendmask_lite.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "numpy": str(np.__version__),
        "platform": platform.platform(),
    }


def commit() -> str | None:
    """Git's commit, with "+changes" if files were edited; None if the package is not a clone."""
    package = Path(blendmask_lite.__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not a clone around the package
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def host(device: torch.device) -> dict[str, Any]:
    """Device, processor and threads; not the name of the machine."""
    facts: dict[str, Any] = {
        "device": str(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda" and torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
