"""The first difference between what was expected and what came: type, shape, values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["first_difference"]


def first_difference(
    expected: Any, got: Any, *, tolerance: float = 1e-4, axes: str = ""
) -> tuple[str, ...]:
    """What tells two results apart, in lines for the student; empty where nothing does.

    Types are compared first, then shapes, then dtypes, then values in row-major order.

    Args:
        expected: tensor, number, string, or a list, tuple or dict of such.
        got: what the student's function returned.
        tolerance: largest absolute difference, and relative to the expected value.
        axes: letters of a tensor's axes, "N, K, R, R", for the messages.

    Returns:
        Lines of text.
    """
    if isinstance(expected, Tensor):
        return _tensor_difference(expected, got, tolerance, _letters(axes))
    if got is None:
        return ("The function returns None: is a `return` missing?",)
    if isinstance(expected, dict):
        return _dict_difference(expected, got, tolerance, axes)
    if isinstance(expected, list | tuple):
        return _sequence_difference(expected, got, tolerance, axes)
    if isinstance(expected, bool | str) or expected is None:
        return () if type(got) is type(expected) and got == expected else _pair(expected, got)
    return _number_difference(expected, got, tolerance)


def _tensor_difference(
    expected: Tensor, got: Any, tolerance: float, letters: Sequence[str]
) -> tuple[str, ...]:
    if got is None:
        return ("The function returns None: is a `return` missing?",)
    if not isinstance(got, Tensor):
        return (f"A tensor is expected, this is a {type(got).__name__}.",)
    if got.shape != expected.shape:
        named = f"  ({', '.join(letters)})" if letters else ""
        return (
            f"expected shape {tuple(expected.shape)}{named}",
            f"your shape     {tuple(got.shape)}",
        )
    if got.dtype != expected.dtype:
        return (f"expected dtype {expected.dtype}", f"your dtype     {got.dtype}")
    return _value_difference(expected.detach(), got.detach(), tolerance, letters)


def _value_difference(
    expected: Tensor, got: Tensor, tolerance: float, letters: Sequence[str]
) -> tuple[str, ...]:
    if not expected.is_floating_point():
        is_wrong = expected != got
    else:
        is_wrong = ~torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not is_wrong.any():
        return ()
    index = tuple(int(i) for i in is_wrong.nonzero()[0])
    where = _name_index(index, letters)
    wrong, total = int(is_wrong.sum()), is_wrong.numel()
    lines = [
        f"first difference at {where}" if where else "the value differs",
        f"expected {_number(expected[index])}",
        f"yours    {_number(got[index])}",
        f"{wrong} of {total} values differ",
    ]
    if got.is_floating_point() and not got.isfinite().all():
        bad = int((~got.isfinite()).sum())
        lines.append(f"{bad} of your values are not finite (inf or nan)")
    return tuple(lines)


def _dict_difference(
    expected: dict[Any, Any], got: Any, tolerance: float, axes: str
) -> tuple[str, ...]:
    if not isinstance(got, dict):
        return (f"A dict is expected, this is a {type(got).__name__}.",)
    if set(got) != set(expected):
        return _pair(sorted(map(str, expected)), sorted(map(str, got)), "keys ")
    for key, value in expected.items():
        lines = first_difference(value, got[key], tolerance=tolerance, axes=axes)
        if lines:
            return (f"entry {key!r}:", *lines)
    return ()


def _sequence_difference(
    expected: Sequence[Any], got: Any, tolerance: float, axes: str
) -> tuple[str, ...]:
    if not isinstance(got, list | tuple):
        return (f"A {type(expected).__name__} is expected, this is a {type(got).__name__}.",)
    if len(got) != len(expected):
        return _pair(len(expected), len(got), "length ")
    for position, (one, other) in enumerate(zip(expected, got, strict=True)):
        lines = first_difference(one, other, tolerance=tolerance, axes=axes)
        if lines:
            return (f"entry {position}:", *lines)
    return ()


def _number_difference(expected: Any, got: Any, tolerance: float) -> tuple[str, ...]:
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, int | float):
        return (f"A number is expected, this is a {type(got).__name__}.",)
    if abs(got - expected) <= tolerance * (1 + abs(expected)):
        return ()
    return _pair(expected, got)


def _pair(expected: Any, got: Any, what: str = "") -> tuple[str, ...]:
    return (f"expected {what}{expected!r}", f"yours    {what}{got!r}")


def _number(value: Tensor) -> str:
    return f"{value.item():.6g}" if value.is_floating_point() else str(value.item())


def _letters(axes: str) -> list[str]:
    return [letter.strip() for letter in axes.split(",")] if axes else []


def _name_index(index: tuple[int, ...], letters: Sequence[str]) -> str:
    """(0, 1, 3, 2) with N, K, R, R -> "object N 0, base K 1, row 3, column 2"."""
    if len(letters) != len(index):
        return f"index {list(index)}" if index else ""
    names = [WORDS.get(letter, letter) for letter in letters]
    if letters[-2:] in (["R", "R"], ["M", "M"], ["H", "W"]):
        names[-2:] = ["row", "column"]
    return f"{', '.join(f'{n} {i}' for n, i in zip(names, index, strict=True))}: {list(index)}"


WORDS = {"B": "image", "C": "class", "L": "location", "N": "object", "K": "base"}
