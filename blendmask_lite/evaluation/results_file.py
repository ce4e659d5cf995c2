"""Detections in COCO's results format, as the official tools and servers take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blendmask_lite.datasets.coco_format import encode_masks
from blendmask_lite.structures import FoundObjects

__all__ = ["coco_results"]


def coco_results(
    image_id: int, detections: FoundObjects, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Detections as entries of COCO's results format.

    Args:
        image_id: of the image.
        detections: N, at the size of the stored picture.
        category_ids: of the labels; without, the labels themselves.

    Returns:
        N dictionaries with image_id, category_id, segmentation (compressed run lengths), bbox
        (x, y, width, height) and score.
    """
    entries = []
    for run, box, label, score in zip(
        encode_masks(detections.masks),
        detections.boxes.tolist(),
        detections.labels.tolist(),
        detections.scores.tolist(),
        strict=True,
    ):
        x0, y0, x1, y1 = box
        entries.append(
            {
                "image_id": image_id,
                "category_id": label if category_ids is None else category_ids[label],
                "segmentation": run,
                "bbox": [round(side, 3) for side in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(score, 6),
            }
        )
    return entries
