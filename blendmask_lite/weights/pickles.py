"""Weights from pickle files, bare or wrapped in a checkpoint; no file runs code."""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from blendmask_lite.weights.checkpoint import HEADER
from blendmask_lite.weights.tensors import (
    RefusedError,
    is_dense,
    is_safetensors,
    named_errors,
    read_safetensors,
    require_file,
    require_intact,
)

__all__ = ["read_weights"]


TYPES = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}


class Sealed(type):
    """A class that no file can change; a pickle may set attributes of the classes that it names."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise RefusedError(f"a change of {name}")


class PickledType(metaclass=Sealed):
    """Stands for numpy.dtype."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in TYPES:
            raise ValueError(f"an array of type {code!r}")
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] == ">":
            raise ValueError("an array in big-endian order")


class PickledArray(metaclass=Sealed):
    """Stands for numpy.ndarray and for functions that make one; the values arrive as its state."""

    tensor: Tensor

    def __init__(self, *_: object) -> None:
        self.tensor = torch.empty(0)

    def __setstate__(
        self, state: tuple[int, tuple[int, ...], PickledType, bool, bytes | str]
    ) -> None:
        _, shape, kind, is_fortran, data = state
        self.tensor = _make_tensor(data, kind, shape, is_fortran=is_fortran)


class PickledScalar(metaclass=Sealed):
    """Stands for a numpy number from an optimizer or a schedule; its value is never read."""

    def __init__(self, *_: object) -> None:
        pass


class FromBuffer(metaclass=Sealed):
    """Stands for the function that makes an array in newer pickles."""

    def __new__(  # type: ignore[misc]
        cls,
        data: bytes,
        kind: PickledType,
        shape: tuple[int, ...],
        order: str,
        axes: tuple[int, ...] | None = None,
    ) -> PickledArray:
        """The array; its order is C, F, or K if the axes are permuted."""
        array = PickledArray()
        tensor = _make_tensor(data, kind, shape, is_fortran=order == "F")
        array.tensor = tensor if axes is None else tensor.permute(axes)
        return array


class Latin1(metaclass=Sealed):
    """Stands for codecs.encode, with which older pickles write bytes."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        """The bytes."""
        if encoding != "latin1":
            raise ValueError(f"text in {encoding!r}")
        return text.encode("latin1")


# Stand-ins by the names in files of Python 2 and 3, numpy 1 and 2.
STAND_INS: dict[str, Callable[..., object]] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledType,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("multiarray._reconstruct", PickledArray),
            ("multiarray.scalar", PickledScalar),
            ("numeric._frombuffer", FromBuffer),
        )
    },
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads plain values, and arrays as `PickledArray`; refuses everything else by its name."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a name; nothing is imported."""
        known = {**STAND_INS, "_codecs.encode": Latin1, "collections.OrderedDict": OrderedDict}
        if f"{module}.{name}" not in known:
            raise RefusedError(f"{module}.{name}")
        return known[f"{module}.{name}"]


def _make_tensor(
    data: bytes | str, kind: PickledType, shape: tuple[int, ...], *, is_fortran: bool
) -> Tensor:
    raw = bytearray(data.encode("latin1") if isinstance(data, str) else data)
    dtype = TYPES[kind.code]
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for an array of {shape}")
    if not raw:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(raw, dtype=dtype)
    if not is_fortran:
        return flat.reshape(shape)
    return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()


WRAPPERS = ("model", "state_dict", "blobs")  # keys in training checkpoints and Caffe2's files
ZIP = b"PK\x03\x04"  # start of torch's files since 1.6
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # and before 1.6
OURS = "a checkpoint of blendmask_lite; `load_model` reads it"
OTHERS = {  # what a server may send instead
    b"<": "a web page, not a file of weights",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it points to",
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a file of torch (.pth, .pt), safetensors or pickled numpy arrays (.pkl).

    `{"model": ...}`, `{"state_dict": ...}`, `{"blobs": ...}` and bare dicts are read; other
    entries, such as an optimizer's state, are left out.

    Returns:
        Tensors by their names in the file, on the CPU, in the file's dtype.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no weights, is damaged, or would run code.
    """
    require_file(path, "file of weights")
    content = _read(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not weights by name")
    if {"format", "config", "state"} <= set(content):
        raise ValueError(f"{path}: {OURS}")
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not content:
        raise ValueError(f"{path}: holds no weights")
    weights: dict[str, Tensor] = {}
    size = path.stat().st_size
    for name, value in content.items():
        tensor = value.tensor if isinstance(value, PickledArray) else value
        if not isinstance(name, str) or not is_dense(tensor):
            raise ValueError(f"{path}: {name!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.nbytes > size:  # a view that repeats the file's values
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
    if is_safetensors(path):
        state, texts = read_safetensors(path)
        if HEADER in texts:
            raise ValueError(f"{path}: {OURS}")
        return state
    with named_errors(path, "a file of weights"):
        if head.startswith(ZIP):
            require_intact(path)
        elif head.startswith(LEGACY) and b"\nbytearray\n" in path.read_bytes():
            raise RefusedError("bytearray")  # it could have any size
        with path.open("rb") as file:
            if not head.startswith((ZIP, LEGACY)):
                # Python 2 wrote bytes as strings; latin1 keeps every byte.
                return ArrayUnpickler(file, encoding="latin1").load()
            admitted = [(stand_in, name) for name, stand_in in STAND_INS.items()]
            with torch.serialization.safe_globals(admitted):  # type: ignore[arg-type]
                return torch.load(file, map_location="cpu", weights_only=True)
