"""What several ways to do the same cost: a panel for each measure, a bar for each way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["cost_bars_figure"]

WIDEST = 9.0  # inches


def cost_bars_figure(
    measures: Mapping[str, Mapping[str, float]],
    *,
    title: str = "",
    logarithmic: Sequence[str] = (),
) -> DescribedFigure:
    """Horizontal bars from zero with their numbers; the largest of each measure is filled darker.

    Args:
        measures: measure with its unit -> row -> number, at least one; all with the same rows.
        title: above all of them.
        logarithmic: measures whose axis counts powers of ten; their numbers must be above 0.

    Raises:
        ValueError: no measures, no rows, or measures with different rows.
    """
    rows = list(next(iter(measures.values()), ()))
    if not rows or any(list(each) != rows for each in measures.values()):
        raise ValueError("measures: at least one is needed, all with the same rows")
    described = "; ".join(
        f"{name}: " + ", ".join(f"{row} {_short(value)}" for row, value in each.items())
        for name, each in measures.items()
    )
    width = min(2.9, WIDEST / len(measures))
    figure, axes = panels(
        1,
        len(measures),
        cell=(width, 0.9 + 0.32 * len(rows)),
        description=f"{title or 'Costs'}. {described}.",
    )
    for place, (ax, (name, each)) in enumerate(zip(axes[0], measures.items(), strict=True)):
        _draw(ax, list(each.values()), is_logarithmic=name in logarithmic)
        ax.set_yticks(range(len(rows)), rows if place == 0 else [""] * len(rows), fontsize=8)
        ax.set_xlabel(name, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw(ax: Axes, values: Sequence[float], *, is_logarithmic: bool) -> None:
    largest = max(values)
    colors = [PALETTE[1] if value == largest else PALETTE[5] for value in values]
    ax.barh(range(len(values)), values, color=colors, height=0.65, log=is_logarithmic)
    for height, value in enumerate(values):
        ax.annotate(
            _short(value),
            (value, height),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK,
        )
    ax.set_ylim(len(values) - 0.4, -0.6)  # the first row on top
    if is_logarithmic:
        ax.set_xlim(right=largest * (largest / min(values)) ** 0.5)
    else:
        ax.set_xlim(0, 1.32 * largest or 1)
        ax.locator_params(axis="x", nbins=4)
    ax.tick_params(labelsize=7)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    """Three digits, without an exponent: 0.0123, 7.94, 118, 22,400."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
