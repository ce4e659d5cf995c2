"""A state of the Blender lab as a file: JSON that people can read, checked when it is read."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.config import Interpolation, MergerKind, Pooling
from blendmask_lite.lab.blender_state import BlenderState

__all__ = ["picture_checksum", "read_state", "write_state"]

FORMAT = 1  # raised when old readers would misunderstand the file
CHOICES = {
    "merger": MergerKind.__args__,  # type: ignore[attr-defined]
    "interpolation": Interpolation.__args__,  # type: ignore[attr-defined]
    "pooling": Pooling.__args__,  # type: ignore[attr-defined]
    "has_tanh": (False, True),
    "has_relu": (False, True),
}
MOST_CELLS = 1_000_000  # attention numbers, and cells of a mask


def picture_checksum(image: Tensor) -> str:
    """A name for the pixels of a (3, H, W) picture, to notice another one."""
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).hexdigest()


def write_state(state: BlenderState, *, picture: str) -> bytes:
    """The file's content.

    Args:
        state: to be kept.
        picture: `picture_checksum` of the picture that it was made on.
    """
    values: dict[str, Any] = {name: getattr(state, name) for name in CHOICES}
    values |= {
        "blender_lab": FORMAT,
        "picture": picture,
        "box": list(state.box),
        "mask_size": state.mask_size,
        "coefficients": state.coefficients.tolist(),
        "attentions": state.attentions.tolist(),
    }
    return json.dumps(values).encode()


def read_state(content: bytes, *, name: str = "state") -> tuple[BlenderState, str]:
    """The state of a file, and the checksum of its picture.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        ValueError: no state of the lab, or a value that cannot be; names file and field.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: not a state of the Blender lab (no JSON)") from None
    if not isinstance(values, dict) or values.get("blender_lab") != FORMAT:
        raise ValueError(f"{name}: not a state of the Blender lab, format {FORMAT}")
    for field, allowed in CHOICES.items():
        if values.get(field) not in allowed or isinstance(values.get(field), float):
            raise ValueError(f"{name}: {field} = {values.get(field)!r}, expected one of {allowed}")
    size = values.get("mask_size")
    if type(size) is not int or not 1 <= size**2 <= MOST_CELLS:
        raise ValueError(f"{name}: mask_size = {size!r}, expected a whole number of cells")
    x0, y0, x1, y1 = _numbers(values, "box", (4,), name).tolist()
    attentions = _numbers(values, "attentions", (None, None, None), name)
    coefficients = _numbers(values, "coefficients", (len(attentions),), name)
    chosen = {field: values[field] for field in CHOICES}
    try:
        state = BlenderState(
            box=(x0, y0, x1, y1),
            attentions=attentions,
            coefficients=coefficients,
            mask_size=size,
            **chosen,
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return state, str(values.get("picture", ""))


def _numbers(
    values: dict[str, Any], field: str, shape: tuple[int | None, ...], name: str
) -> Tensor:
    try:
        tensor = torch.tensor(values[field], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(
            f"{name}: {field} is missing or holds something else than numbers"
        ) from None
    fits = tensor.dim() == len(shape) and all(
        wanted in (None, side) for wanted, side in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.numel() > MOST_CELLS:
        raise ValueError(f"{name}: {field} of shape {tuple(tensor.shape)} does not fit")
    if not math.isfinite(float(tensor.abs().sum())):
        raise ValueError(f"{name}: {field} holds numbers that are not finite")
    return tensor
