"""The files of a COCO folder: found, read, and refused with an error that names what is wrong."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from blendmask_lite.terminal import printable

__all__ = [
    "AnnotationFile",
    "find_picture",
    "find_split",
    "image_folders",
    "index_entries",
    "index_segments",
    "list_splits",
    "read_annotations",
    "read_lists",
    "refuse_in",
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


PREFIX = "instances_"
# What names of annotation files begin with; the rest is the name of a split.
PREFIXES = (
    *(PREFIX, "image_info_", "lvis_", "panoptic_"),
    *("captions_", "person_keypoints_", "stuff_"),
)
NO_PICTURES = (".", "annotations", "panoptic_", "stuff_")  # beginnings of folders' names
SPLIT_WORDS = ("train", "val", "test", "dev", "unlabeled")
# COCO's splits whose pictures lie in another's folder.
COCO_FOLDERS = {
    **{"test-dev2015": "test2015", "test-dev2017": "test2017"},
    **{"minival2014": "val2014", "valminusminival2014": "val2014"},
}
MAX_FILE_BYTES = 2**31  # of an annotation file, which takes about ten times that in memory


def find_split(root: Path, split: str | None, prefix: str = PREFIX) -> tuple[str, Path]:
    """Name and annotation file of a split; None takes the only one there is.

    Args:
        root: the folder.
        split: its name.
        prefix: what the names of annotation files begin with.

    Raises:
        ValueError: no COCO folder, no such split, or several and none named.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    names = list_splits(root, prefix)
    shown = ", ".join(map(printable, names))
    if not names:
        raise ValueError(f"{root}: not a COCO folder, there is no annotations/{prefix}*.json")
    if split is None and len(names) > 1:
        raise ValueError(f"{root}: has several splits, choose one of {shown}")
    chosen = names[0] if split is None else split
    if chosen not in names:
        raise ValueError(f"{root}: no split {chosen!r}, there are {shown}")
    return chosen, root / "annotations" / f"{prefix}{chosen}.json"


def list_splits(root: Path, prefix: str = PREFIX) -> list[str]:
    """Names of the splits that have an annotation file of this kind, by default of instances."""
    files = (root / "annotations").glob(f"{prefix}*.json")
    return sorted(path.stem.removeprefix(prefix) for path in files)


def image_folders(root: Path, split: str) -> list[Path]:
    """Folders in which the pictures of a split may lie, in the order in which to look.

    First come the split's own, in ROOT and in ROOT/images: those of its name, or if there are
    none those with the longest name that its name begins with, so that `val2017_from_panoptic`
    finds `val2017`. Then come ROOT/images and ROOT, then the other folders in them that belong to
    no split. Names repeat between splits, so another split's folder is never among them. That is
    one of an annotation file's split, or one called like a split (`test`, say) if the split in
    question has its own.
    """
    parents = [root, root / "images"]
    beside = [
        folder
        for parent in parents
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and not folder.name.startswith(NO_PICTURES) and folder not in parents
    ]
    names = {folder.name for folder in beside}
    own = _own_name(split, names)
    others = {_own_name(other, names) for other in _known_splits(root) if other != split}
    free = [
        folder
        for folder in beside
        if folder.name not in {own, *others}
        and (own is None or not folder.name.lower().startswith(SPLIT_WORDS))
    ]
    place = split if own is None else own
    return [*(parent / place for parent in parents), *parents[::-1], *free]


def _own_name(split: str, names: Iterable[str]) -> str | None:
    """The name, among those of folders, that is a split's own."""
    wanted = COCO_FOLDERS.get(split, split).lower()
    beginning = [name for name in names if wanted.startswith(name.lower())]
    return max(beginning, key=lambda name: (len(name), name == split), default=None)


def _known_splits(root: Path) -> set[str]:
    return {name for prefix in PREFIXES for name in list_splits(root, prefix)}


def find_picture(folders: Sequence[Path], name: str) -> Path | None:
    """The file of a name in the first folder that has it; or None."""
    for folder in folders:
        try:
            if (folder / name).is_file():
                return folder / name
        except OSError:  # a name that is too long for the system
            continue
    return None


def read_annotations(path: Path) -> AnnotationFile:
    """Read and check an instances file; segmentations are checked when they are decoded.

    Raises:
        ValueError: with the file, and the id of the entry that is wrong.
    """
    content = read_lists(path, "images", "annotations", "categories")
    return index_entries(content, refuse_in(path))


def read_lists(path: Path, *keys: str) -> dict[str, Any]:
    """The content of a JSON file that has a list at each of `keys`.

    Raises:
        ValueError: the file is damaged, too large, or lacks one of the lists.
    """
    name = printable(path)
    if not path.is_file():
        raise ValueError(f"{name}: is no file")
    if (num_bytes := path.stat().st_size) > MAX_FILE_BYTES:
        raise ValueError(f"{name}: has {num_bytes} bytes, more than {MAX_FILE_BYTES}; split it")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{name}: is nested too deep") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise ValueError(f"{name}: is damaged or not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: is not a COCO annotation file")
    for key in keys:
        if not isinstance(content.get(key), list):
            raise ValueError(f"{name}: is not a COCO annotation file, it has no list {key!r}")
    return content


def refuse_in(path: Path) -> Report:
    """The report that raises a ValueError at the first problem of a file."""
    name = printable(path)

    def refuse(problem: Problem) -> None:
        raise ValueError(f"{name}: {problem}")

    return refuse
