"""Rows of a table side by side: a value, its interval and what every run gave.

Chapter 13 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blendmask_lite.figures.layout import panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["Column", "compare_rows", "compare_times"]


@dataclass(frozen=True)
class Column:
    """One panel of the comparison.

    Attributes:
        title: with its unit.
        values: row -> values, one a run; their mean is the large mark.
        half_widths: row -> half the width of the interval around the mean, where there is one.
    """

    title: str
    values: Mapping[str, Sequence[float]]
    half_widths: Mapping[str, float | None]


def compare_rows(columns: Sequence[Column], *, title: str) -> Figure:
    """Every row at its height, every column in its panel; the best row of each is filled.

    Args:
        columns: at least one, all with the same rows in the same order.
        title: over the figure.

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
    best = ", ".join(f"{max(each, key=each.__getitem__)} in {t}" for t, each in means.items())
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
    return figure


def compare_times(times: Mapping[str, Mapping[int, float]], *, title: str) -> Figure:
    """Milliseconds over the number of objects, one line a model.

    Args:
        times: model -> objects -> milliseconds.
        title: over the figure.
    """
    ends = "; ".join(
        f"{name} from {each[min(each)]:.0f} to {each[max(each)]:.0f} ms"
        for name, each in times.items()
    )
    figure, axes = panels(1, 1, cell=(5.0, 3.2), description=f"{title}. {ends}.")
    ax: Axes = axes[0, 0]
    for place, (name, each) in enumerate(times.items()):
        ax.plot(list(each), list(each.values()), "o-", color=PALETTE[place], label=name)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("objects in the picture")
    ax.set_ylabel("CPU time, ms")
    ax.set_title(title, fontsize=10)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw(ax: Axes, column: Column, means: Mapping[str, float], color: str) -> None:
    best = max(means.values())
    for height, (name, values) in enumerate(column.values.items()):
        mean, half = means[name], column.half_widths.get(name)
        if half is not None:
            ax.plot([mean - half, mean + half], [height, height], color=color, linewidth=1.5)
        if len(values) > 1:
            ax.plot(values, [height] * len(values), "|", color=INK, markersize=7)
        face = color if mean == best else "white"
        ax.plot(mean, height, "o", color=color, markerfacecolor=face, markersize=7)
        ax.annotate(
            f"{mean:.1f}",
            (mean, height),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    ax.set_ylim(len(means) - 0.5, -0.7)  # the first row on top
    ax.margins(x=0.2)
    ax.set_title(column.title, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
