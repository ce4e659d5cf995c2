"""Checks whether tensors from a file can become a model's weights, and the reason if not."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from blendmask_lite.terminal import counted, first_line, listed

__all__ = [
    "RefusedError",
    "checked_training",
    "checked_weights",
    "is_dense",
    "is_safetensors",
    "named_errors",
    "read_safetensors",
    "require_file",
    "require_intact",
    "require_loadable",
]


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
LISTED = 20  # names of each kind that an error lists at most


def require_loadable(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    source: object,
    *,
    must_be_finite: bool = True,
) -> None:
    """Refuse tensors that cannot become a model's, by name; nothing is allocated.

    Args:
        state: tensors from a file, by name.
        own: the model's tensors, perhaps on the meta device.
        source: name of the weights in errors.
        must_be_finite: if False, only names, shapes and types are checked.

    Raises:
        ValueError: tensors are missing or left over, have another shape or type, or have values
            that are infinite, NaN or, for a variance, negative. The message lists the first twenty
            names of each kind.
    """
    problems: dict[str, list[str]] = {
        "missing": [name for name in own if name not in state],
        "left over": [name for name in state if name not in own],
    }
    for name in own:
        if name in state and (reason := _misfit(name, state[name], own[name], must_be_finite)):
            kind, details = reason
            problems.setdefault(kind, []).append(f"{name} {details}".strip())
    texts = [
        f"{counted(len(names), 'tensor')} {kind}: {listed(names, LISTED)}"
        for kind, names in problems.items()
        if names
    ]
    if texts:
        raise ValueError(f"{source}: these weights cannot be loaded: {'; '.join(texts)}")


def _misfit(name: str, value: Tensor, own: Tensor, must_be_finite: bool) -> tuple[str, str] | None:
    """The reason why a tensor cannot replace the model's: its kind, and details; None if it can.

    A float may have any float type, and a counter any integer type.
    """
    if value.shape != own.shape:
        return "of another shape", f"{tuple(value.shape)} instead of {tuple(own.shape)}"
    if value.dtype not in (FLOATS if own.is_floating_point() else INTEGERS):
        return "of another type", f"{value.dtype} instead of {own.dtype}"
    if own.is_floating_point() and must_be_finite:
        held = value.detach().to(own.dtype)
        if not bool(torch.isfinite(held).all()):
            return "with infinite or undefined values", ""
        if name.endswith("running_var") and bool((held < 0).any()):
            return "with negative variances", ""
    return None


class RefusedError(pickle.UnpicklingError):
    """The file names something that is neither an array nor a plain value."""


@contextmanager
def named_errors(path: Path, what: str) -> Iterator[None]:
    """Turn errors while `path` is read into a ValueError that names the file."""
    try:
        yield
    except zipfile.BadZipFile:
        raise ValueError(f"{path}: not {what}, or the file is cut off") from None
    except Exception as error:  # a pickle is a program; a damaged one may raise anything
        if isinstance(error, OSError) and error.filename is not None:
            raise
        asked = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        if isinstance(error, RefusedError) or (isinstance(error, pickle.UnpicklingError) and asked):
            name = asked[1] if asked else str(error)
            raise ValueError(
                f"{path}: refused, because reading it would run code ({name}); "
                f"{what} holds tensors, arrays and plain values only"
            ) from None
        raise ValueError(f"{path}: not {what}, or damaged ({first_line(error)})") from None


def require_file(path: Path, what: str) -> None:
    """Refuse a missing file with FileNotFoundError, a folder or device with ValueError."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such {what}")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        inside = [file.name for file in sorted(path.glob("*.safetensors"))]
        such = f", such as {' or '.join(inside[:2])} in it" if inside else ""
        raise ValueError(f"{path}: is {kind}, expected a {what}{such}")


def require_intact(path: Path) -> None:
    """Check what torch does not check in its zip files: checksums, sizes, and bytearrays.

    torch.save does not compress. Parts that declare more bytes than the file has would take far
    more memory than its size suggests.

    Raises:
        zipfile.BadZipFile: the file is not a zip file, or is cut off.
        RefusedError: it makes a bytearray, which could take any amount of memory.
        ValueError: a part has a wrong checksum, which the message names, or the parts are too
            large.
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
                raise RefusedError("bytearray")


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like a safetensors file: a JSON header's length, then its brace."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the texts in the header of a safetensors file.

    Raises:
        ValueError: it is damaged or cut off.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name) for name in sorted(file.keys())
            }, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or cut off ({first_line(error)})") from None


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor with all its numbers in memory, so not a sparse one."""
    return (
        isinstance(value, Tensor)
        and not value.is_nested
        and value.layout is torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
    )


def checked_weights(values: object, place: str, path: Path) -> dict[str, Tensor]:
    """A dictionary of dense tensors that are no larger than their file: a view may repeat values.

    Raises:
        ValueError: it is something else; the message names the file, the key and the tensor.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {place}: a {type(values).__name__}, expected weights by name")
    for name, value in values.items():
        if not isinstance(name, str) or not is_dense(value):
            raise ValueError(f"{path}: {place}: {name!r} is no tensor of plain numbers")
    declared, size = sum(value.nbytes for value in values.values()), path.stat().st_size
    if declared > size:
        raise ValueError(f"{path}: {place}: declares {declared:,} bytes, the file has {size:,}")
    return values


def checked_training(
    values: object, weights: Mapping[str, Tensor], path: Path
) -> dict[str, Any] | None:
    """What is needed to continue a training, after a check; None if the file does not have it.

    Its weights need the names and shapes of the file's finished `weights`.

    Raises:
        ValueError: a part is missing or of another form, or holds NaN or infinity.
    """
    if values is None:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
        raise ValueError(f"{path}: training: expected a dictionary with the settings as config")
    if "state" not in values:
        return values  # the file of a failed step
    state = values["state"]
    parts = {"iteration", "model", "optimizer", "average"}
    if not isinstance(state, dict) or not parts <= set(state):
        raise ValueError(f"{path}: training state: expected {', '.join(sorted(parts))}")
    if type(state["iteration"]) is not int or state["iteration"] < 0:
        raise ValueError(f"{path}: training state: iteration {state['iteration']!r} is no count")
    for part in ("model", "average"):
        if state[part] is not None:
            place = f"training state, {part}"
            own = checked_weights(state[part], place, path)
            require_loadable(own, weights, f"{path}: {place}")
    optimizer = state["optimizer"]
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("state"), dict):
        raise ValueError(f"{path}: training state, optimizer: expected its state by parameter")
    moments = {
        f"state[{number}].{name}": value
        for number, each in optimizer["state"].items()
        if isinstance(each, dict)
        for name, value in each.items()
        if isinstance(value, Tensor)
    }
    place = "training state, optimizer"
    for name, value in checked_weights(moments, place, path).items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path}: {place}: {name} with infinite or undefined values")
    return values
