"""Panoptic quality class by class, with its two factors.

Chapter 14 of the course. Kirillov et al., "Panoptic Segmentation", section 4.2.
"""

from __future__ import annotations

from matplotlib.patches import Patch

from blendmask_lite.evaluation.panoptic_quality import PanopticQuality
from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["panoptic_quality_figure"]

THING_COLOR, STUFF_COLOR = PALETTE[1], PALETTE[3]


def panoptic_quality_figure(
    quality: PanopticQuality, *, max_classes: int = 40, title: str = ""
) -> DescribedFigure:
    """A bar a class by falling PQ, with a mark each for SQ and RQ; PQ is their product.

    Args:
        quality: of an evaluation.
        max_classes: bars at most; of more classes the best and the worst half are shown.
        title: above the bars; without it the averages.
    """
    parts = ((quality.thing_classes, THING_COLOR), (quality.stuff_classes, STUFF_COLOR))
    rows = [
        (name, counts.quality, color)
        for classes, color in parts
        for name, counts in classes.items()
        if counts.occurs
    ]
    rows.sort(key=lambda row: -row[1]["PQ"])
    left_out = max(0, len(rows) - max_classes)
    if left_out:
        rows = rows[: (max_classes + 1) // 2] + rows[len(rows) - max_classes // 2 :]
    told = ", ".join(f"{name} {values['PQ']:.1f}" for name, values, _ in rows) or "no class"
    figure, axes = panels(
        1,
        1,
        cell=(6.4, 1.2 + 0.22 * max(len(rows), 1)),
        description=f"Panoptic quality by class, percent: {told}.",
    )
    ax = axes[0, 0]
    for y, (_, values, color) in enumerate(rows):
        ax.barh(y, values["PQ"], color=color, height=0.7)
        ax.text(
            1.01, y, f"{values['PQ']:.1f}", fontsize=7, va="center",
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip
    places = range(len(rows))
    marks = [
        ax.plot([each["SQ"] for _, each, _ in rows], places, "|", color=INK, markersize=8)[0],
        ax.plot([each["RQ"] for _, each, _ in rows], places, "x", color=INK, markersize=4)[0],
    ]
    ax.set_yticks(places, [name for name, _, _ in rows], fontsize=7)
    ax.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    ax.set_xlim(0, 104)
    ax.set_xlabel("%", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    bars = [Patch(color=THING_COLOR), Patch(color=STUFF_COLOR)]
    words = ["PQ of things", "PQ of stuff", "SQ: IoU of matches", "RQ: F1 of segments"]
    figure.legend(
        [*bars, *marks], words, fontsize=7, ncols=4, frameon=False, loc="outside lower center"
    )
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if not title:
        averages = (("all", quality.all), ("things", quality.things), ("stuff", quality.stuff))
        title = "PQ: " + ", ".join(f"{name} {part['PQ']:.1f}" for name, part in averages)
    if left_out:
        title += f"\n{left_out} classes between the best and the worst are left out"
    ax.set_title(title, fontsize=9)
    return figure
