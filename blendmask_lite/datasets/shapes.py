"""The generated shapes data set: pictures of overlapping textured objects, made without files.

Chapter 01 of the course. A scene is a pure function of (seed, index): it does not depend on the
order of drawing, and a larger size shows the same scene in more detail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import masks_to_boxes

from blendmask_lite.datasets.coco_format import (
    annotation_records,
    category_records,
    image_record,
)
from blendmask_lite.datasets.sample import Sample, semantic_map
from blendmask_lite.datasets.shapes_painting import (
    STUFF_CLASSES,
    Light,
    add_noise,
    paint_background,
    paint_object,
)
from blendmask_lite.datasets.shapes_plan import (
    SHAPE_CLASSES,
    ShapesConfig,
    plan_scene,
    uniform_from,
)
from blendmask_lite.structures import Target

__all__ = [
    "SHAPE_CLASSES",
    "STUFF_CLASSES",
    "Scene",
    "ShapesConfig",
    "ShapesDataset",
    "draw_scene",
]


@dataclass(frozen=True)
class Scene:
    """One generated picture.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        masks: (N, H, W) bool, the visible pixels of each object, front to back; they are disjoint.
        labels: (N,) int64, index into `SHAPE_CLASSES`.
        stuff: (H, W) uint8, index into `STUFF_CLASSES`, under the objects, too.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    stuff: NDArray[np.uint8]


def draw_scene(seed: int, index: int, config: ShapesConfig | None = None) -> Scene:
    """Draw one scene.

    Args:
        seed: of the data set, at least 0.
        index: of the scene, at least 0.
        config: size and difficulty; None is the default difficulty at 128 pixels.
    """
    config = ShapesConfig() if config is None else config
    if seed < 0 or index < 0:
        raise ValueError(f"seed = {seed}, index = {index}: both must be at least 0")
    bits = np.random.PCG64(np.random.SeedSequence((seed, index)))
    generator = np.random.Generator(bits)
    uniform = uniform_from(generator)
    plan = plan_scene(generator, config)
    light = Light(uniform)
    canvas, stuff = paint_background(uniform, config.size, light)

    rasters = plan.rasters_at(config.size)
    masks = np.zeros((len(rasters), config.size, config.size), dtype=bool)
    occupied = np.zeros_like(masks[0])
    for mask, raster in zip(masks, rasters, strict=True):  # front to back
        inside, own = raster.windows(config.size)
        mask[inside] = raster.mask[own] & ~occupied[inside]
        occupied |= mask
    for placement, raster in zip(plan.placements[::-1], rasters[::-1], strict=True):
        paint_object(canvas, placement, raster, light)
    amplitude = uniform(0.25, 1.0) * config.noise
    return Scene(
        image=add_noise(canvas, bits, amplitude),
        masks=masks,
        labels=np.array([placement.label for placement in plan.placements], dtype=np.int64),
        stuff=stuff,
    )


class ShapesDataset:
    """Generated scenes as a data set, drawn when they are asked for; nothing is stored.

    Args:
        num_images: scenes 0 to num_images - 1.
        seed: another seed gives other scenes; held-out images need one of their own.
        config: size and difficulty; None is the default difficulty at 128 pixels.
    """

    def __init__(
        self, num_images: int, *, seed: int = 0, config: ShapesConfig | None = None
    ) -> None:
        if num_images < 0:
            raise ValueError(f"num_images = {num_images}: must be at least 0")
        self.seed = seed
        self.config = ShapesConfig() if config is None else config
        self.class_names = SHAPE_CLASSES
        self.category_ids = tuple(range(1, len(SHAPE_CLASSES) + 1))
        self.image_ids = tuple(range(num_images))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(index) for index in range(len(self)))

    def load(self, index: int) -> Sample:
        """The scene at a position of `image_ids`."""
        image_id = self.image_ids[index]
        return self.sample_of(draw_scene(self.seed, image_id, self.config), image_id)

    def sample_of(self, scene: Scene, image_id: int) -> Sample:
        """A scene as a sample of this data set."""
        masks, labels = torch.from_numpy(scene.masks), torch.from_numpy(scene.labels)
        size = (self.config.size, self.config.size)
        # A sliver of a pixel that is seen at the planning size may be gone at another.
        is_seen = masks.flatten(1).any(dim=1)
        masks, labels = masks[is_seen], labels[is_seen]
        boxes = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
        target = Target(
            boxes=boxes,
            labels=labels,
            masks=masks,
            semantic=semantic_map(masks, labels, size, num_classes=len(SHAPE_CLASSES)),
        )
        image = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
        return Sample(image=image, target=target, image_id=image_id, original_size=size)

    def select(self, image_ids: Sequence[int]) -> ShapesDataset:
        """The same data set with these images only, in this order."""
        known = set(self.image_ids)
        unknown = [image_id for image_id in image_ids if image_id not in known]
        if unknown:
            raise ValueError(f"image ids {unknown[:5]}: there are {len(known)} images, from 0")
        chosen = ShapesDataset(0, seed=self.seed, config=self.config)
        chosen.image_ids = tuple(image_ids)
        return chosen

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories in COCO's format; draws every scene."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index, image_id in enumerate(self.image_ids):
            sample = self.load(index)
            images.append(image_record(image_id, sample.original_size))
            annotations += annotation_records(
                sample.target, image_id, self.category_ids, first_id=len(annotations) + 1
            )
        return {
            "images": images,
            "annotations": annotations,
            "categories": category_records(self.class_names, self.category_ids),
        }
