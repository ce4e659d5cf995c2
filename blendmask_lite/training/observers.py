"""Observers of a run: its tables, best model, progress line, snapshots and TensorBoard logs.

The loop knows nothing about them. A run has a list of observers; each one is told of steps,
evaluations and checkpoints, and does one small thing.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import Sample, TrainingDataset
from blendmask_lite.figures import bases_figure, figure_pixels, paint_masks
from blendmask_lite.terminal import FILE_SECONDS, TERMINAL_SECONDS, counted, duration
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.resume import Recipe, evaluated_model, save_trained
from blendmask_lite.training.run_folder import CsvLog, RunFolder, complete_rows, step_row
from blendmask_lite.training.snapshots import (
    PICTURES,
    PictureSnapshot,
    Snapshot,
    choose_pictures,
    read_snapshots,
    snapshot_iterations,
    step_files,
    take_snapshot,
    write_pictures,
    write_snapshot,
)
from blendmask_lite.weights.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "BestModel",
    "Observer",
    "ProgressLine",
    "RunTables",
    "SnapshotLog",
    "TensorBoardLog",
    "Watching",
    "make_watchers",
]


class Observer:
    """Watches a run. Every method does nothing here; an observer overrides those it needs.

    Observers leave weights and optimizer as they are. They may put the model into evaluation mode:
    the next step returns it to training mode.
    """

    def on_start(self, state: TrainingState) -> None:
        """Before the first step of this process; `state.iteration` steps were done earlier."""

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """After every optimizer step."""

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """After every evaluation; scores in percent by name, such as "mask AP"."""

    def on_checkpoint(self, state: TrainingState) -> None:
        """Every `checkpoint_every` steps and before the run ends."""

    def close(self) -> None:
        """At the end of the run, however it ends."""


class RunTables(Observer):
    """metrics.csv with one row per step, evaluation.csv with one row per evaluation.

    Args:
        run: the run's folder.
        iteration: rows of later iterations are removed, because these iterations will be repeated.
        is_evaluated: if False, there is no evaluation.csv.
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
    """Keeps the best of the evaluated models, the first if several are equal.

    A continued run reads the earlier evaluations from its folder. So it keeps the same model, and
    stops at the same evaluation, as if it had never been killed.

    Args:
        run: the run's folder.
        recipe: training stops after `recipe.train.patience` evaluations in a row that are no
            better.
        iteration: iteration at which this process begins; later evaluations will be repeated.
        half: whether to write the weights in half precision.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, *, iteration: int, half: bool) -> None:
        self.path = run.best
        self.recipe = recipe
        self.half = half
        self.score = -math.inf
        self.iteration = 0
        self.num_since = 0  # evaluations since the best one
        self.last_iteration = 0  # iteration of the last evaluation
        if iteration == 0:
            self.path.unlink(missing_ok=True)  # left by a run without a checkpoint
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
        """Whether an evaluation was due then and is missing, because the run was stopped."""
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
        """The reason why training may end."""
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
            return -math.inf  # there is no usable model


WINDOW = 50  # steps over which losses and speed are averaged


class ProgressLine(Observer):
    """Prints one line that updates itself on a terminal, or an occasional line elsewhere.

    Args:
        iterations: number of iterations of the whole training.
        num_images: number of images of an evaluation.
        stream: where to print; by default standard error, which keeps a command's output clean.
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

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Print the scores."""
        names = ("mask AP", "box AP", "panoptic PQ")
        values = ", ".join(f"{name} {scores[name]:.1f}" for name in names if name in scores)
        images = counted(self.num_images, "image")
        self.note(f"iteration {state.iteration}: {values} on {images}")

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Add a step to the averages, and print if it is time."""
        self.recent.append(record)
        now = time.monotonic()
        is_last = record.iteration == self.iterations
        if now - self.last_print >= self.pause or is_last:
            self.last_print = now
            self._show(self.text(), is_last=is_last)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) that counts `what` during work between the steps."""
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
        """Print a separate line without breaking up the progress line."""
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


LEAST_SCORE = 0.3  # only detections that score above this are drawn


@dataclass(frozen=True)
class Watching:
    """Settings of what to record of a run; recording changes no weights.

    Attributes:
        num_snapshots: number of snapshots over the whole run, at least 2; 0 takes none.
        tensorboard_every: iterations between sets of pictures in TensorBoard; 0 writes no
            TensorBoard log.
        num_pictures: number of images in snapshots and in TensorBoard.
    """

    num_snapshots: int = 0
    tensorboard_every: int = 0
    num_pictures: int = 4

    def __post_init__(self) -> None:
        if self.num_snapshots < 0 or self.num_snapshots == 1:
            raise ValueError(f"num_snapshots = {self.num_snapshots}: must be 0 or at least 2")
        if self.tensorboard_every < 0:
            raise ValueError(f"tensorboard_every = {self.tensorboard_every}: must be at least 0")
        if self.num_pictures < 1:
            raise ValueError(f"num_pictures = {self.num_pictures}: must be at least 1")


def make_watchers(
    watching: Watching, run: RunFolder, recipe: Recipe, dataset: TrainingDataset
) -> list[Observer]:
    """The observers that `watching` asks for.

    Args:
        watching: what to record.
        run: the run's folder.
        recipe: length of the run and size of the pictures.
        dataset: data set to take the pictures from.

    Raises:
        ValueError: snapshots are wanted but no picture has objects, or TensorBoard is not
            installed.
    """
    if not watching.num_snapshots and not watching.tensorboard_every:
        return []
    samples = choose_pictures(dataset, recipe.inference, watching.num_pictures)
    watchers: list[Observer] = []
    if watching.tensorboard_every:
        watchers.append(TensorBoardLog(run, samples, pictures_every=watching.tensorboard_every))
    if watching.num_snapshots:
        number, iterations = watching.num_snapshots, recipe.train.iterations
        watchers.append(SnapshotLog(run, samples, number=number, iterations=iterations))
    return watchers


class SnapshotLog(Observer):
    """The folder `snapshots`: what the model predicts for a few pictures, at some iterations.

    It uses the same weights as the evaluations. A continued run keeps its pictures; snapshots of
    later iterations are removed, because they will be taken again.

    Args:
        run: the run's folder.
        samples: the pictures, at the model's test size; see `choose_pictures`.
        number: number of snapshots over the whole run.
        iterations: number of iterations of the whole run.

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
        """Keep the snapshots of earlier iterations, or take the one before the first step."""
        if self.folder.is_dir():
            for iteration, name in step_files(self.folder).items():
                if iteration > state.iteration:
                    (self.folder / name).unlink()
        if state.iteration and (self.folder / PICTURES).exists():
            self.samples = read_snapshots(self.folder).samples
            return
        write_pictures(self.folder, evaluated_model(state), self.samples)
        if state.iteration == 0:
            self._look(state)

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Take a snapshot, if one is due."""
        if state.iteration in self.iterations:
            self._look(state)

    def _look(self, state: TrainingState) -> None:
        pictures = take_snapshot(evaluated_model(state), self.samples)
        write_snapshot(self.folder, Snapshot(iteration=state.iteration, pictures=pictures))


class TensorBoardLog(Observer):
    """The folder `tensorboard`: losses, learning rate, speed, scores; masks and bases as pictures.

    A continued run tells TensorBoard to forget what was logged after its iteration, because it will
    be logged again.

    Args:
        run: the run's folder.
        samples: images at the model's test size, with masks; if empty, no pictures are logged.
        scalars_every: iterations between points of the curves.
        pictures_every: iterations between sets of pictures.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(
        self,
        run: RunFolder,
        samples: Sequence[Sample],
        *,
        scalars_every: int = 10,
        pictures_every: int = 500,
    ) -> None:
        # Imported only here: it takes a second, and is an optional package.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # protobuf's warnings about itself
                from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                f"TensorBoard is not installed ({error}): pip install 'blendmask_lite[tensorboard]'"
            ) from None
        self.open = SummaryWriter
        self.folder = run.tensorboard
        self.samples = tuple(samples)
        self.scalars_every = scalars_every
        self.pictures_every = pictures_every
        self.writer: SummaryWriter | None = None

    def on_start(self, state: TrainingState) -> None:
        """Open a new file, as TensorBoard expects; if the model is untrained, show it."""
        first = state.iteration + 1 if state.iteration else 0
        self.writer = self.open(str(self.folder), purge_step=first)
        if state.iteration == 0:
            self._show(state)

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Add points to the curves, or pictures, when they are due."""
        step = record.iteration
        if step == 1 or step % self.scalars_every == 0:
            values = {f"loss/{name}": value for name, value in record.losses.items()}
            values |= {
                "loss/total": record.total,
                "training/learning rate": record.learning_rate,
                "training/gradient norm": record.gradient_norm,
                "training/images a second": record.num_images / max(record.seconds, 1e-9),
            }
            self._add(values, step)
        if step % self.pictures_every == 0:
            self._show(state)

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Add a point for every score."""
        # One group for masks and one for boxes: "mask AP50" becomes "mask/AP50".
        values = {name.replace(" ", "/", 1): value for name, value in scores.items()}
        self._add(values, state.iteration)

    def on_checkpoint(self, state: TrainingState) -> None:
        """Write everything out, so a killed and continued run leaves no gap."""
        assert self.writer is not None
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()

    def _add(self, values: Mapping[str, float], step: int) -> None:
        assert self.writer is not None
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def _show(self, state: TrainingState) -> None:
        assert self.writer is not None
        model, step = evaluated_model(state), state.iteration
        snapshots = take_snapshot(model, self.samples)
        for number, (sample, seen) in enumerate(zip(self.samples, snapshots, strict=True), 1):
            masks = masks_beside_truth(sample, seen)
            self.writer.add_image(f"masks, truth on the left/picture {number}", masks, step)
            bases = figure_pixels(bases_figure(seen.bases, stride=model.bottom.stride))
            self.writer.add_image(f"bases/picture {number}", bases, step)


def masks_beside_truth(sample: Sample, seen: PictureSnapshot) -> Tensor:
    """(3, H, 2 W + 4) float in [0, 1]: true masks on the left, found masks on the right.

    Detections that score 0.3 or less are left out.
    """
    assert sample.target.masks is not None
    image = sample.image.cpu()
    found = seen.detections[seen.detections.scores > LEAST_SCORE]
    gap = torch.ones(3, image.shape[-2], 4)
    return torch.cat(
        [paint_masks(image, sample.target.masks.cpu()), gap, paint_masks(image, found.masks)], dim=2
    )
