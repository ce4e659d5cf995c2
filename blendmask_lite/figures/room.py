"""Scores and guesses of a whole room of students, in one figure.

Chapter 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from matplotlib.ticker import MaxNLocator

from blendmask_lite.figures.style import INK, PALETTE, DescribedFigure, finish_plot, panels

__all__ = ["room_figure"]

ROW = 0.2  # height of a student's row, inches
LIFT = 0.16  # distance of guesses of the same value, which are drawn one above the other


def room_figure(
    scores: Mapping[str, float],
    guesses: Mapping[str, Sequence[float]],
    truths: Mapping[str, float] | None = None,
) -> DescribedFigure:
    """One panel with a row per run, from the worst to the best, and one panel per question.

    Args:
        scores: name of a run -> its score. A line marks the mean, and a grey band one standard
            deviation on both sides of it if there are at least two runs.
        guesses: question -> the guesses of those who answered it.
        truths: question -> what was measured; questions without an answer may be missing.

    Raises:
        ValueError: there is neither a score nor a guess.
    """
    asked = {question: sorted(values) for question, values in guesses.items() if values}
    if not scores and not asked:
        raise ValueError("neither scores nor guesses: nothing to draw")
    ordered = sorted(scores.items(), key=lambda item: (item[1], item[0]))
    heights = [0.9 + ROW * len(ordered)] if ordered else []
    heights += [1.1] * len(asked)
    figure, axes = panels(
        len(heights), 1, cell=(7.0, sum(heights) / len(heights)), description=_told(scores, asked)
    )
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    places = list(axes[:, 0])
    if ordered:
        ax = places.pop(0)
        values = [value for _, value in ordered]
        if len(values) > 1:
            middle, spread = mean(values), stdev(values)
            ax.axvspan(middle - spread, middle + spread, color="#e3e3e3", zorder=0)
            ax.axvline(middle, color=INK, linewidth=1)
        ax.plot(values, range(len(values)), "o", color=PALETTE[1], markersize=5)
        ax.set_yticks(range(len(values)), [name for name, _ in ordered], fontsize=7)
        ax.set_ylim(-0.6, len(values) - 0.4)
        finish_plot(ax, x="mask AP, percent", title="Line: the mean. Grey: one standard deviation.")
    for ax, (question, numbers) in zip(places, asked.items(), strict=True):
        lifts = [LIFT * numbers[:place].count(value) for place, value in enumerate(numbers)]
        ax.plot(numbers, lifts, "o", color=PALETTE[2], markersize=5, alpha=0.8)
        if truths and question in truths:
            ax.axvline(truths[question], color=PALETTE[3], linewidth=1.8)
        if all(float(number).is_integer() for number in numbers):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_yticks([])
        ax.set_ylim(-LIFT, max(0.8, max(lifts) + LIFT))
        finish_plot(ax, x=question)
        ax.spines["left"].set_visible(False)
    if asked:
        places[0].set_title("Guesses, and as a green line what was measured", fontsize=9)
    return figure


def _told(scores: Mapping[str, float], asked: Mapping[str, Sequence[float]]) -> str:
    parts = []
    if scores:
        values = list(scores.values())
        parts.append(f"{len(values)} runs from {min(values):.1f} to {max(values):.1f}")
    for question, numbers in asked.items():
        most = max(numbers)
        parts.append(f"{question}: {len(numbers)} guesses from {min(numbers):g} to {most:g}")
    return "; ".join(parts) + "."
