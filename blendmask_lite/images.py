"""Image files as tensors: one reader for the command line, the data sets and the lab.

Chapter 01 of the course. All readers here behave alike:

- They read the first frame of any format that Pillow knows, from regular files only, and follow
  links.
- Transparent pixels are put on white, as in most viewers.
- Of 16-bit grey values only the high byte is kept, as Pillow does with 16-bit colours, and a
  warning says so once. If none is above 255, they are really 8-bit values and stay as they are.
- For anything else they raise a `ValueError` with the file's name.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from blendmask_lite.terminal import printable

__all__ = [
    "DEEP_MODES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "decode_image",
    "exif_orientation",
    "open_image",
    "read_image",
    "read_stored_colors",
    "read_stored_image",
]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MAX_PIXELS = 89_478_485  # of an image; Pillow treats larger ones as decompression bombs
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # grey values of more than 8 bits
TOO_LARGE = f"it has more than {MAX_PIXELS} pixels, as a decompression bomb would"
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION = 0x0112  # of EXIF; 1 is upright, 5 to 8 exchange height and width


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """(3, H, W) uint8 RGB of an image file, upright: its EXIF orientation is applied.

    See `open_image` for errors, and `read_stored_image` for images with annotations.
    """
    with open_image(path) as image:
        return _decoded(image, path, is_upright=True)


def read_stored_image(path: str | os.PathLike[str], size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8 RGB of an annotated image file, as stored: EXIF orientation is ignored.

    Annotations refer to stored pixels, as COCO's do. TIFF files are an exception: Pillow itself
    turns them. If the image is not of the given `size` (H, W), it is refused and not decoded.
    """
    with open_image(path) as image:
        _require_size(image, path, size)
        return _decoded(image, path)


def read_stored_colors(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Tensor:
    """(3, H, W) uint8 RGB of an image file whose colours are numbers, such as ids of segments.

    This works like `read_stored_image`, but transparency changes no colour, and 16-bit values are
    refused.
    """
    with open_image(path) as image:
        if size is not None:
            _require_size(image, path, size)
        if image.mode in DEEP_MODES:
            raise _unreadable(path, "it has 16 bits, numbers are colours of 8 bits")
        return _decoded(image, path, is_number=True)


def decode_image(content: bytes, *, name: str, max_pixels: int) -> Tensor:
    """(3, H, W) uint8 RGB of an image file in memory, upright; see `read_image`.

    `name` is for errors. An image whose header declares more than `max_pixels` is not decoded.
    """
    with _opened(io.BytesIO(content), name) as image:
        width, height = image.size
        if width * height > max_pixels:
            most = f"{max_pixels / 1e6:.0f} million are read at most"
            raise ValueError(f"{printable(name)}: {width} x {height} pixels; {most}")
        return _decoded(image, name, is_upright=True)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image, with its header read but its pixels not yet decoded; the caller closes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a regular file, not an image, damaged, too large, or of
            floating-point values.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(path)}: no such picture") from None
    except (OSError, ValueError) as error:  # a loop of links, a null byte in the name
        raise _unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        raise _unreadable(path, "it is a folder")
    if not stat.S_ISREG(mode):  # reading a pipe could wait forever
        raise _unreadable(path, "it is no regular file")
    return _opened(path, path)


def exif_orientation(image: Image.Image) -> int:
    """How to turn an image to make it upright: EXIF's 1 to 8, where 1 means not at all.

    It is 1 if the EXIF data are missing or damaged, and also for PNG files, whose pixels would have
    to be decoded first, and for TIFF files, which Pillow has already turned.
    """
    if image.format in ("PNG", "TIFF"):
        return 1
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data, which we can do without, makes Pillow raise anything
        return 1
    return orientation if orientation in range(1, 9) else 1


def _opened(source: str | os.PathLike[str] | IO[bytes], name: object) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Below twice the limit Pillow only warns.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(source)
    except UnidentifiedImageError:
        raise _unreadable(name, "empty, damaged, or of no known format") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _unreadable(name, TOO_LARGE) from None
    except Exception as error:  # Pillow raises struct.error, zlib.error, IndexError and more
        raise _unreadable(name, error) from None
    refusal = None
    if image.width * image.height > MAX_PIXELS:  # the program may have raised Pillow's limit
        refusal = TOO_LARGE
    elif image.mode == "F":
        refusal = "its values are floating-point numbers of no known range; store 8 bits"
    elif image.format == "EPS":
        refusal = "PostScript, which another program would have to run"
    if refusal is not None:
        image.close()
        raise _unreadable(name, refusal)
    return image


def _require_size(image: Image.Image, path: object, size: tuple[int, int]) -> None:
    if image.size[::-1] == size:
        return
    width, height = image.size
    text = (
        f"{printable(path)}: is {width} x {height} pixels, but its annotations are for "
        f"{size[1]} x {size[0]}"
    )
    if image.size == size and (orientation := exif_orientation(image)) > 4:
        raise ValueError(
            f"{text}, which fit only if it is turned as its EXIF orientation {orientation} says; "
            "annotations refer to stored pixels, so store the picture turned"
        )
    raise ValueError(f"{text} (stored pixels count, not the EXIF orientation)")


def _decoded(
    image: Image.Image, name: object, *, is_upright: bool = False, is_number: bool = False
) -> Tensor:
    """(3, H, W) uint8 RGB; `is_upright`: turn as EXIF says, `is_number`: colours are numbers."""
    try:
        image.load()
        if is_upright:
            image = _upright(image)
        if image.mode in DEEP_MODES:
            image = _eight_bits(image, name)
        is_transparent = image.mode in ALPHA_MODES or "transparency" in image.info
        if is_transparent and not is_number:
            ground = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(ground, image.convert("RGBA"))
        pixels = np.array(image.convert("RGB"))
    except Exception as error:  # as in `_opened`
        raise _unreadable(name, error) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data, as in `exif_orientation`
        return image


def _eight_bits(image: Image.Image, name: object) -> Image.Image:
    """16-bit grey values as 8-bit ones."""
    values = np.asarray(image)
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= 2**16:
        raise ValueError(f"its grey values go from {least} to {most}, beyond 16 bits")
    if most < 2**8:
        return Image.fromarray(values.astype(np.uint8))
    if not _warned:
        text = f"{printable(name)} has grey values of 16 bits, up to {most}; 65535 is read as 255"
        warnings.warn(f"{text}, in all such pictures alike", stacklevel=2)
        _warned.append(text)
    return Image.fromarray((values >> 8).astype(np.uint8))


_warned: list[str] = []  # one warning is enough, however many such images there are


def _unreadable(name: object, reason: object) -> ValueError:
    return ValueError(f"{printable(name)}: cannot be read as a picture ({printable(reason)})")
