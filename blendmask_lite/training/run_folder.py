"""The folder of a run: its logs, its checkpoints, its description, and who is training in it."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchvision
from filelock import FileLock, Timeout

import blendmask_lite
from blendmask_lite.files import write_atomically

if TYPE_CHECKING:
    from blendmask_lite.training.engine import StepRecord

__all__ = [
    "CsvLog",
    "RunFolder",
    "RunSession",
    "commit",
    "complete_rows",
    "full_disk_explained",
    "is_held",
    "step_row",
    "versions",
]


class RunFolder:
    """The paths of a run's files; making it touches nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.description = self.path / "run.json"
        self.lock = self.path / ".lock"
        self.metrics = self.path / "metrics.csv"
        self.evaluation = self.path / "evaluation.csv"
        self.last = self.path / "last.pt"
        self.model = self.path / "model.pt"
        self.best = self.path / "best.pt"
        self.failure = self.path / "failure.pt"
        self.snapshots = self.path / "snapshots"
        self.tensorboard = self.path / "tensorboard"

    def describe(self, content: Mapping[str, Any]) -> None:
        """Write run.json."""
        text = json.dumps(content, indent=2, default=str)
        write_atomically(self.description, (text + "\n").encode())

    def remove_leftovers(self) -> None:
        """Remove the unfinished files of a run that was killed while writing."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


def is_held(run: RunFolder) -> bool:
    """Whether a process trains in the folder now."""
    if not run.lock.exists():
        return False
    lock = FileLock(run.lock, timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may only be read
        return False


@contextlib.contextmanager
def full_disk_explained(run: RunFolder) -> Iterator[None]:
    """Say of a full disk what it means for the run.

    Raises:
        OSError: the same error, with what is left and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        rest = f"the last checkpoint, {run.last}, is whole: " if run.last.exists() else ""
        raise OSError(
            f"{run.path}: no space left on the disk; {rest}free some and continue with --resume"
        ) from error


class CsvLog:
    """A table that grows by one row at a time and survives a kill at any moment.

    Args:
        path: the file; its first column is `iteration`.
        keep_until: rows of later iterations are cut, because they will come again; 0 starts an
            empty table.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        rows = complete_rows(path, keep_until) if path.exists() else []
        self.columns = list(rows[0]) if rows else []
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_atomically(path, text.getvalue().encode())
        self.file = path.open("a", newline="")

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row; the first one names the columns."""
        if not self.columns:
            self.columns = list(row)
            self.file.write(",".join(self.columns) + "\n")
        csv.DictWriter(self.file, self.columns, lineterminator="\n").writerow(row)
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def complete_rows(path: Path, keep_until: int) -> list[dict[str, str]]:
    """The rows of a `CsvLog` up to an iteration; those that were cut off are left out."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        row
        for row in rows
        if None not in row.values()
        and row.get("iteration", "").isdigit()
        and int(row["iteration"]) <= keep_until
    ]


def step_row(record: StepRecord) -> dict[str, object]:
    """A row of metrics.csv."""
    return {
        "iteration": record.iteration,
        "learning_rate": f"{record.learning_rate:.6g}",
        "loss": f"{record.total:.6g}",
        **{name: f"{value:.6g}" for name, value in record.losses.items()},
        "gradient_norm": f"{record.gradient_norm:.6g}",
        "images_per_second": f"{record.num_images / max(record.seconds, 1e-9):.1f}",
        "data_seconds": f"{record.data_seconds:.4f}",
        "seconds": f"{record.seconds:.4f}",
    }


PATIENCE = 10.0  # seconds that a killed process' workers may keep the folder


class RunSession:
    """Holds the folder of a run while one process trains in it, and keeps run.json.

    The file gets the settings once, and an entry in `sessions` for every process: its command,
    versions, commit, device and threads, when and at which iteration it began and ended, and how:
    running, finished, stopped on request, failed with a reason, or killed, which the next process
    notes down.

    Args:
        run: its folder is made.
        device: that is trained on.
        is_recorded: False does nothing at all: of several processes one keeps the file.
    """

    def __init__(
        self, run: RunFolder, *, device: torch.device | str = "cpu", is_recorded: bool = True
    ) -> None:
        self.run = run
        self.device = torch.device(device)
        self.is_recorded = is_recorded
        self._lock = FileLock(run.lock, timeout=PATIENCE)
        self._content: dict[str, Any] | None = None

    def __enter__(self) -> RunSession:
        """Take hold of the folder.

        Raises:
            ValueError: another process trains in it.
        """
        if self.is_recorded:
            self.run.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise ValueError(f"{self.run.path}: another process trains in it") from None
        return self

    def require_same_data(self, num_images: int) -> None:
        """Refuse to continue the run on other data, as far as run.json tells.

        Raises:
            ValueError: there are more images now, or fewer.
        """
        then = self._earlier().get("num_images", num_images)
        if num_images != then:
            raise ValueError(
                f"{self.run.path}: cannot continue on other data: {num_images} images, were {then}"
            )

    def begin(
        self,
        description: Mapping[str, Any],
        *,
        iteration: int,
        iterations_before: int | None = None,
    ) -> None:
        """Write run.json, or add this process to it where the run continues.

        Args:
            description: settings of the run; `command` is that of this process.
            iteration: where it begins.
            iterations_before: that were planned, of a run that becomes longer.
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
        """Note down that the run is finished, or stopped on request, and why if early."""
        self._end("finished" if is_finished else "stopped", iteration, reason)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Note down an error, and let go of the folder."""
        if error is not None:
            with contextlib.suppress(OSError):  # a full disk: the error itself matters more
                self._end("failed", None, f"{type(error).__name__}: {error}")
        self._lock.release()

    def _earlier(self) -> dict[str, Any]:
        try:
            content = json.loads(self.run.description.read_text(encoding="utf-8"))
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
    """Of everything that can change a result."""
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
    """Git's commit of the package where it is a clone, "+changes" behind it if it was edited."""
    package = Path(blendmask_lite.__file__).parent
    git = ["git", "-C", str(package)]
    try:
        # An installed package may lie inside of somebody else's clone.
        ask = [*git, "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(ask, check=True, capture_output=True, timeout=10)
        ask = [*git, "rev-parse", "HEAD"]
        head = subprocess.run(ask, check=True, capture_output=True, text=True, timeout=10)
        ask = [*git, "status", "--porcelain", "--", "."]
        changes = subprocess.run(ask, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def host(device: torch.device) -> dict[str, Any]:
    """What the machine is; not what it is called."""
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
