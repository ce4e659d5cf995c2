"""The canvas that every interactive view of the lab shares: maps, pictures, one box, a brush.

Chapter: the lab. The page draws, drags and paints by itself and reports what was done; Python
answers with new pixels. One report is on its way at a time, and of waiting ones the latest wins,
so a slow kernel makes the picture lag, but never builds up a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import anywidget
from traitlets import Dict, Float, Int, List, Unicode

from blendmask_lite.lab.canvas_parts import Bars, CanvasEvent, Group, Mark, Overlay, Panel
from blendmask_lite.lab.messages import STATIC

__all__ = ["Canvas"]


class Canvas(anywidget.AnyWidget):
    """Panels in columns, answered in Python.

    `arrange` says what there is, `draw` brings pixels, marks, bars and the box, and `on_event`
    takes a function that is called with every `CanvasEvent`. All that one event causes is sent to
    the page together.
    """

    _esm = STATIC / "canvas.js"
    _css = STATIC / "canvas.css"
    columns: List[Any] = List().tag(sync=True)
    palettes = Dict().tag(sync=True)
    still = Dict().tag(sync=True)  # bytes by panel, rarely new
    live = Dict().tag(sync=True)  # bytes by panel, new with every event
    overlays = Dict().tag(sync=True)
    marks = Dict().tag(sync=True)
    bars = Dict().tag(sync=True)
    box: List[float] = List().tag(sync=True)
    smallest_box = Float(4).tag(sync=True)  # side, pixels
    brush_size = Int(1).tag(sync=True)  # side of a square, cells
    announcement = Unicode("").tag(sync=True)
    done = Float(0).tag(sync=True)  # number of the last event that was answered

    def __init__(self) -> None:
        super().__init__()
        self._panels: dict[str, Panel] = {}
        self._callback: Callable[[CanvasEvent], None] | None = None
        self.on_msg(self._receive)

    def arrange(
        self, columns: Sequence[Sequence[Group]], palettes: Mapping[str, bytes] | None = None
    ) -> None:
        """Lay out the groups in columns; pixels of panels that are gone are dropped.

        Args:
            columns: groups from top to bottom, of every column.
            palettes: 256 x 4 bytes (red, green, blue, alpha) by name; None keeps the old ones.

        Raises:
            ValueError: two panels of one key, or a palette of another length.
        """
        panels = [panel for groups in columns for group in groups for panel in group.panels]
        by_key = {panel.key: panel for panel in panels}
        if len(by_key) < len(panels):
            raise ValueError(f"panels: a key twice in {[panel.key for panel in panels]}")
        for name, colors in (palettes or {}).items():
            if len(colors) != 1024:
                raise ValueError(f"palette {name!r}: {len(colors)} bytes, expected 256 x 4")
        self._panels = by_key
        with self.hold_sync():
            self.columns = [[asdict(group) for group in groups] for groups in columns]
            if palettes is not None:
                self.palettes = dict(palettes)
            self.still = {key: value for key, value in self.still.items() if key in by_key}
            self.live = {key: value for key, value in self.live.items() if key in by_key}
            self.overlays = {key: each for key, each in self.overlays.items() if key in by_key}
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
        """Show something new; what is not named stays.

        Args:
            pixels: by panel: one byte a cell (palette), four ("rgba"), or a file ("png").
            overlays: by panel.
            marks: by panel; replaces the marks of all panels.
            bars: by name.
            box: (x0, y0, x1, y1), pixels; empty for none.

        Raises:
            ValueError: a panel that is not there, or too few or too many bytes.
        """
        still, live = dict(self.still), dict(self.live)
        for key, content in (pixels or {}).items():
            panel = self._panel(key)
            cells = panel.width * panel.height * (4 if panel.palette == "rgba" else 1)
            if panel.palette != "png" and len(content) != cells:
                raise ValueError(f"panel {key!r}: {len(content)} bytes, expected {cells}")
            (live if panel.is_live else still)[key] = content
        with self.hold_sync():
            self.still, self.live = still, live
            if overlays is not None:
                self.overlays = {key: asdict(each) for key, each in overlays.items()}
            if marks is not None:
                self.marks = {key: [asdict(each) for each in some] for key, some in marks.items()}
            if bars is not None:
                self.bars = self.bars | {key: asdict(each) for key, each in bars.items()}
            if box is not None:
                self.box = [float(side) for side in box]

    def on_event(self, callback: Callable[[CanvasEvent], None]) -> None:
        """Call `callback` with every event from now on, instead of an earlier one."""
        self._callback = callback

    def act(self, event: CanvasEvent) -> None:
        """Answer an event as if the hand had made it; for code that drives a widget."""
        with self.hold_sync():
            if self._callback is not None:
                self._callback(event)

    def download(self, name: str, content: bytes, kind: str) -> None:
        """Let the browser save a file.

        Args:
            name: that the browser proposes.
            content: of the file.
            kind: its MIME type, such as "image/png".
        """
        self.send({"download": name, "kind": kind}, [content])

    def close(self) -> None:
        """Remove it from the page and drop its pixels in both places."""
        self._callback = None
        with self.hold_sync():
            self.columns, self.still, self.live, self.overlays = [], {}, {}, {}
        super().close()

    def _panel(self, key: str) -> Panel:
        if key not in self._panels:
            raise ValueError(f"panel {key!r}: there are {', '.join(self._panels) or 'none'}")
        return self._panels[key]

    def _receive(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        """Answer one event; the page waits for `done` before it sends the next."""
        number = float(content.pop("id"))
        with self.hold_sync():
            try:
                cells = tuple((int(x), int(y)) for x, y in content.pop("cells", ()))
                box = tuple(float(side) for side in content.pop("box", ()))
                self.act(CanvasEvent(cells=cells, box=box, **content))
            finally:
                self.done = number
