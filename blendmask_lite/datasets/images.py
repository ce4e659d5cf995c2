"""Picture files as tensors.

Chapter 01 of the course.
"""

from __future__ import annotations

import io
import os
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

__all__ = ["decode_image", "open_image", "read_image"]


def read_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Tensor:
    """(3, H, W) uint8 RGB of any file that Pillow reads.

    Grey values are repeated, transparency is dropped, and an EXIF orientation is not applied:
    COCO's annotations refer to the stored pixels.

    Args:
        path: the file.
        size: (H, W) that it must have; a file of another size is not decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no picture, or of another size.
    """
    with open_image(path) as image:
        if size is not None and image.size[::-1] != size:
            width, height = image.size
            raise ValueError(
                f"{path}: is {width} x {height} pixels, but its annotations are for "
                f"{size[1]} x {size[0]} (stored pixels count, not the EXIF orientation)"
            )
        return _pixels(image, path)


def decode_image(content: bytes, *, name: str, max_pixels: int) -> Tensor:
    """(3, H, W) uint8 RGB of a picture file in memory, as `read_image`, but upright.

    An EXIF orientation is applied: no annotations refer to the stored pixels.

    Args:
        content: of the file.
        name: of the file, for errors.
        max_pixels: a picture that says it has more is not decoded.

    Raises:
        ValueError: the file is damaged, no picture, or of too many pixels.
    """
    with _opened(io.BytesIO(content), name) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(
                f"{name}: {width} x {height} pixels; {max_pixels / 1e6:.0f} million are read "
                "at most"
            )
        return _pixels(image, name, is_upright=True)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture, its header read and its pixels not decoded; to be closed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no picture.
    """
    try:
        return _opened(path, path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None


def _opened(source: str | os.PathLike[str] | IO[bytes], name: object) -> Image.Image:
    try:
        return Image.open(source)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow lets struct.error, zlib.error, IndexError and more out
        raise ValueError(f"{name}: cannot be read as a picture ({error})") from None


def _pixels(image: Image.Image, name: object, *, is_upright: bool = False) -> Tensor:
    """(3, H, W) uint8 RGB; `is_upright` turns the picture as its EXIF orientation says."""
    try:
        turned = ImageOps.exif_transpose(image) if is_upright else image
        pixels = np.array(turned.convert("RGB"))
    except Exception as error:  # as in `_opened`
        raise ValueError(f"{name}: cannot be read as a picture ({error})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
