"""Snapshots while a run goes on: the observer behind `train --snapshots`."""

from __future__ import annotations

from collections.abc import Sequence

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.observers import Observer
from blendmask_lite.training.runlog import RunFolder
from blendmask_lite.training.snapshot_files import (
    PICTURES,
    read_snapshots,
    step_files,
    write_pictures,
    write_snapshot,
)
from blendmask_lite.training.snapshots import Snapshot, snapshot_iterations, take_snapshot

__all__ = ["SnapshotLog"]


class SnapshotLog(Observer):
    """The folder `snapshots`: what the model makes of a few pictures, at some iterations.

    It looks at the weights that evaluations use. A run that continues looks at the pictures that
    it began with; snapshots after its iteration are removed, because they come again.

    Args:
        run: for its folder.
        samples: the pictures, of the size that the model shall see; see `choose_pictures`.
        number: of snapshots over the whole run.
        iterations: of the whole run.

    Raises:
        ValueError: no pictures, or fewer than 2 snapshots.
    """

    def __init__(
        self, run: RunFolder, samples: Sequence[Sample], *, number: int, iterations: int
    ) -> None:
        if not samples:
            raise ValueError("snapshots: no picture of the data has objects with masks")
        self.folder = run.snapshots
        self.samples = tuple(samples)
        self.iterations = frozenset(snapshot_iterations(number, iterations))

    def on_start(self, state: TrainingState) -> None:
        """Keep what is there of earlier iterations, or look before the first step."""
        if self.folder.is_dir():
            for iteration, name in step_files(self.folder).items():
                if iteration > state.iteration:
                    (self.folder / name).unlink()
        if state.iteration and (self.folder / PICTURES).exists():
            self.samples = read_snapshots(self.folder).samples
            return
        write_pictures(self.folder, _model(state), self.samples)
        if state.iteration == 0:
            self._look(state)

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Look, if it is time to."""
        if state.iteration in self.iterations:
            self._look(state)

    def _look(self, state: TrainingState) -> None:
        pictures = take_snapshot(_model(state), self.samples)
        write_snapshot(self.folder, Snapshot(iteration=state.iteration, pictures=pictures))


def _model(state: TrainingState) -> BlendMask:
    model = state.best_model
    assert isinstance(model, BlendMask)
    return model
