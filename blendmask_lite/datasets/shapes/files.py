"""The shapes data set as files that any COCO tool reads: JSON and PNG.

Chapter 01 of the course.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from blendmask_lite.datasets.coco_format import annotation_records, category_records, image_record
from blendmask_lite.datasets.shapes.paint import STUFF_CLASSES
from blendmask_lite.datasets.shapes.scene import (
    SHAPE_CLASSES,
    Scene,
    ShapesConfig,
    draw_scene,
    scene_sample,
)
from blendmask_lite.files import is_stream, require_writable, write_atomically
from blendmask_lite.masks import mask_boxes

__all__ = ["write_shapes"]


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
    """Draw scenes into a COCO folder; the annotation file comes last, in one step.

    Files: OUT/annotations/instances_SPLIT.json and OUT/SPLIT/*.png; with `stuff` also
    OUT/annotations/panoptic_SPLIT.json and OUT/annotations/panoptic_SPLIT/*.png. Masks are
    compressed run lengths of the visible pixels. Scene `index` has image id `index`.

    Args:
        out: the folder; made if it is missing. Other splits in it stay.
        num_images: number of scenes, at least 1.
        seed: of the scenes; give every split a seed of its own.
        config: size and difficulty.
        split: name of the split.
        stuff: also write the panoptic annotation of things and stuff.
        progress: called with (scenes done, scenes in all).

    Returns:
        The annotation file.

    Raises:
        ValueError: a number or a name that cannot be; nothing is made then.
    """
    if num_images < 1:
        raise ValueError(f"num_images = {num_images}: must be at least 1")
    if not split or "/" in split or "\\" in split or split.startswith("."):
        raise ValueError(f"split = {split!r}: must be a plain folder name")
    if seed < 0:
        raise ValueError(f"seed = {seed}: must be at least 0")
    folder = Path(out)
    path = folder / "annotations" / f"instances_{split}.json"
    # Pictures of two runs must not be read under one annotation file.
    require_writable(path)
    if not is_stream(path):  # a device is nobody's to remove
        path.resolve().unlink(missing_ok=True)
    config = ShapesConfig() if config is None else config
    category_ids = range(1, len(SHAPE_CLASSES) + 1)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    for index in range(num_images):
        scene = draw_scene(seed, index, config)
        name = f"{index:06}.png"
        _write_png(folder / split / name, scene.image)
        sample = scene_sample(scene, index)
        images.append(image_record(index, sample.original_size, name))
        annotations += annotation_records(
            sample.target, index, category_ids, first_id=len(annotations) + 1
        )
        if stuff:
            segments, colors = _panoptic(scene)
            _write_png(folder / "annotations" / f"panoptic_{split}" / name, colors)
            panoptic.append({"image_id": index, "file_name": name, "segments_info": segments})
        if progress is not None:
            progress(index + 1, num_images)
    info = {"description": f"generated shapes, seed {seed}", "config": asdict(config)}
    categories = category_records(SHAPE_CLASSES, category_ids)
    if stuff:
        every = [each | {"isthing": 1} for each in categories] + [
            {"id": category_id, "name": name, "supercategory": "stuff", "isthing": 0}
            for category_id, name in enumerate(STUFF_CLASSES, start=len(SHAPE_CLASSES) + 1)
        ]
        content = {"info": info, "images": images, "annotations": panoptic, "categories": every}
        _write_json(folder / "annotations" / f"panoptic_{split}.json", content)
    content = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    _write_json(path, content)
    return path


def _panoptic(scene: Scene) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Segments of one scene and its map: a segment's number is R + 256 G + 65536 B."""
    numbers = np.zeros(scene.stuff.shape, dtype=np.uint8)
    parts = [(int(label) + 1, mask) for label, mask in zip(scene.labels, scene.masks, strict=True)]
    ground = ~scene.masks.any(axis=0)
    for kind in range(len(STUFF_CLASSES)):
        parts.append((len(SHAPE_CLASSES) + kind + 1, ground & (scene.stuff == kind)))
    segments: list[dict[str, Any]] = []
    for category_id, mask in parts:
        if not mask.any():
            continue
        number = len(segments) + 1
        numbers[mask] = number
        x0, y0, x1, y1 = mask_boxes(torch.from_numpy(mask[None]))[0].int().tolist()
        segments.append(
            {
                "id": number,
                "category_id": category_id,
                "area": int(mask.sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
        )
    colors = np.zeros((*numbers.shape, 3), dtype=np.uint8)
    colors[..., 0] = numbers
    return segments, colors


def _write_png(path: Path, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    write_atomically(path, buffer.getvalue(), is_durable=False)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, separators=(",", ":")).encode())
