"""Notes and tables for the student: boxes in a notebook, plain text elsewhere."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

__all__ = ["NOTE", "Note", "Status", "Table", "html_table", "is_notebook", "show"]


Status = Literal["green", "amber", "red", "info"]
NOTE = '<div role="status"'  # the start of every note's HTML
SIGNS: dict[Status, str] = {"green": "✔", "amber": "◐", "red": "✘", "info": "»"}
# Background and text colours of the badge; each pair has a contrast of at least 4.5.
COLORS: dict[Status, tuple[str, str]] = {
    "green": ("#00704f", "#ffffff"),
    "amber": ("#e69f00", "#000000"),
    "red": ("#b03a00", "#ffffff"),
    "info": ("#0060a0", "#ffffff"),
}

SHORT = 13  # characters: cells of a table with this many do not break


@dataclass(frozen=True)
class Note:
    """A message from the course to the student."""

    status: Status  # green, amber, red, or info if there is no verdict
    title: str  # text next to the badge
    lines: tuple[str, ...] = ()  # the text below it
    code: str = ""  # a block of code at the end
    # Machine-readable facts for the metadata of the notebook's output.
    about: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"{SIGNS[self.status]} {self.title} [{self.status}]"
        return "\n".join([head, *(f"  {line}" for line in self.lines), *self.code.splitlines()])

    def to_html(self) -> str:
        """The note as a box whose text has the colours of the theme, light or dark."""
        background, text = COLORS[self.status]
        word = "" if self.status == "info" else f" {self.status}"
        badge = (
            f'<span style="background:{background};color:{text};padding:1px 8px;'
            f'border-radius:4px;font-weight:600">{SIGNS[self.status]}{word}</span>'
        )
        parts = [f"{badge} <b>{html.escape(self.title)}</b>"]
        parts += [f"<div>{html.escape(line)}</div>" for line in self.lines]
        if self.code:
            parts.append(
                f'<pre style="margin:4px 0;overflow-x:auto">{html.escape(self.code)}</pre>'
            )
        return (
            f'{NOTE} style="border-left:4px solid {background};'
            f'padding:4px 10px;margin:4px 0">{"".join(parts)}</div>'
        )


def show(note: Note) -> None:
    """Display a note: as a box in a notebook, as printed text elsewhere."""
    if is_notebook():
        bundle = {"text/html": note.to_html(), "text/plain": str(note)}
        from IPython.display import display

        about = {"blendmask": note.about} if note.about else None
        display(bundle, raw=True, metadata=about)  # type: ignore[no-untyped-call]
    else:
        print(note)


def is_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, found out without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class Table:
    """A table that a notebook shows as HTML and `print` as plain text."""

    header: ClassVar[tuple[str, ...]]

    def rows(self) -> Sequence[Sequence[str]]:
        """The rows of texts, in the order of the header."""
        raise NotImplementedError

    def caption(self) -> str:
        """The line below the table."""
        raise NotImplementedError

    def __str__(self) -> str:
        table = [self.header, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(text.ljust(n) for text, n in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([*lines, self.caption()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self.header, self.rows(), self.caption())


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table as HTML with a caption below it; all texts are escaped, short ones stay in a line."""
    head = "".join(f'<th scope="col" {_style(text)}>{html.escape(text)}</th>' for text in header)
    body = "".join(
        "<tr>" + "".join(f"<td {_style(text)}>{html.escape(text)}</td>" for text in row) + "</tr>"
        for row in rows
    )
    # The caption begins where the cells' texts do.
    below = f'<p style="padding-left:0.5em">{html.escape(caption)}</p>'
    return f"<table><thead><tr>{head}</tr></thead>{body}</table>{below}"


def _style(text: str) -> str:
    wrap = ";white-space:nowrap" if len(text) <= SHORT else ""
    return f'style="text-align:left{wrap}"'
