"""Any curves on common axes: what a cell of a notebook just measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FormatStrFormatter, NullLocator

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["lines_figure"]

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
    """One line a curve, told apart by its colour, and by its marker where there are marks.

    Args:
        curves: x and y by name, as many of each.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        title: above.
        is_log: both axes are logarithmic; every x has a tick, so they should be few.
        levels: heights by name that are drawn as dashed lines.
        has_markers: a mark at every point; False for curves of many.

    Raises:
        ValueError: no curves.
    """
    if not curves:
        raise ValueError("curves: an empty dict; at least one curve is needed")
    ends = "; ".join(
        f"{name} from {ys[0]:.3g} to {ys[-1]:.3g}" for name, (_, ys) in curves.items() if len(ys)
    )
    told = "".join(f"; {name} {value:.3g}" for name, value in (levels or {}).items())
    figure, axes = panels(
        1, 1, cell=(6.4, 3.4), description=f"{y_label} over {x_label}: {ends}{told}."
    )
    ax = axes[0, 0]
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
    ax.set_xlabel(x_label, fontsize=8)
    ax.set_ylabel(y_label, fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(fontsize=8, frameon=False)
    if title:
        ax.set_title(title, fontsize=9)
    return figure
