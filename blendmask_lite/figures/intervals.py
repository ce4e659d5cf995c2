"""Numbers with their intervals around zero: decided ones and others.

Chapter 13 of the course.
"""

from __future__ import annotations

from collections.abc import Mapping

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["intervals_figure"]

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
    """One line a number: a mark and its interval; filled where the interval leaves out zero.

    Args:
        estimates: name -> value and half width of its interval; a half width of 0 draws none, and
            the mark is filled where it lies outside of the band.
        label: of the values, with their unit.
        title: above the figure.
        truth: a dashed line.
        band: half width of a grey band around zero.
        band_label: of the band, for the legend.

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
    figure, axes = panels(
        1,
        1,
        cell=(7.0, 1.0 + 0.19 * len(estimates)),
        description=f"{label}, {sum(is_decided.values())} of {len(estimates)} apart from zero: "
        f"{told}.",
    )
    ax = axes[0, 0]
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
    ax.set_yticks(range(len(estimates)), list(estimates), fontsize=7)
    ax.set_ylim(len(estimates) - 0.4, -0.6)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel(label, fontsize=8)
    ax.set_title(title, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[1]:
        figure.legend(fontsize=8, ncols=2, frameon=False, loc="outside lower center")
    return figure
