"""The generated shapes data set: images of overlapping textured objects, drawn in memory.

Chapter 01 of the course. A scene is a pure function of (seed, index): it does not depend on the
order in which scenes are drawn, and a larger size shows the same scene in more detail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from torch import Tensor

from blendmask_lite.datasets.coco_format import instances_content
from blendmask_lite.datasets.panoptic import TrueSegments, segments_of
from blendmask_lite.datasets.sample import Sample, with_images
from blendmask_lite.datasets.shapes.files import write_shapes
from blendmask_lite.datasets.shapes.paint import STUFF_CLASSES
from blendmask_lite.datasets.shapes.scene import (
    SHAPE_CLASSES,
    Scene,
    ShapesConfig,
    draw_scene,
    scene_sample,
)

__all__ = [
    "SHAPE_CLASSES",
    "STUFF_CLASSES",
    "Scene",
    "ShapesConfig",
    "ShapesDataset",
    "draw_scene",
    "draw_shapes",
    "write_shapes",
]


class ShapesDataset:
    """Generated scenes as a data set, drawn on demand; nothing is stored.

    Args:
        num_images: scenes 0 to num_images - 1.
        seed: different seeds give different scenes; held-out images need their own seed.
        config: size and difficulty; by default `ShapesConfig()`.
    """

    class_names: tuple[str, ...] = SHAPE_CLASSES
    category_ids: tuple[int, ...] = tuple(range(1, len(SHAPE_CLASSES) + 1))
    stuff_names: tuple[str, ...] = STUFF_CLASSES
    stuff_ids: tuple[int, ...] = tuple(
        range(len(SHAPE_CLASSES) + 1, len(SHAPE_CLASSES) + len(STUFF_CLASSES) + 1)
    )

    def __init__(
        self, num_images: int, *, seed: int = 0, config: ShapesConfig | None = None
    ) -> None:
        if num_images < 0:
            raise ValueError(f"num_images = {num_images}: must be at least 0")
        self.seed = seed
        self.config = ShapesConfig() if config is None else config
        self.image_ids = tuple(range(num_images))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(index) for index in range(len(self)))

    def load(self, index: int) -> Sample:
        """The scene at a position of `image_ids`."""
        image_id = self.image_ids[index]
        return scene_sample(draw_scene(self.seed, image_id, self.config), image_id)

    def load_image(self, index: int) -> Tensor:
        """(3, H, W) uint8, RGB: the scene at a position of `image_ids`, without its objects."""
        return self.load(index).image  # its masks are drawn anyway

    def select(self, image_ids: Sequence[int]) -> Self:
        """The same data set with these images only, in this order."""
        return with_images(self, image_ids, source="generated shapes")

    def segments(self, index: int) -> TrueSegments:
        """All objects and all stuff of the scene at a position of `image_ids`."""
        return segments_of(self.load(index).target, self.category_ids, self.stuff_ids)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories in COCO's format; draws every scene."""
        return instances_content(self, self.class_names, self.category_ids)


def draw_shapes(num_images: int, *, seed: int = 0, size: int) -> ShapesDataset:
    """Generated images for a model that gets them at side `size`, in pixels.

    They are drawn at this size if it is between 128 and 2048, otherwise at the nearer limit.
    """
    config = ShapesConfig(size=min(max(size, 128), 2048))
    return ShapesDataset(num_images, seed=seed, config=config)
