"""What happens to a sample between the data set and the model: resizing, flipping, colours.

Chapter 12 of the course. All randomness comes from the generator that is passed in, so a sample
can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from blendmask_lite.datasets.cropping import crop_sample, draw_window
from blendmask_lite.datasets.sample import Sample

__all__ = [
    "TrainTransform",
    "flip_horizontally",
    "permute_channels",
    "resize_for_test",
    "resize_sample",
    "resized_size",
]


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Random crop, multi-scale resizing, flip and colour permutation of training samples.

    Attributes:
        train_sizes: shorter sides to draw from, pixels.
        max_size: longest side allowed, pixels.
        flip: exchange left and right in every second sample.
        channel_permutation: shuffle the colour channels, so that colour tells nothing.
        crop: least share of height and of width that a random window keeps; None: no window.
    """

    train_sizes: tuple[int, ...]
    max_size: int
    flip: bool = True
    channel_permutation: bool = False
    crop: float | None = None

    def __post_init__(self) -> None:
        if not self.train_sizes:
            raise ValueError("train_sizes = (): must hold at least one size")

    def __call__(self, sample: Sample, generator: random.Random) -> Sample:
        """An augmented copy of the sample."""
        if self.crop is not None:
            sample = crop_sample(sample, draw_window(sample, self.crop, generator))
        shorter = generator.choice(self.train_sizes)
        height, width = sample.image.shape[-2:]
        sample = resize_sample(sample, resized_size((height, width), shorter, self.max_size))
        if self.flip and generator.random() < 0.5:
            sample = flip_horizontally(sample)
        if self.channel_permutation:
            order = [0, 1, 2]
            generator.shuffle(order)
            sample = permute_channels(sample, order)
        return sample


def resized_size(size: tuple[int, int], shorter: int, longest: int) -> tuple[int, int]:
    """(H, W) after resizing: the shorter side becomes `shorter`, unless the longer would exceed.

    Rounding as in detectron2's ResizeShortestEdge; no side falls below 1.

    Raises:
        ValueError: a size below 1.
    """
    if min(*size, shorter, longest) < 1:
        raise ValueError(f"size {size}, shorter = {shorter}, longest = {longest}: all must be >= 1")
    scale = shorter / min(size)
    if max(size) * scale > longest:
        scale = longest / max(size)
    height, width = (max(int(side * scale + 0.5), 1) for side in size)
    return height, width


def resize_for_test(image: Tensor, test_size: int, max_size: int) -> Tensor:
    """(3, H, W) image, uint8 or float, resized for inference; see `resized_size`."""
    height, width = image.shape[-2:]
    return _resize_image(image, resized_size((height, width), test_size, max_size))


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at another size (H, W); a sample of that size is returned as it is.

    The image is resized bilinearly with antialiasing; masks and maps take the pixel under each
    new center. Boxes are scaled, so that they stay exact where a thin mask lost its pixels.
    """
    height, width = sample.image.shape[-2:]
    if (height, width) == size:
        return sample
    target = sample.target
    scale = target.boxes.new_tensor([size[1] / width, size[0] / height]).repeat(2)
    return replace(
        sample,
        image=_resize_image(sample.image, size),
        target=replace(
            target,
            boxes=target.boxes * scale,
            masks=None if target.masks is None else _resize_nearest(target.masks, size),
            semantic=_resize_map(target.semantic, size),
            stuff=_resize_map(target.stuff, size),
        ),
    )


def flip_horizontally(sample: Sample) -> Sample:
    """The sample with left and right exchanged."""
    width = sample.image.shape[-1]
    target = sample.target
    x0, y0, x1, y1 = target.boxes.unbind(dim=1)
    return replace(
        sample,
        image=sample.image.flip(-1),
        target=replace(
            target,
            boxes=torch.stack([width - x1, y0, width - x0, y1], dim=1),
            masks=None if target.masks is None else target.masks.flip(-1),
            mask_crops=None if target.mask_crops is None else target.mask_crops.flip(-1),
            semantic=None if target.semantic is None else target.semantic.flip(-1),
            stuff=None if target.stuff is None else target.stuff.flip(-1),
        ),
    )


def permute_channels(sample: Sample, order: Sequence[int]) -> Sample:
    """The sample with its colour channels in another order, a permutation of 0, 1, 2."""
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"order = {list(order)}: must be a permutation of 0, 1, 2")
    return replace(sample, image=sample.image[list(order)])


def _resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(
        image[None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[0]


def _resize_map(drawn: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    return None if drawn is None else _resize_nearest(drawn[None], size)[0]


def _resize_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) maps of any type -> (N, *size): the pixel under each new pixel's center."""
    height, width = maps.shape[-2:]
    rows = _nearest_index(height, size[0]).to(maps.device)
    columns = _nearest_index(width, size[1]).to(maps.device)
    return maps.index_select(1, rows).index_select(2, columns)


def _nearest_index(length: int, new_length: int) -> Tensor:
    """(new_length,) int64 old cells under the centers of the new ones."""
    centers = (torch.arange(new_length, dtype=torch.float64) + 0.5) * (length / new_length)
    return centers.long().clamp(max=length - 1)
