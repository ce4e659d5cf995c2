"""Terminal output: text that is safe to print, and progress with the time left."""

from __future__ import annotations

import io
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from typing import TextIO

__all__ = [
    "BREAKING",
    "clear_line",
    "counted",
    "counter",
    "duration",
    "escape_what_cannot_be_printed",
    "first_line",
    "in_megabytes",
    "listed",
    "printable",
    "table",
]

BREAKING = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, line ends
# Characters that reverse the direction of the text after them, which then reads differently.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
TERMINAL_SECONDS = 0.2  # between two updates of the line on a terminal
FILE_SECONDS = 15.0  # between two lines in a log file


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


def printable(value: object) -> str:
    """The text of a value from a file, on one line; characters unsafe to print are escaped.

    A terminal obeys control characters even inside a name, and surrogates, which appear in file
    names of another encoding, cannot be printed at all.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if _is_unprintable(character)
        else character
        for character in text
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """1 image, 2 images; `plural` is needed if it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def escape_what_cannot_be_printed(stream: TextIO | None) -> None:
    """Make a stream print characters that its encoding lacks as escapes, instead of raising.

    A pipe or file has the system's encoding: on Windows often one of 256 characters.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def listed(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and the number of further ones."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _is_unprintable(character: str) -> bool:
    return (
        unicodedata.category(character) in BREAKING
        or unicodedata.bidirectional(character) in TURNING
    )


def counter(what: str, *, begun: int = 0) -> Callable[[int, int], None]:
    """A progress callback (done, total) that keeps rewriting one line with the time left.

    Args:
        what: what is counted, such as "images".
        begun: how many were already done when the clock started.
    """
    start = time.monotonic()
    is_terminal = sys.stderr.isatty()
    last = [0.0]

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        pause = TERMINAL_SECONDS if is_terminal else FILE_SECONDS
        if done < total and now - last[0] < pause:
            return
        last[0] = now
        left = duration((now - start) / max(done - begun, 1) * (total - done))
        end = "\n" if done == total or not is_terminal else ""
        sys.stderr.write(f"{chr(13) if is_terminal else ''}{done}/{total} {what}  ETA {left}{end}")
        sys.stderr.flush()

    return report


def clear_line() -> None:
    """Erase the counter's line from the terminal, before printing text that is to stay there."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def in_megabytes(report: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A callback (bytes done, total) that calls `report` at every megabyte, rounded up."""
    shown = -1

    def report_bytes(done: int, total: int) -> None:
        nonlocal shown
        if shown != (shown := -(-done // 1_000_000)):
            report(shown, -(-total // 1_000_000))

    return report_bytes


def duration(seconds: float) -> str:
    """0:05, 12:34 or 3:21:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as their widest cell; numeric columns are right-aligned."""
    columns = []
    for title, *cells in zip(*rows, strict=True):
        width = max(map(len, (title, *cells)))
        is_numeric = all(set(cell) <= set("0123456789./-") for cell in cells)
        place = str.rjust if is_numeric else str.ljust
        columns.append([place(cell, width) for cell in (title, *cells)])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
