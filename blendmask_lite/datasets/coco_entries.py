"""COCO's annotation files: what their entries must hold, and which of them fit together.

Chapter 01 of the course.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blendmask_lite.datasets.entries import (
    FILE_NAME,
    FLAG,
    ID,
    SIDE,
    TEXT,
    Problem,
    Report,
    Rule,
    entries_by_id,
    is_id,
    is_number,
)
from blendmask_lite.images import MAX_PIXELS

__all__ = [
    "AnnotationFile",
    "index_entries",
    "index_segments",
    "thing_categories",
]

MAX_MASK_PIXELS = 2**32  # of all masks of an image together
MAX_SEGMENT_ID = 2**24  # three bytes of a picture of segments
MAX_COORDINATE = 1e9  # pixels


@dataclass(frozen=True)
class AnnotationFile:
    """What an instances file says, indexed.

    Attributes:
        images: image id -> record with id, file_name, height, width.
        annotations: image id -> its annotations, in the file's order.
        categories: category id -> name, ascending ids.
    """

    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    categories: dict[int, str]


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(is_number(side) and abs(side) <= MAX_COORDINATE for side in value)
    )


CATEGORY = {"id": ID, "name": TEXT}
IMAGE = {"id": ID, "file_name": FILE_NAME, "height": SIDE, "width": SIDE}
ANNOTATION = {
    "id": ID,
    "image_id": ID,
    "category_id": ID,
    "segmentation": Rule("polygons or run lengths", lambda value: isinstance(value, list | dict)),
    "iscrowd": Rule(FLAG.words, FLAG.holds, is_required=False),
    "area": Rule(
        "a number of at least 0",
        lambda value: is_number(value) and value >= 0,
        is_required=False,
    ),
    "bbox": Rule("four numbers, x, y, width and height", _is_box, is_required=False),
}
PANOPTIC_CATEGORY = CATEGORY | {"isthing": FLAG}
PANOPTIC_ANNOTATION = {
    "image_id": ID,
    "file_name": FILE_NAME,
    "segments_info": Rule("a list", lambda value: isinstance(value, list)),
}
SEGMENT = {
    "id": Rule(
        f"a whole number from 1 to {MAX_SEGMENT_ID - 1}",
        lambda value: type(value) is int and 0 < value < MAX_SEGMENT_ID,
    ),
    "category_id": ID,
}


def index_entries(content: Mapping[str, Any], report: Report) -> AnnotationFile:
    """Check the entries of an instances file; those with a problem are reported and left out.

    Segmentations are checked when they are decoded.

    Args:
        content: with the lists images, annotations and categories.
        report: is called with every problem, and may raise.
    """
    categories = entries_by_id("category", content["categories"], CATEGORY, report)
    images = entries_by_id("image", content["images"], IMAGE, report)
    for image in list(images.values()):
        if image["height"] * image["width"] > MAX_PIXELS:
            text = f"has {image['width']} x {image['height']} pixels, more than {MAX_PIXELS}"
            report(Problem("image too large", f"image {image['id']}", text))
            del images[image["id"]]
    known = {"image_id": _ids(content["images"]), "category_id": _ids(content["categories"])}
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    every = entries_by_id("annotation", content["annotations"], ANNOTATION, report)
    for annotation in every.values():
        for key, ids in known.items():
            if annotation[key] not in ids:
                place = "images" if key == "image_id" else "categories"
                text = f"{key} {annotation[key]} is not among the file's {place}"
                report(Problem(f"unknown {key}", f"annotation {annotation['id']}", text))
        if annotation["image_id"] in images and annotation["category_id"] in categories:
            annotations[annotation["image_id"]].append(annotation)
    for image_id, own in annotations.items():
        height, width = images[image_id]["height"], images[image_id]["width"]
        if len(own) * height * width > MAX_MASK_PIXELS:
            text = f"has {len(own)} masks of {width} x {height} pixels, too many for the memory"
            report(Problem("image too large", f"image {image_id}", text))
            del images[image_id]
    return AnnotationFile(
        images=images,
        annotations=dict(annotations),
        categories={number: categories[number]["name"] for number in sorted(categories)},
    )


def thing_categories(categories: list[Any], report: Report) -> dict[int, dict[str, Any]]:
    """Category id -> category of a panoptic file, each with "isthing"; see `index_entries`."""
    return entries_by_id("category", categories, PANOPTIC_CATEGORY, report)


def index_segments(
    annotations: list[Any], category_ids: set[int], report: Report
) -> dict[int, dict[str, Any]]:
    """Image id -> annotation of a panoptic file; see `index_entries`.

    Args:
        annotations: the file's list.
        category_ids: that segments may have.
        report: is called with every problem, and may raise.
    """
    kind = "annotation of image"
    found = entries_by_id(kind, annotations, PANOPTIC_ANNOTATION, report, id_field="image_id")
    for image_id, annotation in found.items():
        place = f"{kind} {image_id}"

        def report_here(problem: Problem, place: str = place) -> None:
            report(Problem(problem.kind, f"{place}: {problem.entry}", problem.text))

        segments = entries_by_id("segment", annotation["segments_info"], SEGMENT, report_here)
        for segment_id, segment in segments.items():
            if segment["category_id"] not in category_ids:
                text = (
                    f"is of category {segment['category_id']}, "
                    "which is not among the file's categories"
                )
                report_here(Problem("unknown category_id", f"segment {segment_id}", text))
        found[image_id] = annotation | {"segments_info": list(segments.values())}
    return found


def _ids(entries: list[Any]) -> set[Any]:
    """The ids that a list names, also of entries that have another problem."""
    named = (entry.get("id") for entry in entries if isinstance(entry, dict))
    return {number for number in named if is_id(number)}
