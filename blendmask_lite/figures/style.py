"""The common parts of all figures: layout and descriptions, colours, and export to files.

Colours can be told apart by colour-blind readers, and a base has the same colour in every view.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blendmask_lite.files import write_atomically

__all__ = [
    "INK",
    "PALETTE",
    "SIGNED",
    "WIDTHS",
    "DescribedFigure",
    "add_color_bar",
    "as_float",
    "as_picture",
    "as_pixels",
    "base_color",
    "color_tensor",
    "described_figure",
    "draw_base",
    "draw_box",
    "draw_box_name",
    "draw_map",
    "draw_name",
    "draw_outline",
    "draw_picture",
    "draw_text",
    "figure_file",
    "figure_pixels",
    "finish_plot",
    "first_free",
    "fit_figure",
    "largest_magnitude",
    "legend_below",
    "object_color",
    "one_panel",
    "pale",
    "panel_grid",
    "panels",
    "picture_cell",
    "pixel_corners",
    "rgb255",
    "save_figure",
    "say_nothing_found",
    "signed_colors",
    "stuff_color",
    "text_on",
    "usual_magnitude",
    "weight_colormap",
]

# Okabe and Ito's set, without black and yellow (too light for lines on a white page). The first
# four are the paper's colours of the bases in figure 4: red, blue, yellow, green.
PALETTE = ("#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
# Colours of stuff, in tints that no object has.
STUFF_PALETTE = ("#7fb8f0", "#c9a26b", "#a98fd8", "#8fcc66", "#f2a0a5", "#f0dc6a", "#b0b0b0")
NAME_SIZE = 8  # font size of object names, points
INK = "#222222"  # text and lines that belong to no object and no base
SIGNED = "RdBu_r"  # values around zero: blue below, white at zero, red above


def base_color(index: int) -> str:
    """Colour of base `index` (0-based); from the seventh base on, colours repeat."""
    return PALETTE[index % len(PALETTE)]


def object_color(index: int) -> str:
    """Colour of object `index` (0-based); the first one differs from that of the first base."""
    return PALETTE[(index + 1) % len(PALETTE)]


def stuff_color(label: int) -> str:
    """Colour of the stuff class `label` (1-based); from the eighth on, colours repeat."""
    return STUFF_PALETTE[(label - 1) % len(STUFF_PALETTE)]


def rgb255(color: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255: "#d55e00" gives (213, 94, 0)."""
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return red, green, blue


def color_tensor(color: str) -> Tensor:
    """(3, 1, 1) red, green and blue from 0 to 1."""
    return torch.tensor(rgb255(color))[:, None, None] / 255


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


class DescribedFigure(Figure):
    """A figure that notebooks show with its description as alternative text.

    The description is the figure's label: `figure.get_label()`.
    """

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """PNG, the same PNG inside HTML with its description, and the description alone.

        JupyterLab prefers HTML, which is its only way to show an alternative text. No plotting
        backend is needed.
        """
        png, description = figure_file(self, ".png", dpi=self.dpi), str(self.get_label())
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        return {
            "image/png": png,
            "text/html": f'<img src="{source}" alt="{html.escape(description)}">',
            "text/plain": description,
        }


def described_figure(size: tuple[float, float], description: str) -> DescribedFigure:
    """An empty figure of a width and height in inches, with a one-sentence description."""
    figure = DescribedFigure(figsize=size, dpi=100, layout="constrained")
    figure.set_label(description)
    return figure


def panels(
    rows: int,
    columns: int,
    *,
    cell: tuple[float, float] = (2.2, 2.2),
    description: str,
    title: str = "",
) -> tuple[DescribedFigure, NDArray[Any]]:
    """A figure with a grid of axes.

    Args:
        rows: number of rows, at least 1.
        columns: number of columns, at least 1.
        cell: width and height of one panel, inches.
        description: one sentence for those who cannot see the figure.
        title: text above all panels.

    Returns:
        The figure, and its axes as an array of (rows, columns).
    """
    figure = described_figure((columns * cell[0], rows * cell[1]), description)
    axes = figure.subplots(rows, columns, squeeze=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, axes


def one_panel(
    *, cell: tuple[float, float] = (2.2, 2.2), description: str
) -> tuple[DescribedFigure, Axes]:
    """Like `panels`, for a figure with a single panel."""
    figure, axes = panels(1, 1, cell=cell, description=description)
    return figure, axes[0, 0]


def panel_grid(
    num: int, most_columns: int, *, cell: tuple[float, float], description: str, title: str = ""
) -> tuple[DescribedFigure, list[Axes]]:
    """Like `panels`, for a figure with `num` panels in rows, and a list of their axes."""
    columns = max(1, min(most_columns, num))
    rows = max(1, -(-num // columns))
    figure, axes = panels(rows, columns, cell=cell, description=description, title=title)
    for empty in axes.flat[num:]:
        empty.set_axis_off()
    return figure, list(axes.flat[:num])


def picture_cell(
    image: Tensor, width: float, *, title: float, most: float = 1e9
) -> tuple[float, float]:
    """Size of a panel for an image (3, H, W), in inches; `title` is the height above the image."""
    return width, min(most, width * image.shape[-2] / image.shape[-1] + title)


def as_float(image: Tensor) -> Tensor:
    """A copy as floats in [0, 1] of an image that is uint8 or float in [0, 1]."""
    return image.clone() if image.is_floating_point() else image.float().div_(255)


def pale(image: Tensor) -> Tensor:
    """(3, H, W) -> a lighter copy with little colour, float in [0, 1], on which lines show well."""
    pixels = as_float(image.detach().cpu())
    grey = pixels.mean(dim=0, keepdim=True)
    return 0.45 + 0.5 * (0.75 * grey + 0.25 * pixels)


def as_picture(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) uint8 or float in [0, 1] -> (H, W, 3) uint8.

    Raises:
        ValueError: any other shape.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image of shape {tuple(image.shape)}: expected (3, H, W)")
    if image.is_floating_point():
        image = image.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return image.detach().cpu().permute(1, 2, 0).numpy()


def draw_picture(
    axes: Axes, image: Tensor, *, title: str = "", has_units: bool = True
) -> AxesImage:
    """Show a picture with its axes in pixels."""
    picture = as_picture(image)
    height, width = picture.shape[:2]
    drawn = axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
    _finish(axes, title, "pixels" if has_units else "")
    return drawn


def draw_map(
    axes: Axes,
    values: Tensor,
    *,
    limits: float | tuple[float, float],
    colors: str | Colormap = SIGNED,
    stride: float = 1,
    unit: str = "",
    title: str = "",
    title_color: str = INK,
) -> AxesImage:
    """Show a map of numbers, one square per cell.

    Args:
        axes: to draw on.
        values: (h, w).
        limits: the values at both ends of the colour scale; one number is the magnitude of
            both.
        colors: colour map; by default the one of values around zero.
        stride: units per cell along the axes.
        unit: unit of the axes, such as "pixels"; if empty, there are no ticks.
        title: text above the map.
        title_color: colour of the title.
    """
    height, width = values.shape
    low, high = _both_ends(limits)
    drawn = axes.imshow(
        values.detach().cpu().float().numpy(),
        cmap=colors,
        vmin=low,
        vmax=high,
        extent=(0, width * stride, height * stride, 0),
        interpolation="nearest",
    )
    _finish(axes, title, unit, title_color)
    return drawn


def draw_base(
    axes: Axes, values: Tensor, index: int, *, name: str = "base", note: str = "", **settings: Any
) -> AxesImage:
    """A map of base `index`, titled in its colour; `settings` are those of `draw_map`."""
    title = f"{name} {index + 1}{note}"
    return draw_map(axes, values, title=title, title_color=base_color(index), **settings)


def draw_outline(
    axes: Axes,
    mask: Tensor,
    color: str,
    *,
    width: float = 1.0,
    style: str = "-",
    is_closed: bool = False,
) -> None:
    """A line between the pixels inside and outside an (H, W) bool mask, if it has both.

    If `is_closed`, the line also follows the border of the map.
    """
    values = np.pad(mask.detach().cpu().float().numpy(), int(is_closed))
    if 0 < values.mean() < 1:
        y, x = (np.arange(side) + 0.5 - is_closed for side in values.shape)
        axes.contour(x, y, values, [0.5], colors=[color], linewidths=width, linestyles=style)


def draw_box(axes: Axes, box: Sequence[float], *, color: str, width: float = 1.8) -> None:
    """Outline (x0, y0, x1, y1), in the units of the axes."""
    x0, y0, x1, y1 = (float(side) for side in box)
    corner, size = (x0, y0), (x1 - x0, y1 - y0)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=width))


def add_color_bar(
    figure: Figure,
    beside: Sequence[Axes] | NDArray[Any],
    *,
    limits: float | tuple[float, float],
    label: str,
    colors: str | Colormap = SIGNED,
) -> None:
    """One scale for several maps that share colours and limits; arguments as in `draw_map`."""
    mappable = ScalarMappable(Normalize(*_both_ends(limits)), colors)
    bar = figure.colorbar(mappable, ax=list(beside), fraction=0.03, aspect=25, pad=0.02)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def draw_text(
    axes: Axes, x: float, y: float, text: str, *, size: float = 8, **settings: Any
) -> None:
    """Text centered at a position; `settings` are passed to matplotlib's text."""
    axes.text(x, y, text, fontsize=size, **{"ha": "center", "va": "center"} | settings)


def draw_name(
    axes: Axes,
    x: float,
    y: float,
    name: str,
    *,
    color: str,
    size: float = NAME_SIZE,
    **settings: Any,
) -> None:
    """A name on a background in its object's colour; `settings` are passed to matplotlib's text.

    If "va" is "bottom" or "top", all of the background lies above or below the position.
    """
    box = {"facecolor": color, "edgecolor": "none", "pad": 1.5} | settings.pop("bbox", {})
    shift = {"bottom": box["pad"], "top": -box["pad"]}.get(settings.get("va", ""), 0)
    place = axes.transData + ScaledTranslation(0, shift / 72, axes.figure.dpi_scale_trans)
    given: dict[str, Any] = {"clip_on": True, "transform": place} | settings
    axes.text(x, y, name, color=text_on(color), fontsize=size, bbox=box, **given)


def draw_box_name(
    axes: Axes,
    box: Sequence[float],
    name: str,
    *,
    color: str,
    taken: list[tuple[float, float, float, float]] | None = None,
) -> None:
    """The name of a box in a picture, at its upper side and inside the picture.

    `taken` are the corners in pixels of the names drawn before. If given, the name moves down until
    it covers none of them, if the picture has such a place, and its own corners are added.
    """
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    x0, y0, x1, _ = box
    x, ha = (min(x1, width), "right") if x0 > 0.85 * width else (x0, "left")
    has_room = y0 >= height / 15  # above the box
    place: dict[str, Any] = {"ha": ha, "va": "bottom" if has_room else "top"}
    if taken is not None:
        # Layout comes later, and leaves some nine tenths of the figure's width to the picture.
        pixel = 0.9 * 72 * axes.figure.bbox.width / axes.figure.dpi / width  # points
        wide, high = (0.62 * NAME_SIZE * len(name) + 3) / pixel, (1.2 * NAME_SIZE + 3) / pixel
        left, top = x - wide * (ha == "right"), y0 - high * has_room
        free = first_free(taken, left, top, wide, high)
        if free != top and free + high <= height:
            y0 = top = free
            place["va"] = "top"
        place["zorder"] = 4 - len(taken) / 1000
        taken.append((left, top, left + wide, top + high))
    draw_name(axes, x, y0, name, color=color, size=NAME_SIZE, **place)


def first_free(
    taken: Sequence[tuple[float, float, float, float]],
    x: float,
    y: float,
    width: float,
    height: float,
) -> float:
    """The first y, going down from `y`, at which a rectangle overlaps none of the `taken` ones."""
    while hidden := [
        bottom
        for left, top, right, bottom in taken
        if left < x + width and x < right and top < y + height and y < bottom
    ]:
        y = max(hidden) + 1
    return y


def finish_plot(axes: Axes, *, x: str = "", y: str = "", title: str = "", ticks: float = 8) -> None:
    """Set labels and numbers in the usual sizes, with no frame above or on the right."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    if title:
        axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=ticks)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, *, columns: int, size: float = 8, **entries: Any) -> None:
    """A legend under the panels; `entries` are `handles` and `labels`, by default the axes' own."""
    place: Any = "outside lower center"
    figure.legend(loc=place, ncols=columns, fontsize=size, frameon=False, **entries)


def pixel_corners(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Corners as PIL expects them: the last pixel belongs to the rectangle."""
    x0, y0, x1, y1 = (round(side) for side in box)
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)


def as_pixels(picture: Image.Image) -> Tensor:
    """An RGB picture from PIL as (3, H, W) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def figure_pixels(figure: Figure) -> Tensor:
    """The figure as a picture, (3, h, w) uint8, with 100 pixels an inch."""
    picture = Image.open(io.BytesIO(figure_file(figure, ".png", dpi=100)))
    return as_pixels(picture.convert("RGB"))


def largest_magnitude(values: Tensor) -> float:
    """Half width of a scale around zero that holds all values; 1 if all values are zero."""
    largest = float(values.detach().abs().max()) if values.numel() else 0.0
    return largest or 1.0


def usual_magnitude(values: Tensor) -> float:
    """Half width of a scale around zero that holds 98 % of the values, all but a few peaks."""
    flat = values.detach().float().abs().flatten()
    if len(flat) == 0:
        return 1.0
    kth = max(1, round(0.98 * len(flat)))
    return float(flat.kthvalue(kth).values) or largest_magnitude(values)


def say_nothing_found(axes: Axes) -> None:
    """Say in a panel that there is no object to draw."""
    axes.set_axis_off()
    draw_text(axes, 0.5, 0.5, "no object found", size=10, transform=axes.transAxes)


def _both_ends(limits: float | tuple[float, float]) -> tuple[float, float]:
    return limits if isinstance(limits, tuple) else (-limits, limits)


def _finish(axes: Axes, title: str, unit: str, title_color: str = INK) -> None:
    if title:
        axes.set_title(title, fontsize=9, color=title_color)
    if not unit:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4, integer=True)
    axes.set_xlabel(f"x, {unit}", fontsize=7, labelpad=1)
    axes.set_ylabel(f"y, {unit}", fontsize=7, labelpad=1)


# Inches: a column and the full text width of a two-column paper, and a 16 : 9 slide.
WIDTHS = {"column": 3.3, "text": 6.9, "slide": 12.8}
FORMATS = (".pdf", ".svg", ".png")
LEAST_FONT = 5.0  # points: the smallest text that prints


def fit_figure(figure: Figure, width: float | str) -> Figure:
    """Make a figure as wide as the page, scaling its text and lines; it is changed in place.

    Text does not become smaller than 5 points, so a figure of many panels may not fit a column.

    Args:
        figure: a figure of this package, or any other whose layout follows its size.
        width: width in inches, or a name of `WIDTHS`.

    Returns:
        The same figure.

    Raises:
        ValueError: an unknown name, or a width that is not above 0.
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
    """Write a figure in the format of the file ending: .pdf and .svg are vectors, .png is pixels.

    Text stays text that can be searched and edited: TrueType fonts in PDF, no outlines in SVG.

    Args:
        figure: the figure to write.
        path: path of the file.
        dpi: resolution of .png, and of pixel images inside the other formats.

    Raises:
        ValueError: the ending is none of the three.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: the name must end in one of {', '.join(FORMATS)}")
    write_atomically(path, figure_file(figure, path.suffix, dpi=dpi))
    return path


def figure_file(figure: Figure, suffix: str, *, dpi: float = 300) -> bytes:
    """The bytes that `save_figure` writes; `suffix` is ".pdf", ".svg" or ".png"."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=suffix[1:], facecolor="white", dpi=dpi)
    return buffer.getvalue()
