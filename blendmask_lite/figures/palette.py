"""Colours that stay apart for colour-blind eyes, and stay the same for a base in every view."""

from __future__ import annotations

import matplotlib as mpl
import torch
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from torch import Tensor

__all__ = [
    "INK",
    "PALETTE",
    "SIGNED",
    "base_color",
    "object_color",
    "rgb255",
    "signed_colors",
    "stuff_color",
    "text_on",
    "weight_colormap",
]

# Okabe and Ito's set, without black and yellow (too light for lines on a white page). The first
# four are the paper's colours of the bases in figure 4: red, blue, yellow, green.
PALETTE = ("#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
# Of the ground, in tints that no object has.
STUFF_PALETTE = ("#7fb8f0", "#c9a26b", "#a98fd8", "#8fcc66", "#f2a0a5", "#f0dc6a", "#b0b0b0")
INK = "#222222"  # text and lines that belong to no object and no base
SIGNED = "RdBu_r"  # values around zero: blue below, white at it, red above


def base_color(index: int) -> str:
    """Colour of base `index`, counted from 0; from the seventh on they repeat."""
    return PALETTE[index % len(PALETTE)]


def object_color(index: int) -> str:
    """Colour of object `index`, counted from 0; begins elsewhere than the bases' do."""
    return PALETTE[(index + 1) % len(PALETTE)]


def stuff_color(label: int) -> str:
    """Colour of a kind of stuff, counted from 1; from the eighth on they repeat."""
    return STUFF_PALETTE[(label - 1) % len(STUFF_PALETTE)]


def rgb255(color: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255: "#d55e00" gives (213, 94, 0)."""
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return red, green, blue


def signed_colors(shares: Tensor) -> Tensor:
    """(H, W) from -1 to 1 -> (3, H, W) from 0 to 1: the colours of `SIGNED`."""
    colors = mpl.colormaps[SIGNED](((shares + 1) / 2).cpu().numpy())[..., :3]
    return torch.from_numpy(colors).permute(2, 0, 1).float()


def text_on(color: str) -> str:
    """Black or white, whichever is easier to read on `color`."""
    red, green, blue = to_rgb(color)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def weight_colormap(index: int) -> Colormap:
    """From white at weight 0 to the colour of base `index` at weight 1."""
    return LinearSegmentedColormap.from_list(f"weight {index}", ["#ffffff", base_color(index)])
