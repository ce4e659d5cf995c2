"""Any numbers and maps: curves, maps on one scale, rows of a table, and intervals around zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, NullLocator
from torch import Tensor

from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    SIGNED,
    DescribedFigure,
    add_color_bar,
    draw_map,
    finish_plot,
    largest_magnitude,
    legend_below,
    one_panel,
    panels,
)

__all__ = [
    "Column",
    "cells_figure",
    "compare_rows",
    "intervals_figure",
    "lines_figure",
    "maps_figure",
]


MARKERS = "osD^vP"


def lines_figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    is_log: bool = False,
    levels: Mapping[str, float] | None = None,
    has_markers: bool = True,
) -> DescribedFigure:
    """One line per curve, each with its own colour and, if `has_markers`, its own marker.

    Args:
        curves: x and y by name, equally many of each.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        title: text above the plot.
        is_log: both axes are logarithmic; every x has a tick, so they should be few.
        levels: heights, by name, to draw as dashed lines.
        has_markers: whether every point has a marker; False suits curves with many points.

    Raises:
        ValueError: no curves.
    """
    if not curves:
        raise ValueError("curves: an empty dict; at least one curve is needed")
    ends = "; ".join(
        f"{name} from {ys[0]:.3g} to {ys[-1]:.3g}" for name, (_, ys) in curves.items() if len(ys)
    )
    told = "".join(f"; {name} {value:.3g}" for name, value in (levels or {}).items())
    figure, ax = one_panel(cell=(6.4, 3.4), description=f"{y_label} over {x_label}: {ends}{told}.")
    for index, (name, (xs, ys)) in enumerate(curves.items()):
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        marker = marker if has_markers else ""
        ax.plot(xs, ys, color=color, marker=marker, markersize=5, linewidth=1.6, label=name)
    for index, (name, value) in enumerate((levels or {}).items()):
        ax.axhline(value, color=INK, linewidth=1.1, linestyle=("--", ":")[index % 2], label=name)
    if is_log:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(sorted({x for xs, _ in curves.values() for x in xs}), minor=False)
        ax.xaxis.set_minor_locator(NullLocator())
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FormatStrFormatter("%g"))
    elif all(isinstance(x, int) for xs, _ in curves.values() for x in xs):
        ax.locator_params("x", integer=True)
    finish_plot(ax, x=x_label, y=y_label, title=title)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(fontsize=8, frameon=False)
    return figure


def maps_figure(
    maps: Mapping[str, Tensor],
    *,
    label: str,
    colors: str = SIGNED,
    limits: tuple[float, float] | None = None,
    unit: str = "cells",
    size: float = 2.3,
) -> DescribedFigure:
    """Maps in one row, equally wide whatever their number of cells.

    Args:
        maps: (h, w) maps by title; at least one.
        label: what the values are, with their unit; written at the colour bar.
        colors: colour map; the default suits values around zero.
        limits: both ends of the scale; None: around zero, as wide as the values need.
        unit: unit of the axes.
        size: width of a panel, inches.

    Raises:
        ValueError: no maps.
    """
    if not maps:
        raise ValueError("maps: an empty dict; at least one map is needed")
    if limits is None:
        largest = max(map(largest_magnitude, maps.values()))
        limits = (-largest, largest)
    height = size * max(values.shape[0] / values.shape[1] for values in maps.values())
    figure, axes = panels(
        1, len(maps), cell=(size, height + 0.2), description=f"{label}: {', '.join(maps)}."
    )
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=True):
        draw_map(ax, values, colors=colors, limits=limits, unit=unit, title=title)
    add_color_bar(figure, axes.ravel(), colors=colors, limits=limits, label=label)
    return figure


def cells_figure(
    rows: Mapping[str, Sequence[float]], *, marked: Sequence[int] = ()
) -> DescribedFigure:
    """Rows of cells with their values written in, as in a calculation by hand.

    Args:
        rows: values by name, first row on top; equally many in each. Red is above 0, blue below.
        marked: indices of cells that a frame marks in all rows.

    Raises:
        ValueError: no rows, or rows of different lengths.
    """
    lengths = {len(values) for values in rows.values()}
    if len(lengths) != 1:
        raise ValueError(f"rows of {sorted(lengths)} cells: must be of one length")
    [num_cells] = lengths
    values = torch.tensor([list(row) for row in rows.values()], dtype=torch.float64)
    figure, ax = one_panel(
        cell=(0.55 * num_cells + 2.4, 0.36 * len(rows) + 0.9),
        description=f"Cells with their values: {', '.join(rows)}.",
    )
    limit = largest_magnitude(values)
    ax.imshow(values.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto", alpha=0.55)
    for row, row_values in enumerate(values.tolist()):
        for cell, value in enumerate(row_values):
            ax.text(cell, row, f"{value:g}", ha="center", va="center", fontsize=9, color=INK)
    for cell in marked:
        corner, height = (cell - 0.5, -0.5), len(rows)
        ax.add_patch(Rectangle(corner, 1, height, fill=False, edgecolor=INK, linewidth=2))
    ax.set_yticks(range(len(rows)), list(rows), fontsize=9)
    ax.set_xticks(range(num_cells))
    ax.set_xlabel("cell", fontsize=9)
    ax.tick_params(length=0, labelsize=9)
    return figure


@dataclass(frozen=True)
class Column:
    """One panel of the comparison.

    Attributes:
        title: text above the panel, with the unit.
        values: row -> values, one per run; their mean is the large mark.
        half_widths: row -> half the width of the interval around the mean; None: no interval.
    """

    title: str
    values: Mapping[str, Sequence[float]]
    half_widths: Mapping[str, float | None]


def compare_rows(
    columns: Sequence[Column], *, title: str, has_one_scale: bool = False
) -> DescribedFigure:
    """One panel per column, with its rows at common heights; the best row's mark is filled.

    Args:
        columns: the panels, at least one; all have the same rows in the same order.
        title: text above the figure.
        has_one_scale: give all panels the same limits, so that distances can be compared.

    Raises:
        ValueError: no columns, or columns with different rows.
    """
    if not columns:
        raise ValueError("columns: there is nothing to compare")
    names = list(columns[0].values)
    for column in columns:
        if list(column.values) != names:
            raise ValueError(f"column {column.title!r}: its rows are not those of the first column")
    means = {c.title: {n: sum(v) / len(v) for n, v in c.values.items()} for c in columns}
    best = ", ".join(f"{max(m, key=m.__getitem__)} in {name}" for name, m in means.items())
    figure, axes = panels(
        1,
        len(columns),
        cell=(3.2, 0.9 + 0.36 * len(names)),
        description=f"{title}, {len(names)} rows compared. Best: {best}.",
    )
    figure.suptitle(title, fontsize=11)
    for place, (column, ax) in enumerate(zip(columns, axes[0], strict=True)):
        _draw(ax, column, means[column.title], PALETTE[1 + place % 3])
        ax.set_yticks(range(len(names)), names if place == 0 else [""] * len(names), fontsize=9)
    if has_one_scale:
        limits = [ax.get_xlim() for ax in axes[0]]
        for ax in axes[0]:
            ax.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    return figure


def _draw(ax: Axes, column: Column, means: Mapping[str, float], color: str) -> None:
    finish_plot(ax, title=column.title)
    best = max(means.values())
    for height, (name, values) in enumerate(column.values.items()):
        mean, half = means[name], column.half_widths.get(name)
        if half is not None:
            ax.plot([mean - half, mean + half], [height, height], color=color, linewidth=1.5)
        if len(values) > 1:
            ax.plot(values, [height] * len(values), "|", color=INK, markersize=7)
        face = color if mean == best else "white"
        ax.plot(mean, height, "o", color=color, markerfacecolor=face, markersize=7)
        settings: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
        ax.annotate(f"{mean:.1f}", (mean, height), (0, 7), **settings)
    ax.set_ylim(len(means) - 0.5, -0.7)  # the first row on top
    ax.margins(x=0.2)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)


DECIDED, OPEN = PALETTE[1], PALETTE[0]


def intervals_figure(
    estimates: Mapping[str, tuple[float, float]],
    *,
    label: str,
    title: str = "",
    truth: float | None = None,
    band: float | None = None,
    band_label: str = "",
) -> DescribedFigure:
    """One row per number: a mark and its interval; the mark is filled if zero lies outside it.

    Args:
        estimates: name -> value and half width of its interval; a half width of 0 draws none, and
            the mark is filled if it lies outside the band.
        label: name of the values, with their unit.
        title: text above the plot.
        truth: value of a dashed line.
        band: half width of a grey band around zero.
        band_label: name of the band in the legend.

    Raises:
        ValueError: no estimates.
    """
    if not estimates:
        raise ValueError("estimates: nothing to draw")
    limit = band or 0.0
    is_decided = {
        name: abs(value) > (half if half > 0 else limit)
        for name, (value, half) in estimates.items()
    }
    told = "; ".join(
        f"{name} {value:+.2f}" + (f" ± {half:.2f}" if half > 0 else "")
        for name, (value, half) in estimates.items()
    )
    figure, ax = one_panel(
        cell=(7.0, 1.0 + 0.19 * len(estimates)),
        description=f"{label}, {sum(is_decided.values())} of {len(estimates)} apart from zero: "
        f"{told}.",
    )
    if band is not None:
        ax.axvspan(-band, band, color="#e3e3e3", label=band_label, zorder=0)
    ax.axvline(0, color=INK, linewidth=0.8)
    if truth is not None:
        ax.axvline(truth, color=INK, linewidth=1, linestyle="--", label="the true difference")
    for height, (name, (value, half)) in enumerate(estimates.items()):
        color = DECIDED if is_decided[name] else OPEN
        if half > 0:
            ax.plot([value - half, value + half], [height, height], color=color, linewidth=1.8)
        face = color if is_decided[name] else "white"
        ax.plot(value, height, "o", color=color, markerfacecolor=face, markersize=5)
    finish_plot(ax, x=label, title=title)
    ax.set_yticks(range(len(estimates)), list(estimates), fontsize=7)
    ax.set_ylim(len(estimates) - 0.4, -0.6)
    if ax.get_legend_handles_labels()[1]:
        legend_below(figure, columns=2)
    return figure
