"""One generated picture: plan the objects, paint them back to front, know their visible masks.

Chapter 01 of the course. A scene is a pure function of (seed, index): it does not depend on the
order of drawing, and a larger size shows the same scene in more detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes_painting import (
    Light,
    add_noise,
    paint_background,
    paint_object,
)
from blendmask_lite.datasets.shapes_plan import (
    ShapesConfig,
    plan_scene,
    uniform_from,
)
from blendmask_lite.masks import mask_boxes, semantic_map
from blendmask_lite.structures import Target

__all__ = ["Scene", "draw_scene", "scene_sample"]


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


def scene_sample(scene: Scene, image_id: int) -> Sample:
    """A scene as data sets give it: tensors, tight boxes, a semantic map and one of stuff."""
    # A sliver of a pixel that is seen at the planning size may be gone at another.
    is_seen = scene.masks.any(axis=(1, 2))
    masks, labels = torch.from_numpy(scene.masks[is_seen]), torch.from_numpy(scene.labels[is_seen])
    stuff = torch.from_numpy(np.where(scene.masks.any(axis=0), np.uint8(0), scene.stuff + 1))
    target = Target(
        boxes=mask_boxes(masks),
        labels=labels,
        masks=masks,
        semantic=semantic_map(masks, labels),
        stuff=stuff,
    )
    image = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
    height, width = image.shape[-2:]
    return Sample(image=image, target=target, image_id=image_id, original_size=(height, width))
