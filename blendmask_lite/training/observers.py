"""What watches a run: its log, its scores, its checkpoints and what it tells the terminal.

The loop knows nothing of them. A run has a list of observers; each is told of steps, evaluations
and checkpoints, and does its own small thing.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TextIO

import torch

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.terminal import FILE_SECONDS, TERMINAL_SECONDS, duration
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.resume import Recipe, make_checkpoint
from blendmask_lite.training.run_folder import CsvLog, RunFolder, complete_rows, step_row
from blendmask_lite.training.session import versions
from blendmask_lite.weights.checkpoint import read_checkpoint, save_model, write_checkpoint

__all__ = [
    "BestModel",
    "CheckpointWriter",
    "EvaluationLog",
    "MetricsLog",
    "Observer",
    "Observers",
    "ProgressLine",
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


SCORE = "mask AP"


class BestModel(Observer):
    """Keeps the best of the evaluated models, the first of equal ones.

    What came before, in a run that continues, is read from its folder. So a run that was killed
    keeps the same model, and stops at the same evaluation, as one that was not.

    Args:
        run: its folder.
        recipe: `recipe.train.patience` evaluations without a better one are enough.
        iteration: where this process begins; evaluations of later ones come again.
        half: write the weights in half precision.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, *, iteration: int, half: bool) -> None:
        self.path = run.best
        self.recipe = recipe
        self.dtype = torch.float16 if half else None
        self.score = -math.inf
        self.iteration = 0
        self.num_since = 0  # evaluations after the best
        self.last_iteration = 0  # of an evaluation
        if iteration == 0:
            self.path.unlink(missing_ok=True)  # of a run that was lost before its first checkpoint
        elif run.evaluation.exists():
            for row in complete_rows(run.evaluation, iteration):
                self._count(int(row["iteration"]), float(row.get(SCORE, math.nan)))
        self.stored_score = self._read_score()

    @property
    def is_enough(self) -> bool:
        """Whether `patience` evaluations in a row were no better."""
        patience = self.recipe.train.patience
        return patience is not None and self.num_since >= patience

    def lacks(self, iteration: int) -> bool:
        """Whether an evaluation was due there and is not known: whoever asks a run to stop does
        not wait for it.
        """
        every = self.recipe.train.evaluate_every
        is_due = every is not None and iteration > 0 and iteration % every == 0
        return is_due and self.last_iteration != iteration

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Replace the file in one step if the model is better than the one in it."""
        score = scores[SCORE]
        self._count(state.iteration, score)
        if not score > self.stored_score:
            return
        model = state.best_model
        assert isinstance(model, BlendMask)
        about = {
            "iterations": state.iteration,
            SCORE: score,
            "train": asdict(self.recipe.train),
            "versions": versions(),
        }
        save_model(model, self.path, metadata=about, dtype=self.dtype)
        self.stored_score = score

    def told(self) -> str:
        """A sentence about why it is enough."""
        return (
            f"no better mask AP than {self.score:.1f}, at iteration {self.iteration}, in "
            f"{self.num_since} evaluations"
        )

    def _count(self, iteration: int, score: float) -> None:
        self.last_iteration = iteration
        if score > self.score:
            self.score, self.iteration, self.num_since = score, iteration, 0
        else:
            self.num_since += 1

    def _read_score(self) -> float:
        try:
            return float(read_checkpoint(self.path).metadata[SCORE])
        except (OSError, ValueError, KeyError, TypeError):
            return -math.inf  # nothing that is worth keeping


WINDOW = 50  # steps that losses and speed are averaged over


class ProgressLine:
    """Prints one line that renews itself on a terminal, and a line now and then elsewhere.

    Args:
        iterations: where the training ends.
        stream: standard error by default, so that a command's output stays clean.
    """

    def __init__(self, iterations: int, *, stream: TextIO | None = None) -> None:
        self.iterations = iterations
        self.stream = sys.stderr if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self.recent: deque[StepRecord] = deque(maxlen=WINDOW)
        self.last_print = -FILE_SECONDS
        self.width = 0

    def update(self, record: StepRecord) -> None:
        """Take in a step; print if it is time to."""
        self.recent.append(record)
        now = time.monotonic()
        pause = TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS
        is_last = record.iteration == self.iterations
        if now - self.last_print < pause and not is_last:
            return
        self.last_print = now
        self._show(self.text(), is_last=is_last)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) for what holds up the steps: evaluations, say.

        Args:
            what: is counted.
        """
        pause = TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS
        start = last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= pause:
                last = now
                left = duration((now - start) / done * (total - done))
                self._show(f"{done}/{total} {what}  ETA {left}")

        return report

    def note(self, text: str) -> None:
        """Print a line of its own, without tearing the progress line."""
        if self.width:
            self.stream.write("\r" + " " * self.width + "\r")
            self.width = 0
        self.stream.write(text + "\n")
        self.stream.flush()

    def _show(self, line: str, *, is_last: bool = False) -> None:
        if self.is_terminal:
            self.stream.write("\r" + line.ljust(self.width) + ("\n" if is_last else ""))
            self.width = 0 if is_last else len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def text(self) -> str:
        """The line: averages over the last steps."""
        last = self.recent[-1]
        count = len(self.recent)
        total = sum(each.total for each in self.recent) / count
        losses = " ".join(
            f"{name} {sum(each.losses[name] for each in self.recent) / count:.3f}"
            for name in last.losses
        )
        seconds = sum(each.seconds for each in self.recent)
        images = sum(each.num_images for each in self.recent)
        remaining = (self.iterations - last.iteration) * seconds / count
        return (
            f"{last.iteration}/{self.iterations}  loss {total:.3f} ({losses})  "
            f"lr {last.learning_rate:.2e}  {images / max(seconds, 1e-9):.1f} images/s  "
            f"ETA {duration(remaining)}"
        )
