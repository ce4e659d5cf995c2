"""Finding and reading the files of a COCO folder, with errors that name what is wrong.

Chapter 01 of the course.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "AnnotationFile",
    "find_split",
    "image_folders",
    "read_annotations",
    "read_lists",
    "require_fields",
]

PREFIX = "instances_"


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


def find_split(root: Path, split: str | None) -> tuple[str, Path]:
    """Name and annotation file of a split; None takes the only one there is.

    Raises:
        ValueError: no COCO folder, no such split, or several and none named.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    folder = root / "annotations"
    names = sorted(path.stem.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*.json"))
    if not names:
        raise ValueError(f"{root}: not a COCO folder, there is no annotations/{PREFIX}*.json")
    if split is None and len(names) > 1:
        raise ValueError(f"{root}: has several splits, choose one of {', '.join(names)}")
    chosen = names[0] if split is None else split
    if chosen not in names:
        raise ValueError(f"{root}: no split {chosen!r}, there are {', '.join(names)}")
    return chosen, folder / f"{PREFIX}{chosen}.json"


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


def read_annotations(path: Path) -> AnnotationFile:
    """Read and check an instances file; segmentations are checked when they are decoded.

    Raises:
        ValueError: with the file, and the id of the entry that is wrong.
    """
    content = read_lists(path, "images", "annotations", "categories")
    categories: dict[int, str] = {}
    for category in content["categories"]:
        require_fields(path, "category", category, {"id": int, "name": str})
        if category["id"] in categories:
            raise ValueError(f"{path}: category {category['id']}: its id comes twice")
        categories[category["id"]] = category["name"]
    images: dict[int, dict[str, Any]] = {}
    fields = {"id": int, "file_name": str, "height": int, "width": int}
    for image in content["images"]:
        require_fields(path, "image", image, fields)
        if image["id"] in images:
            raise ValueError(f"{path}: image {image['id']}: its id comes twice")
        if min(image["height"], image["width"]) < 1:
            raise ValueError(f"{path}: image {image['id']}: has no pixels")
        images[image["id"]] = image
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        require_fields(
            path,
            "annotation",
            annotation,
            {"id": int, "image_id": int, "category_id": int, "segmentation": (list, dict)},
        )
        for key, known in (("image_id", images), ("category_id", categories)):
            if annotation[key] not in known:
                raise ValueError(
                    f"{path}: annotation {annotation['id']}: {key} {annotation[key]} is not "
                    f"among the file's {'images' if key == 'image_id' else 'categories'}"
                )
        annotations[annotation["image_id"]].append(annotation)
    ordered = {number: categories[number] for number in sorted(categories)}
    return AnnotationFile(images=images, annotations=dict(annotations), categories=ordered)


def read_lists(path: Path, *keys: str) -> dict[str, Any]:
    """The content of a JSON file that has a list at each of `keys`.

    Raises:
        ValueError: the file is damaged, or lacks one of the lists.
    """
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is damaged or not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is not a COCO annotation file")
    for key in keys:
        if not isinstance(content.get(key), list):
            raise ValueError(f"{path}: is not a COCO annotation file, it has no list {key!r}")
    return content


def require_fields(path: Path, kind: str, entry: object, fields: dict[str, Any]) -> None:
    """Refuse an entry of a file that lacks a field, or whose field is of another type.

    Args:
        path: the file.
        kind: of entry, such as "image".
        entry: to be checked.
        fields: types by name.

    Raises:
        ValueError: with the file, the entry's id and the field.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{path}: a {kind} is {entry!r}, which is no entry")
    for name, types in fields.items():
        if name not in entry:
            raise ValueError(f"{path}: {kind} {entry.get('id', '?')}: has no {name!r}")
        if not isinstance(entry[name], types):
            raise ValueError(
                f"{path}: {kind} {entry.get('id', '?')}: {name} = {str(entry[name])[:60]!r} is "
                "of a wrong type"
            )
