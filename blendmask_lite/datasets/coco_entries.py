"""The entries of an annotation file: what each must hold, and which of them fit together.

Chapter 01 of the course. The reader refuses a file at its first problem, `data check` lists all of
them; both take them from here.
"""

from __future__ import annotations

import math
import reprlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

__all__ = [
    "MAX_PIXELS",
    "AnnotationFile",
    "Problem",
    "Report",
    "Rule",
    "index_entries",
    "index_segments",
    "is_number",
    "shortened",
    "thing_categories",
    "valid_entries",
]

MAX_PIXELS = 89_478_485  # of an image; larger ones Pillow takes for decompression bombs
MAX_ID = 2**63  # NumPy's whole numbers end there
MAX_SEGMENT_ID = 2**24  # three bytes of a picture of segments
MAX_COORDINATE = 1e9  # pixels


@dataclass(frozen=True)
class Problem:
    """Something wrong with one entry of a file.

    Attributes:
        kind: a key of `checking_kinds.KINDS`.
        entry: such as "annotation 17".
        text: what is wrong with it.
    """

    kind: str
    entry: str
    text: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.text}"


Report = Callable[[Problem], None]


@dataclass(frozen=True)
class Rule:
    """What the value of a field must be."""

    words: str
    holds: Callable[[Any], bool]
    is_required: bool = True


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


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number, and no truth value."""
    if type(value) is int:
        return abs(value) < MAX_ID
    return type(value) is float and math.isfinite(value)


def _is_id(value: object) -> bool:
    return type(value) is int and abs(value) < MAX_ID


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character
        return False
    return True


def _is_inside(name: object) -> bool:
    if not _is_text(name):
        return False
    path = PurePath(str(name))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(is_number(side) and abs(side) <= MAX_COORDINATE for side in value)
    )


ID = Rule("a whole number", _is_id)
TEXT = Rule("text", _is_text)
SIDE = Rule("a whole number of at least 1", lambda value: _is_id(value) and value >= 1)
FLAG = Rule("0 or 1", lambda value: isinstance(value, int | float) and value in (0, 1))
FILE_NAME = Rule("the name of a file inside the folder", _is_inside)

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
    categories = _by_id("category", content["categories"], CATEGORY, report)
    images = _by_id("image", content["images"], IMAGE, report)
    for image in list(images.values()):
        height, width = image["height"], image["width"]
        if height * width > MAX_PIXELS:
            text = f"has {width} x {height} pixels, more than {MAX_PIXELS}"
            report(Problem("image too large", f"image {image['id']}", text))
            del images[image["id"]]
    known = {"image_id": _ids(content["images"]), "category_id": _ids(content["categories"])}
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    every = _by_id("annotation", content["annotations"], ANNOTATION, report)
    for annotation in every.values():
        for key, ids in known.items():
            if annotation[key] not in ids:
                place = "images" if key == "image_id" else "categories"
                text = f"{key} {annotation[key]} is not among the file's {place}"
                report(Problem(f"unknown {key}", f"annotation {annotation['id']}", text))
        if annotation["image_id"] in images and annotation["category_id"] in categories:
            annotations[annotation["image_id"]].append(annotation)
    return AnnotationFile(
        images=images,
        annotations=dict(annotations),
        categories={number: categories[number]["name"] for number in sorted(categories)},
    )


def thing_categories(categories: list[Any], report: Report) -> dict[int, dict[str, Any]]:
    """Category id -> category of a panoptic file, each with "isthing"; see `index_entries`."""
    return _by_id("category", categories, PANOPTIC_CATEGORY, report)


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
    found = _by_id(kind, annotations, PANOPTIC_ANNOTATION, report, id_field="image_id")
    for image_id, annotation in found.items():
        place = f"{kind} {image_id}"

        def report_here(problem: Problem, place: str = place) -> None:
            report(Problem(problem.kind, f"{place}: {problem.entry}", problem.text))

        segments = _by_id("segment", annotation["segments_info"], SEGMENT, report_here)
        for segment_id, segment in segments.items():
            if segment["category_id"] not in category_ids:
                text = (
                    f"is of category {segment['category_id']}, "
                    "which is not among the file's categories"
                )
                report_here(Problem("unknown category_id", f"segment {segment_id}", text))
    return found


def valid_entries(
    kind: str,
    entries: list[Any],
    rules: Mapping[str, Rule],
    report: Report,
    *,
    id_field: str = "id",
) -> Iterator[dict[str, Any]]:
    """The entries that are dictionaries with the fields of `rules`; the others are reported."""
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            text = f"is {shortened(entry)}, which is no entry"
            report(Problem("malformed entry", f"{kind} number {place}", text))
            continue
        wrong = _wrong_field(entry, rules)
        if wrong is None:
            yield entry
        else:
            number = entry.get(id_field)
            name = str(number) if _is_id(number) else f"number {place}"
            report(Problem("malformed entry", f"{kind} {name}", wrong))


def shortened(value: object) -> str:
    """A value of a JSON file for an error: on one line, however large or deep it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60


def _wrong_field(entry: dict[str, Any], rules: Mapping[str, Rule]) -> str | None:
    for name, rule in rules.items():
        if name not in entry:
            if rule.is_required:
                return f"has no {name!r}"
        elif not rule.holds(entry[name]):
            return f"{name} = {shortened(entry[name])} is not {rule.words}"
    return None


def _by_id(
    kind: str,
    entries: list[Any],
    rules: Mapping[str, Rule],
    report: Report,
    *,
    id_field: str = "id",
) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for entry in valid_entries(kind, entries, rules, report, id_field=id_field):
        number = entry[id_field]
        if number in found:
            report(Problem("duplicate id", f"{kind} {number}", f"its {id_field} comes twice"))
        else:
            found[number] = entry
    return found


def _ids(entries: list[Any]) -> set[int]:
    """The ids that a list names, also of entries that have another problem."""
    named = (entry.get("id") for entry in entries if isinstance(entry, dict))
    return {number for number in named if _is_id(number)}
