"""Arrays from pickle files without running anything that such a file may ask for.

A pickle names functions and calls them. Here every name that a file of numpy arrays needs stands
for a small record of ours, and any other name is refused. Numpy itself is not called either.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO

import torch
from torch import Tensor

__all__ = ["STAND_INS", "PickledArray", "RefusedError", "as_tensor", "load_arrays"]

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


class RefusedError(pickle.UnpicklingError):
    """The file names something that is neither an array nor a plain value."""


class Sealed(type):
    """A class that no file changes: a pickle may also set attributes of what it names."""

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
    """Stands for numpy.ndarray and for what makes one; the values arrive as its state."""

    tensor: Tensor

    def __init__(self, *_: object) -> None:
        self.tensor = torch.empty(0)

    def __setstate__(
        self, state: tuple[int, tuple[int, ...], PickledType, bool, bytes | str]
    ) -> None:
        _, shape, kind, is_fortran, data = state
        self.tensor = _make_tensor(data, kind, shape, is_fortran=is_fortran)


class PickledScalar(metaclass=Sealed):
    """Stands for a numpy number, which optimizers and schedules leave behind; nobody reads it."""

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
        """The array.

        Args:
            data: the numbers.
            kind: their type.
            shape: before the axes are permuted.
            order: C or F; K where the axes are permuted.
            axes: the permutation.
        """
        array = PickledArray()
        tensor = _make_tensor(data, kind, shape, is_fortran=order == "F")
        array.tensor = tensor if axes is None else tensor.permute(axes)
        return array


class Latin1(metaclass=Sealed):
    """Stands for codecs.encode, by which older pickles write bytes."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        """The bytes."""
        if encoding != "latin1":
            raise ValueError(f"text in {encoding!r}")
        return text.encode("latin1")


# By the names that files of Python 2 and 3, numpy 1 and 2 use.
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
    """Reads arrays and plain values."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in of a name; nothing is imported."""
        known = {**STAND_INS, "_codecs.encode": Latin1, "collections.OrderedDict": OrderedDict}
        if f"{module}.{name}" not in known:
            raise RefusedError(f"{module}.{name}")
        return known[f"{module}.{name}"]


def load_arrays(file: BinaryIO) -> object:
    """The content of a pickle file; its arrays are `PickledArray`.

    Raises:
        RefusedError: it holds something else; the error says what.
        pickle.UnpicklingError, and others: it is no pickle or is damaged.
    """
    # Python 2 wrote bytes as strings; latin1 keeps every byte.
    return ArrayUnpickler(file, encoding="latin1").load()


def as_tensor(value: object) -> object:
    """The tensor in the place of an array; anything else as it is."""
    return value.tensor if isinstance(value, PickledArray) else value


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
