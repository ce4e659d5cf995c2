"""A table of texts, for the terminal and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

__all__ = ["html_table", "text_table"]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Columns as wide as their longest text, the caption below."""
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [
        "  ".join(text.ljust(n) for text, n in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([*lines, caption])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """The same for a notebook; all texts are escaped."""
    left = 'style="text-align:left"'
    head = "".join(f'<th scope="col" {left}>{html.escape(text)}</th>' for text in header)
    body = "".join(
        "<tr>" + "".join(f"<td {left}>{html.escape(text)}</td>" for text in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>{body}</table><p>{html.escape(caption)}</p>"
