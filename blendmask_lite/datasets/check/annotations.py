"""Checks of a split: the masks and boxes of an image, panoptic files, and image files."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from blendmask_lite.datasets.coco_entries import (
    Report,
    index_segments,
    is_number,
    read_lists,
    thing_categories,
)
from blendmask_lite.datasets.coco_files import find_picture
from blendmask_lite.datasets.coco_format import run_length
from blendmask_lite.datasets.panoptic import read_segment_ids, segments_folder
from blendmask_lite.images import (
    DEEP_MODES,
    IMAGE_SUFFIXES,
    exif_orientation,
    open_image,
    read_stored_image,
)
from blendmask_lite.structures import UNLABELLED
from blendmask_lite.terminal import counted

__all__ = [
    "MaskSizes",
    "PictureCheck",
    "check_masks",
    "check_panoptic",
    "crosses_itself",
    "unlisted_pictures",
]

MAX_CORNERS = 1000  # larger polygons are not searched for crossings; the time grows with the square
TOLERANCE = 2.0  # pixels by which corners and boxes may be off
RELATIVE_TOLERANCE = 0.1  # share of a box's longer side; thin ends of an outline may cover no pixel
AREA_TOLERANCE = 1.5  # largest factor between the given area and the mask's

MaskSizes = dict[int, tuple[float, bool]]
"""Annotation id -> the mask's area, pixels, and whether the mask fills its box."""


def check_masks(
    record: dict[str, Any], annotations: list[dict[str, Any]], report: Report
) -> MaskSizes:
    """Decode the masks of an image and compare them with its size and their boxes.

    Args:
        record: the image's record.
        annotations: the image's annotations, with valid fields.
        report: called for every problem, with the image's file.
    """

    def report_here(kind: str, entry: str, text: str) -> None:
        report(kind, f"{record['file_name']}: {entry}", text)

    size = (record["height"], record["width"])
    sizes: MaskSizes = {}
    seen: dict[tuple[int, bytes], int] = {}
    for annotation in annotations:
        entry = f"annotation {annotation['id']}"
        try:
            run = run_length(annotation["segmentation"], size)
        except ValueError as error:
            kind = _kind_of_damage(annotation["segmentation"], size)
            report_here(kind, entry, str(error))
            continue
        _check_polygons(annotation, size, report_here)
        area, mask_box = float(coco_mask.area(run)), np.asarray(coco_mask.toBbox(run))
        sizes[annotation["id"]] = (area, area == mask_box[2] * mask_box[3])
        if "bbox" in annotation:
            _check_box(entry, annotation["bbox"], mask_box if area else None, size, report_here)
        if area == 0:
            report_here("empty mask", entry, "covers no pixel")
            continue
        given = annotation.get("area", area)
        is_near = area / AREA_TOLERANCE <= given <= area * AREA_TOLERANCE
        # For small masks, the areas of outline and pixels may differ by any factor.
        if not is_near and max(given, area) > 32**2 / 4:
            text = f"area = {given}, its mask has {counted(round(area), 'pixel')}"
            report_here("area beside its mask", entry, text)
        other = seen.setdefault((annotation["category_id"], run["counts"]), annotation["id"])
        if other != annotation["id"]:
            report_here("same object twice", entry, f"has class and mask of annotation {other}")
    return sizes


def crosses_itself(corners: NDArray[np.float64]) -> bool:
    """Whether any two sides of a polygon with (P, 2) corners cross; touching is allowed."""
    start, end = corners, np.roll(corners, -1, axis=0)
    side_of_start = _side(start[:, None], end[:, None], start[None])  # (P, P)
    side_of_end = _side(start[:, None], end[:, None], end[None])
    is_parted = side_of_start * side_of_end < 0
    return bool((is_parted & is_parted.T).any())


def _side(start: NDArray, end: NDArray, point: NDArray) -> NDArray:
    """The side of the line from `start` to `end` on which a point lies: -1, 0 or 1."""
    along, beside = end - start, point - start
    return np.sign(along[..., 0] * beside[..., 1] - along[..., 1] * beside[..., 0])


def _kind_of_damage(segmentation: object, size: tuple[int, int]) -> str:
    is_run = isinstance(segmentation, dict) and isinstance(segmentation.get("size"), list)
    if is_run and segmentation["size"] != list(size):  # type: ignore[index]
        return "mask of another size"
    return "damaged mask"


def _check_polygons(annotation: dict[str, Any], size: tuple[int, int], report: Report) -> None:
    segmentation, entry = annotation["segmentation"], f"annotation {annotation['id']}"
    if not isinstance(segmentation, list):
        return
    if annotation.get("iscrowd", 0):
        report("crowd with polygons", entry, "has iscrowd = 1 and polygons")
    limits = np.array([size[1], size[0]], dtype=np.float64)
    for polygon in segmentation:
        corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        beyond = float(np.maximum(-corners, corners - limits).max())
        if beyond > TOLERANCE:
            text = f"a corner lies {counted(round(beyond), 'pixel')} outside of the image"
            report("polygon outside", entry, text)
        if len(corners) > MAX_CORNERS:
            report("long polygon", entry, f"a polygon has {len(corners)} corners")
        elif crosses_itself(corners):
            text = f"a polygon of {len(corners)} corners crosses itself"
            report("self-crossing polygon", entry, text)


def _check_box(
    entry: str,
    box: list[float],
    mask_box: NDArray[np.float64] | None,
    size: tuple[int, int],
    report: Report,
) -> None:
    """Compare a box (x, y, width, height) with the image and with the box of the mask."""
    x, y, width, height = box
    if min(width, height) <= 0:
        report("degenerate box", entry, f"bbox = {box}")
        return
    if max(-x, -y, x + width - size[1], y + height - size[0]) > TOLERANCE:
        report("box outside", entry, f"bbox = {box} in an image of {size[1]} x {size[0]} pixels")
    if mask_box is None:
        return
    own, other = np.array([x, y, x + width, y + height]), mask_box.copy()
    other[2:] += other[:2]
    allowed = TOLERANCE + RELATIVE_TOLERANCE * max(mask_box[2:])
    if np.abs(own - other).max() > allowed:
        text = f"bbox = {box}, its mask has {mask_box.round(1).tolist()}"
        report("box beside its mask", entry, text)


def check_panoptic(
    root: Path,
    split: str,
    images: dict[int, dict[str, Any]],
    report: Report,
    *,
    decode: bool,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Check annotations/panoptic_SPLIT.json and its segment images.

    Args:
        root: the folder.
        split: name of the split.
        images: image id -> record, from the instances file.
        report: called for every problem.
        decode: compare the segments in every segment image with the file; otherwise, only check
            that the image exists.
        progress: called with (number of annotations done, number of annotations).

    Returns:
        Counts of annotations, segments, thing classes and stuff classes.
    """
    path = root / "annotations" / f"panoptic_{split}.json"
    try:
        content = read_lists(path, "annotations", "categories")
        folder = segments_folder(root, split)
    except ValueError as error:
        report("unreadable file", path.name, str(error))
        return {}

    def report_here(kind: str, entry: str, text: str) -> None:
        report(kind, f"{path.name}: {entry}", text)

    categories = thing_categories(content["categories"], report_here)
    num_stuff = sum(not category["isthing"] for category in categories.values())
    if not 1 <= num_stuff < UNLABELLED:
        report("no stuff", path.name, f"has {num_stuff} categories of stuff")
    annotations = index_segments(content["annotations"], set(categories), report_here)
    for done, (image_id, annotation) in enumerate(annotations.items(), start=1):
        _check_annotation(folder, annotation, images.get(image_id), report_here, decode=decode)
        if progress is not None:
            progress(done, len(annotations))
    for image_id in images:
        if image_id not in annotations:
            report_here("image without segments", f"image {image_id}", "is not there")
    return {
        "annotations": len(annotations),
        "segments": sum(len(annotation["segments_info"]) for annotation in annotations.values()),
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
        report("segments without image", entry, "is not in the instances file")
        return
    if not decode:
        if not path.is_file():
            report("missing image", entry, f"{path.name} is not there")
        return
    try:
        drawn = read_segment_ids(path, (record["height"], record["width"])).numpy()
    except (FileNotFoundError, ValueError) as error:
        kind = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        report(f"{kind} image", entry, str(error))
        return
    numbers, counts = np.unique(drawn, return_counts=True)
    pixels = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    segments = {segment["id"]: segment for segment in annotation["segments_info"]}
    for number in sorted(set(pixels) - set(segments) - {0}):
        text = f"{path.name} holds segment {number}, which the file lacks"
        report("unknown segment", entry, text)
    for number, segment in segments.items():
        where = f"{entry}: segment {number}"
        area = segment.get("area")
        if number not in pixels:
            report("unseen segment", where, f"is not in {path.name}")
        elif is_number(area) and area != pixels[number]:
            text = f"area = {area}, {path.name} has {counted(pixels[number], 'pixel')} of it"
            report("segment of another area", where, text)


class PictureCheck:
    """Checks image files one by one.

    Args:
        folders: folders to search for the files, in this order.
        report: called for every problem.
        decode: whether to read all pixels, too.

    Attributes:
        paths: file -> image id, for the files that were found.
        digests: SHA-256 of the content -> image id; only with `decode`.
    """

    def __init__(self, folders: list[Path], report: Report, *, decode: bool) -> None:
        self.folders = folders
        self.report = report
        self.decode = decode
        self.paths: dict[Path, int] = {}
        self.digests: dict[bytes, int] = {}

    def check(self, record: dict[str, Any]) -> None:
        """Look for the file of an image and compare it with the image's record."""
        entry, name = f"image {record['id']}", record["file_name"]
        path = find_picture(self.folders, name)
        if path is None:
            self.report("missing image", entry, f"{name} is in none of the split's folders")
            return
        if path in self.paths:
            text = f"{name} is the file of image {self.paths[path]}, too"
            self.report("file listed twice", entry, text)
        self.paths.setdefault(path, record["id"])
        size = (record["height"], record["width"])
        try:
            if self._fits(entry, path, size) and self.decode:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about 16 bits, which is reported as a problem
                    read_stored_image(path, size)
                self._compare_content(entry, path, record["id"])
        except (ValueError, OSError) as error:
            self.report("damaged image", entry, str(error))

    def _fits(self, entry: str, path: Path, size: tuple[int, int]) -> bool:
        """Check a file's header; returns whether the size is right."""
        with open_image(path) as picture:
            orientation = exif_orientation(picture)
            if orientation != 1:
                text = f"{path.name} has the EXIF orientation {orientation}"
                self.report("rotated image", entry, text)
            if picture.mode in DEEP_MODES:
                self.report("deep image", entry, f"{path.name} has Pillow's mode {picture.mode}")
            width, height = picture.size
        if (height, width) == size:
            return True
        text = f"{path.name} is {width} x {height} pixels, the entry says {size[1]} x {size[0]}"
        self.report("size mismatch", entry, text)
        return False

    def _compare_content(self, entry: str, path: Path, image_id: int) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        other = self.digests.setdefault(digest, image_id)
        if other != image_id:
            text = f"{path.name} has the content of image {other}"
            self.report("same image twice", entry, text)


def unlisted_pictures(folder: Path, listed: Sequence[Path], report: Report) -> None:
    """Report image files in a split's own folder that no entry names."""
    if folder.is_dir():
        known = set(listed)
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES and path not in known:
                report("unlisted image", folder.name, f"{path.name} has no entry")
