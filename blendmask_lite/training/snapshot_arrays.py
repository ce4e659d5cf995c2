"""Arrays on the disk for snapshots: compact numbers, and archives read without running code."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blendmask_lite.files import write_atomically

__all__ = [
    "Arrays",
    "as_bytes",
    "from_bytes",
    "narrow",
    "part",
    "read_arrays",
    "widen",
    "write_arrays",
]

Arrays = Mapping[str, NDArray]
T = TypeVar("T")

# What an archive may unpack to: this, and so many times its size. Real ones unpack to less than
# twice their size.
ROOM = 2**26  # bytes
RATIO = 100


def narrow(maps: Tensor) -> tuple[NDArray, NDArray]:
    """Signed maps as int8 with one scale each: zero stays zero.

    Args:
        maps: (N, ...) float; a value that is not finite becomes zero or the largest one.

    Returns:
        (N, ...) int8 and (N,) float32; their product is off by at most 1/254 of the map's
        largest magnitude.
    """
    maps = maps.float().nan_to_num(0.0, 1e30, -1e30)
    largest = maps.flatten(1).abs().amax(dim=1) if maps.numel() else maps.new_zeros(len(maps))
    scale = largest.clamp(min=1e-30) / 127
    values = (maps / scale.reshape(-1, *[1] * (maps.dim() - 1))).round().to(torch.int8)
    return values.numpy(), scale.numpy()


def widen(values: NDArray, scale: NDArray) -> Tensor:
    """The maps of `narrow`, float32."""
    factors = torch.from_numpy(scale).reshape(-1, *[1] * (values.ndim - 1))
    return torch.from_numpy(values).float() * factors


def as_bytes(probabilities: Tensor) -> NDArray:
    """Probabilities as uint8, of any shape."""
    return (probabilities.nan_to_num(0.0) * 255).round().to(torch.uint8).numpy()


def from_bytes(values: NDArray) -> Tensor:
    """The probabilities of `as_bytes`, float32."""
    return torch.from_numpy(values).float() / 255


def part(arrays: Arrays, name: str, counts: Sequence[int], place: int) -> NDArray:
    """The rows of one picture in an array that holds those of all, one after the other."""
    first = sum(counts[:place])
    rows = arrays[name][first : first + counts[place]]
    if len(rows) != counts[place]:
        raise ValueError(f"{name}: {len(arrays[name])} rows, expected {sum(counts)}")
    return rows


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a compressed archive in one step; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    entries: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **entries)
    write_atomically(path, buffer.getvalue())


def read_arrays(folder: Path, name: str, unpack: Callable[[Arrays], T]) -> T:
    """What `unpack` makes of an archive in a folder, or in a zip archive of such a folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, unpacks to far more than it is, or `unpack` cannot do with it;
            the file is named.
    """
    try:
        if folder.is_dir():
            content = (folder / name).read_bytes()
        else:
            with zipfile.ZipFile(folder) as archive:
                _require_modest([archive.getinfo(name)], folder.stat().st_size)
                content = archive.read(name)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_modest(archive.infolist(), len(content))
            arrays = {
                member.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(member)), allow_pickle=False
                )
                for member in archive.namelist()
            }
        return unpack(arrays)
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(f"{folder / name}: {error.args[0]} is missing") from None
    except MemoryError:
        raise ValueError(f"{folder / name}: the file is damaged (it declares too much)") from None
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(f"{folder / name}: {error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"{folder / name}: the file is damaged ({error})") from None


def _require_modest(parts: Sequence[zipfile.ZipInfo], size: int) -> None:
    declared = sum(part.file_size for part in parts)
    if declared > ROOM + RATIO * size:
        raise ValueError(f"it declares {declared:,} bytes in an archive of {size:,}")
