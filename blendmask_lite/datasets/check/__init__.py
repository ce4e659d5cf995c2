"""Checking a folder in COCO's layout from end to end, and listing everything wrong with it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blendmask_lite.datasets.check.annotations import (
    MaskSizes,
    PictureCheck,
    check_masks,
    check_panoptic,
    unlisted_pictures,
)
from blendmask_lite.datasets.check.problems import KINDS, Finding, Findings
from blendmask_lite.datasets.coco_entries import (
    AnnotationFile,
    Report,
    index_entries,
    read_lists,
)
from blendmask_lite.datasets.coco_files import find_split, image_folders, list_splits
from blendmask_lite.terminal import printable

__all__ = ["FolderCheck", "SplitCheck", "check_folder", "check_numbers", "statistics"]


Progress = Callable[[str], Callable[[int, int], None]]
LVIS_FIELDS = {"neg_category_ids", "not_exhaustive_category_ids", "frequency", "synset"}
SIZES = {"small": 32**2, "medium": 96**2}  # COCO's upper limits of areas; larger areas are "large"
MAX_DETECTIONS = 100  # detections per image in COCO's evaluation
LEAST_FOR_A_SHARE = 20  # annotations; percentages of a smaller number mean little


@dataclass
class SplitCheck:
    """The result of checking a split.

    Attributes:
        split: name of the split.
        annotation_file: the file that was read.
        findings: the problems, by kind.
        numbers: see `statistics`; empty if the file could not be read. If there is a panoptic file,
            also "panoptic", see `check_panoptic`.
        pictures: image file (with `decode`, a digest of its content) -> image id.
        files: files of the images that were found.
    """

    split: str
    annotation_file: Path
    findings: Findings = field(default_factory=Findings)
    numbers: dict[str, Any] = field(default_factory=dict)
    pictures: dict[Any, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


@dataclass
class FolderCheck:
    """The result of checking a folder."""

    root: Path
    splits: list[SplitCheck]
    between: Findings  # problems that concern several splits
    is_decoded: bool  # whether the pixels of all images were read

    def count(self, severity: str) -> int:
        """Number of problems of this severity."""
        every = [*(split.findings for split in self.splits), self.between]
        found = (finding for findings in every for finding in findings.sorted())
        return sum(finding.count for finding in found if finding.severity == severity)

    def to_plain(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "root": str(self.root),
            "decoded": self.is_decoded,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "splits": {
                check.split: {
                    "annotation_file": str(check.annotation_file),
                    "findings": [_plain(finding) for finding in check.findings.sorted()],
                    "statistics": check.numbers,
                }
                for check in self.splits
            },
            "between_splits": [_plain(finding) for finding in self.between.sorted()],
        }


def check_folder(
    root: Path, split: str | None = None, *, decode: bool = False, progress: Progress | None = None
) -> FolderCheck:
    """Check one split of a folder, or all splits.

    Args:
        root: the folder.
        split: name of the split; by default all splits are checked.
        decode: read the pixels of all images and compare their contents. By default, only headers
            are read, and segment images only have to exist.
        progress: called with the name of what is counted; returns a callback (done, total).

    Raises:
        ValueError: the folder is not in COCO's layout, or there is no such split.
    """
    names = [find_split(root, split)[0]] if split is not None else list_splits(root)
    if not names:
        find_split(root, None)  # raises an error that says what is missing
    checks = [_check_split(root, name, decode=decode, progress=progress) for name in names]
    between = Findings()
    _compare_splits(checks, between)
    if split is None:
        for path in sorted((root / "annotations").glob("panoptic_*.json")):
            if path.stem.removeprefix("panoptic_") not in names:
                text = "has no instances file beside it"
                between.add("panoptic without instances", path.name, text)
    return FolderCheck(root=root, splits=checks, between=between, is_decoded=decode)


def _check_split(root: Path, split: str, *, decode: bool, progress: Progress | None) -> SplitCheck:
    _, path = find_split(root, split)
    check = SplitCheck(split, path)
    report = check.findings.add
    try:
        content = read_lists(path, "images", "annotations", "categories")
    except ValueError as error:
        report("unreadable file", path.name, str(error))
        return check
    _look_for_lvis(content, check.findings)
    index = index_entries(content, report)
    pictures = PictureCheck(image_folders(root, split), report, decode=decode)
    masks: MaskSizes = {}
    name = printable(split)
    count = None if progress is None else progress(f"images of {name}")
    for done, (image_id, record) in enumerate(index.images.items(), start=1):
        pictures.check(record)
        masks |= check_masks(record, index.annotations.get(image_id, []), report)
        if count is not None:
            count(done, len(index.images))
    check.files = list(pictures.paths)
    unlisted_pictures(root / split, check.files, report)
    check.pictures = dict(pictures.digests if decode else pictures.paths)
    check.numbers = statistics(index, masks)
    check_numbers(index, masks, check.numbers, report)
    if (root / "annotations" / f"panoptic_{split}.json").exists():
        count = None if progress is None else progress(f"panoptic annotations of {name}")
        check.numbers["panoptic"] = check_panoptic(
            root, split, index.images, report, decode=decode, progress=count
        )
    return check


def _look_for_lvis(content: dict[str, Any], findings: Findings) -> None:
    for key in ("images", "categories"):
        fields = {name for entry in content[key] if isinstance(entry, dict) for name in entry}
        if seen := sorted(LVIS_FIELDS & fields):
            findings.add("LVIS fields", key, f"have {', '.join(seen)}")


def _compare_splits(checks: Sequence[SplitCheck], between: Findings) -> None:
    readable = [check for check in checks if check.numbers]
    for first, second in itertools.combinations(readable, 2):
        entry = f"{first.split} and {second.split}"
        names = [
            {category["name"] for category in check.numbers["classes"]} for check in (first, second)
        ]
        if names[0] != names[1]:
            only = ", ".join(sorted(names[0] ^ names[1])[:5])
            between.add("other classes than another split", entry, f"only one of them has {only}")
        for picture, image_id in first.pictures.items():
            if picture in second.pictures:
                text = f"image {image_id} is image {second.pictures[picture]}"
                between.add("image in two splits", entry, text)


def _plain(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | asdict(KINDS[finding.kind])


def statistics(index: AnnotationFile, masks: MaskSizes) -> dict[str, Any]:
    """Counts of images, objects, crowds, sizes and classes in the valid entries."""
    every = [annotation for entries in index.annotations.values() for annotation in entries]
    objects = [annotation for annotation in every if not annotation.get("iscrowd", 0)]
    per_image = Counter(annotation["image_id"] for annotation in objects)
    per_class = Counter(annotation["category_id"] for annotation in objects)
    sizes = dict.fromkeys((*SIZES, "large"), 0)
    for annotation in objects:
        area = annotation.get("area", masks.get(annotation["id"], (0.0, False))[0])
        sizes[next((name for name, most in SIZES.items() if area <= most), "large")] += 1
    return {
        "images": len(index.images),
        "images_without_objects": len(index.images) - len(per_image),
        "objects": len(objects),
        "crowds": len(every) - len(objects),
        "most_objects_in_an_image": max(per_image.values(), default=0),
        "instances_by_size": sizes,
        "classes": [
            {"id": number, "name": name, "objects": per_class[number]}
            for number, name in index.categories.items()
        ],
    }


def check_numbers(
    index: AnnotationFile, masks: MaskSizes, numbers: Mapping[str, Any], report: Report
) -> None:
    """Report problems that a split's `statistics` show, such as unused classes and box masks."""
    if not index.images:
        report("no images", "images", "there is no valid one")
    elif not numbers["objects"]:
        report("no objects", "annotations", "no image has an object")
    if not index.categories:
        report("no categories", "categories", "there is no valid one")
    _check_categories(numbers["classes"], index, report)
    for image_id, record in index.images.items():
        entries = index.annotations.get(image_id, [])
        num_objects = sum(not annotation.get("iscrowd", 0) for annotation in entries)
        if num_objects == 0:
            text = f"{record['file_name']} has no object"
            report("image without objects", f"image {image_id}", text)
        elif num_objects > MAX_DETECTIONS:
            text = f"{record['file_name']} has {num_objects} objects"
            report("crowded image", f"image {image_id}", text)
    num_annotations = numbers["objects"] + numbers["crowds"]
    if num_annotations >= LEAST_FOR_A_SHARE and numbers["crowds"] > numbers["objects"]:
        text = f"{numbers['crowds']} of {num_annotations} are crowds"
        report("mostly crowds", "annotations", text)
    num_rectangles = sum(is_filled for _, is_filled in masks.values())
    if len(masks) >= LEAST_FOR_A_SHARE and num_rectangles > len(masks) / 2:
        text = f"{num_rectangles} of {len(masks)} masks fill their boxes"
        report("rectangular masks", "annotations", text)


def _check_categories(classes: list[dict[str, Any]], index: AnnotationFile, report: Report) -> None:
    shown = {  # category -> image of an object, for categories with one object
        annotation["category_id"]: index.images.get(image_id, {}).get(
            "file_name", f"image {image_id}"
        )
        for image_id, entries in index.annotations.items()
        for annotation in entries
        if not annotation.get("iscrowd", 0)
    }
    names: dict[str, int] = {}
    spellings: dict[str, str] = {}
    for category in classes:
        entry = f"category {category['id']}"
        if not category["objects"]:
            report("unused category", entry, f"{category['name']} has no object")
        elif category["objects"] == 1:
            text = f"{category['name']} has one object, in {shown[category['id']]}"
            report("category of one object", entry, text)
        other = names.setdefault(category["name"], category["id"])
        if other != category["id"]:
            text = f"{category['name']} is the name of category {other}, too"
            report("category name twice", entry, text)
        spelling = " ".join(category["name"].split()).casefold()
        alike = spellings.setdefault(spelling, category["name"])
        if alike != category["name"]:
            report("category names alike", entry, f"is {category['name']!r} beside {alike!r}")
    numbers = [category["id"] for category in classes]
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            report("gaps between category ids", f"category {after}", f"follows category {before}")
