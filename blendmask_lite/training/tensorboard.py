"""Logs for TensorBoard: the observer behind `train --tensorboard`.

Needs the package tensorboard; nothing else imports this file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.figures import bases_figure, figure_pixels, paint_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.engine import StepRecord, TrainingState
from blendmask_lite.training.observers import Observer
from blendmask_lite.training.runlog import RunFolder
from blendmask_lite.training.snapshots import PictureSnapshot, take_snapshot

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of protobuf, about itself
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLog"]

LEAST_SCORE = 0.3  # of a detection that is painted


class TensorBoardLog(Observer):
    """The folder `tensorboard`: losses, learning rate, speed, scores; masks and bases as pictures.

    A run that continues tells TensorBoard to forget what was logged after its iteration, because
    it comes again.

    Args:
        run: for its folder.
        samples: of the size that the model shall see, with masks; none shows no pictures.
        scalars_every: iterations from point to point of the curves.
        pictures_every: iterations from one set of pictures to the next.
    """

    def __init__(
        self,
        run: RunFolder,
        samples: Sequence[Sample],
        *,
        scalars_every: int = 10,
        pictures_every: int = 500,
    ) -> None:
        self.folder = run.tensorboard
        self.samples = tuple(samples)
        self.scalars_every = scalars_every
        self.pictures_every = pictures_every
        self.writer: SummaryWriter | None = None

    def on_start(self, state: TrainingState) -> None:
        """Open a file of its own, as TensorBoard wants it; show an untrained model."""
        first = state.iteration + 1 if state.iteration else 0
        self.writer = SummaryWriter(str(self.folder), purge_step=first)
        if state.iteration == 0:
            self._show(self.writer, state)

    def on_step(self, state: TrainingState, record: StepRecord) -> None:
        """Points of the curves and pictures, each if it is time to."""
        assert self.writer is not None
        step = record.iteration
        if step == 1 or step % self.scalars_every == 0:
            values = {f"loss/{name}": value for name, value in record.losses.items()}
            values |= {
                "loss/total": record.total,
                "training/learning rate": record.learning_rate,
                "training/gradient norm": record.gradient_norm,
                "training/images a second": record.num_images / max(record.seconds, 1e-9),
            }
            _add(self.writer, values, step)
        if step % self.pictures_every == 0:
            self._show(self.writer, state)

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """A point for every score."""
        assert self.writer is not None
        _add(self.writer, {_tag(name): value for name, value in scores.items()}, state.iteration)

    def on_checkpoint(self, state: TrainingState) -> None:
        """Write everything out, so that a run that is killed and continued has no gap."""
        assert self.writer is not None
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()

    def _show(self, writer: SummaryWriter, state: TrainingState) -> None:
        model = state.best_model
        assert isinstance(model, BlendMask)
        snapshots = take_snapshot(model, self.samples)
        for number, (sample, seen) in enumerate(zip(self.samples, snapshots, strict=True), 1):
            masks = masks_beside_truth(sample, seen)
            writer.add_image(f"masks, truth on the left/picture {number}", masks, state.iteration)
            bases = figure_pixels(bases_figure(seen.bases, stride=model.bottom.stride))
            writer.add_image(f"bases/picture {number}", bases, state.iteration)


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


def _tag(name: str) -> str:
    """One group for masks and one for boxes: "mask/AP50" of "mask AP50"."""
    return name.replace(" ", "/", 1)


def _add(writer: SummaryWriter, values: Mapping[str, float], step: int) -> None:
    for tag, value in values.items():
        writer.add_scalar(tag, value, step)
