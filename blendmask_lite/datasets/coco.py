"""Images and objects of a folder in COCO's layout.

Chapter 01. `CocoDataset` reads instances; `ImageListDataset` is for splits whose annotations are
kept on an evaluation server, such as test-dev2017.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from blendmask_lite.datasets.coco_entries import (
    AnnotationFile,
    index_entries,
    read_annotations,
    read_lists,
    refuse_in,
)
from blendmask_lite.datasets.coco_files import find_picture, find_split, image_folders
from blendmask_lite.datasets.coco_format import (
    check_segmentation,
    completed,
    decode_region,
    run_boxes,
    run_length,
)
from blendmask_lite.datasets.sample import Sample, with_images
from blendmask_lite.images import read_stored_image
from blendmask_lite.masks import lazy_zeros
from blendmask_lite.structures import Target
from blendmask_lite.terminal import printable

__all__ = ["CocoDataset", "ImageListDataset", "PackedRecords"]

RecordT = TypeVar("RecordT")
NUM_FOLDERS = 6  # number of searched folders that an error lists


class CocoDataset:
    """A split of a COCO folder.

    ROOT/annotations/instances_SPLIT.json describes it; `image_folders` lists the folders that may
    have its images.

    Labels are the positions of the category ids in ascending order, so gaps between ids do not
    matter. Objects have the tight boxes of their masks; objects with an empty mask are left out.
    Crowd regions do not count as objects: they are in `target.semantic` only.

    Args:
        root: the folder.
        split: name of the split; may be left out if there is only one.
        filter_empty: leave out images without any object, as training does.
        classes: names of the classes to read; None reads all. Other objects become background.
        is_one_class: read all of these classes as one class, "object".

    Attributes:
        root, split: the folder and the name of the split.
        class_names, category_ids: C names and C ids, in the order of the labels.
        stuff_names: empty; `PanopticDataset` has stuff.
        image_ids: ascending, unless `select` gave another order.

    Raises:
        ValueError: there is no such folder or split; there are several splits and none is named;
            the annotation file is damaged or inconsistent (the message names file and annotation
            id); a name in `classes` is unknown; or `filter_empty` leaves no image.
    """

    _prefix = "instances_"  # prefix of the annotation files' names

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        filter_empty: bool = False,
        classes: Sequence[str] | None = None,
        is_one_class: bool = False,
    ) -> None:
        self.root = Path(root)
        self.split, self.annotation_file = find_split(self.root, split, self._prefix)
        content = self._read()
        if classes is not None:
            content = content.of_classes(classes)
        if is_one_class:
            content = content.as_one_class()
        self.class_names = tuple(content.categories.values())
        self.category_ids = tuple(content.categories)
        self.stuff_names: tuple[str, ...] = ()
        self.image_ids = tuple(sorted(content.images))
        self._labels = {category: label for label, category in enumerate(self.category_ids)}
        self._images = PackedRecords(content.images)
        self._annotations = PackedRecords(content.annotations)
        self._folders = image_folders(self.root, self.split)
        if filter_empty:
            objects = content.annotations
            self.image_ids = tuple(
                image_id
                for image_id in self.image_ids
                if any(map(_is_object, objects.get(image_id, [])))
            )
            if not self.image_ids:
                name = printable(self.annotation_file)
                raise ValueError(f"{name}: no image has an object, and crowds are none")

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(index) for index in range(len(self)))

    def load(self, index: int) -> Sample:
        """The image at a position of `image_ids`, not resized, and its objects.

        Raises:
            ValueError: the image or an annotation is missing or damaged; the message names file
                and id.
        """
        image_id, image = self.image_ids[index], self.load_image(index)
        size = self._size(image_id)
        annotations = self._annotations.get(image_id, [])
        runs = self._run_lengths(annotations, size)
        labels = [self._labels[annotation["category_id"]] for annotation in annotations]
        semantic = torch.zeros(size, dtype=torch.int64)
        boxes = run_boxes(runs)
        is_object = boxes[:, 2] > 0  # has at least one pixel
        is_object &= torch.tensor([_is_object(annotation) for annotation in annotations]).bool()
        masks = lazy_zeros(int(is_object.sum()), *size)
        unset = iter(masks)
        for run, label, is_one in zip(runs, labels, is_object.tolist(), strict=True):
            region, part = decode_region(run)
            semantic[region][part] = label + 1
            if is_one:
                next(unset)[region] = part
        target = Target(
            boxes=boxes[is_object],
            labels=torch.tensor(labels, dtype=torch.int64)[is_object],
            masks=masks,
            semantic=semantic,
        )
        return Sample(image=image, target=target, image_id=image_id, original_size=size)

    def load_image(self, index: int) -> Tensor:
        """(3, H, W) uint8, RGB: the image of `load`, without decoding annotations.

        Raises:
            ValueError: the image is missing or damaged; the message names file and id.
        """
        image_id = self.image_ids[index]
        return read_stored_image(self.image_path(image_id), self._size(image_id))

    def select(self, image_ids: Sequence[int]) -> Self:
        """The same data set with these images only, in this order; all ids must be known."""
        return with_images(self, image_ids, source=printable(self.annotation_file))

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of `image_ids`, as in the annotation file.

        If an annotation has no area, box or crowd flag, it is added: area and box from the mask.

        Raises:
            ValueError: `load` would refuse a segmentation; the message names file and id.
        """
        return {
            "images": [self._images[image_id] for image_id in self.image_ids],
            "annotations": [
                annotation
                for image_id in self.image_ids
                for annotation in self._completed_annotations(image_id)
            ],
            "categories": [
                {"id": category_id, "name": name}
                for category_id, name in zip(self.category_ids, self.class_names, strict=True)
            ],
        }

    def image_path(self, image_id: int) -> Path:
        """The image's file; ValueError if none of the folders has it."""
        name = self._images[image_id]["file_name"]
        path = find_picture(self._folders, name)
        if path is None:
            looked = ", ".join(map(printable, self._folders[:NUM_FOLDERS]))
            if len(self._folders) > NUM_FOLDERS:
                looked += f" and {len(self._folders) - NUM_FOLDERS} more"
            raise ValueError(
                f"{printable(self.annotation_file)}: image {image_id} ({printable(name)}) is "
                f"missing; looked in {looked}, but in no folder of another split"
            )
        return path

    def _size(self, image_id: int) -> tuple[int, int]:
        record = self._images[image_id]
        return record["height"], record["width"]

    def _read(self) -> AnnotationFile:
        return read_annotations(self.annotation_file)

    def _completed_annotations(self, image_id: int) -> list[dict[str, Any]]:
        annotations = self._annotations.get(image_id, [])
        size = self._size(image_id)
        if all({"area", "bbox", "iscrowd"} <= set(annotation) for annotation in annotations):
            for annotation in annotations:
                with self._named(annotation):
                    check_segmentation(annotation["segmentation"], size)
            return annotations
        runs = self._run_lengths(annotations, size)
        return list(map(completed, annotations, runs))

    def _run_lengths(
        self, annotations: Sequence[dict[str, Any]], size: tuple[int, int]
    ) -> list[dict[str, Any]]:
        runs = []
        for annotation in annotations:
            with self._named(annotation):
                runs.append(run_length(annotation["segmentation"], size))
        return runs

    @contextlib.contextmanager
    def _named(self, annotation: dict[str, Any]) -> Iterator[None]:
        """Make errors name the annotation and its file."""
        try:
            yield
        except ValueError as error:
            place = f"{printable(self.annotation_file)}: annotation {annotation['id']}"
            raise ValueError(f"{place}: {error}") from None


def _is_object(annotation: dict[str, Any]) -> bool:
    return not annotation.get("iscrowd", 0)


class ImageListDataset(CocoDataset):
    """A split of a COCO folder without annotations, such as test-dev2017.

    Its samples have no objects. ROOT/annotations/image_info_SPLIT.json lists images and categories.
    """

    _prefix = "image_info_"

    def ground_truth(self) -> dict[str, Any]:
        """Always raises ValueError, because there is none."""
        raise ValueError(f"{self.annotation_file}: has no annotations, so there are no scores")

    def _read(self) -> AnnotationFile:
        content = read_lists(self.annotation_file, "images", "categories")
        return index_entries(content | {"annotations": []}, refuse_in(self.annotation_file))


class PackedRecords(Mapping[int, RecordT], Generic[RecordT]):
    """A read-only mapping id -> plain value in ascending order; each look-up makes a new record."""

    def __init__(self, records: Mapping[int, RecordT]) -> None:
        ids = sorted(records)
        packed = [pickle.dumps(records[number], pickle.HIGHEST_PROTOCOL) for number in ids]
        self._ids = np.array(ids, dtype=np.int64)
        self._ends = np.array([*accumulate(map(len, packed), initial=0)], dtype=np.int64)
        self._buffer = b"".join(packed)

    def __getitem__(self, number: int) -> RecordT:
        place = int(np.searchsorted(self._ids, number))
        if place == len(self._ids) or self._ids[place] != number:
            raise KeyError(number)
        begin, end = self._ends[place : place + 2]
        return pickle.loads(memoryview(self._buffer)[begin:end])

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._ids)
