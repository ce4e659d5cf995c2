"""The annotations of a picture as the data browser shows them: what is stored, and in which form.

Chapter 01 of the course.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.datasets.coco_format import (
    completed,
    decode_masks,
    encode_masks,
    run_boxes,
    run_length,
)
from blendmask_lite.datasets.sample import InstanceDataset

__all__ = ["GROUPS", "StoredObject", "stored_objects"]

GROUPS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}


@dataclass(frozen=True)
class StoredObject:
    """One annotation.

    Attributes:
        name: number and class, such as "2 star"; a crowd says so.
        is_crowd: a region of many objects that nobody told apart.
        form: how the file stores its mask, in words.
        area: pixels, as the file says.
        mask: (H, W) bool.
        box: (4,) tight corners of the mask, pixels.
        num_runs: run lengths of the mask.
        num_bytes: of the compressed run lengths.
    """

    name: str
    is_crowd: bool
    form: str
    area: float
    mask: Tensor
    box: Tensor
    num_runs: int
    num_bytes: int

    @property
    def groups(self) -> str:
        """Small, medium or large; two of them right on a border."""
        return " and ".join(n for n, (low, high) in GROUPS.items() if low <= self.area <= high)


def stored_objects(dataset: InstanceDataset, index: int) -> list[StoredObject]:
    """The annotations of the image at a position of the data set, crowds among them."""
    content = dataset.select([dataset.image_ids[index]]).ground_truth()
    size = (content["images"][0]["height"], content["images"][0]["width"])
    names = {each["id"]: each["name"] for each in content["categories"]}
    return [
        _stored(number, entry, names[entry["category_id"]], size)
        for number, entry in enumerate(content["annotations"], start=1)
    ]


def _stored(
    number: int, entry: dict[str, Any], class_name: str, size: tuple[int, int]
) -> StoredObject:
    run = run_length(entry["segmentation"], size)
    entry = completed(entry, run)
    mask = decode_masks([run], size)[0]
    pixels = torch.cat([torch.zeros(1, dtype=torch.bool), mask.T.flatten()])
    is_crowd = bool(entry["iscrowd"])
    return StoredObject(
        name=f"{number} {class_name}{' (crowd)' if is_crowd else ''}",
        is_crowd=is_crowd,
        form=_form(entry["segmentation"]),
        area=float(entry["area"]),
        mask=mask,
        box=run_boxes([run])[0],
        num_runs=int((pixels[1:] != pixels[:-1]).sum()) + 1,
        num_bytes=len(encode_masks(mask[None])[0]["counts"]),
    )


def _form(segmentation: Any) -> str:
    if isinstance(segmentation, list):
        corners = sum(len(polygon) // 2 for polygon in segmentation)
        many = "a polygon" if len(segmentation) == 1 else f"{len(segmentation)} polygons"
        return f"{many} with {corners} corners"
    if isinstance(segmentation["counts"], list):
        return f"a list of {len(segmentation['counts'])} run lengths"
    return "compressed run lengths"
