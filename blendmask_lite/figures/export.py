"""Figures for a paper's column and for a slide, as vectors whose text stays text."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text

from blendmask_lite.files import write_atomically

__all__ = ["WIDTHS", "figure_file", "fit_figure", "save_figure"]

# Inches. A column and the text of a two-column paper; a slide of 16 : 9.
WIDTHS = {"column": 3.3, "text": 6.9, "slide": 12.8}
FORMATS = (".pdf", ".svg", ".png")
LEAST_FONT = 5.0  # points: the smallest that prints


def fit_figure(figure: Figure, width: float | str) -> Figure:
    """Make a figure as wide as the page, text and lines with it; the figure itself is changed.

    Text does not become smaller than 5 points, so a figure of many panels may not fit a column.

    Args:
        figure: of this package, or any with a layout that follows its size.
        width: inches, or a name of `WIDTHS`.

    Returns:
        The same figure.

    Raises:
        ValueError: another name, or a width that is not above 0.
    """
    if isinstance(width, str):
        if width not in WIDTHS:
            raise ValueError(f"width {width!r}: choose inches or one of {', '.join(WIDTHS)}")
        width = WIDTHS[width]
    if not width > 0:
        raise ValueError(f"width {width}: must be above 0 inches")
    before, height = figure.get_size_inches()
    scale = width / before
    figure.set_size_inches(width, height * scale)
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        pads = {name: engine.get()[name] * scale for name in ("w_pad", "h_pad")}
        engine.set(**pads)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontsize(max(LEAST_FONT, text.get_fontsize() * scale))
        if isinstance(text, Annotation) and text.anncoords == "offset points":
            x, y = text.get_position()
            text.set_position((x * scale, y * scale))
    for line in figure.findobj(Line2D):
        assert isinstance(line, Line2D)
        line.set_linewidth(line.get_linewidth() * scale)
        line.set_markersize(line.get_markersize() * scale)
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            # Ticks made later take their size from here.
            size = max(LEAST_FONT, axis.get_tick_params().get("labelsize", 8) * scale)
            axis.set_tick_params(labelsize=size, length=3.5 * scale, pad=2 * scale)
        for patch in ax.patches:
            if isinstance(patch, Rectangle):
                patch.set_linewidth(patch.get_linewidth() * scale)
        for spine in ax.spines.values():
            spine.set_linewidth(spine.get_linewidth() * scale)
    return figure


def save_figure(figure: Figure, path: Path | str, *, dpi: float = 300) -> Path:
    """Write a figure; the ending says how: .pdf and .svg are vectors, .png is pixels.

    Text stays text that can be searched and edited: TrueType fonts in PDF, no outlines in SVG.

    Args:
        figure: to write.
        path: of the file.
        dpi: of .png, and of pictures inside of the others.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: the name must end in one of {', '.join(FORMATS)}")
    write_atomically(path, figure_file(figure, path.suffix, dpi=dpi))
    return path


def figure_file(figure: Figure, suffix: str, *, dpi: float = 300) -> bytes:
    """What `save_figure` writes, as bytes: `suffix` is ".pdf", ".svg" or ".png"."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=suffix[1:], facecolor="white", dpi=dpi)
    return buffer.getvalue()
