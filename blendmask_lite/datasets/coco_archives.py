"""COCO's official archives: what lies where, and which images of a split are chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendmask_lite.datasets.coco_entries import AnnotationFile, index_entries
from blendmask_lite.datasets.coco_files import read_lists, refuse_in

__all__ = ["COCO_URL", "SPLITS", "CocoSplit", "choose_images", "read_split"]

COCO_URL = "http://images.cocodataset.org"  # its certificate is not for this name: no https


@dataclass(frozen=True)
class CocoSplit:
    """Where a split is described.

    Attributes:
        pictures: name of their folder, and of their archive zips/NAME.zip.
        archive: name of annotations/NAME.zip, which describes the images.
        member: of that archive, a JSON file.
        has_objects: whether that file has annotations, and there are panoptic ones.
    """

    pictures: str
    archive: str
    member: str
    has_objects: bool


SPLITS = {
    "train2017": CocoSplit(
        "train2017", "annotations_trainval2017", "annotations/instances_train2017.json", True
    ),
    "val2017": CocoSplit(
        "val2017", "annotations_trainval2017", "annotations/instances_val2017.json", True
    ),
    "test2017": CocoSplit(
        "test2017", "image_info_test2017", "annotations/image_info_test2017.json", False
    ),
    "test-dev2017": CocoSplit(
        "test2017", "image_info_test2017", "annotations/image_info_test-dev2017.json", False
    ),
    "unlabeled2017": CocoSplit(
        "unlabeled2017",
        "image_info_unlabeled2017",
        "annotations/image_info_unlabeled2017.json",
        False,
    ),
}


def read_split(path: Path, *, has_objects: bool) -> tuple[dict[str, Any], AnnotationFile]:
    """The content of an annotation file as it is, and indexed; one without objects has none.

    Raises:
        ValueError: the file is damaged or inconsistent, or a file name is not a plain one.
    """
    lists = ["annotations", "categories"] if has_objects else []
    content = {"annotations": [], "categories": [], **read_lists(path, "images", *lists)}
    index = index_entries(content, refuse_in(path))
    for image_id, image in index.images.items():
        # The name becomes a path: it must not lead out of the folder.
        if image["file_name"] in (".", "..") or set(image["file_name"]) & set("/\\:\0"):
            text = f"{image['file_name']!r} is no plain file name"
            raise ValueError(f"{path}: image {image_id}: {text}")
    return content, index


def choose_images(
    index: AnnotationFile, *, num_images: int | None, categories: Sequence[str], seed: int
) -> set[int]:
    """Ids of images at random: of a larger number, the smaller number's are a part.

    Args:
        index: of the whole split.
        num_images: so many, or all where there are not as many; None takes all.
        categories: names; only images with an object of one of them. Empty: any image.
        seed: of the choice.

    Raises:
        ValueError: a category that there is not, or no image that has one.
    """
    candidates = set(index.images)
    if categories:
        unknown = sorted(set(categories) - set(index.categories.values()))
        if unknown:
            known = ", ".join(index.categories.values())
            raise ValueError(f"--categories: no category {', '.join(unknown)}; there are {known}")
        wanted = {number for number, name in index.categories.items() if name in categories}
        candidates = {
            image_id
            for image_id, annotations in index.annotations.items()
            if any(each["category_id"] in wanted for each in annotations)
        }
        if not candidates:
            raise ValueError(f"--categories: no image has {' or '.join(categories)}")

    def place(image_id: int) -> bytes:
        # The same whatever else there is to choose from, and for all versions of Python.
        return hashlib.sha256(f"{seed} {image_id}".encode()).digest()

    return set(sorted(candidates, key=place)[:num_images])
