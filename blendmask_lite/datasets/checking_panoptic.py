"""Checks of a split's panoptic file and, decoded, its pictures of segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from blendmask_lite.datasets.coco_entries import index_segments, thing_categories
from blendmask_lite.datasets.coco_files import read_lists
from blendmask_lite.datasets.entries import Problem, Report, is_number
from blendmask_lite.datasets.panoptic import read_segment_ids, segments_folder
from blendmask_lite.structures import UNLABELLED

__all__ = ["check_panoptic"]


def check_panoptic(
    root: Path,
    split: str,
    images: dict[int, dict[str, Any]],
    report: Report,
    *,
    decode: bool,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Check annotations/panoptic_SPLIT.json and its pictures.

    Args:
        root: the folder.
        split: its name.
        images: image id -> record, of the instances file.
        report: of the problems.
        decode: compare the segments of every picture with the file; else only look for it.
        progress: called with (annotations done, annotations in all).

    Returns:
        Numbers of annotations, segments, kinds of things and kinds of stuff.
    """
    path = root / "annotations" / f"panoptic_{split}.json"
    try:
        content = read_lists(path, "annotations", "categories")
        folder = segments_folder(root, split)
    except ValueError as error:
        report(Problem("unreadable file", path.name, str(error)))
        return {}

    def report_here(problem: Problem) -> None:
        report(Problem(problem.kind, f"{path.name}: {problem.entry}", problem.text))

    categories = thing_categories(content["categories"], report_here)
    num_stuff = sum(not each["isthing"] for each in categories.values())
    if not 1 <= num_stuff < UNLABELLED:
        report(Problem("no stuff", path.name, f"has {num_stuff} categories of stuff"))
    annotations = index_segments(content["annotations"], set(categories), report_here)
    for done, (image_id, annotation) in enumerate(annotations.items(), start=1):
        _check_annotation(folder, annotation, images.get(image_id), report_here, decode=decode)
        if progress is not None:
            progress(done, len(annotations))
    for image_id in images:
        if image_id not in annotations:
            report_here(Problem("image without segments", f"image {image_id}", "is not there"))
    return {
        "annotations": len(annotations),
        "segments": sum(len(each["segments_info"]) for each in annotations.values()),
        "things": len(categories) - num_stuff,
        "stuff": num_stuff,
    }


def _check_annotation(
    folder: Path,
    annotation: dict[str, Any],
    record: dict[str, Any] | None,
    report: Report,
    *,
    decode: bool,
) -> None:
    entry, path = f"image {annotation['image_id']}", folder / annotation["file_name"]
    if record is None:
        report(Problem("segments without image", entry, "is not in the instances file"))
        return
    if not decode:
        if not path.is_file():
            report(Problem("missing picture", entry, f"{path.name} is not there"))
        return
    try:
        drawn = read_segment_ids(path, (record["height"], record["width"])).numpy()
    except FileNotFoundError as error:
        report(Problem("missing picture", entry, str(error)))
        return
    except ValueError as error:
        report(Problem("damaged picture", entry, str(error)))
        return
    numbers, counts = np.unique(drawn, return_counts=True)
    pixels = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    segments = {each["id"]: each for each in annotation["segments_info"]}
    for number in sorted(set(pixels) - set(segments) - {0}):
        text = f"{path.name} holds segment {number}, which the file lacks"
        report(Problem("unknown segment", entry, text))
    for number, segment in segments.items():
        where = f"{entry}: segment {number}"
        area = segment.get("area")
        if number not in pixels:
            report(Problem("unseen segment", where, f"is not in {path.name}"))
        elif is_number(area) and area != pixels[number]:
            text = f"area = {area}, {path.name} has {pixels[number]} pixels of it"
            report(Problem("segment of another area", where, text))
