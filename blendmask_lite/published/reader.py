"""State dicts from files that others wrote, whatever these are wrapped in; no file runs code."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from blendmask_lite.plain import require_intact
from blendmask_lite.published.pickles import STAND_INS, RefusedError, as_tensor, load_arrays
from blendmask_lite.text import first_line
from blendmask_lite.weights import is_dense

__all__ = ["read_weights"]

WRAPPERS = ("model", "state_dict", "blobs")  # of training checkpoints, and of Caffe2's files
ZIP = b"PK\x03\x04"  # torch's files since 1.6
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # and before
OTHERS = {  # what a server may send instead
    b"<": "a web page, not a file of weights",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it points to",
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a file of torch (.pth, .pt) or of pickled numpy arrays (.pkl).

    `{"model": ...}`, `{"state_dict": ...}`, `{"blobs": ...}` and bare dicts are read; what else
    lies beside the weights, such as an optimizer's state, is left out.

    Returns:
        Tensors by the file's names, on the CPU, of the file's type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no file of weights, a damaged one, or one that would run code.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path}: is {kind}, expected a file of weights")
    content = _read(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not weights by name")
    if {"format", "config", "state"} <= set(content):
        raise ValueError(f"{path}: a checkpoint of blendmask_lite; `load_model` reads it")
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not content:
        raise ValueError(f"{path}: holds no weights")
    weights: dict[str, Tensor] = {}
    size = path.stat().st_size
    for name, value in content.items():
        tensor = as_tensor(value)
        if not isinstance(name, str) or not is_dense(tensor):
            raise ValueError(f"{path}: {name!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.nbytes > size:  # a view that repeats what the file holds
            raise ValueError(
                f"{path}: {name} declares {tensor.nbytes:,} bytes, the file has {size:,}"
            )
        weights[name] = tensor
    if all(name.startswith("module.") for name in weights):  # trained on several GPUs
        return {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def _read(path: Path) -> object:
    with path.open("rb") as file:
        head = file.read(64)
    for beginning, what in OTHERS.items():
        if head.lstrip().startswith(beginning):
            raise ValueError(f"{path}: {what}")
    try:
        if head.startswith(ZIP):
            require_intact(path)
        elif head.startswith(LEGACY) and b"\nbytearray\n" in path.read_bytes():
            raise RefusedError("bytearray")  # of any size
        if head.startswith((ZIP, LEGACY)):
            admitted = [(stand_in, name) for name, stand_in in STAND_INS.items()]
            with torch.serialization.safe_globals(admitted):  # type: ignore[arg-type]
                return torch.load(path, map_location="cpu", weights_only=True)
        with path.open("rb") as file:
            return load_arrays(file)
    except RefusedError as error:
        raise _refused(path, str(error)) from None
    except pickle.UnpicklingError as error:
        if asked := re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error)):
            raise _refused(path, asked[1]) from None
        raise ValueError(f"{path}: not a file of weights, or damaged") from None
    except zipfile.BadZipFile:
        raise ValueError(f"{path}: not a file of weights, or it is cut off") from None
    except Exception as error:  # a pickle is a little program: damaged, it fails in any way
        if isinstance(error, OSError) and error.filename is not None:  # it cannot be opened
            raise
        reason = f"not a file of weights, or damaged ({first_line(error)})"
        raise ValueError(f"{path}: {reason}") from None


def _refused(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: refused, because reading it would run code ({what}); "
        "a file of weights holds tensors, arrays and plain values only"
    )
