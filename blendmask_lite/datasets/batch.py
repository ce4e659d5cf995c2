"""From a data set to batches. The model pads images of different sizes, so nothing is padded here.

Chapter 12 of the course.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.structures import Target

__all__ = ["Batch", "collate", "load_sample"]


@dataclass(frozen=True)
class Batch:
    """B samples.

    Attributes:
        images: B images (3, H, W), uint8 RGB, of any sizes.
        targets: B targets.
        image_ids: B ids.
    """

    images: list[Tensor]
    targets: list[Target]
    image_ids: list[int]

    def __len__(self) -> int:
        return len(self.images)


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of samples; an empty list gives an empty batch."""
    return Batch(
        images=[sample.image for sample in samples],
        targets=[sample.target for sample in samples],
        image_ids=[sample.image_id for sample in samples],
    )


def load_sample(
    dataset: InstanceDataset, transform: Callable[[Sample, random.Random], Sample]
) -> Callable[[int, random.Random], Sample]:
    """The function (index, generator) -> augmented sample that the training's sampler wants."""
    return _LoadSample(dataset, transform)


@dataclass(frozen=True)
class _LoadSample:
    """A function that worker processes can receive."""

    dataset: InstanceDataset
    transform: Callable[[Sample, random.Random], Sample]

    def __call__(self, index: int, generator: random.Random) -> Sample:
        return self.transform(self.dataset.load(index), generator)
