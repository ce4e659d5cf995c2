"""From a data set to batches. The model pads images of different sizes, so nothing is padded here.

Chapter 12 of the course.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.masks import crop_masks, semantic_cells
from blendmask_lite.structures import Target

__all__ = ["Batch", "collate", "compact", "load_sample"]


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

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU can fetch while the CPU goes on; `DataLoader` calls it."""
        return replace(
            self,
            images=[image.pin_memory() for image in self.images],
            targets=[target.pin_memory() for target in self.targets],
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of samples; an empty list gives an empty batch."""
    return Batch(
        images=[sample.image for sample in samples],
        targets=[sample.target for sample in samples],
        image_ids=[sample.image_id for sample in samples],
    )


def load_sample(
    dataset: InstanceDataset,
    transform: Callable[[Sample, random.Random], Sample],
    *,
    mask_size: int | None = None,
) -> Callable[[int, random.Random], Sample]:
    """The function (index, generator) -> augmented sample that the training's sampler wants.

    Args:
        dataset: to load from.
        transform: the augmentation.
        mask_size: R; the samples are `compact`. None: they keep whole masks.
    """
    return _LoadSample(dataset, transform, mask_size)


def compact(sample: Sample, mask_size: int) -> Sample:
    """The sample with what the losses read of its masks and its semantic map in their place.

    The mask loss reads R x R crops: a hundred whole masks of 800 x 1333 pixels are 107 MB, their
    crops of 56 x 56 are 0.3 MB. The semantic loss reads every eighth pixel of the map: 17 kB
    instead of 8.5 MB. Such a sample is ready; no transform takes it.
    """
    target = sample.target
    if target.masks is None:
        return sample
    cells = semantic_cells(target)
    is_small = int(cells.max()) <= torch.iinfo(torch.uint8).max
    crops = target.mask_crops
    if crops is None:
        crops = crop_masks(target.masks, target.boxes.float(), mask_size)
    return replace(
        sample,
        target=replace(
            target,
            masks=None,
            mask_crops=crops,
            semantic=None,
            # A copy: a view would keep the whole map.
            semantic_cells=cells.to(torch.uint8 if is_small else torch.int32, copy=True),
        ),
    )


@dataclass(frozen=True)
class _LoadSample:
    """A function that worker processes can receive."""

    dataset: InstanceDataset
    transform: Callable[[Sample, random.Random], Sample]
    mask_size: int | None

    def __call__(self, index: int, generator: random.Random) -> Sample:
        sample = self.transform(self.dataset.load(index), generator)
        return sample if self.mask_size is None else compact(sample, self.mask_size)
