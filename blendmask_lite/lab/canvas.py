"""The canvas of the lab: it shows maps and images with marks, and reports the user's actions.

Numbers are sent as one byte per cell with a palette of 256 colours, which keeps messages small.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import anywidget
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from traitlets import Dict, Float, Int, List, Unicode

from blendmask_lite.figures.style import SIGNED, as_picture, figure_file, rgb255
from blendmask_lite.lab.parts import KINDS, STATIC

__all__ = [
    "MASK_LAYER",
    "SHADES",
    "Bar",
    "Bars",
    "Canvas",
    "CanvasEvent",
    "Group",
    "Mark",
    "Overlay",
    "Panel",
    "as_cells",
    "as_png",
    "layer_palette",
    "palette",
    "png_panel",
]


def palette(colors: str | Colormap) -> bytes:
    """256 colours from a matplotlib colour map: 256 x 4 bytes, opaque."""
    table = colormaps[colors] if isinstance(colors, str) else colors
    shades = table(np.linspace(0, 1, 256))
    return (shades * 255).round().astype(np.uint8).tobytes()


def layer_palette(*colors: tuple[str, int]) -> bytes:
    """A palette from (colour, opacity 0 to 255) for the cells 1, 2, ... of a layer; 0 is clear."""
    table = np.zeros((256, 4), np.uint8)
    for index, (color, alpha) in enumerate(colors, start=1):
        table[index] = (*rgb255(color), alpha)
    return table.tobytes()


def as_cells(values: Tensor, low: float, high: float) -> bytes:
    """(h, w) numbers -> one byte per cell: 0 at `low` and below, 255 at `high` and above."""
    shares = (values.detach() - low) / (high - low)
    cells: bytes = (shares.clamp(0, 1) * 255).round().byte().contiguous().cpu().numpy().tobytes()
    return cells


def as_png(image: Tensor) -> bytes:
    """(3, H, W) uint8 or float in [0, 1] -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(as_picture(image)).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


SHADES = {"signed": palette(SIGNED), "grey": palette("Greys")}  # around 0, and from 0 to 1
MASK_COLOR, TRUTH_COLOR = "#00b386", "#ffffff"
# For the layer of `blender.view.mask_overlay`: the mask, its border, the true outline.
MASK_LAYER = layer_palette((MASK_COLOR, 125), (MASK_COLOR, 255), (TRUTH_COLOR, 255))


Act = Literal["box", "show box", "paint", "hover"]


@dataclass(frozen=True)
class Panel:
    """One image or map, drawn with crisp cells."""

    key: str  # its name in pixels, marks and events
    label: str  # what the panel shows, for screen readers
    width: int  # cells
    height: int  # cells
    title: str = ""  # text above the panel
    color: str = ""  # colour of the swatch before the title
    size: int = 96  # largest width on the page, CSS pixels
    unit: float = 1  # pixels of the image per cell, for the box
    # Name of a palette; a "png" has its own colours, and may be finer than the cells.
    palette: str = "png"
    is_live: bool = False  # whether its pixels change with every event and are sent separately
    # Actions: "box" drags and resizes the box, "show box" only outlines it, "paint" strokes cells,
    # "hover" points at one.
    acts: tuple[Act, ...] = ()
    overlay: str = ""  # palette of a layer above the panel; empty for no layer
    value: str | None = None  # a line below the panel, for a number from the page; None: no line


def png_panel(key: str, label: str, shape: Sequence[int], size: int, **settings: Any) -> Panel:
    """A panel of (height, width) cells for a PNG; its longer side is at most `size` CSS pixels."""
    height, width = shape
    size = round(size * min(1, width / height))
    return Panel(key, label, width, height, size=size, **settings)


@dataclass(frozen=True)
class Group:
    """Panels side by side under a heading; `bars` names the bar chart below them.

    `joint` stands between the panels, such as a plus; None lets them flow freely. A column whose
    group `is_low` ends at the bottom of the others.
    """

    title: str
    panels: tuple[Panel, ...] = ()
    note: str = ""
    bars: str = ""
    joint: str | None = None
    is_low: bool = False


@dataclass(frozen=True)
class Mark:
    """A rectangle on a panel, in cells; `weight`, 0 to 1, is written into it if there is room."""

    x: float
    y: float
    width: float = 1
    height: float = 1
    weight: float | None = None


@dataclass(frozen=True)
class Bar:
    """One bar of length `value` with `text` next to it."""

    label: str
    value: float
    text: str
    color: str


@dataclass(frozen=True)
class Bars:
    """A bar chart on a scale from `low` to `high`, with a heading; bars start at zero."""

    title: str
    bars: tuple[Bar, ...] = ()
    low: float = 0
    high: float = 1
    lines: int = 0  # the heading has room for at least this many, so nothing moves when it grows


@dataclass(frozen=True)
class Overlay:
    """A rectangle of the layer above a panel: one byte per cell, row by row."""

    x: int
    y: int
    width: int
    height: int
    pixels: bytes


@dataclass(frozen=True)
class CanvasEvent:
    """An action of the user.

    Attributes:
        kind: "box", "paint", "hover" or "key".
        panel: key of the panel.
        box: corners (x0, y0, x1, y1) after the change, for "box".
        cells: cells (x, y) that the stroke passed since the last event, for "paint"; the cell
            pointed at, or none, for "hover".
        key: "+", "-", "undo" or "redo", for "key".
        count: how many times the key was pressed.
        gesture: number of the drag or stroke; 0 for a single event.
        is_last: whether the drag or stroke ends with this event.
    """

    kind: str
    panel: str = ""
    box: tuple[float, ...] = ()
    cells: tuple[tuple[int, int], ...] = ()
    key: str = ""
    count: int = 1
    gesture: int = 0
    is_last: bool = True


class Canvas(anywidget.AnyWidget):
    """Panels in columns, whose events are handled in Python.

    `arrange` lays out the panels, `draw` sends pixels, marks, bars and the box, and `on_event`
    sets the function that is called with every `CanvasEvent`. All changes that one event causes
    are sent to the page together.

    Args:
        grows: whether panels are larger if the page is wide.
    """

    _esm: str | Path = STATIC / "canvas.js"
    _css = STATIC / "canvas.css"
    columns: List[Any] = List().tag(sync=True)
    palettes = Dict().tag(sync=True)
    still = Dict().tag(sync=True)  # bytes by panel; these rarely change
    live = Dict().tag(sync=True)  # bytes by panel; every event changes these
    overlays = Dict().tag(sync=True)
    marks = Dict().tag(sync=True)
    bars = Dict().tag(sync=True)
    box: List[float] = List().tag(sync=True)
    smallest_box = Float(4).tag(sync=True)  # smallest side, pixels
    brush_size = Int(1).tag(sync=True)  # side of the square brush, cells
    announcement = Unicode("").tag(sync=True)
    done = Float(0).tag(sync=True)  # number of the last event that was handled

    def __init__(self, *, grows: bool = False) -> None:
        super().__init__()
        if grows:
            self.add_class("bm-grows")
        self._panels: dict[str, Panel] = {}
        self._callback: Callable[[CanvasEvent], None] | None = None
        self.on_msg(self._receive)

    def arrange(
        self, columns: Sequence[Sequence[Group]], palettes: Mapping[str, bytes] | None = None
    ) -> None:
        """Lay out the groups in columns, and drop the pixels of panels that are gone.

        Args:
            columns: the groups of every column, from top to bottom.
            palettes: 256 x 4 bytes (red, green, blue, alpha) by name; None keeps the old ones.

        Raises:
            ValueError: two panels have the same key, or a palette has the wrong length.
        """
        panels = [panel for groups in columns for group in groups for panel in group.panels]
        by_key = {panel.key: panel for panel in panels}
        if len(by_key) < len(panels):
            raise ValueError(f"panels: a key occurs twice in {[panel.key for panel in panels]}")
        for name, colors in (palettes or {}).items():
            if len(colors) != 1024:
                raise ValueError(f"palette {name!r}: {len(colors)} bytes, expected 256 x 4")
        self._panels = by_key
        with self.hold_sync():
            self.columns = [[asdict(group) for group in groups] for groups in columns]
            if palettes is not None:
                self.palettes = dict(palettes)
            for name in ("still", "live", "overlays"):
                content = getattr(self, name)
                setattr(self, name, {key: content[key] for key in content if key in by_key})
            self.marks = {}

    def draw(
        self,
        pixels: Mapping[str, bytes] | None = None,
        *,
        overlays: Mapping[str, Overlay] | None = None,
        marks: Mapping[str, Sequence[Mark]] | None = None,
        bars: Mapping[str, Bars] | None = None,
        box: Sequence[float] | None = None,
    ) -> None:
        """Show new content; arguments that are not given leave the old content.

        Args:
            pixels: one byte per cell (palette) or a file ("png"), by panel.
            overlays: overlay of each panel.
            marks: marks by panel; they replace the marks of all panels.
            bars: bar charts by name.
            box: (x0, y0, x1, y1), pixels; empty for no box.

        Raises:
            ValueError: a panel is unknown, or there are too few or too many bytes.
        """
        still, live = dict(self.still), dict(self.live)
        for key, content in (pixels or {}).items():
            if key not in self._panels:
                raise ValueError(f"panel {key!r}: there are {', '.join(self._panels) or 'none'}")
            panel = self._panels[key]
            cells = panel.width * panel.height
            if panel.palette != "png" and len(content) != cells:
                raise ValueError(f"panel {key!r}: {len(content)} bytes, expected {cells}")
            (live if panel.is_live else still)[key] = content
        with self.hold_sync():
            self.still, self.live = still, live
            if overlays is not None:
                self.overlays = {key: asdict(overlay) for key, overlay in overlays.items()}
            if marks is not None:
                self.marks = {key: [asdict(mark) for mark in own] for key, own in marks.items()}
            if bars is not None:
                self.bars = self.bars | {key: asdict(chart) for key, chart in bars.items()}
            if box is not None:
                self.box = [float(side) for side in box]

    def on_event(self, callback: Callable[[CanvasEvent], None]) -> None:
        """Call `callback` with every event from now on; it replaces an earlier callback."""
        self._callback = callback

    def act(self, event: CanvasEvent) -> None:
        """Handle an event as if the user had caused it, for code that drives a widget."""
        with self.hold_sync():
            if self._callback is not None:
                self._callback(event)

    def download(self, name: str, content: bytes, kind: str) -> None:
        """Make the browser save a file; `kind` is its MIME type, such as "image/png"."""
        self.send({"download": name, "kind": kind}, [content])

    def save_figure(self, figure: Figure, name: str, kind: str) -> None:
        """Make the browser save a figure as "png", "svg" or "pdf"."""
        self.download(f"{name}.{kind}", figure_file(figure, f".{kind}", dpi=200), KINDS[kind])

    def close(self) -> None:
        """Remove the canvas from the page and drop its pixels in kernel and page."""
        self._callback = None
        with self.hold_sync():
            self.columns, self.still, self.live, self.overlays = [], {}, {}, {}
        super().close()

    def _receive(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        """Handle one event; the page waits for `done` before it sends the next."""
        number = float(content.pop("id"))
        with self.hold_sync():
            try:
                cells = tuple((int(x), int(y)) for x, y in content.pop("cells", ()))
                box = tuple(float(side) for side in content.pop("box", ()))
                self.act(CanvasEvent(cells=cells, box=box, **content))
            finally:
                self.done = number
