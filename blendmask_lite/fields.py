"""Checks that the fields of a dataclass have their declared types and lie in their ranges."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Collection, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

__all__ = ["require_ranges", "require_types"]


def require_types(config: Any, *, unbounded: Collection[str] = ()) -> None:
    """Refuse a dataclass of plain values if a field's value does not have its declared type.

    A whole number may stand for a float. True, False, NaN and infinity do not count as numbers;
    infinity is allowed in the `unbounded` fields.

    Raises:
        ValueError: a value has another type; the message names the field and what it must be.
    """
    for name, kind in _declared(type(config)).items():  # type: ignore[arg-type]
        value = getattr(config, name)
        is_unbounded = name in unbounded and value == math.inf
        if not is_unbounded and not _is_a(value, kind):
            raise ValueError(f"{name} = {reprlib.repr(value)}: must be {_in_words(kind)}")


def require_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a number below the smallest or above the largest value allowed for its field."""
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if not least <= value <= most:
            raise ValueError(f"{name} = {reprlib.repr(value)}: must lie between {least} and {most}")


@cache
def _declared(config: type) -> dict[str, Any]:
    return get_type_hints(config)


def _is_a(value: object, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is_a(value, part) for part in parts)
    if origin is Literal:
        return type(value) is str and value in parts
    if origin is tuple:
        if type(value) is not tuple:
            return False
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(value) == len(kinds) and all(map(_is_a, value, kinds))
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
    return type(value) is kind


def _in_words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return " or ".join(_in_words(part) for part in parts)
    if origin is Literal:
        return " or ".join(parts) if len(parts) == 2 else f"one of {', '.join(parts)}"
    if origin is tuple:
        number = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        plurals = {int: "whole numbers", float: "finite numbers", str: "texts"}
        return f"a tuple of {number}{plurals[parts[0]]}"
    words = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}
    return words.get(kind, "None")
