"""How trainings went: losses, learning rate and scores over the iterations, runs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import PALETTE

__all__ = ["curves_figure", "smooth"]

COLUMNS = 4
DASHES = ("-", "--", ":", "-.")  # of the first six runs, the next six, ...

Table = Mapping[str, Sequence[float]]


def curves_figure(
    steps: Mapping[str, Table],
    evaluations: Mapping[str, Table],
    *,
    losses: Sequence[str],
    window: int | None = None,
) -> DescribedFigure:
    """One panel a loss, one for the learning rate and one for AP; a colour a run.

    The pale lines are single steps, the strong ones their moving average.

    Args:
        steps: run -> columns "iteration", "learning_rate" and the losses; a run without some of
            them has no line there.
        evaluations: run -> columns "iteration", "mask AP" and "box AP", for the runs that have
            such; percent.
        losses: columns to draw, in this order.
        window: steps of the average; without, a fiftieth of the longest run.

    Raises:
        ValueError: no runs.
    """
    if not steps:
        raise ValueError("steps: no runs to draw")
    longest = max(len(table.get("iteration", ())) for table in steps.values())
    window = max(1, longest // 50) if window is None else window
    names = [*losses, "learning_rate", "AP"]
    rows = math.ceil(len(names) / COLUMNS)
    columns = min(COLUMNS, len(names))
    figure, grid = panels(
        rows,
        columns,
        cell=(3.1, 2.4),
        description=f"Curves of {', '.join(steps)}: {', '.join(names)} over the iterations.",
    )
    axes = dict(zip(names, grid.flat, strict=False))
    for empty in list(grid.flat)[len(names) :]:
        empty.set_axis_off()
    for place, (run, table) in enumerate(steps.items()):
        style = {
            "color": PALETTE[place % len(PALETTE)],
            "linestyle": DASHES[place // len(PALETTE) % len(DASHES)],
        }
        for name in losses:
            _draw_loss(axes[name], table, name, window, style)
        _draw(axes["learning_rate"], table, "learning_rate", style)
        scores = evaluations.get(run, {})
        _draw(axes["AP"], scores, "mask AP", {**style, "marker": "o", "markersize": 3})
        pale = {**style, "alpha": 0.5, "marker": "s", "markersize": 3}
        _draw(axes["AP"], scores, "box AP", pale)
        axes[names[0]].plot([], [], label=run, **style)
    for name, ax in axes.items():
        _finish(ax, name)
    axes["AP"].set_ylabel("percent", fontsize=8)
    axes["AP"].set_title("AP: mask strong, box pale", fontsize=9)
    figure.legend(loc="outside upper left", fontsize=8, ncols=min(4, len(steps)), frameon=False)
    average = f"strong: mean over {window} iterations" if window > 1 else "single iterations"
    figure.supxlabel(f"iterations ({average})", fontsize=8)
    return figure


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Moving average over the last `window` values, over fewer at the beginning.

    Values that are not finite are left out; where a window holds none, the result is NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    is_finite = np.isfinite(numbers)
    sums = np.cumsum(np.where(is_finite, numbers, 0.0))
    counts = np.cumsum(is_finite).astype(np.float64)
    for each in (sums, counts):
        each[window:] = each[window:] - each[:-window]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_loss(ax: Axes, table: Table, name: str, window: int, style: dict[str, Any]) -> None:
    if name not in table:
        return
    if window > 1:
        ax.plot(table["iteration"], table[name], color=style["color"], alpha=0.15, linewidth=0.6)
    ax.plot(table["iteration"], smooth(table[name], window), linewidth=1.3, **style)


def _draw(ax: Axes, table: Table, name: str, style: dict[str, Any]) -> None:
    if name in table:
        ax.plot(table["iteration"], table[name], linewidth=1.3, **style)


def _finish(ax: Axes, name: str) -> None:
    ax.set_title(name.replace("_", " "), fontsize=9)
    ax.tick_params(labelsize=7)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(left=0)
    low, high = _limits(ax)
    if low < high:
        ax.set_ylim(low, high)


def _limits(ax: Axes) -> tuple[float, float]:
    """From zero to the largest value, but a single step's peak does not squeeze the rest."""
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in ax.lines]
    values = np.concatenate([line[np.isfinite(line)] for line in lines]) if lines else np.array([])
    return (0.0, 1.08 * float(np.percentile(values, 99.5))) if len(values) else (0.0, 0.0)
