"""One generated image: plan the objects, paint them back to front, and keep the visible masks.

Chapter 01. `ShapesConfig` decides which objects an image has and where they are.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes.outlines import OUTLINES, Uniform
from blendmask_lite.datasets.shapes.paint import (
    Light,
    Placement,
    Raster,
    Surface,
    add_noise,
    paint_background,
    paint_object,
    rasterize,
)
from blendmask_lite.masks import mask_boxes, semantic_map
from blendmask_lite.structures import Target

__all__ = [
    "SHAPE_CLASSES",
    "TEXTURES",
    "Plan",
    "Scene",
    "ShapesConfig",
    "draw_scene",
    "draw_surface",
    "paint_scene",
    "plan_scene",
    "scene_sample",
    "uniform_from",
]


SHAPE_CLASSES: tuple[str, ...] = tuple(OUTLINES)
TEXTURES = ("plain", "stripes", "dots", "checks", "waves", "marble")

PLAN_SIZE = 128  # placements are planned at this size, so they are the same at every size
TRIES = 8  # positions tried for an object before it is left out
MIN_PIXELS = 24  # pixels of every object that must be visible at PLAN_SIZE


@dataclass(frozen=True)
class ShapesConfig:
    """Size and difficulty of the generated scenes; the shipped model is trained on the defaults.

    Raises:
        ValueError: a value is impossible; the message names its field.
    """

    size: int = 128  # side of the square image, pixels
    min_objects: int = 2
    max_objects: int = 6
    crowd_share: float = 0.5  # fraction of scenes whose objects share class, texture and place
    max_rotation: float = 30.0  # largest rotation in either direction, degrees
    min_scale: float = 0.17  # half the width of an object, fraction of the image side
    max_scale: float = 0.28
    min_visible: float = 0.35  # fraction of an object that must stay visible
    noise: float = 4.0  # largest standard deviation of the sensor noise, of 255

    def __post_init__(self) -> None:
        for name, is_met, words in (
            ("size", 32 <= self.size <= 2048, "between 32 and 2048"),
            ("min_objects", self.min_objects >= 1, "at least 1"),
            ("max_objects", self.max_objects >= self.min_objects, f"at least {self.min_objects}"),
            ("crowd_share", 0 <= self.crowd_share <= 1, "between 0 and 1"),
            ("max_rotation", 0 <= self.max_rotation <= 180, "between 0 and 180"),
            ("min_scale", 0.02 <= self.min_scale <= 0.5, "between 0.02 and 0.5"),
            ("max_scale", self.min_scale <= self.max_scale <= 0.5, "between min_scale and 0.5"),
            ("min_visible", 0 < self.min_visible <= 1, "above 0, at most 1"),
            ("noise", 0 <= self.noise <= 64, "between 0 and 64"),
        ):
            if not is_met:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be {words}")


@dataclass(frozen=True)
class Plan:
    """The objects of a scene, front to back, with their rasters at PLAN_SIZE."""

    placements: list[Placement]
    rasters: list[Raster]

    def rasters_at(self, size: int) -> list[Raster]:
        """The rasters for an image of `size` x `size` pixels."""
        if size == PLAN_SIZE:
            return self.rasters
        return [rasterize(placement, size) for placement in self.placements]


def uniform_from(generator: np.random.Generator) -> Uniform:
    """(low, high) -> a number between them, drawn by `random`, whose stream NumPy keeps stable."""
    draw = generator.random
    return lambda low, high: low + (high - low) * draw()


def plan_scene(generator: np.random.Generator, config: ShapesConfig) -> Plan:
    """The objects of one scene, at least one.

    The objects of a crowded scene share class and surface and form one cluster; some share their
    center. In other scenes, class and surface are drawn for every object.
    """
    uniform = uniform_from(generator)
    is_crowd = uniform(0, 1) < config.crowd_share
    num = config.min_objects + int(uniform(0, config.max_objects - config.min_objects + 1))
    label, surface = _draw_label(uniform), draw_surface(uniform)
    center_x, center_y = uniform(0.38, 0.62), uniform(0.38, 0.62)
    plan = Plan([], [])
    occupied = np.zeros((PLAN_SIZE, PLAN_SIZE), dtype=bool)
    for _ in range(num):
        if not is_crowd:
            label, surface = _draw_label(uniform), draw_surface(uniform)
        for _ in range(TRIES if len(plan.placements) >= config.min_objects else 4 * TRIES):
            scale = uniform(config.min_scale, config.max_scale)
            if is_crowd:
                distance, direction = uniform(0.03, 0.32), uniform(0, 2 * math.pi)
                x = center_x + distance * math.cos(direction)
                y = center_y + distance * math.sin(direction)
            else:
                x, y = uniform(0.14, 0.86), uniform(0.14, 0.86)
            candidate = Placement(
                label=label,
                parts=OUTLINES[SHAPE_CLASSES[label]](uniform),
                x=x,
                y=y,
                scale=scale,
                angle=math.radians(uniform(-config.max_rotation, config.max_rotation)),
                is_mirrored=uniform(0, 1) < 0.5,
                surface=surface,
                phase=uniform(0, 2 * math.pi),
            )
            raster = rasterize(candidate, PLAN_SIZE)
            inside, own = raster.windows(PLAN_SIZE)
            mask = raster.mask
            visible = np.count_nonzero(mask[own] & ~occupied[inside])
            is_seen = visible >= config.min_visible * np.count_nonzero(mask)
            if is_seen and visible >= MIN_PIXELS:
                occupied[inside] |= mask[own]
                plan.placements.append(candidate)
                plan.rasters.append(raster)
                break
    return plan


def _draw_label(uniform: Uniform) -> int:
    return int(uniform(0, len(SHAPE_CLASSES)))


def draw_surface(uniform: Uniform) -> Surface:
    """A random surface, which says nothing about the class."""
    hue, saturation, value = uniform(0, 1), uniform(0.5, 0.95), uniform(0.7, 1.0)
    second_hue = hue + uniform(-0.14, 0.14) + (0.5 if uniform(0, 1) < 0.25 else 0.0)
    is_darker = uniform(0, 1) < 0.6
    second_value = value * (uniform(0.5, 0.72) if is_darker else uniform(0.9, 1.0))
    second_saturation = saturation * (1.0 if is_darker else uniform(0.1, 0.45))
    return Surface(
        texture=TEXTURES[int(uniform(0, len(TEXTURES)))],
        colors=(
            colorsys.hsv_to_rgb(hue % 1, saturation, value),
            colorsys.hsv_to_rgb(second_hue % 1, second_saturation, second_value),
        ),
        frequency=uniform(6.0, 11.0),
        slant=uniform(0, math.pi),
    )


@dataclass(frozen=True)
class Scene:
    """One generated image.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        masks: (N, H, W) bool, the visible pixels of each object, front to back; they are disjoint.
        labels: (N,) int64, index into `SHAPE_CLASSES`.
        stuff: (H, W) uint8, index into `STUFF_CLASSES`, also under the objects.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    stuff: NDArray[np.uint8]


def draw_scene(seed: int, index: int, config: ShapesConfig | None = None) -> Scene:
    """Draw scene `index` of the data set with this seed; both are at least 0.

    `config` sets its size and difficulty; by default `ShapesConfig()`.
    """
    config = ShapesConfig() if config is None else config
    if seed < 0 or index < 0:
        raise ValueError(f"seed = {seed}, index = {index}: both must be at least 0")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    return paint_scene(plan_scene(generator, config), generator, config)


def paint_scene(plan: Plan, generator: np.random.Generator, config: ShapesConfig) -> Scene:
    """Paint planned objects over a background, back to front.

    Args:
        plan: objects, front to back.
        generator: random generator for light, background and noise, as `draw_scene` makes it.
        config: only its size and noise are used.
    """
    uniform = uniform_from(generator)
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
        image=add_noise(canvas, generator.bit_generator, amplitude),
        masks=masks,
        labels=np.array([placement.label for placement in plan.placements], dtype=np.int64),
        stuff=stuff,
    )


def scene_sample(scene: Scene, image_id: int) -> Sample:
    """A scene as a sample: tensors, tight boxes, a semantic map and a stuff map."""
    # An object of a few pixels that is visible at the planning size may be hidden at another.
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
