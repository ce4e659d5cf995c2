"""From the users' images to the network's batch: one convention in, the weights' own out.

Chapter 02. Users pass RGB; channel order, mean and deviation are the config's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.images import AnyImage, each_image, image_tensor, resize_for_test

__all__ = [
    "InputBatch",
    "batch_images",
    "input_batches",
    "padded_size",
    "require_output_sizes",
    "require_pixels",
]

# Our choice: resampling overshoots 0 and 1 a little, whereas pixels of 0 to 255 or in a network's
# own convention lie far outside.
LEAST_PIXEL, MOST_PIXEL = -1.0, 2.0
MOST_SIDE = 65_536  # largest side of an output, pixels; a JPEG's is at most one less


@dataclass(frozen=True)
class InputBatch:
    """Images that are computed together.

    Attributes:
        pictures: (3, H, W) each, as they were passed or read.
        inputs: the same, resized.
        output_sizes: (height, width) that the user wants for each image.
    """

    pictures: list[Tensor]
    inputs: list[Tensor]
    output_sizes: list[tuple[int, int]]


def input_batches(
    images: AnyImage | Iterable[AnyImage],
    inference: InferenceConfig,
    *,
    test_size: int | None,
    max_size: int | None,
    batch_size: int,
    output_sizes: Sequence[tuple[int, int]] | None,
) -> Iterator[InputBatch]:
    """All that `BlendMask.predict` accepts, batch by batch; arguments and errors are the same."""
    if not _is_count(batch_size):
        raise ValueError(
            f"batch_size = {batch_size!r}: must be a whole number from 1 to {MOST_SIDE}"
        )
    settings = inference.resized(test_size, max_size)
    keeps_tensors = test_size is None and max_size is None
    if output_sizes is not None:
        images = list(each_image(images))
        require_output_sizes(output_sizes, len(images))
    sources, start = each_image(images), 0
    while some := list(islice(sources, int(batch_size))):
        pictures = [image_tensor(each, f"images[{i}]") for i, each in enumerate(some, start)]
        require_pixels(pictures, start=start)
        inputs = [
            picture
            if keeps_tensors and isinstance(source, Tensor)
            else resize_for_test(picture, settings.test_size, settings.max_size)
            for source, picture in zip(some, pictures, strict=True)
        ]
        sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
        wanted = sizes if output_sizes is None else output_sizes[start : start + len(some)]
        yield InputBatch(pictures, inputs, list(wanted))
        start += len(some)


def batch_images(
    images: Sequence[Tensor],
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
    """Normalise every image to the weights' convention, then pad right and below with 0.

    Args:
        images: B tensors (3, H, W), RGB, float in [0, 1] or uint8, of any sizes.
        config: the model's config.
        device: device of the result.
        dtype: dtype of the weights and of the result; computed in float32 or better.

    Returns:
        (B, 3, H, W), H and W divisible by `size_divisor`, and the sizes before padding.

    Raises:
        ValueError: no images, or one of the wrong shape or type.
    """
    if len(images) == 0:
        raise ValueError("images: an empty list; at least one image is needed")
    exact = torch.promote_types(dtype, torch.float32)
    floats = [_as_255(image, place, device, exact) for place, image in enumerate(images)]
    sizes = tuple((image.shape[-2], image.shape[-1]) for image in floats)
    height, width = padded_size(sizes, config.size_divisor)
    mean, std = (
        torch.stack([torch.full((1, 1), value, device=device, dtype=exact) for value in values])
        for values in (config.pixel_mean, config.pixel_std)
    )  # (3, 1, 1), filled in on the device: a copy would make the CPU wait
    padded = []
    for image, (h, w) in zip(floats, sizes, strict=True):
        ordered = image.flip(0) if config.channel_order == "bgr" else image
        padded.append(F.pad((ordered - mean) / std, (0, width - w, 0, height - h)))
    batch = torch.stack(padded).to(dtype)
    return batch.contiguous(memory_format=torch.channels_last), sizes


def padded_size(sizes: Sequence[tuple[int, int]], divisor: int) -> tuple[int, int]:
    """(height, width) of a batch of images of these sizes: a multiple of `divisor`, pixels."""
    height = (max(h for h, _ in sizes) + divisor - 1) // divisor * divisor
    width = (max(w for _, w in sizes) + divisor - 1) // divisor * divisor
    return height, width


def require_pixels(images: Sequence[Tensor], *, start: int = 0) -> None:
    """Refuse images that `batch_images` refuses, and floats that cannot be pixels in [0, 1].

    It reads every float once and waits for their device once: too slow for a training step.

    Args:
        images: as `batch_images` takes them; the list may be empty.
        start: index of the first image, for errors.

    Raises:
        ValueError: an image has the wrong shape or type, is sparse or without values ("meta"), or
            has values below -1, above 2 or NaN.
    """
    for place, image in enumerate(images, start):
        _require_image(image, place)
        is_empty = image.is_meta and type(image) is Tensor  # a subclass may bring its own values
        if is_empty or image.layout != torch.strided:
            kind = "a meta tensor" if is_empty else f"of layout {image.layout}"
            raise ValueError(f"images[{place}]: {kind}; expected a dense tensor with values")
    floats = {
        place: image for place, image in enumerate(images, start) if image.is_floating_point()
    }
    if not floats:
        return
    device = next(iter(floats.values())).device
    extremes = [torch.stack(image.float().aminmax()).to(device) for image in floats.values()]
    for place, (least, most) in zip(floats, torch.stack(extremes).tolist(), strict=True):
        if not (least >= LEAST_PIXEL and most <= MOST_PIXEL):  # NaN fails both
            raise ValueError(
                f"images[{place}]: values from {least:g} to {most:g}; expected floats in [0, 1], "
                "or uint8 from 0 to 255"
            )


def require_output_sizes(sizes: Sequence[tuple[int, int]], number: int) -> None:
    """Refuse sizes that are not one (height, width) per image, in pixels.

    Raises:
        ValueError: there are not `number` sizes, or one is not a pair of whole numbers from 1 to
            65,536.
    """
    if len(sizes) != number:
        raise ValueError(f"output_sizes: {len(sizes)} for {number} images")
    for place, size in enumerate(sizes):
        is_pair = isinstance(size, tuple | list) and len(size) == 2
        if not is_pair or not all(_is_count(side) for side in size):
            raise ValueError(
                f"output_sizes[{place}] = {size!r}: expected (height, width), whole numbers from "
                f"1 to {MOST_SIDE}"
            )


def _is_count(value: Any) -> bool:
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    return is_whole and 1 <= value <= MOST_SIDE


def _require_image(image: Tensor, place: int) -> None:
    if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] != 3:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images[{place}]: {shape}; expected a tensor (3, H, W), RGB")
    if 0 in image.shape:
        raise ValueError(f"images[{place}]: {tuple(image.shape)}; an image without pixels")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"images[{place}]: {image.dtype}; expected uint8, or float in [0, 1]")


def _as_255(image: Tensor, place: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    _require_image(image, place)
    moved = image.to(device, non_blocking=True).to(dtype)  # uint8 travels: a quarter of the bytes
    return moved if image.dtype == torch.uint8 else moved * 255
