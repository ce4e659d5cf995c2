"""The training monitor: start a training, see its curves and masks while it runs, stop, resume.

Chapter 11. The training is a process of its own; see run_process.py for the reason.
"""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from blendmask_lite.lab.messages import LabWidget, shows_errors
from blendmask_lite.lab.run_process import RunProcess
from blendmask_lite.lab.time_machine import TimeMachine
from blendmask_lite.lab.training_view import RunView, curves_of, look_at_run
from blendmask_lite.training.snapshot_files import PICTURES, step_files

__all__ = ["TrainingMonitor"]

INTERVAL = 2.0  # seconds between two looks at the folder
OPTIONS = "shapes --preset nano --iterations 300 --batch-size 4 --snapshots 20 --threads 1"
SHORT = {"description_width": "initial"}
WRAP = widgets.Layout(flex_flow="row wrap", align_items="center", overflow="visible")
BAR_STYLES = {"finished": "success", "failed": "danger", "killed": "danger", "stopped": "warning"}


@dataclass(frozen=True)
class _Seen:
    run: RunView
    curves: str | None  # HTML; None where they are as before


class TrainingMonitor(LabWidget):
    """Follows the folder of a training, live, and starts, stops and resumes it.

    In a notebook it looks every two seconds by itself; elsewhere `refresh` does. Closing it leaves
    the training alone: it goes on, and another monitor can follow it.

    Args:
        folder: of the run; one that exists is followed at once, however it was started.
        options: of `blendmask-lite train`, without the folder.
        interval: seconds between two looks.
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
        self._build(str(folder), options)
        self.arrange(
            _row(self.folder, self.follow_button),
            _row(self.options),
            _row(self.start_button, self.stop_button, self.resume_button),
            _row(self.bar, self.words),
            self.curves,
            self.masks,
        )
        self.refresh()
        try:
            self._task = asyncio.get_running_loop().create_task(self._follow())
        except RuntimeError:  # no notebook: nobody would call back
            self._task = None

    @shows_errors(clears=False)
    def refresh(self) -> None:
        """Look at the folder now."""
        self._show(self._look(self.process))

    def start(self) -> None:
        """Begin a training with the options and the folder of the fields.

        Raises:
            ValueError: one runs there, or options that cannot be read.
            FileExistsError: the folder holds a run.
        """
        process = self._of_field()
        process.begin(_words_of(self.options.value))
        self._attach(process)

    def stop(self) -> None:
        """Ask the training to save and leave.

        Raises:
            ValueError: nothing runs, or it was started elsewhere.
        """
        self.process.ask_to_stop()
        self.say("Asked to stop: it finishes its step, saves, and leaves.")

    def resume(self) -> None:
        """Continue the run where its last checkpoint is.

        Raises:
            ValueError: one runs there, or nobody knows how it was started.
        """
        process = self._of_field()
        process.resume()
        self._attach(process)

    def follow(self) -> None:
        """Follow the run in the folder of the field.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        process = self._of_field()
        if not process.folder.is_dir():
            raise FileNotFoundError(f"{process.folder}: no such folder")
        self._attach(process)

    def free(self) -> None:
        """End following; the training goes on."""
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
                self._show(seen)

    def _look(self, process: RunProcess) -> _Seen:
        """Read the files and draw the curves: the slow part, which touches no widget."""
        run = look_at_run(process)
        key = (process.folder, run.num_done, run.record and run.record.scores)
        if run.record is None or key == self._drawn:
            return _Seen(run, None if run.record is not None else "")
        figure = curves_of(run.record)
        self._drawn = key
        if figure is None:
            return _Seen(run, "")
        return _Seen(run, figure._repr_mimebundle_()["text/html"])

    @shows_errors(clears=False)
    def _show(self, seen: _Seen) -> None:
        run = seen.run
        self.view = run
        self.words.value = run.words
        self.bar.max = max(run.num_iterations, 1)
        self.bar.value = min(run.num_done, self.bar.max)
        self.bar.bar_style = BAR_STYLES.get(run.state, "info")
        is_busy = run.state in ("starting", "running")
        self.start_button.disabled = is_busy
        self.stop_button.disabled = not run.can_stop
        self.resume_button.disabled = not run.can_resume
        if seen.curves is not None:
            self.curves.value = seen.curves
        told = (run.state, run.reason)
        if run.reason and told != self._told:
            self.say(f"The training {run.state}: {run.reason}", "error")
        elif told != self._told and run.state in ("finished", "stopped"):
            more = "" if run.state == "finished" else " Resume continues it."
            self.say(f"The training is {run.state} after {run.num_done:,} iterations.{more}")
        self._told = told
        self._show_masks()

    def _show_masks(self) -> None:
        folder = self.process.run.snapshots
        if not (folder / PICTURES).exists() or not step_files(folder):
            return
        if self.machine is None:
            self.machine = TimeMachine(snapshots=folder)
            self.masks.children = (self.machine,)
        else:
            self.machine.reload()

    def _attach(self, process: RunProcess) -> None:
        """Follow another process or folder; its masks come anew."""
        self.process = process
        self._drawn, self._told = (), ("", "")
        if self.machine is not None:
            self.masks.children = ()
            self.machine.close()
            self.machine = None
        self.curves.value = ""
        self._show(self._look(process))

    def _of_field(self) -> RunProcess:
        text = self.folder.value.strip()
        if not text:
            raise ValueError("folder: say where the run is, or shall be")
        process = RunProcess(text)
        return self.process if process.folder == self.process.folder else process

    # -------------------------------------------------------------- controls

    def _build(self, folder: str, options: str) -> None:
        wide = widgets.Layout(width="560px", max_width="100%")
        self.folder = widgets.Text(folder, description="folder", layout=wide, style=SHORT)
        self.options = widgets.Text(
            options,
            description="options",
            tooltip="of `blendmask-lite train`: data, preset, schedule",
            layout=widgets.Layout(width="680px", max_width="100%"),
            style=SHORT,
        )
        self.follow_button = _button("eye", "Follow", "a run that exists, however it was started")
        self.start_button = _button("play", "Start", "a training in this folder")
        self.stop_button = _button("stop", "Stop", "it finishes its step, saves, and leaves")
        self.resume_button = _button("forward", "Resume", "continue where it was saved last")
        self.bar = widgets.IntProgress(
            description="iterations",
            min=0,
            max=1,
            layout=widgets.Layout(width="330px", max_width="100%"),
            style=SHORT,
        )
        self.words = widgets.Label()
        self.curves = widgets.HTML()
        self.curves.add_class("blendmask-lab-figure")
        self.masks = widgets.VBox()
        self.start_button.on_click(self._on_start)
        self.stop_button.on_click(self._on_stop)
        self.resume_button.on_click(self._on_resume)
        self.follow_button.on_click(self._on_follow)

    @shows_errors
    def _on_start(self, _button: Any) -> None:
        self.start()

    @shows_errors
    def _on_stop(self, _button: Any) -> None:
        self.stop()

    @shows_errors
    def _on_resume(self, _button: Any) -> None:
        self.resume()

    @shows_errors
    def _on_follow(self, _button: Any) -> None:
        self.follow()


def _words_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"options {text!r}: {error}") from None


def _button(icon: str, description: str, tooltip: str) -> widgets.Button:
    return widgets.Button(
        icon=icon, description=description, tooltip=tooltip, layout=widgets.Layout(width="auto")
    )


def _row(*controls: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(list(controls), layout=WRAP)
