"""From the users' images to the network's batch: one convention in, the weights' own out.

Chapter 02. Users pass RGB; channel order, mean and deviation are the config's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.config import ModelConfig

__all__ = ["batch_images", "padded_size"]


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
        config: of the model.
        device: of the result.
        dtype: of the result, that of the weights; computed in float32 or better.

    Returns:
        (B, 3, H, W), H and W divisible by `size_divisor`, and the sizes before padding.

    Raises:
        ValueError: no images, or one of another shape or type.
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


def _as_255(image: Tensor, place: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] != 3:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images[{place}]: {shape}; expected a tensor (3, H, W), RGB")
    if 0 in image.shape:
        raise ValueError(f"images[{place}]: {tuple(image.shape)}; an image without pixels")
    if image.dtype == torch.uint8:
        return image.to(device, non_blocking=True).to(dtype)  # uint8 travels: a quarter
    if not image.is_floating_point():
        raise ValueError(f"images[{place}]: {image.dtype}; expected uint8, or float in [0, 1]")
    return image.to(device, non_blocking=True).to(dtype) * 255
