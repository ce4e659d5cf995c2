"""Picture files as tensors.

Chapter 01 of the course.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["open_image", "read_image"]


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
        try:
            pixels = np.array(image.convert("RGB"))
        except Exception as error:  # Pillow lets struct.error, zlib.error, IndexError and more out
            raise ValueError(f"{path}: cannot be read as a picture ({error})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture, its header read and its pixels not decoded; to be closed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no picture.
    """
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None
    except Exception as error:  # as above
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from None
