"""Detections in the formats of other programs: labelme, YOLO, tables, label maps, supervision.

COCO's format is in `results.py`. Polygons run through the middles of the pixels' edges, so that a
pixel is inside if its center is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blendmask_lite.datasets.coco_format import mask_outlines
from blendmask_lite.structures import AnyDetections

if TYPE_CHECKING:
    import supervision

__all__ = [
    "TABLE_COLUMNS",
    "label_map",
    "labelme_content",
    "supervision_detections",
    "table_rows",
    "yolo_lines",
]

TABLE_COLUMNS = ("class", "score", "x0", "y0", "x1", "y1", "area")


def labelme_content(found: AnyDetections, image_path: str) -> dict[str, Any]:
    """The content of the JSON file that labelme opens, with polygons to correct by hand.

    Parts of one object have a `group_id` in common, its score is the description, and holes are
    filled, because labelme knows none.

    Args:
        found: at the size of the stored image.
        image_path: of the image, relative to the JSON file.
    """
    shapes = [
        {
            "label": found.names[place],
            "points": _corners(outline).tolist(),
            "group_id": place + 1,
            "description": f"{float(found.scores[place]):.3f}",
            "shape_type": "polygon",
            "flags": {},
        }
        for place, outlines in enumerate(_outlines(found))
        for outline in outlines
        if _area(outline) > 0  # holes run the other way around
    ]
    height, width = found.image_size
    head = {"version": "5.0.0", "flags": {}, "shapes": shapes, "imagePath": image_path}
    return head | {"imageData": None, "imageHeight": height, "imageWidth": width}


def yolo_lines(found: AnyDetections) -> list[str]:
    """A line for each object that has pixels: label, then x and y of its polygon from 0 to 1.

    The format has one polygon for each object. Further parts and holes are reached from the first
    point over a line of no width and left by the same line, so that nothing is lost if points are
    inside by the even-odd rule, as in OpenCV's `fillPoly`.
    """
    height, width = found.image_size
    lines = []
    for label, outlines in zip(found.labels.tolist(), _outlines(found), strict=True):
        if outlines:
            rings = [np.vstack([ring, ring[:1]]) for ring in map(_corners, outlines)]
            first = rings[0][:1]
            path = np.vstack([rings[0], *(part for ring in rings[1:] for part in (ring, first))])
            numbers = (path / (width, height)).ravel()
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
    """(H, W): which object a pixel belongs to, from 1, the best where several do; 0 for none."""
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


def _outlines(found: AnyDetections) -> list[list[NDArray[np.float64]]]:
    """N lists of closed lines, each (P, 2) as x and y, pixels of the image."""
    return [
        [line + np.array([columns.start, rows.start]) for line in mask_outlines(part)]
        for (rows, columns), part in found.mask_parts()
    ]


def _corners(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of a closed line at which it turns, without the repeated last one."""
    steps = np.diff(outline, axis=0)
    before = np.roll(steps, 1, axis=0)
    turns = before[:, 0] * steps[:, 1] != before[:, 1] * steps[:, 0]
    return outline[:-1][turns]


def _area(outline: NDArray[np.float64]) -> float:
    x, y = outline.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
