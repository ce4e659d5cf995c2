"""How cropping looks in the RoI sampler: the map with sample points, the crop, and the sums.

Chapter 07.
"""

from __future__ import annotations

from torch import Tensor

from blendmask_lite.figures.sampling import paint_sampling
from blendmask_lite.figures.style import PALETTE, SIGNED, largest_magnitude
from blendmask_lite.lab.canvas_parts import Bar, Bars, Group, Mark, Panel
from blendmask_lite.lab.pixels import as_cells, as_png, palette
from blendmask_lite.research.fields import (
    BoxPooling,
    cell_weights,
    pool_box,
    pooled_region,
    sample_points,
)

__all__ = ["bars", "columns", "marks", "palettes", "pixels"]

MAP_SIZE, CROP_SIZE = 400, 240  # CSS pixels
MOST_BARS = 9
PLUS, MINUS = PALETTE[0], PALETTE[1]


def palettes() -> dict[str, bytes]:
    """The crop's colours."""
    return {"signed": palette(SIGNED)}


def columns(values: Tensor, how: BoxPooling) -> list[list[Group]]:
    """The map with the box, and the crop."""
    height, width = values.shape
    limit = largest_magnitude(values)
    grid = Panel(
        "map",
        f"A map of {width} by {height} cells with the box, its bins and the sample points",
        width,
        height,
        size=round(MAP_SIZE * min(1, width / height)),
        unit=how.stride,
        palette="png",
        acts=("box",),
    )
    crop = Panel(
        "crop",
        f"The crop, {how.size} by {how.size} cells",
        how.size,
        how.size,
        size=CROP_SIZE,
        palette="signed",
        is_live=True,
        acts=("hover",),
    )
    scale = f"blue {-limit:.3g} to red {limit:.3g}"
    return [
        [Group("Map, bins, sample points", (grid,), f"drag the box; a cell is {how.stride:g} px")],
        [
            Group("Crop", (crop,), f"{how.size} × {how.size}, {scale}; point at a cell"),
            Group("", (), bars="cell"),
            Group("", (), bars="difference"),
        ],
    ]


def pixels(values: Tensor, box: Tensor, how: BoxPooling) -> dict[str, bytes]:
    """Both panels."""
    limit = largest_magnitude(values)
    points = sample_points(box, how).flatten(0, 2)
    return {
        "map": as_png(paint_sampling(values, pooled_region(box, how), points, how.size)),
        "crop": as_cells(pool_box(values, box, how), -limit, limit),
    }


def marks(
    values: Tensor, box: Tensor, how: BoxPooling, pointed: tuple[int, int] | None
) -> dict[str, list[Mark]]:
    """The map's cells behind the cell (column, row) of the crop, with their weights."""
    if pointed is None:
        return {}
    column, row = pointed
    weights = cell_weights(values, box, how, row, column)
    behind = [Mark(x, y, weight=float(weights[y, x])) for y, x in (weights > 0).nonzero().tolist()]
    return {"map": behind, "crop": [Mark(column, row)]}


def bars(
    values: Tensor, box: Tensor, how: BoxPooling, pointed: tuple[int, int] | None
) -> dict[str, Bars]:
    """The sum behind a cell, and how far the crop is from RoIAlign with one sample."""
    return {
        "cell": _cell_bars(values, box, how, pointed),
        "difference": _difference_bars(values, box, how),
    }


def _cell_bars(
    values: Tensor, box: Tensor, how: BoxPooling, pointed: tuple[int, int] | None
) -> Bars:
    if pointed is None:
        return Bars("Point at a cell of the crop: which cells of the map is it made of?")
    column, row = pointed
    weights = cell_weights(values, box, how, row, column)
    cells = (weights > 0).nonzero().tolist()
    cells.sort(key=lambda cell: -float(weights[cell[0], cell[1]]))
    total = float(pool_box(values, box, how)[row, column])
    what = "the largest cell of its bin" if how.kind == "pool" else f"{len(cells)} weighted cells"
    where = f"Row {row + 1}, column {column + 1}"
    if not cells:
        return Bars(f"{where}: outside of the map, so 0.")
    limit = largest_magnitude(values)
    return Bars(
        f"{where}: {total:.2f}, {what}. Weight × value:",
        tuple(_term(x, y, float(weights[y, x]), float(values[y, x])) for y, x in cells[:MOST_BARS]),
        low=-limit,
        high=limit,
    )


def _term(x: int, y: int, weight: float, value: float) -> Bar:
    product = weight * value
    text = f"{weight:.2f} × {value:.3g}"
    return Bar(f"x {x}, y {y}", product, text, PLUS if product > 0 else MINUS)


def _difference_bars(values: Tensor, box: Tensor, how: BoxPooling) -> Bars:
    """Against the paper's choice."""
    usual = pool_box(values, box, BoxPooling(how.size, how.stride))
    away = (pool_box(values, box, how) - usual).abs()
    figures = {"mean": float(away.mean()), "largest": float(away.max())}
    return Bars(
        "Difference from RoIAlign with one sample a bin:",
        tuple(Bar(name, each, f"{each:.2f}", "#7f7f7f") for name, each in figures.items()),
        high=largest_magnitude(values),
    )
