"""A random window of a training picture that does not lose all of its objects; and padding.

The released code trains its deformable models so: the window is drawn before the resizing and
holds the center of an object drawn at random.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.masks import mask_boxes
from blendmask_lite.structures import UNLABELLED

__all__ = ["crop_sample", "draw_window", "pad_sample"]

GREY = 128  # of filled pixels


def draw_window(
    sample: Sample, least_share: float, generator: random.Random
) -> tuple[int, int, int, int]:
    """A window (y0, x0, y1, x1), half open, pixels.

    Height and width are each drawn between `least_share` of the picture's and all of it. Where
    there are objects, one is drawn, and the window holds its box' center.
    """
    height, width = sample.image.shape[-2:]
    sizes = [int(side * generator.uniform(least_share, 1) + 0.5) or 1 for side in (height, width)]
    boxes = sample.target.boxes
    center: list[float] | None = None
    if len(boxes):
        x0, y0, x1, y1 = boxes[generator.randrange(len(boxes))].tolist()
        center = [(y0 + y1) / 2, (x0 + x1) / 2]
    first = []
    for axis, side in enumerate((height, width)):
        low, high = 0, side - sizes[axis]
        if center is not None:
            low = min(max(math.ceil(center[axis]) - sizes[axis], low), high)
            high = max(min(math.floor(center[axis]), high), low)
        first.append(generator.randint(low, high))
    return first[0], first[1], first[0] + sizes[0], first[1] + sizes[1]


def crop_sample(sample: Sample, window: tuple[int, int, int, int]) -> Sample:
    """The part of a sample inside a window (y0, x0, y1, x1), half open, pixels.

    Boxes are those of the masks' remaining parts; objects without any are left out.

    Raises:
        ValueError: the sample has no masks, so its boxes cannot be found again.
    """
    target = sample.target
    if target.masks is None or target.mask_crops is not None:
        raise ValueError(f"image {sample.image_id}: cropping needs whole masks")
    y0, x0, y1, x1 = window

    def part(maps: Tensor) -> Tensor:
        return maps[..., y0:y1, x0:x1]

    masks = part(target.masks)
    is_left = masks.flatten(1).any(dim=1)
    return replace(
        sample,
        image=part(sample.image),
        target=replace(
            target,
            boxes=mask_boxes(masks[is_left]).to(target.boxes.dtype),
            labels=target.labels[is_left],
            masks=masks[is_left],
            semantic=None if target.semantic is None else part(target.semantic),
            stuff=None if target.stuff is None else part(target.stuff),
        ),
    )


def pad_sample(sample: Sample, side: int) -> Sample:
    """The sample in the upper left corner of a square of `side` pixels, the rest grey.

    There is nothing in the rest: no object, and nobody said what its ground is made of.

    Raises:
        ValueError: the picture is larger than the square.
    """
    height, width = sample.image.shape[-2:]
    if max(height, width) > side:
        raise ValueError(f"image {sample.image_id}: {height} x {width} does not fit into {side}")
    missing = (0, side - width, 0, side - height)

    def filled(maps: Tensor | None, value: int) -> Tensor | None:
        return None if maps is None else F.pad(maps, missing, value=value)

    target = sample.target
    image = filled(sample.image, GREY)
    assert image is not None
    return replace(
        sample,
        image=image,
        target=replace(
            target,
            masks=filled(target.masks, 0),
            semantic=filled(target.semantic, 0),
            stuff=filled(target.stuff, UNLABELLED),
        ),
    )
