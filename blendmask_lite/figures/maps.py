"""Any maps side by side on one scale: what a cell of a notebook just computed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from blendmask_lite.figures.layout import (
    DescribedFigure,
    add_color_bar,
    draw_map,
    largest_magnitude,
    panels,
)
from blendmask_lite.figures.palette import SIGNED

__all__ = ["maps_figure"]


def maps_figure(
    maps: Mapping[str, Tensor],
    *,
    label: str,
    colors: str = SIGNED,
    limits: tuple[float, float] | None = None,
    unit: str = "cells",
    size: float = 2.3,
) -> DescribedFigure:
    """Maps in one row, as squares whatever their number of cells.

    Args:
        maps: (h, w) each, by title; at least one.
        label: what the values are, with their unit; stands at the colour bar.
        colors: colour map; the default suits values around zero.
        limits: both ends of the scale; without, as wide around zero as the values need.
        unit: of the axes.
        size: side of a panel, inches.

    Raises:
        ValueError: no maps.
    """
    if not maps:
        raise ValueError("maps: an empty dict; at least one map is needed")
    if limits is None:
        largest = max(largest_magnitude(values) for values in maps.values())
        limits = (-largest, largest)
    figure, axes = panels(
        1, len(maps), cell=(size, size + 0.2), description=f"{label}: {', '.join(maps)}."
    )
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=True):
        draw_map(ax, values, colors=colors, limits=limits, unit=unit, title=title)
    add_color_bar(figure, axes.ravel(), colors=colors, limits=limits, label=label)
    return figure
