"""One picture with its true objects: what every data set gives and every transform passes on.

Chapter 01 of the course.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor

from blendmask_lite.structures import Target

__all__ = ["InstanceDataset", "Sample"]

DatasetT = TypeVar("DatasetT", bound="InstanceDataset")


@dataclass(frozen=True)
class Sample:
    """A picture and what is in it.

    Attributes:
        image: (3, H, W) uint8, RGB.
        target: its objects, boxes in pixels of `image`.
        image_id: of the data set.
        original_size: (H, W) of the stored picture, before any resizing.
    """

    image: Tensor
    target: Target
    image_id: int
    original_size: tuple[int, int]


class InstanceDataset(Protocol):
    """What training and evaluation need of a data set.

    Attributes:
        class_names: C names, in the order of the labels.
        category_ids: C category ids of the COCO format, in the order of the labels.
        stuff_names: S names, of label 1 upwards in `Target.stuff`; empty where the targets have no
            such map.
        image_ids: in the order of the indices.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    stuff_names: tuple[str, ...]
    image_ids: tuple[int, ...]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def load(self, index: int) -> Sample:
        """The image at a position of `image_ids`, not resized."""
        ...

    def load_image(self, index: int) -> Tensor:
        """The image of `load` alone, for those who need no objects: (3, H, W) uint8, RGB."""
        ...

    def select(self: DatasetT, image_ids: Sequence[int]) -> DatasetT:
        """The same data set with these images only, in this order."""
        ...

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of `image_ids` in COCO's format."""
        ...
