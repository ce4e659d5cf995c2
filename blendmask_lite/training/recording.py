"""What a run can record besides its numbers: TensorBoard's logs, and snapshots of a few images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import Sample, TrainingDataset
from blendmask_lite.figures import bases_figure, figure_pixels, paint_masks
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.observers import Observer
from blendmask_lite.training.resume import Recipe, evaluated_model
from blendmask_lite.training.run_folder import RunFolder
from blendmask_lite.training.snapshot_files import (
    PICTURES,
    read_snapshots,
    step_files,
    write_pictures,
    write_snapshot,
)
from blendmask_lite.training.snapshots import (
    PictureSnapshot,
    Snapshot,
    choose_pictures,
    snapshot_iterations,
    take_snapshot,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["SnapshotLog", "TensorBoardLog", "Watching", "make_watchers"]

LEAST_SCORE = 0.3  # of a detection that is painted


@dataclass(frozen=True)
class Watching:
    """What to record of a run; it changes no weight.

    Attributes:
        num_snapshots: over the whole run, at least 2; 0 takes none.
        tensorboard_every: iterations from one set of pictures in TensorBoard to the next; 0 writes
            no log for it.
        num_pictures: images that both show.
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
    """The observers that were asked for.

    Args:
        watching: what to record.
        run: its folder.
        recipe: length of the run and size of the pictures.
        dataset: to take the pictures from.

    Raises:
        ValueError: snapshots without a picture that has objects, or TensorBoard is not installed.
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
    """The folder `snapshots`: what the model makes of a few pictures, at some iterations.

    It takes the weights that evaluations use. A run that continues keeps its pictures; snapshots
    after its iteration are removed, because they come again.

    Args:
        run: for its folder.
        samples: the pictures, at the model's test size; see `choose_pictures`.
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

    A run that continues tells TensorBoard to forget what was logged after its iteration, because
    it comes again.

    Args:
        run: for its folder.
        samples: at the model's test size, with masks; no samples, no pictures.
        scalars_every: iterations from point to point of the curves.
        pictures_every: iterations from one set of pictures to the next.

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
                warnings.simplefilter("ignore")  # of protobuf, about itself
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
        """Open a new file, as TensorBoard wants it; show an untrained model."""
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
        """A point for every score."""
        # One group for masks and one for boxes: "mask/AP50" of "mask AP50".
        values = {name.replace(" ", "/", 1): value for name, value in scores.items()}
        self._add(values, state.iteration)

    def on_checkpoint(self, state: TrainingState) -> None:
        """Write everything out, so that a run that is killed and continued leaves no gap."""
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
    """(3, H, 2 W + 4) float in [0, 1]: true masks on the left, those that were found on the right.

    Detections of a score up to 0.3 are left out.
    """
    assert sample.target.masks is not None
    image = sample.image.cpu()
    found = seen.detections[seen.detections.scores > LEAST_SCORE]
    gap = torch.ones(3, image.shape[-2], 4)
    return torch.cat(
        [paint_masks(image, sample.target.masks.cpu()), gap, paint_masks(image, found.masks)], dim=2
    )
