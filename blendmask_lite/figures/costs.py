"""What a picture and its objects cost: stages as stacked bars, growth as lines.

Chapter 14 of the course. BlendMask, section 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.lines import lines_figure
from blendmask_lite.figures.palette import PALETTE, text_on

__all__ = ["growth_figure", "stages_figure"]

NARROW = 0.06  # share of the longest bar below which a part has no number in it
HATCHES = ("", "///")  # of the first six stages, and of the next six


def stages_figure(
    costs: Mapping[str, Mapping[str, float]], *, unit: str, title: str = ""
) -> DescribedFigure:
    """A bar for each row, divided into its stages.

    Args:
        costs: row -> stage -> cost, the same stages in every row.
        unit: of the costs.
        title: above the bars.

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
    figure, axes = panels(
        1, 1, cell=(7.6, 1.2 + 0.45 * len(costs)), description=f"Costs in {unit}: {told}."
    )
    ax = axes[0, 0]
    longest = max(totals.values())
    left = dict.fromkeys(costs, 0.0)
    for place, name in enumerate(names):
        color = PALETTE[place % len(PALETTE)]
        hatch = HATCHES[place // len(PALETTE) % len(HATCHES)]
        values = [stages[name] for stages in costs.values()]
        ax.barh(
            list(costs), values, left=list(left.values()), label=name,
            color=color, hatch=hatch, edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        for row, value in zip(costs, values, strict=True):
            if value > NARROW * longest:
                middle = left[row] + value / 2
                ax.text(
                    middle, row, f"{value:.3g}", ha="center", va="center", fontsize=8,
                    color=text_on(color),
                )  # fmt: skip
            left[row] += value
    for row, total in totals.items():
        ax.text(total + 0.01 * longest, row, f"{total:.3g}", va="center", fontsize=8)
    ax.set_xlim(0, 1.1 * longest)
    ax.invert_yaxis()
    ax.set_xlabel(unit, fontsize=8)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, fontsize=9)
    figure.legend(fontsize=8, ncols=min(len(names), 4), frameon=False, loc="outside lower center")
    return figure


def growth_figure(
    costs: Mapping[str, Mapping[int, float]], *, label: str, title: str = ""
) -> DescribedFigure:
    """Cost over the number of objects, one line a method.

    Args:
        costs: method -> objects -> cost.
        label: of the costs, with their unit.
        title: above the lines.
    """
    curves = {name: (list(each), list(each.values())) for name, each in costs.items()}
    figure = lines_figure(curves, x_label="objects in the picture", y_label=label, title=title)
    largest = max(max(each.values()) for each in costs.values())
    figure.axes[0].set_ylim(0, 1.08 * largest)  # flat or not is seen against nothing
    return figure
