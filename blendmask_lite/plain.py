"""Plain values: files of them and of tensors, read without running code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from blendmask_lite.text import first_line

__all__ = ["read_plain", "require_intact", "require_plain"]


def require_plain(value: object, place: str) -> None:
    """Refuse what a reader would refuse; a subclass, too: torch.__version__ is one of str.

    Args:
        value: to be written.
        place: its name in the error.

    Raises:
        ValueError: it is, or holds, something else than numbers, text, lists and dictionaries.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            require_plain(name, f"{place}, a key")
            require_plain(each, f"{place}[{name!r}]")
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            require_plain(each, f"{place}[{number}]")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ValueError(f"{place}: a {type(value).__name__} is no plain value")


def read_plain(path: Path) -> object:
    """What a file of torch.save holds, tensors on the CPU; tensors and plain values only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or reading it would run code.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path}: is {kind}, expected a checkpoint file")
    try:
        require_intact(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile:
        raise ValueError(f"{path}: not a checkpoint, or the file is cut off") from None
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():
            raise ValueError(
                f"{path}: refused, because reading it would run code; "
                "a checkpoint holds tensors and plain values only"
            ) from None
        raise ValueError(f"{path}: not a checkpoint ({first_line(error)})") from None
    except Exception as error:  # a pickle is a little program: damaged, it fails in any way
        if isinstance(error, OSError) and error.filename is not None:  # it cannot be opened
            raise
        raise ValueError(f"{path}: not a checkpoint, or damaged ({first_line(error)})") from None


def require_intact(path: Path) -> None:
    """Check of a file of torch.save what torch does not: sums, sizes, and one greedy name.

    torch.save does not compress. Parts that declare more bytes than the file has would take memory
    that no one expects of so small a file.

    Raises:
        zipfile.BadZipFile: the file is none, or cut off.
        pickle.UnpicklingError: it makes a bytearray, which takes any amount of memory.
        ValueError: a part of it is not what was written, or too large; says which.
    """
    with zipfile.ZipFile(path) as archive:
        declared = sum(part.file_size for part in archive.infolist())
        if declared > path.stat().st_size:
            raise ValueError(
                f"its parts declare {declared:,} bytes, the file has {path.stat().st_size:,}"
            )
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} has a wrong check sum")
        for name in archive.namelist():
            if name.endswith(".pkl") and b"\nbytearray\n" in archive.read(name):
                raise pickle.UnpicklingError("GLOBAL bytearray")
