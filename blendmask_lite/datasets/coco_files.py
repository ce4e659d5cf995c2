"""Finding and reading the files of a COCO folder, with errors that name what is wrong.

Chapter 01 of the course.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blendmask_lite.datasets.coco_entries import AnnotationFile, index_entries
from blendmask_lite.datasets.entries import Problem, Report

__all__ = [
    "find_picture",
    "find_split",
    "image_folders",
    "list_splits",
    "read_annotations",
    "read_lists",
    "refuse_in",
]

PREFIX = "instances_"
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
    if not names:
        raise ValueError(f"{root}: not a COCO folder, there is no annotations/{prefix}*.json")
    if split is None and len(names) > 1:
        raise ValueError(f"{root}: has several splits, choose one of {', '.join(names)}")
    chosen = names[0] if split is None else split
    if chosen not in names:
        raise ValueError(f"{root}: no split {chosen!r}, there are {', '.join(names)}")
    return chosen, root / "annotations" / f"{prefix}{chosen}.json"


def list_splits(root: Path, prefix: str = PREFIX) -> list[str]:
    """Names of the splits that have an annotation file of this kind, by default of instances."""
    files = (root / "annotations").glob(f"{prefix}*.json")
    return sorted(path.stem.removeprefix(prefix) for path in files)


def image_folders(root: Path, split: str) -> list[Path]:
    """Folders in which the pictures of a split may lie, the likeliest first.

    After COCO's own places come the other folders of ROOT and of ROOT/images, those before the
    rest whose name the split's name starts with: `val2017_from_panoptic` looks in `val2017`.
    """
    usual = [root / split, root / "images" / split, root / "images", root]
    beside = [
        folder
        for parent in (root, root / "images")
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and folder.name != "annotations" and folder not in usual
    ]
    beside.sort(key=lambda folder: -len(folder.name) if split.startswith(folder.name) else 1)
    return usual + beside


def find_picture(folders: list[Path], name: str) -> Path | None:
    """The file of a name in the first folder that has it, which comes to the front; or None."""
    for place, folder in enumerate(folders):
        try:
            is_there = (folder / name).is_file()
        except OSError:  # a name that is too long for the system
            is_there = False
        if is_there:
            # The next picture most likely lies beside this one.
            folders.insert(0, folders.pop(place))
            return folder / name
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
    if not path.is_file():
        raise ValueError(f"{path}: is no file")
    if (num_bytes := path.stat().st_size) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: has {num_bytes} bytes, more than {MAX_FILE_BYTES}; split it")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path}: is nested too deep") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise ValueError(f"{path}: is damaged or not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is not a COCO annotation file")
    for key in keys:
        if not isinstance(content.get(key), list):
            raise ValueError(f"{path}: is not a COCO annotation file, it has no list {key!r}")
    return content


def refuse_in(path: Path) -> Report:
    """The report that raises a ValueError at the first problem of a file."""

    def refuse(problem: Problem) -> None:
        raise ValueError(f"{path}: {problem}")

    return refuse
