"""Reading annotation files: rules for their entries, and reports of problems.

Chapter 01 of the course. Files in COCO's, LVIS's and COCO's panoptic format are read here. The
reader refuses a file at its first problem; `blendmask-lite data check` lists all problems, with the
same rules. Polygons and run lengths are checked when they are decoded, in `coco_format.py`.
"""

from __future__ import annotations

import difflib
import json
import math
import reprlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from blendmask_lite.images import MAX_PIXELS
from blendmask_lite.terminal import BREAKING, listed, printable

__all__ = [
    "TEXT",
    "AnnotationFile",
    "Report",
    "Rule",
    "entries_by_id",
    "index_entries",
    "index_segments",
    "is_id",
    "is_number",
    "read_annotations",
    "read_lists",
    "refuse_in",
    "shortened",
    "thing_categories",
]

MAX_FILE_BYTES = 2**31  # size of an annotation file; reading takes about ten times as much memory
MAX_ID = 2**63  # above NumPy's largest integer
MAX_NAME_BYTES = 255  # length of a file's or folder's name on all common systems
MAX_MASK_PIXELS = 2**32  # pixels of all masks of an image together
MAX_SEGMENT_ID = 2**24  # above the largest id in three bytes of a segment image
MAX_COORDINATE = 1e9  # pixels
ONE_CLASS = "object"  # name of the class that replaces all others


@dataclass(frozen=True)
class AnnotationFile:
    """The indexed content of an instances file.

    Attributes:
        images: image id -> record with id, file_name, height, width.
        annotations: image id -> its annotations, in the file's order.
        categories: category id -> name, ascending ids.
    """

    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    categories: dict[int, str]

    def of_classes(self, names: Sequence[str]) -> AnnotationFile:
        """All images, but only the categories with these names and their annotations.

        Raises:
            ValueError: there is no such category, or no name is given.
        """
        known = list(self.categories.values())
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                found = (
                    f"close to it are {', '.join(close)}" if close else f"there are {listed(known)}"
                )
                raise ValueError(f"classes: there is no {name!r}; {found}")
        if not names:
            raise ValueError("classes: must name at least one")
        return self.of_categories({n: name for n, name in self.categories.items() if name in names})

    def of_categories(self, categories: dict[int, str]) -> AnnotationFile:
        """All images, but only these categories, id -> name, and their annotations."""
        annotations = {
            image_id: [each for each in own if each["category_id"] in categories]
            for image_id, own in self.annotations.items()
        }
        return replace(self, annotations=annotations, categories=categories)

    def as_one_class(self) -> AnnotationFile:
        """All annotations, in one category named `ONE_CLASS`."""
        annotations = {
            image_id: [each | {"category_id": 1} for each in own]
            for image_id, own in self.annotations.items()
        }
        return replace(self, annotations=annotations, categories={1: ONE_CLASS})


def read_annotations(path: Path) -> AnnotationFile:
    """Read an instances file; raises ValueError with file and id at the first invalid entry.

    Segmentations are checked when they are decoded.
    """
    content = read_lists(path, "images", "annotations", "categories")
    return index_entries(content, refuse_in(path))


def read_lists(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON file's content; ValueError if it is damaged, too large, or lacks a list of `keys`."""
    name = printable(path)
    if not path.is_file():
        raise ValueError(f"{name}: is no file")
    if (num_bytes := path.stat().st_size) > MAX_FILE_BYTES:
        raise ValueError(f"{name}: has {num_bytes} bytes, more than {MAX_FILE_BYTES}; split it")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{name}: is nested too deep") from None
    except ValueError as error:  # not JSON, not UTF-8, or a number with thousands of digits
        raise ValueError(f"{name}: is damaged or not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: is not a COCO annotation file")
    for key in keys:
        if not isinstance(content.get(key), list):
            raise ValueError(f"{name}: is not a COCO annotation file, it has no list {key!r}")
    return content


Report = Callable[[str, str, str], None]
"""A function called with a problem: a key of `check.problems.KINDS`, the entry, such as
"annotation 17", and a description."""


def refuse_in(path: Path) -> Report:
    """A `Report` that raises ValueError at the first problem of a file."""

    def refuse(kind: str, entry: str, text: str) -> None:
        raise ValueError(printable(f"{path}: {entry}: {text}"))

    return refuse


@dataclass(frozen=True)
class Rule:
    """A condition that the value of a field must meet."""

    words: str
    holds: Callable[[Any], bool]
    is_required: bool = True


def is_number(value: object) -> bool:
    """Whether a value from a JSON file is a finite number, and not true or false."""
    if type(value) is int:
        return abs(value) < MAX_ID
    return type(value) is float and math.isfinite(value)


def is_id(value: object) -> bool:
    """Whether a value from a JSON file can be an id: a whole number that NumPy can hold."""
    return type(value) is int and abs(value) < MAX_ID


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value.isprintable() or BREAKING.isdisjoint(map(unicodedata.category, value))


def _is_inside(name: object) -> bool:
    if not _is_text(name):
        return False
    path = PurePath(str(name))
    is_long = any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts)
    return bool(path.parts) and not (path.is_absolute() or ".." in path.parts or is_long)


ID = Rule("a whole number", is_id)
TEXT = Rule("text on one line", _is_text)
SIDE = Rule("a whole number of at least 1", lambda value: is_id(value) and value >= 1)
FLAG = Rule("0 or 1", lambda value: isinstance(value, int | float) and value in (0, 1))
FILE_NAME = Rule("the name of a file inside the folder", _is_inside)


def _is_box(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(is_number(side) and abs(side) <= MAX_COORDINATE for side in value)


CATEGORY = {"name": TEXT}
IMAGE = {"file_name": FILE_NAME, "height": SIDE, "width": SIDE}
ANNOTATION = {
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
    """Index the lists of an instances file; entries with a problem are reported and left out.

    `report` may raise. Segmentations are checked when they are decoded.
    """
    categories = entries_by_id("category", content["categories"], CATEGORY, report)
    images = entries_by_id("image", content["images"], IMAGE, report)
    for image in list(images.values()):
        if image["height"] * image["width"] > MAX_PIXELS:
            text = f"has {image['width']} x {image['height']} pixels, more than {MAX_PIXELS}"
            report("image too large", f"image {image['id']}", text)
            del images[image["id"]]
    known = {"image_id": _ids(content["images"]), "category_id": _ids(content["categories"])}
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    every = entries_by_id("annotation", content["annotations"], ANNOTATION, report)
    for annotation in every.values():
        for key, ids in known.items():
            if annotation[key] not in ids:
                place = "images" if key == "image_id" else "categories"
                text = f"{key} {annotation[key]} is not among the file's {place}"
                report(f"unknown {key}", f"annotation {annotation['id']}", text)
        if annotation["image_id"] in images and annotation["category_id"] in categories:
            annotations[annotation["image_id"]].append(annotation)
    for image_id, own in annotations.items():
        height, width = images[image_id]["height"], images[image_id]["width"]
        if len(own) * height * width > MAX_MASK_PIXELS:
            text = f"has {len(own)} masks of {width} x {height} pixels, too many for the memory"
            report("image too large", f"image {image_id}", text)
            del images[image_id]
    return AnnotationFile(
        images=images,
        annotations=dict(annotations),
        categories={number: categories[number]["name"] for number in sorted(categories)},
    )


def thing_categories(categories: list[Any], report: Report) -> dict[int, dict[str, Any]]:
    """Category id -> category of a panoptic file; reports problems as `index_entries` does."""
    return entries_by_id("category", categories, PANOPTIC_CATEGORY, report)


def index_segments(
    annotations: list[Any], category_ids: set[int], report: Report
) -> dict[int, dict[str, Any]]:
    """Image id -> annotation of a panoptic file; reports problems as `index_entries` does."""
    name = "annotation of image"
    found = entries_by_id(name, annotations, PANOPTIC_ANNOTATION, report, id_field="image_id")
    for image_id, annotation in found.items():
        place = f"{name} {image_id}"

        def report_here(kind: str, entry: str, text: str, place: str = place) -> None:
            report(kind, f"{place}: {entry}", text)

        segments = entries_by_id("segment", annotation["segments_info"], SEGMENT, report_here)
        for segment_id, segment in segments.items():
            if segment["category_id"] not in category_ids:
                text = f"category {segment['category_id']} is not among the file's categories"
                report_here("unknown category_id", f"segment {segment_id}", text)
        found[image_id] = annotation | {"segments_info": list(segments.values())}
    return found


def _ids(entries: list[Any]) -> set[Any]:
    """The ids of a list's entries, including entries with other problems."""
    named = (entry.get("id") for entry in entries if isinstance(entry, dict))
    return {number for number in named if is_id(number)}


def entries_by_id(
    kind: str,
    entries: list[Any],
    rules: Mapping[str, Rule],
    report: Report,
    *,
    id_field: str = "id",
) -> dict[int, dict[str, Any]]:
    """Id -> entry, for entries with a valid id that satisfy `rules`; the others are reported."""
    found: dict[int, dict[str, Any]] = {}
    for place, entry in enumerate(entries):
        number = entry.get(id_field) if isinstance(entry, dict) else None
        name = f"{kind} {number}" if is_id(number) else f"{kind} number {place}"
        wrong = _what_is_wrong(entry, {id_field: ID, **rules})
        if wrong is not None:
            report("malformed entry", name, wrong)
        elif entry[id_field] in found:
            report("duplicate id", name, f"its {id_field} comes twice")
        else:
            found[entry[id_field]] = entry
    return found


def _what_is_wrong(entry: object, rules: Mapping[str, Rule]) -> str | None:
    if not isinstance(entry, dict):
        return f"is {shortened(entry)}, which is no entry"
    for name, rule in rules.items():
        if name not in entry:
            if rule.is_required:
                return f"has no {name!r}"
        elif not rule.holds(entry[name]):
            return f"{name} = {shortened(entry[name])} is not {rule.words}"
    return None


def shortened(value: object) -> str:
    """A value from a JSON file as text for an error: one line, however large or deep it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
