"""Images, objects and stuff of a folder in COCO's panoptic layout.

Chapter 14. Panoptic quality is measured against `TrueSegments`, which include crowds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from blendmask_lite.datasets.coco import CocoDataset, PackedRecords
from blendmask_lite.datasets.coco_entries import (
    index_segments,
    read_lists,
    refuse_in,
    thing_categories,
)
from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.files import write_atomically
from blendmask_lite.images import encode_image, read_stored_colors
from blendmask_lite.structures import UNLABELLED, Target

__all__ = [
    "PanopticData",
    "PanopticDataset",
    "TrueSegment",
    "TrueSegments",
    "panoptic_categories",
    "read_segment_ids",
    "segments_folder",
    "segments_of",
    "write_segment_ids",
]

PanopticT = TypeVar("PanopticT", bound="PanopticData")


@dataclass(frozen=True)
class TrueSegment:
    """One true region.

    Attributes:
        id: its number in `TrueSegments.ids`, at least 1.
        category_id: category id in the data set.
        is_crowd: whether it covers several things that were not annotated separately.
    """

    id: int
    category_id: int
    is_crowd: bool = False


@dataclass(frozen=True)
class TrueSegments:
    """The true segments of one image.

    Attributes:
        ids: (H, W) int64: the segment that each pixel belongs to, 0 if unlabelled.
        segments: all segments of the image.
    """

    ids: Tensor
    segments: tuple[TrueSegment, ...]


@runtime_checkable
class PanopticData(InstanceDataset, Protocol):
    """The data set that panoptic evaluation needs: more than an `InstanceDataset`."""

    stuff_ids: tuple[int, ...]  # S category ids, for the stuff labels 1 to S

    def select(self: PanopticT, image_ids: Sequence[int]) -> PanopticT:
        """The same data set with these images only, in this order."""

    def segments(self, index: int) -> TrueSegments:
        """The true segments of the image at a position of `image_ids`."""


def segments_of(
    target: Target, category_ids: Sequence[int], stuff_ids: Sequence[int]
) -> TrueSegments:
    """The segments of a target: first its objects, which must not overlap, then its stuff.

    Args:
        target: N objects with masks, and a stuff map.
        category_ids: category ids for the labels 0 to C-1.
        stuff_ids: category ids for the stuff labels 1 to S.

    Raises:
        ValueError: the target has no masks or no stuff map, or the masks overlap.
    """
    if target.masks is None or target.stuff is None:
        raise ValueError("a target without masks or without stuff has no segments")
    if (target.masks.sum(dim=0) > 1).any():
        raise ValueError("masks overlap: a pixel belongs to one segment")
    ids = torch.zeros(target.stuff.shape, dtype=torch.int64)
    found: list[TrueSegment] = []
    parts = [
        (category_ids[label], mask)
        for label, mask in zip(target.labels.tolist(), target.masks, strict=True)
    ]
    for label in target.stuff.unique().tolist():
        if label not in (0, UNLABELLED):
            parts.append((stuff_ids[label - 1], target.stuff == label))
    for category_id, mask in parts:
        found.append(TrueSegment(len(found) + 1, category_id))
        ids[mask] = found[-1].id
    return TrueSegments(ids, tuple(found))


def panoptic_categories(dataset: PanopticData) -> list[dict[str, Any]]:
    """Things and stuff of a data set as entries of COCO's panoptic format."""
    things = zip(dataset.category_ids, dataset.class_names, strict=True)
    stuff = zip(dataset.stuff_ids, dataset.stuff_names, strict=True)
    return [{"id": number, "name": name, "isthing": 1} for number, name in things] + [
        {"id": number, "name": name, "isthing": 0} for number, name in stuff
    ]


class PanopticDataset(CocoDataset):
    """A split of a COCO folder, with a stuff map in every target.

    Besides the files of `CocoDataset`, it reads annotations/panoptic_SPLIT.json and the folder
    panoptic_SPLIT, in annotations/ or in ROOT, with a segment image for every image.

    The stuff classes are the categories with `isthing` 0, in ascending order of their ids: labels 1
    to S. Things, including crowd regions, are 0; pixels without a segment are 255. `CocoDataset`
    explains the arguments.

    Attributes:
        stuff_names: S names, for the labels 1 to S.
        stuff_ids: their S category ids.
        panoptic_file: the annotation file.
        image_ids: the ids in both annotation files, ascending.

    Raises:
        ValueError: see `CocoDataset`; or a panoptic annotation is missing, damaged or
            inconsistent (the message names file and id).
    """

    def __init__(
        self, root: str | Path, split: str | None = None, *, filter_empty: bool = False
    ) -> None:
        super().__init__(root, split, filter_empty=filter_empty)
        self.panoptic_file = self.root / "annotations" / f"panoptic_{self.split}.json"
        if not self.panoptic_file.is_file():
            raise ValueError(f"{self.panoptic_file}: is missing; stuff is described there")
        self._folder = segments_folder(self.root, self.split)
        content = read_lists(self.panoptic_file, "annotations", "categories")
        refuse = refuse_in(self.panoptic_file)
        categories = thing_categories(content["categories"], refuse)
        is_thing = {number: category["isthing"] for number, category in categories.items()}
        self.stuff_ids = tuple(sorted(number for number in categories if not is_thing[number]))
        if not 1 <= len(self.stuff_ids) < UNLABELLED:
            text = f"has {len(self.stuff_ids)} categories of stuff, expected 1 to 254"
            raise ValueError(f"{self.panoptic_file}: {text}")
        self.stuff_names = tuple(categories[number]["name"] for number in self.stuff_ids)
        # Category id -> value in a stuff map.
        self._label_of = dict.fromkeys(categories, 0)
        self._label_of |= {number: label for label, number in enumerate(self.stuff_ids, start=1)}
        segments = index_segments(content["annotations"], set(categories), refuse)
        self._segments = PackedRecords(segments)
        self.image_ids = tuple(number for number in self.image_ids if number in segments)
        if not self.image_ids:
            raise ValueError(f"{self.panoptic_file}: has no image of {self.annotation_file}")

    def load(self, index: int) -> Sample:
        """The image at a position of `image_ids`, not resized, its objects and its stuff.

        Raises:
            ValueError: an image or an annotation is missing or damaged; the message names file and
                id.
        """
        sample = super().load(index)
        return replace(sample, target=replace(sample.target, stuff=self._stuff_map(index)))

    def _stuff_map(self, index: int) -> Tensor:
        """(H, W) uint8: 0 is things, 1 to S are stuff, 255 is unlabelled."""
        found = self.segments(index)
        labels = {0: UNLABELLED} | {
            segment.id: self._label_of[segment.category_id] for segment in found.segments
        }
        ids = np.array(sorted(labels))
        values = np.array([labels[number] for number in ids.tolist()], dtype=np.uint8)
        return torch.from_numpy(values[np.searchsorted(ids, found.ids.numpy())])

    def segments(self, index: int) -> TrueSegments:
        """All segments of the image at a position of `image_ids`, including crowds.

        Raises:
            ValueError: the segment image is missing, damaged or of the wrong size, or contains a
                segment that the annotation file does not have.
        """
        image_id = self.image_ids[index]
        record = self._segments[image_id]
        path = self._folder / record["file_name"]
        drawn = read_segment_ids(path, self._size(image_id))
        segments = tuple(
            TrueSegment(segment["id"], segment["category_id"], bool(segment.get("iscrowd", 0)))
            for segment in record["segments_info"]
        )
        known = {0, *(segment.id for segment in segments)}
        if unknown := set(np.unique(drawn.numpy()).tolist()) - known:
            raise ValueError(
                f"{path}: holds segment {min(unknown)}, which {self.panoptic_file.name} "
                f"does not have for image {image_id}"
            )
        return TrueSegments(drawn, segments)


def segments_folder(root: Path, split: str) -> Path:
    """The folder of a split's segment images; ValueError if there is none."""
    folders = [root / "annotations" / f"panoptic_{split}", root / f"panoptic_{split}"]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise ValueError(f"{folders[0]}: no such folder with segment images")


def read_segment_ids(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """(H, W) int64 ids from a segment image: R + 256 G + 65536 B; 0 means no segment.

    Args:
        path: path of the file.
        size: (H, W) that the image must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, not an image, or of the wrong size.
    """
    red, green, blue = read_stored_colors(path, size).long()
    return red + 256 * green + 65536 * blue


def write_segment_ids(path: Path, ids: Tensor, *, is_durable: bool = True) -> None:
    """Write (H, W) segment ids below 2^24 as a PNG file that `read_segment_ids` reads."""
    colors = np.stack([ids.numpy() >> shift & 255 for shift in (0, 8, 16)], axis=-1)
    write_atomically(path, encode_image(colors.astype(np.uint8)), is_durable=is_durable)
