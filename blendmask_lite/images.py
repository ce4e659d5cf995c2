"""Images as tensors: one reader of files for all of the package, and resizing.

Chapter 01 of the course. All readers of files here behave alike:

- They read the first frame of any format that Pillow knows, from regular files only, and follow
  links.
- Transparent pixels are put on white, as in most viewers.
- Of 16-bit grey values only the high byte is kept, as Pillow does with 16-bit colours, and a
  warning says so once. If none is above 255, they are really 8-bit values and stay as they are.
- For anything else they raise a `ValueError` with the file's name.
"""

from __future__ import annotations

import glob
import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.files import require_local
from blendmask_lite.terminal import printable
from blendmask_lite.web import receive_bytes

__all__ = [
    "DEEP_MODES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "AnyImage",
    "decode_image",
    "each_image",
    "encode_image",
    "exif_orientation",
    "image_tensor",
    "list_images",
    "open_image",
    "read_image",
    "read_stored_colors",
    "read_stored_image",
    "read_url",
    "resize_for_test",
    "resize_image",
    "resized_size",
]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MAX_PIXELS = 89_478_485  # per image; Pillow treats larger ones as decompression bombs
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # grey values of more than 8 bits
TOO_LARGE = f"it has more than {MAX_PIXELS} pixels, as a decompression bomb would"
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION = 0x0112  # EXIF tag; 1 is upright, 5 to 8 swap height and width

# What users have an image as: a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W).
AnyImage: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
SINGLE = (str, os.PathLike, Image.Image, np.ndarray, Tensor)


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


def encode_image(image: Image.Image | NDArray[np.uint8], suffix: str = ".png") -> bytes:
    """The content of an image file.

    Args:
        image: a PIL image, or an array (H, W, 3) in RGB or (H, W) in grey.
        suffix: the file's suffix, one of `IMAGE_SUFFIXES`, in lower or upper case.

    Raises:
        ValueError: the suffix is not one of them.
    """
    suffix = suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"suffix {suffix!r}: images are written as one of {known}")
    # Stronger compression barely makes photographs smaller, and takes longer than the network.
    options: dict[str, Any] = {"compress_level": 1} if suffix == ".png" else {"quality": 95}
    content = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(content, Image.registered_extensions()[suffix], **options)
    return content.getvalue()


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


def each_image(images: AnyImage | Iterable[AnyImage]) -> Iterator[AnyImage]:
    """Single images, in order, from all that users pass; files are listed but not yet read.

    Args:
        images: an image, or an iterable of images. Paths may name folders and patterns, as in
            `list_images`; arrays and tensors may have one more axis in front, for several images.

    Raises:
        FileNotFoundError: as in `list_images`.
        ValueError: as in `list_images`, or something that is no image at all.
    """
    if isinstance(images, str | os.PathLike):
        yield from list_images([images])
    elif isinstance(images, np.ndarray | Tensor):
        yield from images if images.ndim == 4 else [images]
    elif isinstance(images, Image.Image):
        yield images
    elif isinstance(images, Iterable) and not isinstance(images, bytes | dict):
        for place, image in enumerate(images):
            if not isinstance(image, SINGLE):
                raise ValueError(_no_image(f"images[{place}]", type(image).__name__))
            yield from each_image(image)
    else:
        raise ValueError(_no_image("images", type(images).__name__))


def image_tensor(image: AnyImage, name: str) -> Tensor:
    """(3, H, W) uint8 RGB of a single image. Tensors are returned as they are.

    Files are turned upright as their EXIF data says. PIL images are not turned: what users draw on
    their own image has to fit it as it is. `name` is for errors.

    Raises:
        FileNotFoundError: as in `open_image`.
        ValueError: as in `open_image`, or an array of another shape or type.
    """
    if isinstance(image, Tensor):
        return image
    if isinstance(image, Image.Image):
        _require_readable(image, name)
        return _decoded(image, name)
    if not isinstance(image, np.ndarray):
        return read_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(_no_image(name, f"an array {image.shape} of {image.dtype}"))
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _no_image(name: str, found: str) -> str:
    return (
        f"{name}: {found}; expected a path, a PIL image, an array (H, W, 3) of uint8 or a tensor "
        "(3, H, W), in RGB"
    )


def list_images(
    names: Iterable[str | os.PathLike[str]], *, is_recursive: bool = False
) -> list[Path]:
    """The image files that the names stand for; they are not opened.

    Args:
        names: files of any suffix; folders, for the files in them with one of `IMAGE_SUFFIXES`; and
            patterns such as `photos/**/*.jpg`, for all files that match.
        is_recursive: whether folders inside the folders are searched, too.

    Returns:
        Paths in the order of the names; files of a folder or pattern are sorted.

    Raises:
        FileNotFoundError: there is no such file, or none that matches the pattern.
        ValueError: a folder has no images, or a name is an address on the web.
    """
    paths: list[Path] = []
    for given in names:
        require_local(
            given, hint="; `blendmask_lite.images.read_url` fetches an image from the web"
        )
        path, name = Path(given), os.fspath(given)
        if path.is_dir():
            inside = path.rglob("*") if is_recursive else path.iterdir()
            found = [file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES]
            refusal: OSError | ValueError = ValueError(f"{path}: a folder without images")
        elif os.path.lexists(path):
            found, refusal = [path], FileNotFoundError(f"{path}: no such file")
        elif glob.has_magic(name):
            found = [Path(file) for file in glob.iglob(name, recursive=True)]
            refusal = FileNotFoundError(f"{name}: no file matches")
        else:
            raise FileNotFoundError(f"{path}: no such file")
        found = sorted(file for file in found if not file.is_dir())
        if not found:
            raise refusal
        paths += found
    return paths


def read_url(
    url: str, *, max_bytes: int = 50_000_000, seconds: float = 30.0, max_redirects: int = 5
) -> Tensor:
    """(3, H, W) uint8 RGB of an image on the web, upright; see `read_image`. No file is kept.

    Args:
        url: an http or https address.
        max_bytes: a larger file is refused.
        seconds: time limit for the whole download.
        max_redirects: how often the server may redirect to another http or https address.

    Raises:
        DownloadError: no network, no such file, or beyond one of the limits.
        ValueError: `url` is not an http or https address, or the server did not send an image.
    """
    content = receive_bytes(url, max_bytes=max_bytes, seconds=seconds, max_redirects=max_redirects)
    return decode_image(content, name=url, max_pixels=MAX_PIXELS)


def resized_size(size: tuple[int, int], shorter: int, longest: int) -> tuple[int, int]:
    """(H, W) after resizing: the shorter side becomes `shorter`, or the longer one `longest`.

    The smaller of the two results is used, rounded as in detectron2's ResizeShortestEdge; no side
    falls below 1. All arguments must be at least 1.
    """
    if min(*size, shorter, longest) < 1:
        raise ValueError(f"size {size}, shorter = {shorter}, longest = {longest}: all must be >= 1")
    scale = shorter / min(size)
    if max(size) * scale > longest:
        scale = longest / max(size)
    height, width = (max(int(side * scale + 0.5), 1) for side in size)
    return height, width


def resize_for_test(image: Tensor, test_size: int, max_size: int) -> Tensor:
    """(3, H, W) image, uint8 or float, on any device, resized for inference; see `resized_size`."""
    height, width = image.shape[-2:]
    return resize_image(image, resized_size((height, width), test_size, max_size))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) image, uint8 or float, on any device, at another size: bilinear, antialiased."""
    if tuple(image.shape[-2:]) == size:
        return image
    if image.dtype == torch.uint8 and (image.device.type != "cpu" or size == (1, 1)):
        # Only CPUs have a kernel for antialiased bytes, and it fails for a single pixel. Rounded
        # floats differ from its results by at most one step.
        return resize_image(image.float(), size).round().clamp(0, 255).to(torch.uint8)
    return F.interpolate(
        image[None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[0]


def exif_orientation(image: Image.Image) -> int:
    """EXIF's code, 1 to 8, for turning an image upright; 1 means that it already is.

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
    try:
        _require_readable(image, name)
    except ValueError:
        image.close()
        raise
    return image


def _require_readable(image: Image.Image, name: object) -> None:
    if image.width * image.height > MAX_PIXELS:  # the program may have raised Pillow's limit
        raise _unreadable(name, TOO_LARGE)
    if image.mode == "F":
        text = "its values are floating-point numbers of no known range; store 8 bits"
        raise _unreadable(name, text)
    if image.format == "EPS":
        raise _unreadable(name, "PostScript, which another program would have to run")


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
