"""The Blender lab's state, checked when it changes; and as a JSON file that people can read."""

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
    """What the user can change; everything that is seen follows from it and the bases.

    Attributes:
        box: corners (x0, y0, x1, y1), pixels of the padded input.
        attentions: (K, M, M) raw; the blender's.
        coefficients: (K,) raw; the weighted sum's. The assembler takes nothing.
        merger: which of the three makes the mask, from the first `num_used` bases.
        mask_size: R, cells.
        interpolation: of the attentions, "bilinear" or "nearest".
        pooling: of the bases, "align" (RoIAlign) or "pool" (RoIPool).
        has_tanh: the coefficients pass a tanh, as in a network trained so.
        has_relu: the weighted sum's crops pass a ReLU, likewise.

    Raises:
        ValueError: a box without area, or sizes that do not fit each other.
    """

    box: tuple[float, float, float, float]
    attentions: Tensor
    coefficients: Tensor
    merger: MergerKind = "blender"
    mask_size: int = 56
    interpolation: Interpolation = "bilinear"
    pooling: Pooling = "align"
    has_tanh: bool = False
    has_relu: bool = False

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
        """The assembler's tiles along a side: their square is at most K."""
        return int(self.num_bases**0.5)

    @property
    def num_used(self) -> int:
        """Bases that have a say: all K, for the assembler the largest square number of them."""
        return self.num_tiles**2 if self.merger == "assembler" else self.num_bases

    @property
    def numbers(self) -> Tensor:
        """(1, A) raw numbers of the object, as its merger takes them."""
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
        """The blender for the state's attentions, whichever merger is chosen."""
        return Blender(
            num_bases=self.num_bases, attention_size=self.attention_size, mode=self.interpolation
        )

    def with_numbers(self, numbers: Tensor) -> BlenderState:
        """The same with other (1, A) raw numbers for its merger."""
        if self.merger == "blender":
            return replace(self, attentions=numbers.reshape(self.attentions.shape))
        if self.merger == "weighted_sum":
            return replace(self, coefficients=numbers.reshape(-1))
        return self


# ------------------------------------------------------------------ changes


def brushed(cells: Iterable[tuple[int, int]], brush_size: int, size: int) -> Tensor:
    """(size, size) bool: what a square brush covers on its way over cells (x, y)."""
    covered = torch.zeros(size, size, dtype=torch.bool)
    before = (brush_size - 1) // 2
    for x, y in cells:
        left, top = x - before, y - before
        covered[
            max(top, 0) : max(top + brush_size, 0), max(left, 0) : max(left + brush_size, 0)
        ] = True
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
        state: before it.
        base: counted from 0.
        cells: (x, y) of the grid; any of them sets the coefficient of a weighted sum.
        value: raw, or (M, M) values to take it from, one coefficient for a weighted sum.
        brush_size: side of the square brush, cells.

    Raises:
        ValueError: the assembler has no attentions, or there is no such base.
    """
    if state.merger == "assembler":
        raise ValueError("FCIS has nothing to paint: its tiles are the same for every object")
    if not 0 <= base < state.num_bases:
        raise ValueError(f"base {base}: there are {state.num_bases}, counted from 0")
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
    """(K, M, M) -> (K, size, size): means over areas when it shrinks, equation 2 when it grows."""
    if size <= attentions.shape[-1]:
        return F.adaptive_avg_pool2d(attentions, size)
    return interpolate_attentions(attentions[None], size)[0]


def own_numbers(own: BlenderState, state: BlenderState) -> BlenderState:
    """The state with the numbers of `own`, brought to its K and M."""
    K, M = state.num_bases, state.attention_size
    return replace(
        state, attentions=resized(own.attentions[:K], M), coefficients=own.coefficients[:K]
    )


def changed(state: BlenderState, own: BlenderState, field: str, value: Any) -> BlenderState:
    """The state with another merger, K, M, R, interpolation or pooling.

    Args:
        state: before it.
        own: the network's; bases that come back bring its numbers.
        field: "num_bases", "attention_size", or a field of the state.
        value: of the field.

    Raises:
        ValueError: the value does not fit the others.
    """
    if field == "num_bases":
        back = resized(own.attentions, state.attention_size)[state.num_bases :]
        attentions = torch.cat([state.attentions, back])
        coefficients = torch.cat([state.coefficients, own.coefficients[state.num_bases :]])
        return replace(state, attentions=attentions[:value], coefficients=coefficients[:value])
    if field == "attention_size":
        return replace(state, attentions=resized(state.attentions, value))
    return replace(state, **{field: value})


# ------------------------------------------------------------------ undo


@dataclass(frozen=True)
class History:
    """The present state with those before it and those that were undone."""

    present: BlenderState
    past: tuple[BlenderState, ...] = ()
    future: tuple[BlenderState, ...] = ()

    def pushed(self, state: BlenderState) -> History:
        """`state` is the present, and the old one can be brought back."""
        return History(state, (*self.past, self.present)[-HISTORY:])

    def replaced(self, state: BlenderState) -> History:
        """`state` stands in for the present: the next part of one drag or stroke."""
        return History(state, self.past)

    def undone(self) -> History:
        """One state back; the same where there is none."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redone(self) -> History:
        """One state forward again; the same where there is none."""
        if not self.future:
            return self
        return History(self.future[0], (*self.past, self.present), self.future[1:])


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
