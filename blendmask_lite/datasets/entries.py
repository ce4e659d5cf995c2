"""Entries of JSON files: rules for their fields, and what is wrong with those that break one.

Chapter 01 of the course. The reader refuses a file at its first problem, `data check` lists all of
them; both take them from here.
"""

from __future__ import annotations

import math
import reprlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from blendmask_lite.terminal import BREAKING, printable

__all__ = [
    "FILE_NAME",
    "FLAG",
    "ID",
    "SIDE",
    "TEXT",
    "Problem",
    "Report",
    "Rule",
    "entries_by_id",
    "is_id",
    "is_number",
    "shortened",
]

MAX_ID = 2**63  # NumPy's whole numbers end there
MAX_NAME_BYTES = 255  # of a file's or folder's name, on all usual systems


@dataclass(frozen=True)
class Problem:
    """Something wrong with one entry of a file.

    Attributes:
        kind: a key of `checking_kinds.KINDS`.
        entry: such as "annotation 17".
        text: what is wrong with it.
    """

    kind: str
    entry: str
    text: str

    def __str__(self) -> str:
        return printable(f"{self.entry}: {self.text}")


Report = Callable[[Problem], None]


@dataclass(frozen=True)
class Rule:
    """What the value of a field must be."""

    words: str
    holds: Callable[[Any], bool]
    is_required: bool = True


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number, and no truth value."""
    if type(value) is int:
        return abs(value) < MAX_ID
    return type(value) is float and math.isfinite(value)


def is_id(value: object) -> bool:
    """Whether a value of a JSON file can be an id: a whole number that NumPy can hold."""
    return type(value) is int and abs(value) < MAX_ID


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value.isprintable() or not {unicodedata.category(each) for each in value} & BREAKING


def _is_inside(name: object) -> bool:
    if not _is_text(name):
        return False
    path = PurePath(str(name))
    is_long = any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts)
    return bool(path.parts) and not (path.is_absolute() or ".." in path.parts or is_long)


ID = Rule("a whole number", is_id)
TEXT = Rule("text on one line", _is_text)
SIDE = Rule("a whole number of at least 1", lambda value: is_id(value) and value >= 1)
FLAG = Rule("0 or 1", lambda value: isinstance(value, int | float) and value in (0, 1))
FILE_NAME = Rule("the name of a file inside the folder", _is_inside)


def entries_by_id(
    kind: str,
    entries: list[Any],
    rules: Mapping[str, Rule],
    report: Report,
    *,
    id_field: str = "id",
) -> dict[int, dict[str, Any]]:
    """Id -> entry, of those that have the fields of `rules`; the second of an id is reported."""
    found: dict[int, dict[str, Any]] = {}
    for entry in _valid_entries(kind, entries, rules, report, id_field=id_field):
        number = entry[id_field]
        if number in found:
            report(Problem("duplicate id", f"{kind} {number}", f"its {id_field} comes twice"))
        else:
            found[number] = entry
    return found


def _valid_entries(
    kind: str,
    entries: list[Any],
    rules: Mapping[str, Rule],
    report: Report,
    *,
    id_field: str = "id",
) -> Iterator[dict[str, Any]]:
    """The entries that are dictionaries with the fields of `rules`; the others are reported."""
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            text = f"is {shortened(entry)}, which is no entry"
            report(Problem("malformed entry", f"{kind} number {place}", text))
            continue
        wrong = _wrong_field(entry, rules)
        if wrong is None:
            yield entry
        else:
            number = entry.get(id_field)
            name = str(number) if is_id(number) else f"number {place}"
            report(Problem("malformed entry", f"{kind} {name}", wrong))


def _wrong_field(entry: dict[str, Any], rules: Mapping[str, Rule]) -> str | None:
    for name, rule in rules.items():
        if name not in entry:
            if rule.is_required:
                return f"has no {name!r}"
        elif not rule.holds(entry[name]):
            return f"{name} = {shortened(entry[name])} is not {rule.words}"
    return None


def shortened(value: object) -> str:
    """A value of a JSON file for an error: on one line, however large or deep it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
