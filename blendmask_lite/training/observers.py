"""What watches a run: its tables, its best model and what it tells the terminal.

The loop knows nothing of them. A run has a list of observers; each one is told of steps,
evaluations and checkpoints, and does its own small thing.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TextIO

from blendmask_lite.terminal import FILE_SECONDS, TERMINAL_SECONDS, duration
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.resume import Recipe, save_trained
from blendmask_lite.training.run_folder import CsvLog, RunFolder, complete_rows, step_row
from blendmask_lite.weights.checkpoint import read_checkpoint

__all__ = ["BestModel", "Observer", "ProgressLine", "RunTables"]


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


class RunTables(Observer):
    """metrics.csv with a row for every step, evaluation.csv with a row for every evaluation.

    Args:
        run: its folder.
        iteration: rows of later iterations are cut, because they come again.
        is_evaluated: False leaves evaluation.csv out.
    """

    def __init__(self, run: RunFolder, *, iteration: int, is_evaluated: bool) -> None:
        self.metrics = CsvLog(run.metrics, keep_until=iteration)
        self.evaluation = CsvLog(run.evaluation, keep_until=iteration) if is_evaluated else None

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Write the row of the step."""
        self.metrics.append(step_row(record))

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Write the row of the evaluation."""
        assert self.evaluation is not None
        self.evaluation.append({"iteration": state.iteration, **scores})

    def close(self) -> None:
        """Close the files."""
        self.metrics.close()
        if self.evaluation is not None:
            self.evaluation.close()


SCORE = "mask AP"


class BestModel(Observer):
    """Keeps the best of the evaluated models, the first of equal ones.

    A run that continues reads the earlier evaluations from its folder. So a run that was killed
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
        self.half = half
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
        """Whether an evaluation was due there and is missing, because the run was stopped."""
        every = self.recipe.train.evaluate_every
        is_due = every is not None and iteration > 0 and iteration % every == 0
        return is_due and self.last_iteration != iteration

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Replace the file in one step if the model is better than the one in it."""
        score = scores[SCORE]
        self._count(state.iteration, score)
        if score > self.stored_score:
            about = {SCORE: score}
            save_trained(state, self.recipe, self.path, half=self.half, about=about)
            self.stored_score = score

    @property
    def reason(self) -> str:
        """Why it is enough."""
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


class ProgressLine(Observer):
    """Prints one line that renews itself on a terminal, and a line now and then elsewhere.

    Args:
        iterations: where the training ends.
        num_images: of an evaluation.
        stream: standard error by default, so that a command's output stays clean.
    """

    def __init__(
        self, iterations: int, *, num_images: int = 0, stream: TextIO | None = None
    ) -> None:
        self.iterations = iterations
        self.num_images = num_images
        self.stream = sys.stderr if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self.recent: deque[StepRecord] = deque(maxlen=WINDOW)
        self.pause = TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS
        self.last_print = -FILE_SECONDS
        self.width = 0

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """See `update`."""
        self.update(record)

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Print the scores."""
        names = ("mask AP", "box AP", "panoptic PQ")
        values = ", ".join(f"{name} {scores[name]:.1f}" for name in names if name in scores)
        self.note(f"iteration {state.iteration}: {values} on {self.num_images} images")

    def update(self, record: StepRecord) -> None:
        """Take in a step; print if it is time to."""
        self.recent.append(record)
        now = time.monotonic()
        is_last = record.iteration == self.iterations
        if now - self.last_print >= self.pause or is_last:
            self.last_print = now
            self._show(self.text(), is_last=is_last)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) for work between the steps that counts `what`."""
        start = last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= self.pause:
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
        total = sum(step.total for step in self.recent) / count
        losses = " ".join(
            f"{name} {sum(step.losses[name] for step in self.recent) / count:.3f}"
            for name in last.losses
        )
        seconds = sum(step.seconds for step in self.recent)
        images = sum(step.num_images for step in self.recent)
        remaining = (self.iterations - last.iteration) * seconds / count
        return (
            f"{last.iteration}/{self.iterations}  loss {total:.3f} ({losses})  "
            f"lr {last.learning_rate:.2e}  {images / max(seconds, 1e-9):.1f} images/s  "
            f"ETA {duration(remaining)}"
        )
