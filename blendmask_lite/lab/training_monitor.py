"""The training monitor: a run's state, numbers, time left and curves."""

from __future__ import annotations

import asyncio
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.figures.training import curves_figure
from blendmask_lite.lab.parts import LabWidget, button, control, row, shows_errors
from blendmask_lite.lab.run_process import STOPPED, RunProcess
from blendmask_lite.lab.time import TimeMachine
from blendmask_lite.terminal import duration
from blendmask_lite.training.run_folder import RunRecord
from blendmask_lite.training.snapshots import PICTURES, step_files

__all__ = ["RunView", "TrainingControls", "TrainingMonitor", "curves_of", "look_at_run"]


WINDOW = 50  # number of recent steps from which the time left is estimated
SCORES = ("mask AP", "box AP")


@dataclass(frozen=True)
class RunView:
    """A run at one moment."""

    # "nothing", "starting", "running", "finished", "stopped", "failed", "killed" or "unknown"
    state: str
    num_done: int  # iterations done
    num_iterations: int  # iterations of the whole run; 0 if unknown
    words: str  # state and numbers in one line
    reason: str  # what went wrong; empty if nothing did
    can_stop: bool  # whether the lab can ask it to stop
    can_resume: bool  # whether the run can be continued
    record: RunRecord | None  # the folder's record; None if there is none yet


def look_at_run(process: RunProcess) -> RunView:
    """Read a run's folder and look at its process."""
    is_alive = process.is_alive  # first: a run that ends in between is not taken for a dead one
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


def curves_of(record: RunRecord) -> list[DescribedFigure]:
    """Losses, learning rate and AP of a run; empty before its first step.

    There are two figures of two columns; a narrow window shows them one below the other.
    """
    if record.num_done == 0 or not record.loss_names:
        return []
    run = record.path.name
    evaluations = {run: record.evaluations} if record.evaluations else {}
    names = [*record.loss_names, "learning_rate", "AP"]
    middle = math.ceil(len(names) / 4) * 2  # the left figure has full rows
    return [
        curves_figure({run: record.steps}, evaluations, names=half, columns=2)
        for half in (names[:middle], names[middle:])
    ]


def _state(process: RunProcess, record: RunRecord | None, is_alive: bool) -> str:
    if record is None or (not record.sessions and not record.num_done):
        if is_alive:
            return "starting"
        return "failed" if process.exit_code not in (None, 0, STOPPED) else "nothing"
    if is_alive:
        return "running" if record.is_running else "starting"
    if record.state == "running":  # it ended between the two readings
        return "starting"
    is_bad = process.exit_code not in (None, 0, STOPPED)
    # A process that refuses to start leaves an earlier process's record.
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
        parts.append(f"{duration(seconds)} left")
    return " · ".join(parts)


def _seconds_left(record: RunRecord, num_left: int) -> float:
    last = record.steps.get("seconds", [])[-WINDOW:]
    seconds: list[Any] = list(filter(math.isfinite, last))
    return sum(seconds) / len(seconds) * max(num_left, 0) if seconds else math.nan


def _reason(process: RunProcess, record: RunRecord | None, state: str) -> str:
    if state not in ("failed", "killed"):
        return ""
    said = process.last_words()
    if state == "killed":
        return f"The process was killed. Its last output: {said or 'none'}"
    if record is not None and record.state == "failed" and record.sessions[-1].get("reason"):
        return str(record.sessions[-1]["reason"])
    return said or f"The process ended with code {process.exit_code} and without a message."


BAR_STYLES = {"finished": "success", "failed": "danger", "killed": "danger", "stopped": "warning"}


class TrainingControls:
    """All controls, and the rows that show them.

    Args:
        folder: initial value for the run's folder.
        options: initial value for the options of `blendmask-lite train`.
    """

    def __init__(self, folder: str, options: str) -> None:
        tooltip = "of `blendmask-lite train`: data, preset, schedule"
        self.folder = control(widgets.Text, "folder", 560, value=folder)
        self.options = control(widgets.Text, "options", 680, value=options, tooltip=tooltip)
        self.follow = button("eye", "Follow", "follow an existing run, however it was started")
        self.start = button("play", "Start", "start a training in this folder")
        self.stop = button("stop", "Stop", "the training finishes its step, saves, and ends")
        self.resume = button("forward", "Resume", "continue at the last checkpoint")
        self.bar = control(widgets.IntProgress, "iterations", 330, min=0, max=1)
        self.words = widgets.Label()
        self.curves = widgets.HTML()
        self.curves.add_class("blendmask-lab-figure")
        self.masks = widgets.VBox()
        self.rows = [
            row(self.folder, self.follow),
            row(self.options),
            row(self.start, self.stop, self.resume),
            row(self.bar, self.words),
            self.curves,
            self.masks,
        ]

    def show(self, run: RunView) -> None:
        """Show a run by words, a progress bar and buttons."""
        self.words.value = run.words
        self.bar.max = max(run.num_iterations, 1)
        self.bar.value = min(run.num_done, self.bar.max)
        self.bar.bar_style = BAR_STYLES.get(run.state, "info")
        self.start.disabled = run.state in ("starting", "running")
        self.stop.disabled = not run.can_stop
        self.resume.disabled = not run.can_resume


INTERVAL = 2.0  # seconds between two readings of the folder
OPTIONS = "shapes --preset nano --iterations 300 --batch-size 4 --snapshots 20 --threads 1"


class TrainingMonitor(LabWidget):
    """Follows a training's folder live, and starts, stops and resumes the training.

    In a notebook it reads the folder every two seconds; elsewhere, call `refresh`. Closing the
    monitor does not end the training, and another monitor can follow it.

    Args:
        folder: the run's folder; an existing run is followed at once, however it was started.
        options: options of `blendmask-lite train`, without the folder.
        interval: seconds between two readings.
    """

    def __init__(
        self,
        *,
        folder: str | Path = "runs/lab",
        options: str = OPTIONS,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(title="Training monitor")
        self.interval = interval
        self.process = RunProcess(folder)
        self.view: RunView | None = None
        self.machine: TimeMachine | None = None
        self._drawn: tuple[object, ...] = ()
        self._told: tuple[str, str] = ("", "")
        self._task: asyncio.Task[None] | None = None
        self.controls = TrainingControls(str(folder), options)
        for name in ("start", "stop", "resume", "follow"):
            self.when(getattr(self.controls, name), do=getattr(self, name))
        self.arrange(*self.controls.rows)
        self.refresh()
        try:
            self._task = asyncio.get_running_loop().create_task(self._follow())
        except RuntimeError:  # no event loop, hence no notebook
            self._task = None

    @shows_errors
    def refresh(self) -> None:
        """Read the folder now."""
        self._show(*self._look(self.process))

    def start(self) -> None:
        """Start a training with the options and the folder in the fields.

        Raises:
            ValueError: a training is running there, or the options cannot be parsed.
            FileExistsError: the folder already has a run.
        """
        process = self._of_field()
        process.begin(_words_of(self.controls.options.value))
        self._attach(process)

    def stop(self) -> None:
        """Ask the training to save and end.

        Raises:
            ValueError: nothing is running, or it was started elsewhere.
        """
        self.process.ask_to_stop()
        self.say("Stopping: the training finishes its step, saves, and ends.")

    def resume(self) -> None:
        """Continue the run from its last checkpoint.

        Raises:
            ValueError: a training is running there, or its options are unknown.
        """
        process = self._of_field()
        process.resume()
        self._attach(process)

    def follow(self) -> None:
        """Follow the run in the folder that the field names.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        process = self._of_field()
        if not process.folder.is_dir():
            raise FileNotFoundError(f"{process.folder}: no such folder")
        self._attach(process)

    def free(self) -> None:
        """Stop following; the training continues."""
        if self._task is not None:
            self._task.cancel()
        del self.process, self.view, self.machine, self._task

    # -------------------------------------------------------------- looking

    async def _follow(self) -> None:
        while not self.is_closed:
            await asyncio.sleep(self.interval)
            process = self.process
            try:
                seen = await asyncio.to_thread(self._look, process)  # the kernel stays free
            except Exception as error:
                self.message.fail(error)
                continue
            if not self.is_closed and process is self.process:
                self._show(*seen)

    def _look(self, process: RunProcess) -> tuple[RunView, str | None]:
        """The run, and its curves as HTML (None if they have not changed).

        This is the slow part; it changes no widget.
        """
        run = look_at_run(process)
        key = (process.folder, run.num_done, run.record and run.record.scores)
        if run.record is not None and key == self._drawn:
            return run, None
        figures = [] if run.record is None else curves_of(run.record)
        self._drawn = key
        return run, "".join(figure._repr_mimebundle_()["text/html"] for figure in figures)

    @shows_errors
    def _show(self, run: RunView, curves: str | None) -> None:
        self.view = run
        self.controls.show(run)
        if curves is not None:
            self.controls.curves.value = curves
        told = (run.state, run.reason)
        if run.reason and told != self._told:
            self.say(f"The training {run.state}: {run.reason}", "error")
        elif told != self._told and run.state in ("finished", "stopped"):
            more = "" if run.state == "finished" else " “Resume” continues it."
            self.say(f"The training {run.state} after {run.num_done:,} iterations.{more}")
        self._told = told
        self._show_masks()

    def _show_masks(self) -> None:
        folder = self.process.run.snapshots
        if not (folder / PICTURES).exists() or not step_files(folder):
            return
        if self.machine is None:
            self.machine = TimeMachine(snapshots=folder)
            self.controls.masks.children = (self.machine,)
        else:
            self.machine.reload()

    def _attach(self, process: RunProcess) -> None:
        """Follow another process or folder, and show its masks."""
        self.process = process
        self._drawn, self._told = (), ("", "")
        if self.machine is not None:
            self.controls.masks.children = ()
            self.machine.close()
            self.machine = None
        self.controls.curves.value = ""
        self._show(*self._look(process))

    def _of_field(self) -> RunProcess:
        text = self.controls.folder.value.strip()
        if not text:
            raise ValueError("folder: empty; type the folder of the run")
        process = RunProcess(text)
        return self.process if process.folder == self.process.folder else process


def _words_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"options {text!r}: {error}") from None
