"""The folder of a run: written while it trains, and read by others at the same time.

run.json            settings, seed; command, versions and times of every process that trained here
metrics.csv         one row per step
evaluation.csv      one row per evaluation, if there were any
last.pt             the newest training checkpoint
model.safetensors   the finished model
best.safetensors    the model with the best mask AP, if the run was evaluated
failure.pt          the step whose loss was not finite, if one was
snapshots/          what the model made of a few pictures, if that was asked for
tensorboard/        logs for TensorBoard, if they were asked for
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from blendmask_lite.files import read_text, write_atomically
from blendmask_lite.terminal import counted

if TYPE_CHECKING:
    from blendmask_lite.training.engine import StepRecord

__all__ = [
    "CsvLog",
    "RunFolder",
    "RunRecord",
    "Table",
    "complete_rows",
    "find_runs",
    "flat_settings",
    "full_disk_explained",
    "is_held",
    "read_run",
    "step_row",
]


class RunFolder:
    """The paths of a run's files; creating the object touches nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.description = self.path / "run.json"
        self.lock = self.path / ".lock"
        self.metrics = self.path / "metrics.csv"
        self.evaluation = self.path / "evaluation.csv"
        self.last = self.path / "last.pt"
        self.model = self.path / "model.safetensors"
        self.best = self.path / "best.safetensors"
        self.failure = self.path / "failure.pt"
        self.snapshots = self.path / "snapshots"
        self.tensorboard = self.path / "tensorboard"

    def new_run(self) -> str:
        """Advice for error messages: how a run on other data can start from this one's weights."""
        weights = self.best if self.best.exists() else self.last
        return f"a new run can begin with its weights: --weights {weights} -o another folder"

    def describe(self, content: Mapping[str, Any]) -> None:
        """Write run.json."""
        text = json.dumps(content, indent=2, default=str)
        write_atomically(self.description, (text + "\n").encode())

    def remove_leftovers(self) -> None:
        """Remove the unfinished files of a run that was killed while writing."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


def is_held(run: RunFolder) -> bool:
    """Whether a process is training in the folder now."""
    if not run.lock.exists():
        return False
    try:
        with FileLock(run.lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a read-only folder
        return False


@contextlib.contextmanager
def full_disk_explained(run: RunFolder) -> Iterator[None]:
    """Explain to the user what a full disk means for the run.

    Raises:
        OSError: the error of the block; if the disk is full, the message says what is kept and how
            to continue.
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
        keep_until: last iteration to keep; later rows are removed, because these iterations will
            be repeated. 0 starts an empty table.

    Raises:
        ValueError: the file is damaged; see `complete_rows`. The file stays as it is.
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
        self.file = path.open("a", newline="", encoding="utf-8")

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
    """The rows of a `CsvLog` up to an iteration.

    The last line is left out if a kill cut it short.

    Raises:
        ValueError: the file is damaged elsewhere, or is no such table; the message names file and
            line.
    """
    text = read_text(path)
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    rows = []
    try:
        if reader.fieldnames and reader.fieldnames[0] != "iteration":
            raise ValueError("is no head of a log, whose first column is `iteration`")
        for row in reader:
            if None in row or None in row.values() or not row["iteration"].isdecimal():
                raise ValueError("is no row of the log")
            if int(row["iteration"]) <= keep_until:
                rows.append(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {max(reader.line_num, 1)}: {error}") from None
    return rows


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


DEEPEST = 3  # levels of folders below the searched one
DATA_OPTIONS = ("split", "validation", "images", "weights", "backbone_weights")
WINDOW = 50  # number of last steps over which losses and speed are averaged

Table = Mapping[str, Sequence[float]]  # columns by name, all of the same length


@dataclass(frozen=True)
class RunRecord:
    """A run, as read from its folder.

    Attributes:
        path: the folder.
        description: content of run.json; empty if it is missing or damaged.
        steps: columns of metrics.csv; a cell that is not a number is NaN.
        evaluations: columns of evaluation.csv.
        is_running: whether a process is training in the folder now.
        has_model: whether the finished model is there.
        problems: one sentence for each thing that could not be read.
    """

    path: Path
    description: Mapping[str, Any]
    steps: Table
    evaluations: Table
    is_running: bool
    has_model: bool
    problems: tuple[str, ...]

    @property
    def sessions(self) -> list[Mapping[str, Any]]:
        """The processes that trained here, in order of time."""
        sessions = self.description.get("sessions", [])
        if not isinstance(sessions, list):
            return []
        return [session for session in sessions if isinstance(session, dict)]

    @property
    def state(self) -> str:
        """running, finished, stopped (on request), failed, killed, or unknown."""
        if self.is_running:
            return "running"
        recorded = str(self.sessions[-1].get("state")) if self.sessions else "unknown"
        if recorded == "running":
            return "killed"
        return "finished" if recorded == "unknown" and self.has_model else recorded

    @property
    def num_done(self) -> int:
        """The last iteration that has a row."""
        return int(max(filter(math.isfinite, self.steps.get("iteration", [])), default=0))

    @property
    def num_iterations(self) -> int | None:
        """The number of iterations of the whole run; None if run.json does not say."""
        train = self.description.get("train")
        value = train.get("iterations") if isinstance(train, dict) else None
        return value if isinstance(value, int) else None

    @property
    def loss_names(self) -> list[str]:
        """Names of the loss columns: the sum, "loss", and its parts."""
        names = list(self.steps)
        if "loss" not in names or "gradient_norm" not in names:
            return []
        return names[names.index("loss") : names.index("gradient_norm")]

    @cached_property
    def last_losses(self) -> dict[str, float]:
        """Losses by name, each the mean over the last 50 steps."""
        return {name: _last_mean(self.steps[name]) for name in self.loss_names}

    @cached_property
    def images_per_second(self) -> float:
        """Speed as a mean over the last 50 steps; NaN if there are none."""
        return _last_mean(self.steps.get("images_per_second", []))

    @property
    def scores(self) -> dict[str, float]:
        """Scores of the last evaluation in percent: "mask AP", "box AP50", ..."""
        return {
            name: values[-1]
            for name, values in self.evaluations.items()
            if name != "iteration" and len(values)
        }

    @property
    def best(self) -> tuple[float, int] | None:
        """Best mask AP in percent and the first iteration with it; None if there is none."""
        scores, places = (self.evaluations.get(name, []) for name in ("mask AP", "iteration"))
        pairs = zip(scores, places, strict=False)
        found = [(score, int(i)) for score, i in pairs if math.isfinite(score + i)]
        return max(found, key=lambda pair: pair[0], default=None)  # the first of equal values

    def text(self, name: str) -> str:
        """A plain value of run.json, such as "command"; empty if it is missing."""
        value = self.description.get(name, "")
        return value if isinstance(value, str) else ""


def find_runs(root: Path) -> list[Path]:
    """The folder itself if it holds a run; otherwise the runs in it, up to three folders deep.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    return _find(root, DEEPEST)


def _find(folder: Path, depth: int) -> list[Path]:
    run = RunFolder(folder)
    files = (run.description, run.metrics, run.last, run.model)
    if any(path.exists() for path in files):
        return [folder]
    if depth == 0:
        return []
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:  # a folder without permission to read is skipped
        return []
    return [run for path in inside if path.name[0] != "." for run in _find(path, depth - 1)]


def read_run(path: Path) -> RunRecord:
    """Read what a run has written so far; `problems` tells what cannot be read."""
    run = RunFolder(path)
    problems: list[str] = []
    return RunRecord(
        path=path,
        description=_read_description(run.description, problems),
        steps=_read_table(run.metrics, problems),
        evaluations=_read_table(run.evaluation, problems, is_needed=False),
        is_running=is_held(run),
        has_model=run.model.exists(),
        problems=tuple(problems),
    )


def flat_settings(record: RunRecord) -> dict[str, str]:
    """All settings that can differ between two runs, as text by name: "train.seed", ...

    Versions, commit and host are taken from the last process.
    """
    left_out = ("sessions", "command", "options")  # the settings themselves are listed
    settings = {name: v for name, v in record.description.items() if name not in left_out}
    options = record.description.get("options")
    if isinstance(options, dict):
        settings |= {name: options[name] for name in DATA_OPTIONS if name in options}
    if record.sessions:
        last = record.sessions[-1]
        settings |= {name: last.get(name) for name in ("versions", "commit", "host")}
    return dict(_flatten(settings, ""))


def _flatten(value: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, part in value.items():
        if isinstance(part, dict):
            flat += _flatten(part, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", part if isinstance(part, str) else json.dumps(part)))
    return flat


def _read_description(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        problems.append("run.json is missing")
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"run.json cannot be read ({error})")
        return {}
    if not isinstance(content, dict):
        problems.append("run.json is no JSON object")
        return {}
    return content


def _read_table(path: Path, problems: list[str], *, is_needed: bool = True) -> Table:
    # Row by row into arrays: a long run has millions of numbers.
    names: list[str] = []
    columns: list[array[float]] = []
    odd_rows: list[int] = []
    number = 0
    if path.exists() and not path.is_file():  # a pipe would block forever
        problems.append(f"{path.name} is no regular file")
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file)):
                if number == 0:
                    names, columns = row, [array("d") for _ in row]
                elif len(row) == len(names):
                    for column, cell in zip(columns, row, strict=True):
                        column.append(_number(cell))
                else:
                    odd_rows.append(number)
    except FileNotFoundError:
        if is_needed:
            problems.append(f"{path.name} is missing")
        return {}
    except (OSError, ValueError, csv.Error) as error:
        problems.append(f"{path.name} cannot be read ({error})")
        return {}
    if names and ("iteration" not in names or len(set(names)) != len(names)):
        problems.append(f"{path.name} is no table with a column `iteration`")
        return {}
    # The last row may be half written while the run goes on.
    if odd_rows and odd_rows != [number]:
        problems.append(f"{path.name}: {counted(len(odd_rows), 'row')} of another length")
    return dict(zip(names, columns, strict=True))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _last_mean(values: Sequence[float]) -> float:
    recent = [value for value in values[-WINDOW:] if math.isfinite(value)]
    return sum(recent) / len(recent) if recent else math.nan
