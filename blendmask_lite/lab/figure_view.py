"""A figure in the page, with its description for those who cannot see it, and files of it.

Chapter: the lab. ipywidgets' own picture has no alternative text, and keeps no file for print.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
from matplotlib.figure import Figure
from traitlets import Bytes, Unicode

from blendmask_lite.figures.style import figure_file, fit_figure
from blendmask_lite.lab.messages import STATIC

__all__ = ["FigureView"]


KINDS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}


class FigureView(anywidget.AnyWidget):
    """Shows one figure with buttons that save it, or a sentence where there is none."""

    _esm = STATIC / "figure.js"
    _css = STATIC / "figure.css"
    png = Bytes(b"").tag(sync=True)
    text = Unicode("").tag(sync=True)  # alternative text; read out when it changes

    def __init__(self) -> None:
        super().__init__()
        self._make: Callable[[], Figure] | None = None
        self._callback: Callable[[FigureView, str], None] | None = None
        self.on_msg(self._receive)

    def show(self, make: Callable[[], Figure], *, dpi: float = 110) -> None:
        """Draw the figure that `make` gives; its label becomes the alternative text.

        Args:
            make: called now, and again whenever the figure is saved.
            dpi: of the picture in the page.
        """
        figure = make()
        content = figure_file(figure, ".png", dpi=dpi)
        self._make = make
        with self.hold_sync():
            self.png, self.text = content, str(figure.get_label())

    def say(self, text: str) -> None:
        """Words in the place of a figure."""
        self._make = None
        with self.hold_sync():
            self.png, self.text = b"", text

    def on_save(self, callback: Callable[[FigureView, str], None]) -> None:
        """Call `callback` with this view and "png", "svg" or "pdf" when a button is pressed."""
        self._callback = callback

    def save(self, kind: str, *, width: float | str | None = None) -> None:
        """Let the browser save the figure; nothing where there is none.

        Args:
            kind: "png", "svg" or "pdf".
            width: as in `fit_figure`; None is as shown.

        Raises:
            ValueError: another kind or width.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind}: {', '.join(KINDS)} are written")
        if self._make is not None:
            figure = self._make()
            if width is not None:
                fit_figure(figure, width)
            content = figure_file(figure, f".{kind}")
            self.send({"download": f"figure.{kind}", "kind": KINDS[kind]}, [content])

    def close(self) -> None:
        """Remove it from the page and drop the picture in both places."""
        self._callback = None
        self.say("")
        super().close()

    def _receive(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if self._callback is not None:
            self._callback(self, str(content.get("save")))
