"""Picture files as tensors.

Chapter 01 of the course.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["read_image"]


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """(3, H, W) uint8 RGB of any file that Pillow reads.

    Grey values are repeated, transparency is dropped, and an EXIF orientation is not applied:
    COCO's annotations refer to the stored pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no picture.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
