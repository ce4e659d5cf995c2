"""Detections in the formats of other programs: YOLO, tables, label maps, supervision.

COCO's format is in `results.py`, labelme's in `polygons.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blendmask_lite.polygons import part_polygons
from blendmask_lite.structures import AnyDetections

if TYPE_CHECKING:
    import supervision

__all__ = [
    "TABLE_COLUMNS",
    "label_map",
    "supervision_detections",
    "table_rows",
    "yolo_lines",
]

TABLE_COLUMNS = ("class", "score", "x0", "y0", "x1", "y1", "area")


def yolo_lines(found: AnyDetections) -> list[str]:
    """A line for each object that has pixels: label, then x and y of its polygon from 0 to 1.

    The format has one polygon for each object. A line of no width leads from the first point to
    each further polygon and back, so no pixel is lost if the even-odd rule decides what is inside,
    as in OpenCV's `fillPoly`.
    """
    height, width = found.image_size
    lines = []
    for label, (region, part) in zip(found.labels.tolist(), found.mask_parts(), strict=True):
        path: list[list[float]] = []
        for polygon in part_polygons(region, part, tolerance=0):
            path += [*polygon, polygon[0], path[0]] if path else [*polygon, polygon[0]]
        if path:
            numbers = (np.array(path) / (width, height)).ravel()
            lines.append(" ".join([str(label), *(f"{number:.6f}" for number in numbers)]))
    return lines


def table_rows(found: AnyDetections) -> list[list[Any]]:
    """A row of `TABLE_COLUMNS` for each object; boxes in pixels, areas are counts of pixels."""
    areas = [int(part.sum()) for _, part in found.mask_parts()]
    boxes = found.boxes.double().cpu().numpy().round(3).tolist()
    scores = found.scores.double().cpu().numpy().round(6).tolist()
    columns = zip(found.names, scores, boxes, areas, strict=True)
    return [[name, score, *box, area] for name, score, box, area in columns]


def label_map(found: AnyDetections) -> NDArray[np.uint16]:
    """(H, W): 1-based number of each pixel's object, of the best if several overlap; 0 for none."""
    owners = np.zeros(found.image_size, dtype=np.uint16)
    for number, (region, part) in enumerate(found.mask_parts(is_reversed=True)):
        owners[region][part.cpu().numpy()] = len(found) - number
    return owners


def supervision_detections(found: AnyDetections) -> supervision.Detections:
    """The same objects for the package `supervision`, with class names as `data["class_name"]`.

    Raises:
        ImportError: the package is not installed.
    """
    try:
        import supervision
    except ImportError:
        advice = 'pip install "blendmask_lite[supervision]"'
        raise ImportError(f"supervision is not installed: {advice}") from None
    masks = np.zeros((len(found), *found.image_size), dtype=bool)
    for mask, (region, part) in zip(masks, found.mask_parts(), strict=True):
        mask[region] = part.cpu().numpy()
    return supervision.Detections(
        xyxy=found.boxes.cpu().numpy(),
        mask=masks,
        confidence=found.scores.cpu().numpy(),
        class_id=found.labels.cpu().numpy(),
        data={"class_name": np.array(found.names, dtype=str)},
    )
