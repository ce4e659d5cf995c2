"""Records of the COCO format: masks as run lengths, and the entries of an annotation file.

Chapter 01 of the course. Lin et al., "Microsoft COCO: Common Objects in Context".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from blendmask_lite.structures import Target

__all__ = [
    "annotation_records",
    "category_records",
    "decode_masks",
    "encode_masks",
    "image_record",
]


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Compressed run lengths of masks, holes and separate pieces exact.

    Args:
        masks: (N, H, W) bool; N may be 0.

    Returns:
        N dictionaries {"size": [H, W], "counts": text}, ready for JSON.
    """
    columns = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    runs = coco_mask.encode(columns)
    return [{"size": list(run["size"]), "counts": run["counts"].decode("ascii")} for run in runs]


def decode_masks(runs: Sequence[dict[str, Any]], size: tuple[int, int]) -> Tensor:
    """(N, H, W) bool masks of N compressed run lengths; N may be 0."""
    if not runs:
        return torch.zeros((0, *size), dtype=torch.bool)
    # pycocotools fills column by column: (H, W, N) in Fortran order is (N, W, H) in memory.
    decoded: np.ndarray = coco_mask.decode(list(runs))
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1))).bool()


def image_record(
    image_id: int, size: tuple[int, int], file_name: str | None = None
) -> dict[str, Any]:
    """An entry of "images"."""
    height, width = size
    record = {"id": image_id, "height": height, "width": width}
    return record if file_name is None else record | {"file_name": file_name}


def category_records(names: Sequence[str], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The entries of "categories"."""
    return [
        {"id": category_id, "name": name, "supercategory": "thing"}
        for name, category_id in zip(names, category_ids, strict=True)
    ]


def annotation_records(
    target: Target, image_id: int, category_ids: Sequence[int], *, first_id: int
) -> list[dict[str, Any]]:
    """The entries of "annotations" for one image: masks as run lengths, boxes as x, y, w, h.

    Args:
        target: with `masks`.
        image_id: of the image.
        category_ids: by label.
        first_id: of the first annotation; the others count on.
    """
    if target.masks is None:
        raise ValueError(f"image {image_id}: the target has no masks")
    runs = encode_masks(target.masks)
    areas = target.masks.flatten(1).sum(dim=1).tolist()
    records = []
    for offset, (run, area) in enumerate(zip(runs, areas, strict=True)):
        x0, y0, x1, y1 = (round(value, 2) for value in target.boxes[offset].tolist())
        records.append(
            {
                "id": first_id + offset,
                "image_id": image_id,
                "category_id": category_ids[int(target.labels[offset])],
                "segmentation": run,
                "area": area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
        )
    return records
