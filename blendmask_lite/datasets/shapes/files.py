"""The shapes data set as JSON and PNG files that any COCO tool can read.

Chapter 01 of the course.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blendmask_lite.datasets.coco_format import instances_content
from blendmask_lite.datasets.panoptic import TrueSegments, segments_of, write_segment_ids
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes.paint import STUFF_CLASSES
from blendmask_lite.datasets.shapes.scene import (
    SHAPE_CLASSES,
    ShapesConfig,
    draw_scene,
    scene_sample,
)
from blendmask_lite.files import is_stream, require_writable, write_atomically
from blendmask_lite.images import encode_image
from blendmask_lite.masks import mask_boxes

__all__ = ["write_shapes"]

FILE_NAME = "{:06}.png"  # filled in with the image id


def write_shapes(
    out: str | Path,
    *,
    num_images: int,
    seed: int = 0,
    config: ShapesConfig | None = None,
    split: str = "train",
    stuff: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw scenes into a COCO folder and return the annotation file, which is written last.

    Files: OUT/annotations/instances_SPLIT.json and OUT/SPLIT/*.png; with `stuff` also
    OUT/annotations/panoptic_SPLIT.json and OUT/annotations/panoptic_SPLIT/*.png. Masks are
    compressed run lengths of the visible pixels. Scene `index` has image id `index`.

    Args:
        out: the folder; it is made if it is missing. Other splits in it stay.
        num_images: number of scenes, at least 1.
        seed: seed of the scenes; give every split its own seed.
        config: size and difficulty.
        split: name of the split, which must be a plain folder name.
        stuff: also write the panoptic annotation of things and stuff.
        progress: called with (number of scenes done, number of scenes).
    """
    if num_images < 1:
        raise ValueError(f"num_images = {num_images}: must be at least 1")
    if not split or "/" in split or "\\" in split or split.startswith("."):
        raise ValueError(f"split = {split!r}: must be a plain folder name")
    if seed < 0:
        raise ValueError(f"seed = {seed}: must be at least 0")
    folder = Path(out)
    path = folder / "annotations" / f"instances_{split}.json"
    # The old annotation file must not describe a mixture of two runs' images.
    require_writable(path)
    if not is_stream(path):  # a device must not be removed
        path.resolve().unlink(missing_ok=True)
    config = ShapesConfig() if config is None else config
    category_ids = range(1, len(SHAPE_CLASSES) + 1)
    stuff_ids = range(len(SHAPE_CLASSES) + 1, len(SHAPE_CLASSES) + len(STUFF_CLASSES) + 1)
    panoptic = folder / "annotations" / f"panoptic_{split}"
    segments: list[dict[str, Any]] = []

    def written() -> Iterator[Sample]:
        for index in range(num_images):
            sample = scene_sample(draw_scene(seed, index, config), index)
            content = encode_image(sample.image.permute(1, 2, 0).numpy())
            picture = folder / split / FILE_NAME.format(index)
            write_atomically(picture, content, is_durable=False)
            if stuff:
                found = segments_of(sample.target, category_ids, stuff_ids)
                write_segment_ids(panoptic / FILE_NAME.format(index), found.ids, is_durable=False)
                segments.append(_segments_record(found, index))
            if progress is not None:
                progress(index + 1, num_images)
            yield sample

    info = {"description": f"generated shapes, seed {seed}", "config": asdict(config)}
    content = instances_content(written(), SHAPE_CLASSES, category_ids, file_name=FILE_NAME)
    if stuff:
        every = [category | {"isthing": 1} for category in content["categories"]] + [
            {"id": category_id, "name": name, "supercategory": "stuff", "isthing": 0}
            for category_id, name in zip(stuff_ids, STUFF_CLASSES, strict=True)
        ]
        of_segments = {"annotations": segments, "categories": every}
        _write_json(panoptic.with_suffix(".json"), {"info": info} | content | of_segments)
    _write_json(path, {"info": info} | content)
    return path


def _segments_record(found: TrueSegments, image_id: int) -> dict[str, Any]:
    """An entry of "annotations" of a panoptic file."""
    boxes = mask_boxes(torch.stack([found.ids == segment.id for segment in found.segments]))
    areas = found.ids.flatten().bincount().tolist()
    segments = []
    for each, (x0, y0, x1, y1) in zip(found.segments, boxes.int().tolist(), strict=True):
        segment = {"id": each.id, "category_id": each.category_id, "area": areas[each.id]}
        segments.append(segment | {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0})
    name = FILE_NAME.format(image_id)
    return {"image_id": image_id, "file_name": name, "segments_info": segments}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, separators=(",", ":")).encode())
