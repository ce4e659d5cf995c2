"""The folder of a training run: what was run, how it went, where to continue.

run.json         settings, seed; command, versions and times of every process that trained here
metrics.csv      one row a step
evaluation.csv   one row an evaluation, if there were any
last.pt          the newest training checkpoint
model.pt         the finished model
best.pt          the model with the best mask AP, if the run was evaluated
failure.pt       the step whose loss was not finite, if one was
snapshots/       what the model made of a few pictures, if that was asked for
tensorboard/     logs for TensorBoard, if they were asked for
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from blendmask_lite.files import write_atomically

if TYPE_CHECKING:  # whoever lists runs does without torch
    from blendmask_lite.training.engine import StepRecord

__all__ = ["CsvLog", "RunFolder", "complete_rows", "full_disk_explained", "is_held", "step_row"]


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
