"""The Blender lab's state, which is checked at every change, its history, and its JSON file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.config import Interpolation, MergerKind, Pooling
from blendmask_lite.lab.parts import check_index
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.merge import Assembler, Blender, Merger, WeightedSum

__all__ = [
    "BlenderState",
    "History",
    "brushed",
    "changed",
    "own_numbers",
    "painted",
    "picture_checksum",
    "read_state",
    "resized",
    "write_state",
]


HISTORY = 100  # states that can be undone


@dataclass(frozen=True, eq=False)
class BlenderState:
    """Everything that the user can change; the rest of the display follows from it and the bases.

    Raises:
        ValueError: the box has no area, or the sizes do not fit together.
    """

    box: tuple[float, float, float, float]  # corners (x0, y0, x1, y1), pixels of the padded input
    attentions: Tensor  # (K, M, M) raw, for the blender
    coefficients: Tensor  # (K,) raw, for the weighted sum; the assembler has no numbers
    merger: MergerKind = "blender"  # how the first `num_used` bases are combined into the mask
    mask_size: int = 56  # R, cells
    interpolation: Interpolation = "bilinear"  # for attentions: "bilinear" or "nearest"
    pooling: Pooling = "align"  # for bases: "align" (RoIAlign) or "pool" (RoIPool)
    has_tanh: bool = False  # whether coefficients pass through a tanh, as in YOLACT's training
    has_relu: bool = False  # whether the weighted sum's crops pass through a ReLU, as in YOLACT

    def __post_init__(self) -> None:
        if self.attentions.dim() != 3 or self.attentions.shape[1] != self.attentions.shape[2]:
            raise ValueError(f"attentions {tuple(self.attentions.shape)}: expected (K, M, M)")
        if self.num_bases < 1 or self.attention_size < 1:
            raise ValueError(f"attentions {tuple(self.attentions.shape)}: K and M begin at 1")
        if self.coefficients.shape != (self.num_bases,):
            shape = tuple(self.coefficients.shape)
            raise ValueError(f"coefficients {shape}: {self.num_bases} attentions need as many")
        if self.mask_size < self.attention_size:
            raise ValueError(f"mask_size = {self.mask_size}: below M = {self.attention_size}")
        x0, y0, x1, y1 = self.box
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"box {self.box}: has no area")

    @property
    def num_bases(self) -> int:
        """K."""
        return len(self.attentions)

    @property
    def attention_size(self) -> int:
        """M, cells."""
        return self.attentions.shape[-1]

    @property
    def num_tiles(self) -> int:
        """Number of tiles along a side of the assembler; the square of this number is at most K."""
        return math.isqrt(self.num_bases)

    @property
    def num_used(self) -> int:
        """Number of bases in use: all K, or for the assembler the largest square number up to K."""
        return self.num_tiles**2 if self.merger == "assembler" else self.num_bases

    @property
    def settings(self) -> tuple[object, ...]:
        """All fields except the box and the numbers."""
        sizes = self.num_bases, self.attention_size, self.mask_size
        ways = self.interpolation, self.pooling, self.has_tanh, self.has_relu
        return self.merger, *sizes, *ways

    @property
    def numbers(self) -> Tensor:
        """(1, A) the object's raw numbers for the merger."""
        if self.merger == "blender":
            return self.attentions.flatten()[None]
        if self.merger == "weighted_sum":
            return self.coefficients[None]
        return self.attentions.new_zeros(1, 0)

    def make_merger(self) -> Merger:
        """The package's module for this state."""
        if self.merger == "weighted_sum":
            return WeightedSum(
                num_bases=self.num_bases, has_tanh=self.has_tanh, has_relu=self.has_relu
            )
        if self.merger == "assembler":
            return Assembler(num_bases=self.num_used)
        return self.make_blender()

    def make_blender(self) -> Blender:
        """The blender for the state's attentions, even if another merger is chosen."""
        return Blender(
            num_bases=self.num_bases, attention_size=self.attention_size, mode=self.interpolation
        )

    def with_numbers(self, numbers: Tensor) -> BlenderState:
        """The state with other (1, A) raw numbers for its merger."""
        if self.merger == "blender":
            return replace(self, attentions=numbers.reshape(self.attentions.shape))
        if self.merger == "weighted_sum":
            return replace(self, coefficients=numbers.reshape(-1))
        return self


# ------------------------------------------------------------------ changes


def brushed(cells: Iterable[tuple[int, int]], brush_size: int, size: int) -> Tensor:
    """(size, size) bool: the cells that a square brush covers on its way over cells (x, y)."""
    covered = torch.zeros(size, size, dtype=torch.bool)
    before = (brush_size - 1) // 2
    for x, y in cells:
        left, top = x - before, y - before
        right, bottom = max(left + brush_size, 0), max(top + brush_size, 0)
        covered[max(top, 0) : bottom, max(left, 0) : right] = True
    return covered


def painted(
    state: BlenderState,
    base: int,
    cells: Iterable[tuple[int, int]],
    value: float | Tensor,
    *,
    brush_size: int = 1,
) -> BlenderState:
    """The state after a stroke over the attention of one base.

    Args:
        state: the state before the stroke.
        base: index of the base (0-based).
        cells: (x, y) cells of the stroke; for a weighted sum, any of them sets the coefficient.
        value: raw number to paint, or (M, M) numbers to copy the cells from.
        brush_size: side of the square brush, cells.

    Raises:
        ValueError: the merger is the assembler, which has no attentions, or there is no such base.
    """
    if state.merger == "assembler":
        raise ValueError("FCIS has nothing to paint: its tiles are the same for every object")
    check_index("base", base, state.num_bases)
    new = torch.as_tensor(value, dtype=state.attentions.dtype)
    if state.merger == "weighted_sum":
        coefficients = state.coefficients.clone()
        coefficients[base] = new
        return replace(state, coefficients=coefficients)
    covered = brushed(cells, brush_size, state.attention_size)
    attentions = state.attentions.clone()
    attentions[base] = torch.where(covered, new, attentions[base])
    return replace(state, attentions=attentions)


def resized(attentions: Tensor, size: int) -> Tensor:
    """(K, M, M) attentions -> (K, size, size): the mean over areas, or upsampling by equation 2."""
    if size <= attentions.shape[-1]:
        return F.adaptive_avg_pool2d(attentions, size)
    return interpolate_attentions(attentions[None], size)[0]


def own_numbers(own: BlenderState, state: BlenderState) -> BlenderState:
    """The state with the numbers of `own`, resized to its K and M."""
    K, M = state.num_bases, state.attention_size
    return replace(
        state, attentions=resized(own.attentions[:K], M), coefficients=own.coefficients[:K]
    )


def changed(state: BlenderState, own: BlenderState, field: str, value: Any) -> BlenderState:
    """The state with another merger, K, M, R, interpolation or pooling.

    Args:
        state: the state before the change.
        own: the network's state; a base that is added gets its numbers.
        field: "num_bases", "attention_size", or a field of the state.
        value: new value of the field.

    Raises:
        ValueError: the value does not fit the rest of the state.
    """
    if field == "num_bases":
        added = resized(own.attentions, state.attention_size)[state.num_bases :]
        attentions = torch.cat([state.attentions, added])
        coefficients = torch.cat([state.coefficients, own.coefficients[state.num_bases :]])
        return replace(state, attentions=attentions[:value], coefficients=coefficients[:value])
    if field == "attention_size":
        return replace(state, attentions=resized(state.attentions, value))
    return replace(state, **{field: value})


# ------------------------------------------------------------------ undo


@dataclass(frozen=True)
class History:
    """The current state, the states before it, and the undone ones."""

    present: BlenderState
    past: tuple[BlenderState, ...] = ()
    future: tuple[BlenderState, ...] = ()

    def pushed(self, state: BlenderState) -> History:
        """The history with `state` as the current one; the old one can be brought back."""
        return History(state, (*self.past, self.present)[-HISTORY:])

    def replaced(self, state: BlenderState) -> History:
        """The history with `state` replacing the current one, for the next part of a drag."""
        return History(state, self.past)

    def undone(self) -> History:
        """The history one state back, if there is one."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redone(self) -> History:
        """The history one state forward again, if there is one."""
        if not self.future:
            return self
        return History(self.future[0], (*self.past, self.present), self.future[1:])


FORMAT = 1  # increased when older readers would misunderstand the file
CHOICES = {
    "merger": MergerKind.__args__,  # type: ignore[attr-defined]
    "interpolation": Interpolation.__args__,  # type: ignore[attr-defined]
    "pooling": Pooling.__args__,  # type: ignore[attr-defined]
    "has_tanh": (False, True),
    "has_relu": (False, True),
}
MOST_CELLS = 1_000_000  # attention numbers, and cells of a mask


def picture_checksum(image: Tensor) -> str:
    """A checksum of a (3, H, W) image, which tells whether a state belongs to it."""
    return hashlib.sha256(image.contiguous().cpu().numpy().tobytes()).hexdigest()


def write_state(state: BlenderState, *, picture: str) -> bytes:
    """The content of a state's file; `picture` is the `picture_checksum` of the state's image."""
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
    """The state in a file, and the checksum of its image.

    Args:
        content: the file's content.
        name: the file's name, for errors.

    Raises:
        ValueError: it is not a state of the lab, or a value is invalid; the message names file and
            field.
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
    fields = {field: values[field] for field in CHOICES} | {"mask_size": size}
    try:
        state = BlenderState((x0, y0, x1, y1), attentions, coefficients, **fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return state, str(values.get("picture", ""))


def _numbers(
    values: dict[str, Any], field: str, shape: tuple[int | None, ...], name: str
) -> Tensor:
    try:
        tensor = torch.tensor(values[field], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name}: {field} is missing or is not made of numbers") from None
    fits = tensor.dim() == len(shape) and all(
        wanted in (None, side) for wanted, side in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.numel() > MOST_CELLS:
        raise ValueError(f"{name}: {field} has the shape {tuple(tensor.shape)}, which does not fit")
    if not math.isfinite(float(tensor.abs().sum())):
        raise ValueError(f"{name}: {field} has numbers that are not finite")
    return tensor
