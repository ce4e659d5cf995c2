"""What all figures share: a figure that carries its description, pictures and maps on axes.

No figure touches pyplot, so none is kept alive or shown behind the caller's back.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blendmask_lite.figures.palette import INK

__all__ = [
    "DescribedFigure",
    "add_color_bar",
    "as_picture",
    "draw_box",
    "draw_map",
    "draw_picture",
    "figure_pixels",
    "largest_magnitude",
    "panels",
    "say_nothing_found",
    "usual_magnitude",
]


class DescribedFigure(Figure):
    """A figure that notebooks show with its description as alternative text.

    The description is the figure's label: `figure.get_label()`.
    """

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """PNG, the same inside HTML with its description, and the description alone.

        JupyterLab shows HTML where there is some, and has no other way to an alternative text.
        No plotting backend is needed.
        """
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", facecolor="white")
        description = str(self.get_label())
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return {
            "image/png": buffer.getvalue(),
            "text/html": f'<img src="{source}" alt="{html.escape(description)}">',
            "text/plain": description,
        }


def panels(
    rows: int, columns: int, *, cell: tuple[float, float] = (2.2, 2.2), description: str
) -> tuple[DescribedFigure, NDArray[Any]]:
    """A figure with a grid of axes.

    Args:
        rows: at least 1.
        columns: at least 1.
        cell: width and height of one panel, inches.
        description: what is to be seen, one sentence, for those who cannot see it.

    Returns:
        The figure, and its axes as an array of (rows, columns).
    """
    size = (columns * cell[0], rows * cell[1])
    figure = DescribedFigure(figsize=size, dpi=100, layout="constrained")
    figure.set_label(description)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def as_picture(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) uint8 or float in [0, 1] -> (H, W, 3) uint8.

    Raises:
        ValueError: any other shape.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image of shape {tuple(image.shape)}: expected (3, H, W)")
    if image.is_floating_point():
        image = image.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    picture: NDArray[np.uint8] = image.detach().cpu().permute(1, 2, 0).numpy()
    return picture


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
    colors: str | Colormap,
    limits: tuple[float, float],
    stride: float = 1,
    unit: str = "",
    title: str = "",
    title_color: str = INK,
) -> AxesImage:
    """Show a map of numbers, one square per cell.

    Args:
        axes: where to.
        values: (h, w).
        colors: colour map.
        limits: the values at both of its ends.
        stride: units per cell along the axes.
        unit: of the axes, such as "pixels"; empty leaves the ticks out.
        title: above the map.
        title_color: of the title.
    """
    height, width = values.shape
    drawn = axes.imshow(
        values.detach().cpu().float().numpy(),
        cmap=colors,
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, width * stride, height * stride, 0),
        interpolation="nearest",
    )
    _finish(axes, title, unit, title_color)
    return drawn


def draw_box(axes: Axes, box: Sequence[float], *, color: str, width: float = 1.8) -> None:
    """Outline (x0, y0, x1, y1), in the units of the axes."""
    x0, y0, x1, y1 = (float(side) for side in box)
    corner, size = (x0, y0), (x1 - x0, y1 - y0)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=width))


def add_color_bar(
    figure: Figure,
    beside: Sequence[Axes] | NDArray[Any],
    *,
    colors: str | Colormap,
    limits: tuple[float, float],
    label: str,
) -> None:
    """One scale for several maps that share colours and limits."""
    mappable = ScalarMappable(Normalize(*limits), colors)
    bar = figure.colorbar(mappable, ax=list(beside), fraction=0.03, aspect=25, pad=0.02)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def figure_pixels(figure: Figure, *, dpi: float = 100) -> Tensor:
    """The figure as a picture, (3, h, w) uint8."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", dpi=dpi)
    pixels = np.array(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def largest_magnitude(values: Tensor) -> float:
    """Half width of a scale around zero that holds all values; 1 where there is none but zero."""
    largest = float(values.detach().abs().max()) if values.numel() else 0.0
    return largest or 1.0


def usual_magnitude(values: Tensor, share: float = 0.98) -> float:
    """Half width of a scale around zero that holds 98 % of the values: few peaks hide nothing."""
    flat = values.detach().float().abs().flatten()
    if len(flat) == 0:
        return 1.0
    kth = max(1, round(share * len(flat)))
    return float(flat.kthvalue(kth).values) or largest_magnitude(values)


def say_nothing_found(axes: Axes) -> None:
    """A panel that says so where there is no object to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no object found", ha="center", va="center", transform=axes.transAxes)


def _finish(axes: Axes, title: str, unit: str, title_color: str = INK) -> None:
    if title:
        axes.set_title(title, fontsize=9, color=title_color)
    if not unit:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4)
    axes.set_xlabel(f"x, {unit}", fontsize=7, labelpad=1)
    axes.set_ylabel(f"y, {unit}", fontsize=7, labelpad=1)
