"""Checks of the masks and boxes of one image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from blendmask_lite.datasets.coco_format import run_length
from blendmask_lite.datasets.entries import Problem, Report

__all__ = ["MaskSizes", "check_masks", "crosses_itself"]

MAX_CORNERS = 1000  # of a polygon that is searched for crossings; the time grows as its square
TOLERANCE = 2.0  # pixels by which corners and boxes may be off without a word
RELATIVE_TOLERANCE = 0.1  # of a box' longer side; thin ends of an outline cover no pixel
AREA_TOLERANCE = 1.5  # factor

MaskSizes = dict[int, tuple[float, bool]]
"""Annotation id -> the mask's area, pixels, and whether the mask fills its box."""


def check_masks(
    record: dict[str, Any], annotations: list[dict[str, Any]], report: Report
) -> MaskSizes:
    """Decode the masks of an image and compare them with its size and their boxes.

    Args:
        record: of the image.
        annotations: of the image, their fields valid.
        report: of the problems.

    Returns:
        Area and shape of the masks that could be read.
    """
    size = (record["height"], record["width"])
    sizes: MaskSizes = {}
    seen: dict[tuple[int, bytes], int] = {}
    for annotation in annotations:
        entry = f"annotation {annotation['id']}"
        try:
            run = run_length(annotation["segmentation"], size)
        except ValueError as error:
            kind = _kind_of_damage(annotation["segmentation"], size)
            report(Problem(kind, entry, str(error)))
            continue
        _check_polygons(annotation, size, report)
        area, mask_box = float(coco_mask.area(run)), np.asarray(coco_mask.toBbox(run))
        sizes[annotation["id"]] = (area, area == mask_box[2] * mask_box[3])
        if "bbox" in annotation:
            _check_box(entry, annotation["bbox"], mask_box if area else None, size, report)
        if area == 0:
            report(Problem("empty mask", entry, "covers no pixel"))
            continue
        given = annotation.get("area", area)
        # Of a few pixels, outline and pixels may differ by any factor.
        if not _is_near(given, area) and max(given, area) > 32**2 / 4:
            text = f"area = {given}, its mask has {area:.0f} pixels"
            report(Problem("area beside its mask", entry, text))
        other = seen.setdefault((annotation["category_id"], run["counts"]), annotation["id"])
        if other != annotation["id"]:
            text = f"has class and mask of annotation {other}"
            report(Problem("same object twice", entry, text))
    return sizes


def crosses_itself(corners: NDArray[np.float64]) -> bool:
    """Whether two sides of a polygon with (P, 2) corners cross; touching is allowed."""
    start, end = corners, np.roll(corners, -1, axis=0)
    side_of_start = _side(start[:, None], end[:, None], start[None])  # (P, P)
    side_of_end = _side(start[:, None], end[:, None], end[None])
    is_parted = side_of_start * side_of_end < 0
    return bool((is_parted & is_parted.T).any())


def _side(start: NDArray, end: NDArray, point: NDArray) -> NDArray:
    """On which side of the line from `start` to `end` a point lies: -1, 0 or 1."""
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
        report(Problem("crowd with polygons", entry, "has iscrowd = 1 and polygons"))
    limits = np.array([size[1], size[0]], dtype=np.float64)
    for polygon in segmentation:
        corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        beyond = float(np.maximum(-corners, corners - limits).max())
        if beyond > TOLERANCE:
            text = f"a corner lies {beyond:.0f} pixels outside of the image"
            report(Problem("polygon outside", entry, text))
        if len(corners) > MAX_CORNERS:
            report(Problem("long polygon", entry, f"a polygon has {len(corners)} corners"))
        elif crosses_itself(corners):
            text = f"a polygon of {len(corners)} corners crosses itself"
            report(Problem("self-crossing polygon", entry, text))


def _check_box(
    entry: str,
    box: list[float],
    mask_box: NDArray[np.float64] | None,
    size: tuple[int, int],
    report: Report,
) -> None:
    """Compare x, y, width and height with the image and with those of the mask."""
    x, y, width, height = box
    if min(width, height) <= 0:
        report(Problem("degenerate box", entry, f"bbox = {box}"))
        return
    if max(-x, -y, x + width - size[1], y + height - size[0]) > TOLERANCE:
        text = f"bbox = {box} in an image of {size[1]} x {size[0]} pixels"
        report(Problem("box outside", entry, text))
    if mask_box is None:
        return
    own, other = np.array([x, y, x + width, y + height]), mask_box.copy()
    other[2:] += other[:2]
    allowed = TOLERANCE + RELATIVE_TOLERANCE * max(mask_box[2:])
    if np.abs(own - other).max() > allowed:
        text = f"bbox = {box}, its mask has {mask_box.round(1).tolist()}"
        report(Problem("box beside its mask", entry, text))


def _is_near(given: float, area: float) -> bool:
    return area / AREA_TOLERANCE <= given <= area * AREA_TOLERANCE
