"""Transforms of samples between the data set and the model: resize, flip, crop, colours, pasting.

Chapter 12. A random crop never loses all objects of an image.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
)

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.images import resize_image, resized_size
from blendmask_lite.masks import mask_boxes
from blendmask_lite.structures import UNLABELLED, Target

__all__ = [
    "TrainTransform",
    "change_colors",
    "crop_sample",
    "draw_window",
    "flip_horizontally",
    "jitter_scale",
    "pad_sample",
    "paste_objects",
    "permute_channels",
    "resize_sample",
]

GREY = 128  # value of padded pixels


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Random crop, multi-scale resizing, flip and change of colours of training samples.

    The result depends only on the sample and the generator, so a continued training gives the same
    weights as an uninterrupted one. CONTRIBUTING.md explains why torchvision's transforms are not
    used ("The augmentation is ours").

    Attributes:
        train_sizes: shorter sides to draw from, pixels.
        max_size: longest side allowed, pixels; unused with `jitter`.
        flip: swap left and right in half of the samples.
        color_jitter: largest change of brightness, contrast and saturation, see `change_colors`;
            None for no change.
        channel_permutation: shuffle the colour channels, so colour says nothing about the class.
        crop: smallest share of height and of width in a random window; None for no window.
        jitter: smallest and largest scale for `jitter_scale`, which replaces crop and resizing; the
            side of its square is drawn from `train_sizes`.
        mirror: function that swaps left and right; by default `flip_horizontally`.
    """

    train_sizes: tuple[int, ...]
    max_size: int
    flip: bool = True
    color_jitter: float | None = None
    channel_permutation: bool = False
    crop: float | None = None
    jitter: tuple[float, float] | None = None
    mirror: Callable[[Sample], Sample] | None = None

    def __post_init__(self) -> None:
        if not self.train_sizes:
            raise ValueError("train_sizes = (): must hold at least one size")

    def __call__(self, sample: Sample, generator: random.Random) -> Sample:
        """An augmented copy of the sample."""
        if self.jitter is not None:
            scale = generator.uniform(*self.jitter)
            sample = jitter_scale(sample, generator.choice(self.train_sizes), scale, generator)
        else:
            if self.crop is not None:
                sample = crop_sample(sample, draw_window(sample, self.crop, generator))
            shorter = generator.choice(self.train_sizes)
            height, width = sample.image.shape[-2:]
            sample = resize_sample(sample, resized_size((height, width), shorter, self.max_size))
        if self.flip and generator.random() < 0.5:
            sample = (self.mirror or flip_horizontally)(sample)
        if self.color_jitter is not None:
            least, most = 1 - self.color_jitter, 1 + self.color_jitter
            sample = change_colors(sample, *(generator.uniform(least, most) for _ in range(3)))
        if self.channel_permutation:
            order = [0, 1, 2]
            generator.shuffle(order)
            sample = permute_channels(sample, order)
        return sample


def draw_window(
    sample: Sample, least_share: float, generator: random.Random
) -> tuple[int, int, int, int]:
    """Draw a half-open window (y0, x0, y1, x1), in pixels.

    Its height and width are at least `least_share` of the image's. If there are objects, one of
    them is drawn, and the window contains the center of its box.
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
    """The part of a sample inside a half-open window (y0, x0, y1, x1), in pixels.

    Boxes become the tight boxes of the remaining masks; objects without a remaining pixel are left
    out. The sample needs whole masks.
    """
    if sample.target.masks is None or sample.target.mask_crops is not None:
        raise ValueError(f"image {sample.image_id}: cropping needs whole masks")
    y0, x0, y1, x1 = window
    image = sample.image[..., y0:y1, x0:x1]
    return _measured_again(_with_maps(sample, lambda maps, _: maps[..., y0:y1, x0:x1], image=image))


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample, which must not be `compact`, at another size (H, W).

    The image is resized bilinearly with antialiasing; masks and maps take the old pixel under each
    new pixel's center. Boxes are scaled, so they stay exact even if a thin mask loses pixels.
    """
    _require_whole_maps(sample)
    height, width = sample.image.shape[-2:]
    if (height, width) == size:
        return sample
    boxes = sample.target.boxes
    return _with_maps(
        sample,
        lambda maps, _: _resize_nearest(maps, size),
        image=resize_image(sample.image, size),
        boxes=boxes * boxes.new_tensor([size[1] / width, size[0] / height]).repeat(2),
    )


def flip_horizontally(sample: Sample) -> Sample:
    """The sample, which must not be `compact`, with left and right swapped."""
    _require_whole_maps(sample)
    width = sample.image.shape[-1]
    x0, y0, x1, y1 = sample.target.boxes.unbind(dim=1)
    return _with_maps(
        sample,
        lambda maps, _: maps.flip(-1),
        image=sample.image.flip(-1),
        boxes=torch.stack([width - x1, y0, width - x0, y1], dim=1),
    )


def permute_channels(sample: Sample, order: Sequence[int]) -> Sample:
    """The sample with its colour channels in another order, a permutation of 0, 1, 2."""
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"order = {list(order)}: must be a permutation of 0, 1, 2")
    return replace(sample, image=sample.image[list(order)])


def change_colors(sample: Sample, brightness: float, contrast: float, saturation: float) -> Sample:
    """The sample with its colours multiplied by factors; 1 changes nothing.

    Args:
        sample: its image is changed.
        brightness: factor of all values.
        contrast: factor of the differences from the mean grey of the image.
        saturation: factor of the differences from the pixel's own grey.
    """
    image = adjust_brightness(sample.image, brightness)
    image = adjust_saturation(adjust_contrast(image, contrast), saturation)
    return replace(sample, image=image)


def paste_objects(sample: Sample, other: Sample, generator: random.Random) -> Sample:
    """The sample with a random part of another sample's objects in front of its own.

    "Simple Copy-Paste" (Ghiasi et al., 2021), without its blending of edges, which changed nothing
    there. Both samples need whole masks; the upper left corners of the two images coincide, and
    pixels that do not fit are cut off. Boxes become the tight boxes of the visible masks; objects
    without a visible pixel are left out.
    """
    height, width = sample.image.shape[-2:]
    # The other sample at this one's size: cut off, or extended without objects.
    window = (0, 0, min(height, other.image.shape[-2]), min(width, other.image.shape[-1]))
    other = crop_sample(other, window)
    missing = (0, width - window[3], 0, height - window[2])
    masks, pasted = sample.target.masks, other.target.masks
    if masks is None or pasted is None:
        raise ValueError(f"image {sample.image_id}: pasting needs whole masks")
    chosen = torch.tensor([generator.random() < 0.5 for _ in pasted], dtype=torch.bool)
    pasted, labels = F.pad(pasted[chosen], missing), other.target.labels[chosen]
    is_covered = pasted.any(dim=0)
    semantic, stuff = sample.target.semantic, sample.target.stuff
    if semantic is not None:
        semantic = semantic.clone()
        for mask, label in zip(pasted, labels, strict=True):
            semantic[mask] = label.to(semantic.dtype) + 1
    target = Target(
        boxes=torch.cat([sample.target.boxes, other.target.boxes[chosen]]),
        labels=torch.cat([sample.target.labels, labels]),
        masks=torch.cat([masks & ~is_covered, pasted]),
        semantic=semantic,
        stuff=None if stuff is None else stuff.masked_fill(is_covered, 0),
    )
    image = torch.where(is_covered, F.pad(other.image, missing), sample.image)
    return _measured_again(replace(sample, image=image, target=target))


def jitter_scale(sample: Sample, side: int, scale: float, generator: random.Random) -> Sample:
    """A square image of `side` pixels: large-scale jitter (Ghiasi et al., "Simple Copy-Paste").

    The image is resized to `scale` times the size that fits into the square. If it is then too
    large, a random part of it is kept; if it is too small, it is padded, see `pad_sample`. Objects
    without a pixel are left out.

    Our choice: an image that will be enlarged is first cut at whole pixels of the stored image, so
    the masks of the whole enlarged image need no memory. This may stretch pixels slightly.
    """
    stored = sample.image.shape[-2:]
    ratio = scale * side / max(stored)
    window, size = [], []
    for length in stored:
        kept = min(max(int(side / ratio + 0.5), 1), length)
        first = generator.randint(0, length - kept)
        window.append((first, first + kept))
        size.append(min(max(int(kept * ratio + 0.5), 1), side))
    (y0, y1), (x0, x1) = window
    sample = resize_sample(crop_sample(sample, (y0, x0, y1, x1)), (size[0], size[1]))
    return pad_sample(_without_empty(sample), side)


def pad_sample(sample: Sample, side: int) -> Sample:
    """The sample in the upper left corner of a square of `side` pixels whose rest is grey.

    The rest has no objects, and its stuff is unlabelled. The image must not exceed the square.
    """
    height, width = sample.image.shape[-2:]
    if max(height, width) > side:
        raise ValueError(f"image {sample.image_id}: {height} x {width} does not fit into {side}")
    missing = (0, side - width, 0, side - height)
    return _with_maps(
        sample,
        lambda maps, nothing: F.pad(maps, missing, value=nothing),
        image=F.pad(sample.image, missing, value=GREY),
    )


def _with_maps(
    sample: Sample,
    change: Callable[[Tensor, int], Tensor],
    *,
    image: Tensor,
    boxes: Tensor | None = None,
) -> Sample:
    """The sample with another image, other boxes if given, and all masks and maps changed.

    `change` is called with (n, H, W) maps of any type and the value that means "nothing" in them.
    """
    target = sample.target
    semantic, stuff = target.semantic, target.stuff
    changed = replace(
        target,
        boxes=target.boxes if boxes is None else boxes,
        masks=None if target.masks is None else change(target.masks, 0),
        semantic=None if semantic is None else change(semantic[None], 0)[0],
        stuff=None if stuff is None else change(stuff[None], UNLABELLED)[0],
    )
    return replace(sample, image=image, target=changed)


def _require_whole_maps(sample: Sample) -> None:
    if sample.target.mask_crops is not None or sample.target.semantic_cells is not None:
        raise ValueError(f"image {sample.image_id}: transforms come before `compact`")


def _measured_again(sample: Sample) -> Sample:
    """The sample without invisible objects, with the tight boxes of its masks."""
    sample = _without_empty(sample)
    target = sample.target
    assert target.masks is not None
    boxes = mask_boxes(target.masks).to(target.boxes.dtype)
    return replace(sample, target=replace(target, boxes=boxes))


def _without_empty(sample: Sample) -> Sample:
    """The sample without the objects whose masks are empty."""
    target = sample.target
    assert target.masks is not None
    is_left = target.masks.flatten(1).any(dim=1)
    return replace(
        sample,
        target=replace(
            target,
            boxes=target.boxes[is_left],
            labels=target.labels[is_left],
            masks=target.masks[is_left],
        ),
    )


def _resize_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) maps of any type -> (N, *size): the pixel under each new pixel's center."""
    height, width = maps.shape[-2:]
    rows = _nearest_index(height, size[0]).to(maps.device)
    columns = _nearest_index(width, size[1]).to(maps.device)
    return maps.index_select(1, rows).index_select(2, columns)


def _nearest_index(length: int, new_length: int) -> Tensor:
    """(new_length,) int64: the old cells under the centers of the new ones."""
    centers = (torch.arange(new_length, dtype=torch.float64) + 0.5) * (length / new_length)
    return centers.long().clamp(max=length - 1)
