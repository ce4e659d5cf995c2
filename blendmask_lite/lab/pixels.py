"""Numbers and pictures as bytes for the canvas: 256 colours a map, so that little travels."""

from __future__ import annotations

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap
from PIL import Image
from torch import Tensor

from blendmask_lite.figures.style import as_picture, rgb255

__all__ = ["as_cells", "as_png", "layer_palette", "palette"]


def palette(colors: str | Colormap) -> bytes:
    """256 colours of a matplotlib colour map: 256 x 4 bytes, opaque."""
    table = colormaps[colors] if isinstance(colors, str) else colors
    shades = table(np.linspace(0, 1, 256))
    return (shades * 255).round().astype(np.uint8).tobytes()


def layer_palette(*colors: tuple[str, int]) -> bytes:
    """Colours for the cells 1, 2, ... of a layer above a picture; cell 0 is clear.

    Args:
        colors: colour and opacity (0 to 255) of each.
    """
    table = np.zeros((256, 4), np.uint8)
    for index, (color, alpha) in enumerate(colors, start=1):
        table[index] = (*rgb255(color), alpha)
    return table.tobytes()


def as_cells(values: Tensor, low: float, high: float) -> bytes:
    """(h, w) numbers -> one byte a cell: 0 at `low` and below, 255 at `high` and above."""
    shares = (values.detach() - low) / (high - low)
    cells: bytes = (shares.clamp(0, 1) * 255).round().byte().contiguous().cpu().numpy().tobytes()
    return cells


def as_png(image: Tensor) -> bytes:
    """(3, H, W) uint8 or float in [0, 1] -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(as_picture(image)).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()
