"""What watches a run: its log, its scores, its checkpoints and what it tells the terminal.

The loop knows nothing of them. A run has a list of observers; each is told of steps, evaluations
and checkpoints, and does its own small thing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.progress import ProgressLine
from blendmask_lite.training.recipe import Recipe, make_checkpoint
from blendmask_lite.training.runlog import CsvLog, RunFolder, step_row
from blendmask_lite.weights.checkpoint import write_checkpoint

__all__ = [
    "CheckpointWriter",
    "EvaluationLog",
    "MetricsLog",
    "Observer",
    "Observers",
    "ProgressReport",
    "make_observers",
]


class Observer:
    """Watches a run. Every method does nothing here; an observer has those that it needs.

    Observers leave weights and optimizer as they are. They may use the model in evaluation mode:
    the next step returns it to training mode.
    """

    def on_start(self, state: TrainingState) -> None:
        """Before the first step of this process; `state.iteration` steps were done before."""

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """After every optimizer step."""

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """After every evaluation; scores in percent by name, such as "mask AP"."""

    def on_checkpoint(self, state: TrainingState) -> None:
        """Every `checkpoint_every` steps and before leaving."""

    def close(self) -> None:
        """At the end of the run, however it ends."""


class Observers(Observer):
    """Several observers as one, told in their order.

    Args:
        observers: to be told.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = tuple(observers)

    def on_start(self, state: TrainingState) -> None:
        """See `Observer`."""
        for each in self.observers:
            each.on_start(state)

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """See `Observer`."""
        for each in self.observers:
            each.on_step(state, record)

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """See `Observer`."""
        for each in self.observers:
            each.on_evaluate(state, scores)

    def on_checkpoint(self, state: TrainingState) -> None:
        """See `Observer`."""
        for each in self.observers:
            each.on_checkpoint(state)

    def close(self) -> None:
        """All of them, even where one cannot."""
        with contextlib.ExitStack() as stack:
            for each in reversed(self.observers):
                stack.callback(each.close)


class MetricsLog(Observer):
    """metrics.csv: a row a step. Rows after `iteration` are cut, because they come again."""

    def __init__(self, run: RunFolder, *, iteration: int) -> None:
        self.log = CsvLog(run.metrics, keep_until=iteration)

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Write the row."""
        self.log.append(step_row(record))

    def close(self) -> None:
        """Close the file."""
        self.log.close()


class EvaluationLog(Observer):
    """evaluation.csv: a row an evaluation. Rows after `iteration` are cut."""

    def __init__(self, run: RunFolder, *, iteration: int) -> None:
        self.log = CsvLog(run.evaluation, keep_until=iteration)

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Write the row."""
        self.log.append({"iteration": state.iteration, **scores})

    def close(self) -> None:
        """Close the file."""
        self.log.close()


class CheckpointWriter(Observer):
    """last.pt: the newest checkpoint."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        self.path = run.last
        self.recipe = recipe

    def on_checkpoint(self, state: TrainingState) -> None:
        """Replace the file in one step."""
        write_checkpoint(make_checkpoint(state, self.recipe), self.path)


class ProgressReport(Observer):
    """The line on the terminal.

    Args:
        line: to write on.
        num_images: of an evaluation.
    """

    def __init__(self, line: ProgressLine, *, num_images: int = 0) -> None:
        self.line = line
        self.num_images = num_images

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Renew the line."""
        self.line.update(record)

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Say what came out."""
        told = ("mask AP", "box AP", "panoptic PQ")
        values = ", ".join(f"{name} {scores[name]:.1f}" for name in told if name in scores)
        self.line.note(f"iteration {state.iteration}: {values} on {self.num_images} images")


def make_observers(
    state: TrainingState,
    recipe: Recipe,
    run: RunFolder,
    line: ProgressLine,
    validation: InstanceDataset | None,
    watchers: Sequence[Observer],
) -> list[Observer]:
    """Everything that watches a run, in the order in which it is told; `watchers` are its own."""
    observers: list[Observer] = [MetricsLog(run, iteration=state.iteration)]
    if validation is not None:
        observers.append(EvaluationLog(run, iteration=state.iteration))
    num_images = 0 if validation is None else len(validation)
    observers.append(ProgressReport(line, num_images=num_images))
    # The checkpoint last: what was recorded before it is not recorded again after a kill.
    return [*observers, *watchers, CheckpointWriter(run, recipe)]
