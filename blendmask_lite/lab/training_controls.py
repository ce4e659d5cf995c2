"""The training monitor's controls: the run's folder and options, its buttons, and how far it is."""

from __future__ import annotations

import ipywidgets as widgets

from blendmask_lite.lab.controls import SHORT, button, row, wide
from blendmask_lite.lab.training_view import RunView

__all__ = ["TrainingControls"]

BAR_STYLES = {"finished": "success", "failed": "danger", "killed": "danger", "stopped": "warning"}


class TrainingControls:
    """All controls, and rows to show them in.

    Args:
        folder: of the run, to begin with.
        options: of `blendmask-lite train`, to begin with.
    """

    def __init__(self, folder: str, options: str) -> None:
        self.folder = widgets.Text(folder, description="folder", layout=wide(560), style=SHORT)
        self.options = widgets.Text(
            options,
            description="options",
            tooltip="of `blendmask-lite train`: data, preset, schedule",
            layout=wide(680),
            style=SHORT,
        )
        self.follow = button("eye", "Follow", "a run that exists, however it was started")
        self.start = button("play", "Start", "a training in this folder")
        self.stop = button("stop", "Stop", "it finishes its step, saves, and leaves")
        self.resume = button("forward", "Resume", "continue where it was saved last")
        self.bar = widgets.IntProgress(
            description="iterations", min=0, max=1, layout=wide(330), style=SHORT
        )
        self.words = widgets.Label()
        self.curves = widgets.HTML()
        self.curves.add_class("blendmask-lab-figure")
        self.masks = widgets.VBox()

    @property
    def rows(self) -> list[widgets.Widget]:
        """From top to bottom."""
        return [
            row(self.folder, self.follow),
            row(self.options),
            row(self.start, self.stop, self.resume),
            row(self.bar, self.words),
            self.curves,
            self.masks,
        ]

    def show(self, run: RunView) -> None:
        """Bring words, bar and buttons in step with the run."""
        self.words.value = run.words
        self.bar.max = max(run.num_iterations, 1)
        self.bar.value = min(run.num_done, self.bar.max)
        self.bar.bar_style = BAR_STYLES.get(run.state, "info")
        self.start.disabled = run.state in ("starting", "running")
        self.stop.disabled = not run.can_stop
        self.resume.disabled = not run.can_resume
