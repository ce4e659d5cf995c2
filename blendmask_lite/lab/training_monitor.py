"""The training monitor: start a training, see its curves and masks while it runs, stop, resume.

Chapter 11. The training is a process of its own; see run_process.py for the reason.
"""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendmask_lite.lab.messages import LabWidget, shows_errors
from blendmask_lite.lab.run_process import RunProcess
from blendmask_lite.lab.time_machine import TimeMachine
from blendmask_lite.lab.training_controls import TrainingControls
from blendmask_lite.lab.training_view import RunView, curves_of, look_at_run
from blendmask_lite.training.snapshot_files import PICTURES, step_files

__all__ = ["TrainingMonitor"]

INTERVAL = 2.0  # seconds between two looks at the folder
OPTIONS = "shapes --preset nano --iterations 300 --batch-size 4 --snapshots 20 --threads 1"


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
        self.controls = TrainingControls(str(folder), options)
        self._connect()
        self.arrange(*self.controls.rows)
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
        process.begin(_words_of(self.controls.options.value))
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
        self.controls.show(run)
        if seen.curves is not None:
            self.controls.curves.value = seen.curves
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
            self.controls.masks.children = (self.machine,)
        else:
            self.machine.reload()

    def _attach(self, process: RunProcess) -> None:
        """Follow another process or folder; its masks come anew."""
        self.process = process
        self._drawn, self._told = (), ("", "")
        if self.machine is not None:
            self.controls.masks.children = ()
            self.machine.close()
            self.machine = None
        self.controls.curves.value = ""
        self._show(self._look(process))

    def _of_field(self) -> RunProcess:
        text = self.controls.folder.value.strip()
        if not text:
            raise ValueError("folder: say where the run is, or shall be")
        process = RunProcess(text)
        return self.process if process.folder == self.process.folder else process

    # -------------------------------------------------------------- controls

    def _connect(self) -> None:
        controls = self.controls
        controls.start.on_click(self._on_start)
        controls.stop.on_click(self._on_stop)
        controls.resume.on_click(self._on_resume)
        controls.follow.on_click(self._on_follow)

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
