"""Average precision by the size of objects, and the kinds of mistakes, as bars.

Chapter 05 of the course.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes

from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import PALETTE, text_on

__all__ = ["ap_bars_figure", "mistakes_figure"]

# What the bars are of, in words; of the numbers that an evaluation has, those that are here.
BARS = {
    "AP": "all",
    "AP50": "IoU 0.5",
    "AP75": "IoU 0.75",
    "APS": "small\n< 32²",
    "APM": "medium\n32² to 96²",
    "APL": "large\n> 96²",
    "APr": "rare\nclasses",
    "APc": "common\nclasses",
    "APf": "frequent\nclasses",
}
KIND_COLORS = {"mask": PALETTE[1], "box": PALETTE[5]}
RIGHT_COLOR, WRONG_COLOR = PALETTE[1], PALETTE[0]
MISTAKE_COLORS = (RIGHT_COLOR, PALETTE[2], PALETTE[4], PALETTE[5], WRONG_COLOR)


def ap_bars_figure(
    numbers: Mapping[str, Mapping[str, float]], *, title: str = ""
) -> DescribedFigure:
    """AP of all objects, at two IoU thresholds, by size, and on LVIS by how common a class is.

    Args:
        numbers: for "mask", "box" or both, percent by name; NaN has no bar.
        title: above the bars.
    """
    names = [each for each in BARS if any(each in part for part in numbers.values())]
    told = [
        f"{kind} {name} {part[name]:.1f}"
        for kind, part in numbers.items()
        for name in names
        if not math.isnan(part[name])
    ]
    figure, axes = panels(
        1,
        1,
        cell=(1.2 + 0.85 * len(names), 3.2),
        description=f"Average precision in percent: {', '.join(told) or 'none'}.",
    )
    ax = axes[0, 0]
    width = 0.8 / len(numbers)
    for place, (kind, part) in enumerate(numbers.items()):
        for x, name in enumerate(names):
            left = x + (place - (len(numbers) - 1) / 2) * width
            value = part[name]
            if math.isnan(value):
                ax.text(left, 0, "no\nobject", ha="center", va="bottom", fontsize=6)
                continue
            ax.bar(left, value, width * 0.95, color=KIND_COLORS[kind], label=kind)
            ax.text(left, value, f"{value:.1f}", ha="center", va="bottom", fontsize=7)
    ax.set_xticks(range(len(names)), [BARS[name] for name in names], fontsize=8)
    ax.set_xlabel("objects; sizes are areas in pixels", fontsize=8)
    ax.set_ylabel("average precision, %", fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_ylim(0, 105)
    by_kind = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if by_kind:
        ax.legend(by_kind.values(), by_kind, fontsize=8, frameon=False, ncols=2, loc="upper right")
    _bare(ax)
    if title:
        ax.set_title(title, fontsize=9)
    return figure


def mistakes_figure(
    outcomes: Mapping[str, Mapping[str, int]], *, score_threshold: float, title: str = ""
) -> DescribedFigure:
    """What became of all detections and of all true objects, as shares of two bars.

    Args:
        outcomes: {"found": {outcome: number}, "true": {outcome: number}}, as `count_outcomes`
            gives them.
        score_threshold: least score of the detections.
        title: above the bars.
    """
    rows = {
        f"detections\nwith a score\nof {score_threshold:g} or more": outcomes["found"],
        "true objects": outcomes["true"],
    }
    told = "; ".join(
        ", ".join(f"{number} {name}" for name, number in row.items()) for row in rows.values()
    )
    figure, axes = panels(
        1, 1, cell=(7.2, 2.6), description=f"Detections and true objects by outcome: {told}."
    )
    ax = axes[0, 0]
    for y, row in enumerate(rows.values()):
        total, left = sum(row.values()), 0.0
        colors = MISTAKE_COLORS if y == 0 else (RIGHT_COLOR, WRONG_COLOR)
        for number, color in zip(row.values(), colors, strict=True):
            share = 100 * number / total if total else 0.0
            ax.barh(y, share, left=left, color=color, edgecolor="white", height=0.55)
            if share >= 6:
                text = f"{share:.0f} %"
                ax.text(
                    left + share / 2, y, text, ha="center", va="center", fontsize=8,
                    color=text_on(color),
                )  # fmt: skip
            left += share
        words = [f"{name} {number}" for name, number in row.items()]
        _legend_below(ax, y, words, colors)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.5)
    ax.set_xlim(0, 100)
    ax.set_xlabel("share, %", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    _bare(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if title:
        ax.set_title(title, fontsize=9)
    return figure


def _legend_below(ax: Axes, y: int, words: list[str], colors: tuple[str, ...]) -> None:
    """The names of a bar's parts under it, each behind a square of its colour."""
    for place, (word, color) in enumerate(zip(words, colors, strict=False)):
        x = 100 * place / len(words)
        ax.plot(x + 1, y + 0.4, "s", color=color, markersize=6)
        ax.text(x + 2.5, y + 0.4, word, fontsize=7, va="center")


def _bare(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
