"""Samples, which every data set returns: an image with its true objects; and their batches."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from blendmask_lite.masks import crop_masks, semantic_cells
from blendmask_lite.structures import Target
from blendmask_lite.terminal import listed

__all__ = [
    "Batch",
    "InstanceDataset",
    "Sample",
    "SampleLoader",
    "TrainingDataset",
    "collate",
    "compact",
    "with_images",
]

DatasetT = TypeVar("DatasetT", bound="InstanceDataset")


@dataclass(frozen=True)
class Sample:
    """An image and its objects.

    Attributes:
        image: (3, H, W) uint8, RGB.
        target: its objects, boxes in pixels of `image`.
        image_id: the image's id in the data set.
        original_size: (H, W) of the stored image, before any resizing.
    """

    image: Tensor
    target: Target
    image_id: int
    original_size: tuple[int, int]


@runtime_checkable
class TrainingDataset(Protocol):
    """A data set for training.

    Attributes:
        class_names: C names, in the order of the labels.
        category_ids: C category ids of the COCO format, in the order of the labels; the checkpoint
            keeps them.
        stuff_names: S names, for the labels 1 to S in `Target.stuff`; empty if the targets have no
            such map.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    stuff_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""

    def load(self, index: int) -> Sample:
        """The image at a 0-based position, not resized, and its objects."""


@runtime_checkable
class InstanceDataset(TrainingDataset, Protocol):
    """A data set for evaluation.

    Attributes:
        image_ids: ids of the images, in the order of their positions.
    """

    image_ids: tuple[int, ...]

    def load_image(self, index: int) -> Tensor:
        """(3, H, W) uint8, RGB: the image of `load`, without its objects."""

    def select(self: DatasetT, image_ids: Sequence[int]) -> DatasetT:
        """The same data set with these images only, in this order."""

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of `image_ids` in COCO's format."""


def with_images(dataset: DatasetT, image_ids: Sequence[int], *, source: str) -> DatasetT:
    """A copy of a data set with these images only, in this order.

    Args:
        dataset: must have no list of its images other than `image_ids`.
        image_ids: some of the data set's ids; an unknown one raises ValueError.
        source: name of the data in the error.
    """
    if unknown := sorted(set(image_ids) - set(dataset.image_ids)):
        ids = listed(list(map(str, unknown)))
        raise ValueError(f"{source}: no images with the ids {ids}")
    chosen = copy.copy(dataset)
    chosen.image_ids = tuple(image_ids)
    return chosen


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
        """The same batch in pinned memory, for fast copies to a GPU; `DataLoader` calls this."""
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


@dataclass(frozen=True)
class SampleLoader:
    """The function (index, generator) -> augmented sample, which loads the training samples.

    Attributes:
        dataset: data set to load from.
        transform: augmentation of a single sample.
        mix: combination of two transformed samples, such as `paste_objects`.
        mix_share: probability that a sample is mixed with another random sample.
        mask_size: R; the samples are then `compact`. By default they keep whole masks.
    """

    dataset: TrainingDataset
    transform: Callable[[Sample, random.Random], Sample]
    mix: Callable[[Sample, Sample, random.Random], Sample] | None = None
    mix_share: float = 0.5
    mask_size: int | None = None

    def __call__(self, index: int, generator: random.Random) -> Sample:
        """The sample at a position of the data set, augmented with the generator's numbers."""
        sample = self.transform(self.dataset.load(index), generator)
        if self.mix is not None and generator.random() < self.mix_share:
            other = self.dataset.load(generator.randrange(len(self.dataset)))
            sample = self.mix(sample, self.transform(other, generator), generator)
        return sample if self.mask_size is None else compact(sample, self.mask_size)


def compact(sample: Sample, mask_size: int) -> Sample:
    """The sample with only the parts of its masks and its semantic map that the losses read.

    The mask loss reads R x R crops: a hundred whole masks of 800 x 1333 pixels take 107 MB, their
    56 x 56 crops take 0.3 MB. The semantic loss reads every eighth pixel of the map: 17 kB
    instead of 8.5 MB. No transform accepts a compact sample.
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
