"""Segments in COCO's panoptic results format, as the official tools and servers take them.

A .json file lists the segments of every image; beside it, in the folder of the same name without
.json, lies one picture an image, whose colours are the numbers of the segments.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from blendmask_lite.files import write_atomically
from blendmask_lite.structures import PanopticResult

__all__ = ["panoptic_entry", "panoptic_results_path", "write_panoptic_json", "write_segment_ids"]


def panoptic_results_path(folder: str | Path, split: str) -> Path:
    """Where the results of a split go, named as COCO's server asks."""
    return Path(folder) / f"panoptic_{split}_blendmask_results.json"


def panoptic_entry(
    image_id: int,
    result: PanopticResult,
    category_ids: Sequence[int],
    stuff_ids: Sequence[int],
) -> dict[str, Any]:
    """The segments of one image as an entry of the results file.

    Args:
        image_id: of the image.
        result: its segments.
        category_ids: of the labels 0 to C-1 of things.
        stuff_ids: of the labels 1 to S of stuff.
    """
    segments = [
        {
            "id": each.id,
            "category_id": (
                category_ids[each.label] if each.is_thing else stuff_ids[each.label - 1]
            ),
        }
        for each in result.segments
    ]
    return {
        "image_id": image_id,
        "file_name": f"{image_id:012}.png",
        "segments_info": segments,
    }


def write_panoptic_json(
    path: Path, entries: Sequence[dict[str, Any]], categories: Sequence[dict[str, Any]]
) -> None:
    """Write the results file of all images."""
    content = {"annotations": list(entries), "categories": list(categories)}
    write_atomically(path, json.dumps(content).encode())


def write_segment_ids(path: Path, ids: Tensor) -> None:
    """Write (H, W) segment ids below 2^24 as a PNG: id = R + 256 G + 65536 B."""
    colors = np.stack([ids.numpy() >> shift & 255 for shift in (0, 8, 16)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(colors.astype(np.uint8)).save(buffer, format="PNG", compress_level=3)
    write_atomically(path, buffer.getvalue())
