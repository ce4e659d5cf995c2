"""Text that is fit to be printed."""

from __future__ import annotations

import unicodedata

__all__ = ["BREAKING", "first_line", "printable"]

# Control characters, halves of characters, ends of lines.
BREAKING = {"Cc", "Cs", "Zl", "Zp"}
# What turns the direction of the text after it, so that it is read as something else.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def first_line(error: Exception) -> str:
    """What an error says, without its further lines."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


def printable(value: object) -> str:
    """The text of a value from a file, on one line and safe to print; what is not becomes a code.

    A terminal obeys control characters, whatever name they stand in; halves of characters, as in
    file names of another encoding, cannot be printed at all.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        each.encode("unicode_escape").decode("ascii") if _is_unprintable(each) else each
        for each in text
    )


def _is_unprintable(character: str) -> bool:
    return (
        unicodedata.category(character) in BREAKING
        or unicodedata.bidirectional(character) in TURNING
    )
