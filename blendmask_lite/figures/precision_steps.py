"""A precision-recall curve as it comes about, detection by detection.

Chapter 05. The area below the envelope is average precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from blendmask_lite.evaluation.one_class import COCO_RECALLS, average_precision, precision_recall
from blendmask_lite.figures.layout import DescribedFigure, panels
from blendmask_lite.figures.palette import INK, PALETTE

__all__ = ["precision_steps_figure"]

RIGHT, WRONG = PALETTE[1], PALETTE[0]


def precision_steps_figure(
    is_right: Tensor, num_objects: int, *, steps: Sequence[int], title: str = ""
) -> DescribedFigure:
    """One panel for the best 1, 5, 20 ... detections: a mark each, and the envelope.

    Args:
        is_right: (D,) bool, by falling score: whether each found a new object.
        num_objects: true ones, at least 1.
        steps: how many detections each panel counts; more than D is D.
        title: above all.

    Raises:
        ValueError: no steps.
    """
    if not steps:
        raise ValueError("steps: empty; at least one number of detections is needed")
    counts = [min(step, len(is_right)) for step in steps]
    aps = [float(average_precision(is_right[:n], num_objects, COCO_RECALLS)) for n in counts]
    told = ", ".join(f"{n}: {100 * ap:.1f} %" for n, ap in zip(counts, aps, strict=True))
    figure, axes = panels(
        1,
        len(counts),
        cell=(8.8 / len(counts), 2.9),
        description=f"Precision over recall; AP of the best detections, by their number: {told}.",
    )
    for ax, count, ap in zip(axes.flat, counts, aps, strict=True):
        _draw(ax, is_right[:count], num_objects)
        ax.set_title(f"best {count}: AP {100 * ap:.1f} %", fontsize=9)
    handles, names = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw(ax: Axes, is_right: Tensor, num_objects: int) -> None:
    precision, recall = precision_recall(is_right, num_objects)
    if len(precision):
        envelope = precision.flip(0).cummax(dim=0).values.flip(0)
        x = torch.cat([recall.new_zeros(1), recall, recall[-1:]])
        y = torch.cat([envelope[:1], envelope, envelope.new_zeros(1)])
        ax.fill_between(x, y, step="pre", color=PALETTE[5], alpha=0.35, linewidth=0, label="AP")
        ax.plot(x, y, drawstyle="steps-pre", color=INK, linewidth=1.0, label="envelope")
    size = 22 if len(precision) <= 30 else 9
    ax.scatter(
        recall[is_right],
        precision[is_right],
        s=size,
        color=RIGHT,
        label="finds an object",
        zorder=3,
    )
    ax.scatter(
        recall[~is_right],
        precision[~is_right],
        s=size,
        color=WRONG,
        marker="x",
        linewidths=1.2,
        label="wrong or found again",
        zorder=3,
    )
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("recall", fontsize=8)
    ax.set_ylabel("precision", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.25, linewidth=0.6)
