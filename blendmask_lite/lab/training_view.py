"""What the training monitor says of a run: state, numbers, time left, curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.figures.training import curves_figure
from blendmask_lite.lab.run_process import STOPPED, RunProcess
from blendmask_lite.training.run_record import RunRecord

__all__ = ["RunView", "curves_of", "look_at_run"]

WINDOW = 50  # last steps that the time left is judged by
SCORES = ("mask AP", "box AP")


@dataclass(frozen=True)
class RunView:
    """A run at one moment.

    Attributes:
        state: "nothing", "starting", "running", "finished", "stopped", "failed", "killed" or
            "unknown".
        num_done: iterations.
        num_iterations: of the whole run; 0 where nobody knows.
        words: state and numbers in one line.
        reason: what went wrong; empty if nothing did.
        can_stop: the lab can ask it to stop.
        can_resume: it can be continued.
        record: of the folder; None where there is none yet.
    """

    state: str
    num_done: int
    num_iterations: int
    words: str
    reason: str
    can_stop: bool
    can_resume: bool
    record: RunRecord | None


def look_at_run(process: RunProcess) -> RunView:
    """Read a run's folder and look at its process."""
    is_alive = process.is_alive  # first: a run that ends meanwhile is looked at again
    record = process.read()
    state = _state(process, record, is_alive)
    done = record.num_done if record else 0
    total = (record.num_iterations if record else None) or 0
    return RunView(
        state=state,
        num_done=done,
        num_iterations=total,
        words=_words(state, record, done, total),
        reason=_reason(process, record, state),
        can_stop=is_alive and process.can_stop,
        can_resume=state in ("stopped", "failed", "killed"),
        record=record,
    )


def curves_of(record: RunRecord) -> DescribedFigure | None:
    """Losses, learning rate and AP of a run; None before its first step."""
    if record.num_done == 0 or not record.loss_names:
        return None
    name = record.path.name
    evaluations = {name: record.evaluations} if record.evaluations else {}
    return curves_figure({name: record.steps}, evaluations, losses=record.loss_names)


def _state(process: RunProcess, record: RunRecord | None, is_alive: bool) -> str:
    if record is None or (not record.sessions and not record.num_done):
        if is_alive:
            return "starting"
        return "failed" if process.exit_code not in (None, 0, STOPPED) else "nothing"
    if is_alive:
        return "running" if record.is_running else "starting"
    if record.state == "running":  # it ended between two looks
        return "starting"
    is_bad = process.exit_code not in (None, 0, STOPPED)
    # A process that refused to begin leaves the record of the earlier one.
    return "failed" if is_bad and record.state in ("stopped", "finished") else record.state


def _words(state: str, record: RunRecord | None, done: int, total: int) -> str:
    if state == "nothing":
        return "no training in this folder yet"
    if record is None or not done:
        return state
    parts = [f"{state}: {done:,} of {total:,} iterations" if total else f"{state}: {done:,}"]
    loss = record.last_losses.get("loss", math.nan)
    parts += [f"loss {loss:.3f}", f"{record.images_per_second:.1f} images/s"]
    parts += [f"{name} {record.scores[name]:.1f}" for name in SCORES if name in record.scores]
    seconds = _seconds_left(record, total - done)
    if state == "running" and math.isfinite(seconds):
        parts.append(f"{_clock(seconds)} left")
    return " · ".join(parts)


def _seconds_left(record: RunRecord, num_left: int) -> float:
    seconds: list[Any] = [
        each for each in record.steps.get("seconds", [])[-WINDOW:] if math.isfinite(each)
    ]
    return sum(seconds) / len(seconds) * max(num_left, 0) if seconds else math.nan


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _reason(process: RunProcess, record: RunRecord | None, state: str) -> str:
    if state not in ("failed", "killed"):
        return ""
    recorded = record.sessions[-1].get("reason") if record and record.sessions else None
    said = process.last_words()
    if recorded and state == "failed" and record is not None and record.state == "failed":
        return str(recorded)
    if state == "killed":
        return f"The process was killed. The last that it printed: {said or 'nothing'}"
    return said or f"The process ended with code {process.exit_code} and said nothing."
