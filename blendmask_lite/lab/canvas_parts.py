"""What the shared canvas is made of: panels and groups, marks, bars, and the events of the hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Bar", "Bars", "CanvasEvent", "Group", "Mark", "Overlay", "Panel"]

Act = Literal["box", "show box", "paint", "hover"]


@dataclass(frozen=True)
class Panel:
    """One picture or map, drawn with crisp cells.

    Attributes:
        key: names it in pixels, marks and events.
        label: what it shows, for screen readers.
        width: cells.
        height: cells.
        title: above it; may be empty.
        color: of the title; the text's own where empty.
        size: its width on the page at most, CSS pixels.
        unit: pixels of the box's picture per cell.
        palette: name of the colours of one byte a cell; "rgba" and "png" carry their own. A PNG
            may be finer than the cells.
        is_live: its pixels change with every event: they travel apart from the others.
        acts: what the hand may do here: "box" drags and resizes the box, "show box" only outlines
            it, "paint" strokes cells, "hover" points at one.
        overlay: palette of a layer above the picture; none where empty.
    """

    key: str
    label: str
    width: int
    height: int
    title: str = ""
    color: str = ""
    size: int = 96
    unit: float = 1
    palette: str = "rgba"
    is_live: bool = False
    acts: tuple[Act, ...] = ()
    overlay: str = ""


@dataclass(frozen=True)
class Group:
    """Panels side by side under a heading; `bars` names a bar chart that stands below them."""

    title: str
    panels: tuple[Panel, ...] = ()
    note: str = ""
    bars: str = ""


@dataclass(frozen=True)
class Mark:
    """A rectangle on a panel, in cells; `weight` from 0 to 1 is written into it where it fits."""

    x: float
    y: float
    width: float = 1
    height: float = 1
    weight: float | None = None


@dataclass(frozen=True)
class Bar:
    """One bar: its length is `value`, beside it stands `text`."""

    label: str
    value: float
    text: str
    color: str


@dataclass(frozen=True)
class Bars:
    """A bar chart on the scale `low` to `high`, with a heading; bars begin at zero."""

    title: str
    bars: tuple[Bar, ...] = ()
    low: float = 0
    high: float = 1


@dataclass(frozen=True)
class Overlay:
    """A part of the layer above a picture: one byte a cell, row by row, of the panel's palette."""

    x: int
    y: int
    width: int
    height: int
    pixels: bytes


@dataclass(frozen=True)
class CanvasEvent:
    """What the hand did.

    Attributes:
        kind: "box", "paint", "hover" or "key".
        panel: key of the panel.
        box: (x0, y0, x1, y1) after the change, for "box".
        cells: (x, y) that the stroke passed since the last event, for "paint"; the one pointed at,
            for "hover", none when nothing is pointed at any more.
        key: "+", "-", "undo" or "redo", for "key".
        count: how often it was pressed.
        gesture: number of the drag or stroke that it belongs to; 0 if it stands alone.
        is_last: the drag or stroke ends with it.
    """

    kind: str
    panel: str = ""
    box: tuple[float, ...] = ()
    cells: tuple[tuple[int, int], ...] = ()
    key: str = ""
    count: int = 1
    gesture: int = 0
    is_last: bool = True
