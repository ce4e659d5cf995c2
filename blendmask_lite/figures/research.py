"""Scores and effects of the bases, the parts that cost IoU, and the computing cost of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from blendmask_lite.figures.plots import lines_figure
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    base_color,
    described_figure,
    draw_base,
    draw_text,
    finish_plot,
    legend_below,
    one_panel,
    panels,
    text_on,
    usual_magnitude,
)

__all__ = [
    "basis_scores_figure",
    "cost_bars_figure",
    "dots_figure",
    "growth_figure",
    "knock_out_figure",
    "stages_figure",
]

MOST_MAPS = 6


class _ScoredBases(Protocol):
    """Scores of K bases, as `research.score_bases` gives them."""

    @property
    def object_auc(self) -> Tensor: ...  # (K,) 0 to 1
    @property
    def depth(self) -> Tensor: ...  # (K,) -1 to 1, like x and y
    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def mean_crops(self) -> Tensor: ...  # (K, R, R)


def basis_scores_figure(
    scores: _ScoredBases, *, untrained: Sequence[_ScoredBases] = (), title: str = ""
) -> DescribedFigure:
    """Scores of each base: its mean over objects above, its four scores below.

    Args:
        scores: scores of K bases; the mean maps of the first six are drawn.
        untrained: scores of untrained networks; the grey band covers all of their bases.
        title: text above all panels.
    """
    columns = (scores.object_auc, scores.depth, scores.x, scores.y)
    told = [
        f"base {k}: object AUC {auc:.2f}, correlation with depth {depth:+.2f}, "
        f"x {x:+.2f}, y {y:+.2f}"
        for k, (auc, depth, x, y) in enumerate(torch.stack(columns, dim=1).tolist(), start=1)
    ]
    shown = scores.mean_crops[:MOST_MAPS]
    figure = described_figure(
        (6.9, 3.4), f"{title or 'Scores'} of {len(told)} bases: {'; '.join(told)}."
    )
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(1.15, 1)))
    limit = usual_magnitude(shown)
    maps = above.subplots(1, len(shown), squeeze=False)[0]
    for index, ax in enumerate(maps):
        draw_base(ax, shown[index], index, limits=limit)
    maps[0].set_ylabel(f"mean over objects\nlogits, ±{limit:.2g}", fontsize=8)
    kinds = (
        ("object_auc", "object or background\nAUC", (0.0, 1.0), 0.5),
        ("depth", "border - or inside +\ncorrelation", (-1.0, 1.0), 0.0),
        ("x", "left - to right +\ncorrelation", (-1.0, 1.0), 0.0),
        ("y", "up - to down +\ncorrelation", (-1.0, 1.0), 0.0),
    )
    for ax, (name, label, limits, zero) in zip(below.subplots(1, 4), kinds, strict=True):
        null = torch.stack([getattr(one, name) for one in untrained]) if untrained else None
        _bars(ax, getattr(scores, name), limits, zero, null)
        ax.set_title(label, fontsize=8)
    if untrained:
        networks = "network" if len(untrained) == 1 else "networks"
        note = f"grey: all bases of {len(untrained)} untrained {networks}"
        figure.supxlabel(note, fontsize=7, color="#555555")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def knock_out_figure(changes: Mapping[str, Tensor], *, baseline: float) -> DescribedFigure:
    """The change of mask AP when one base is changed.

    Args:
        changes: (K,) percentage points, by the change made to the base, such as "base times 0".
        baseline: mask AP of the model as it is, percent.

    Raises:
        ValueError: nothing to draw.
    """
    if not changes:
        raise ValueError("changes: an empty dict; at least one kind is needed")
    told = "; ".join(
        f"{name}: " + ", ".join(f"{value:+.1f}" for value in values.tolist())
        for name, values in changes.items()
    )
    num_bases = max(map(len, changes.values()))
    figure, axes = panels(
        1,
        len(changes),
        cell=(2.6, 0.95 + 0.26 * num_bases),
        description=f"Mask AP of {baseline:.1f} changes, base by base: {told}.",
    )
    lowest, highest = torch.cat(list(changes.values())).aminmax()
    limits = (min(float(lowest) * 1.3, -1.0), max(float(highest) * 1.3, 1.0))
    for place, (ax, (name, values)) in enumerate(zip(axes[0], changes.items(), strict=True)):
        _bars(ax, values, limits, 0.0, None, digits=1)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("change of mask AP, points", fontsize=8)
        if place:
            ax.set_yticklabels([])
    figure.suptitle(f"mask AP {baseline:.1f} %", fontsize=9)
    return figure


def dots_figure(
    panels_of: Mapping[str, Mapping[str, Mapping[str, Tensor]]], *, title: str = ""
) -> DescribedFigure:
    """Means as dots with their intervals as lines: rows to compare, series of a row side by side.

    Panels stand below each other, so their numbers can be read in a narrow window, too.

    Args:
        panels_of: label of a panel's x axis, with its unit -> row -> series -> (3,) mean and ends
            of its interval. A series has the same colour in all panels. If each row has only one,
            the means are written.
        title: text above all panels.

    Raises:
        ValueError: nothing to draw.
    """
    if not panels_of or not all(panels_of.values()):
        raise ValueError("panels_of: at least one panel with one row is needed")
    names = list(dict.fromkeys(n for rows in panels_of.values() for r in rows.values() for n in r))
    colors = {name: PALETTE[(place + 1) % len(PALETTE)] for place, name in enumerate(names)}
    told = "; ".join(
        f"{label}: "
        + ", ".join(
            f"{row} {name} {mean:.3f} ({low:.3f} to {high:.3f})".replace("  ", " ")
            for row, series in rows.items()
            for name, (mean, low, high) in ((n, v.tolist()) for n, v in series.items())
        )
        for label, rows in panels_of.items()
    )
    heights = [0.5 + 0.3 * len(rows) for rows in panels_of.values()]
    figure = described_figure((6.4, 0.6 + sum(heights)), f"{told}.")
    axes = figure.subplots(len(panels_of), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (label, rows) in zip(axes, panels_of.items(), strict=True):
        is_single = all(len(series) == 1 for series in rows.values())
        for height, series in enumerate(rows.values()):
            for place, (name, values) in enumerate(series.items()):
                mean, low, high = values.tolist()
                y = height + 0.18 * (place - (len(series) - 1) / 2)
                ax.plot([low, high], [y, y], color=colors[name], linewidth=1.8)
                ax.plot(mean, y, "o", color=colors[name], markersize=4.5)
                if is_single:
                    draw_text(ax, high, y, f"  {mean:.3f}", size=7, ha="left", color=INK)
        ax.set_yticks(range(len(rows)), list(rows), fontsize=7.5)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.margins(x=0.14)
        ax.grid(axis="x", color="#dddddd", linewidth=0.6)
        low, high = ax.get_xlim()
        if low < 0 < high:
            ax.axvline(0, color=INK, linewidth=0.8)
        finish_plot(ax, x=label, ticks=7)
        ax.tick_params(axis="y", labelsize=7.5)
    if len(names) > 1:
        marks = [
            Line2D([], [], color=colors[n], marker="o", markersize=4.5, label=n) for n in names
        ]
        legend_below(figure, columns=len(names), size=7.5, handles=marks)
    if len(axes) == 1:
        axes[0].set_title(title, fontsize=9)
    elif title:
        figure.suptitle(title, fontsize=9)
    return figure


def _bars(
    ax: Axes,
    values: Tensor,
    limits: tuple[float, float],
    zero: float,
    null: Tensor | None,
    *,
    digits: int = 2,
) -> None:
    """One bar per base, in its colour, starting at `zero`, with the first base on top."""
    num_bases = len(values)
    if null is not None:
        ax.axvspan(float(null.min()), float(null.max()), color="#e4e4e4", zorder=0)
    ax.axvline(zero, color=INK, linewidth=0.8)
    is_few = num_bases <= 12
    for row, value in enumerate(values.tolist()):
        ax.barh(row, value - zero, left=zero, color=base_color(row), height=0.7)
        if is_few:
            number = f"{value:.{digits}f}" if zero else f"{value:+.{digits}f}"
            side = "left" if value >= zero else "right"
            draw_text(ax, value, row, f" {number} ", size=7, ha=side, color=INK)
    room = 0.6 * (limits[1] - limits[0]) * is_few * (zero == 0)
    ax.set_xlim(limits[0] - room / 2, limits[1] + room / 2)
    ax.set_ylim(num_bases - 0.4, -0.6)
    names = [f"base {row + 1}" if is_few else "" for row in range(num_bases)]
    ax.set_yticks(range(num_bases) if is_few else [], names if is_few else [])
    finish_plot(ax, ticks=7)


NARROW = 0.06  # share of the longest bar below which a part gets no number
HATCHES = ("", "///")  # patterns of the first six stages, and of the next six


def stages_figure(
    costs: Mapping[str, Mapping[str, float]], *, unit: str, title: str = ""
) -> DescribedFigure:
    """One bar per row, divided into its stages.

    Args:
        costs: row -> stage -> cost, the same stages in every row.
        unit: unit of the costs.
        title: text above the bars.

    Raises:
        ValueError: no rows, or rows of different stages.
    """
    if not costs:
        raise ValueError("costs: no rows to draw")
    names = list(next(iter(costs.values())))
    for row, stages in costs.items():
        if list(stages) != names:
            raise ValueError(f"row {row!r}: its stages are not those of the first row")
    totals = {row: sum(stages.values()) for row, stages in costs.items()}
    told = "; ".join(
        f"{row} {totals[row]:.3g}, of it "
        + ", ".join(f"{name} {value:.2g}" for name, value in stages.items())
        for row, stages in costs.items()
    )
    figure, ax = one_panel(
        cell=(7.6, 1.2 + 0.45 * len(costs)), description=f"Costs in {unit}: {told}."
    )
    longest = max(totals.values())
    left = dict.fromkeys(costs, 0.0)
    for place, name in enumerate(names):
        color = PALETTE[place % len(PALETTE)]
        hatch = HATCHES[place // len(PALETTE) % len(HATCHES)]
        values = [stages[name] for stages in costs.values()]
        style: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white"}
        ax.barh(list(costs), values, left=list(left.values()), label=name, linewidth=0.5, **style)
        for y, (row, value) in enumerate(zip(costs, values, strict=True)):
            if value > NARROW * longest:
                middle, ink = left[row] + value / 2, text_on(color)
                draw_text(ax, middle, y, f"{value:.3g}", color=ink)
            left[row] += value
    for y, total in enumerate(totals.values()):
        draw_text(ax, total + 0.01 * longest, y, f"{total:.3g}", ha="left")
    ax.set_xlim(0, 1.1 * longest)
    ax.invert_yaxis()
    finish_plot(ax, x=unit, title=title)
    legend_below(figure, columns=min(len(names), 4))
    return figure


def growth_figure(
    costs: Mapping[str, Mapping[int, float]], *, label: str, title: str = ""
) -> DescribedFigure:
    """Cost over the number of objects, one line per method.

    Args:
        costs: method -> objects -> cost.
        label: name of the costs, with their unit.
        title: text above the lines.
    """
    curves = {name: (list(method), list(method.values())) for name, method in costs.items()}
    figure = lines_figure(curves, x_label="objects in the picture", y_label=label, title=title)
    largest = max(max(method.values()) for method in costs.values())
    figure.axes[0].set_ylim(0, 1.08 * largest)  # growth is visible only against zero
    return figure


WIDEST = 9.0  # inches


def cost_bars_figure(
    measures: Mapping[str, Mapping[str, float]], *, title: str = "", logarithmic: Sequence[str] = ()
) -> DescribedFigure:
    """Horizontal bars from zero, with their numbers; the largest bar of each measure is darker.

    Args:
        measures: measure with its unit -> row -> number; at least one, and all with the same rows.
        title: text above all panels.
        logarithmic: measures with a logarithmic axis; their numbers must be above 0.

    Raises:
        ValueError: no measures, no rows, or measures with different rows.
    """
    rows = list(next(iter(measures.values()), ()))
    if not rows or any(list(values) != rows for values in measures.values()):
        raise ValueError("measures: at least one is needed, all with the same rows")
    described = "; ".join(
        f"{name}: " + ", ".join(f"{row} {_short(value)}" for row, value in values.items())
        for name, values in measures.items()
    )
    figure, axes = panels(
        1,
        len(measures),
        cell=(min(2.9, WIDEST / len(measures)), 0.9 + 0.32 * len(rows)),
        description=f"{title or 'Costs'}. {described}.",
        title=title,
    )
    for place, (ax, (name, values)) in enumerate(zip(axes[0], measures.items(), strict=True)):
        finish_plot(ax, x=name, ticks=7)
        _draw(ax, list(values.values()), is_logarithmic=name in logarithmic)
        ax.set_yticks(range(len(rows)), rows if place == 0 else [""] * len(rows), fontsize=8)
    return figure


def _draw(ax: Axes, values: Sequence[float], *, is_logarithmic: bool) -> None:
    largest = max(values)
    colors = [PALETTE[1] if value == largest else PALETTE[5] for value in values]
    ax.barh(range(len(values)), values, color=colors, height=0.65, log=is_logarithmic)
    settings: dict[str, Any] = {"va": "center", "fontsize": 7.5, "color": INK}
    for height, value in enumerate(values):
        place = (value, height)
        ax.annotate(_short(value), place, (3, 0), textcoords="offset points", **settings)
    ax.set_ylim(len(values) - 0.4, -0.6)  # the first row on top
    if is_logarithmic:
        ax.set_xlim(right=largest * (largest / min(values)) ** 0.5)
    else:
        ax.set_xlim(0, 1.32 * largest or 1)
        ax.locator_params(axis="x", nbins=4)
    ax.tick_params(axis="y", length=0)


def _short(value: float) -> str:
    """Three digits, without an exponent: 0.0123, 7.94, 118, 22,400."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
