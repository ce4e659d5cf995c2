"""The course's chapters and where each belongs in the network; those that exist are links."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CHAPTERS", "Chapter", "NetworkMap", "network_map"]


@dataclass(frozen=True)
class Chapter:
    """One notebook.

    Attributes:
        number: two digits, "09".
        title: short, for the map.
        place: the part of the network that it takes apart; empty for those that take all of it.
    """

    number: str
    title: str
    place: str = ""


CHAPTERS = (
    Chapter("00", "Start here"),
    Chapter("01", "Shapes and COCO", "picture"),
    Chapter("02", "Backbone and pyramid", "backbone and pyramid"),
    Chapter("03", "FCOS: targets", "detector"),
    Chapter("04", "FCOS: losses", "detector"),
    Chapter("05", "Detector and AP", "detector"),
    Chapter("06", "Bases", "bottom module"),
    Chapter("07", "RoIAlign", "crop"),
    Chapter("08", "Attentions", "top layer"),
    Chapter("09", "The blender", "blender"),
    Chapter("10", "YOLACT and FCIS", "blender"),
    Chapter("11", "What trains the bases"),
    Chapter("12", "Training"),
    Chapter("13", "Ablations"),
    Chapter("14", "Beyond"),
    Chapter("15", "Explorer"),
)

# Rows from the picture down to the masks: (part of the network, what it makes). Parts of one row
# work side by side.
PARTS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("picture", "B x 3 x H x W"),),
    (("backbone and pyramid", "maps P2 to P5: ever coarser, ever richer"),),
    (
        ("detector", "boxes, classes, scores"),
        ("top layer", "attentions: K maps of M x M for each box"),
        ("bottom module", "bases: K maps of H/4 x W/4 for all"),
    ),
    (("crop", "the bases inside each box: K x R x R"),),
    (("blender", "crops weighted by attentions, added up: a mask for each box"),),
)


@dataclass(frozen=True)
class NetworkMap:
    """The network's diagram; a notebook shows it with links to the chapters.

    Attributes:
        files: chapter number -> file name, for the chapters that exist.
    """

    files: dict[str, str]

    def __str__(self) -> str:
        lines = [
            "   |   ".join(f"{part}: {makes}{self._numbers(part)}" for part, makes in row)
            for row in PARTS
        ]
        return "\n   v\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for row in PARTS:
            cards = "".join(self._card(part, makes) for part, makes in row)
            rows.append(f'<div style="display:flex;gap:12px;justify-content:center">{cards}</div>')
        arrow = '<div style="text-align:center;line-height:1.4" aria-hidden="true">▼</div>'
        whole = "".join(f"<li>{self._link(c)}</li>" for c in CHAPTERS if not c.place)
        is_complete = all(c.number in self.files for c in CHAPTERS)
        rest = "" if is_complete else "<p>Chapters without a link are not in this folder.</p>"
        return (
            f'<div style="max-width:820px">{arrow.join(rows)}'
            f"<p>Chapters about all of it:</p><ul>{whole}</ul>{rest}</div>"
        )

    def _card(self, part: str, makes: str) -> str:
        links = "".join(f"<div>{self._link(c)}</div>" for c in CHAPTERS if c.place == part)
        return (
            '<div style="flex:1;max-width:420px;border:1.5px solid #0072b2;border-radius:6px;'
            f'padding:6px 10px;text-align:center"><b>{html.escape(part)}</b>'
            f"<div>{html.escape(makes)}</div>{links}</div>"
        )

    def _link(self, chapter: Chapter) -> str:
        text = html.escape(f"{chapter.number} {chapter.title}")
        file = self.files.get(chapter.number)
        return f'<a href="{html.escape(file)}">{text}</a>' if file else text

    def _numbers(self, part: str) -> str:
        numbers = [c.number for c in CHAPTERS if c.place == part and c.number in self.files]
        return f" (chapter {', '.join(numbers)})" if numbers else ""


def network_map(folder: str | Path = ".") -> NetworkMap:
    """The diagram with links to the chapters' notebooks in `folder`."""
    files = {path.name[:2]: path.name for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))}
    return NetworkMap(files)
