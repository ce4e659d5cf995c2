"""Precision falls as more of the objects are to be found: the curve, and how it comes about.

Chapter 05.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray
from torch import Tensor

from blendmask_lite.evaluation.one_class import COCO_RECALLS, average_precision, precision_recall
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    add_color_bar,
    legend_below,
    panel_grid,
    panels,
)

__all__ = ["class_precision_recall_figure", "precision_recall_figure", "precision_steps_figure"]


IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
COLUMNS = 4  # of small panels
# From dark to light as the demand on the IoU rises; the lightest tenth is too light for lines.
COLORS = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 10)))


def precision_recall_figure(
    precision: Mapping[str, NDArray[np.float64]], *, title: str = ""
) -> DescribedFigure:
    """Precision against recall, averaged over the classes, one curve for every IoU threshold.

    Args:
        precision: for "mask", "box" or both, (10, 101, C) at IoU 0.50, 0.55 to 0.95 and recall 0,
            0.01 to 1; NaN for classes without objects.
        title: over the figure.

    Raises:
        ValueError: an array of another shape.
    """
    curves = {kind: _mean_over_classes(_checked(values)) for kind, values in precision.items()}
    aps = ", ".join(f"{kind} AP {100 * curve.mean():.1f}" for kind, curve in curves.items())
    figure, axes = panels(
        1,
        len(curves),
        cell=(4.2, 3.8),
        description=f"Precision over recall at ten IoU thresholds: {aps}.",
        title=title,
    )
    for ax, (kind, curve) in zip(axes[0], curves.items(), strict=True):
        for place in range(len(IOUS)):
            ax.plot(RECALLS, curve[place], color=COLORS(place), linewidth=1.6)
        _label_axes(ax)
        ap, ap50, ap75 = map(_percent, (curve, curve[0], curve[5]))
        ax.set_title(f"{kind}: AP {ap}, at IoU 0.5 {ap50}, at 0.75 {ap75}", fontsize=9)
    label = "least IoU of a match"
    add_color_bar(figure, axes[0], colors=COLORS, limits=(0.475, 0.975), label=label)
    return figure


def class_precision_recall_figure(
    precision: NDArray[np.float64],
    class_names: Sequence[str],
    *,
    max_classes: int = 12,
    title: str = "",
) -> DescribedFigure:
    """A small panel a class, by falling AP; of too many classes the best and the worst ones.

    Args:
        precision: (10, 101, C) as in `precision_recall_figure`.
        class_names: C names.
        max_classes: panels at most.
        title: over the figure.

    Raises:
        ValueError: an array of another shape, or not one name a class.
    """
    values = _checked(precision)
    if values.shape[2] != len(class_names):
        raise ValueError(f"{len(class_names)} class names for precisions of {values.shape[2]}")
    ap = values.mean(axis=(0, 1)).tolist()
    order = sorted((x for x in range(len(ap)) if not math.isnan(ap[x])), key=lambda x: -ap[x])
    shown = order
    if len(order) > max_classes:
        shown = order[: (max_classes + 1) // 2] + order[len(order) - max_classes // 2 :]
    figure, axes = panel_grid(
        len(shown),
        COLUMNS,
        cell=(2.3, 2.1),
        description="Precision over recall class by class, with AP: "
        + (", ".join(f"{class_names[x]} {100 * ap[x]:.1f}" for x in shown) or "no class"),
    )
    for ax, label in zip(axes, shown, strict=True):
        curves = values[:, :, label]
        ax.fill_between(RECALLS, curves.mean(axis=0), color=PALETTE[1], alpha=0.25, linewidth=0)
        for place, style in ((0, "-"), (5, "--"), (9, ":")):
            ax.plot(RECALLS, curves[place], style, color=INK, linewidth=1.2)
        _label_axes(ax, small=True)
        ax.set_title(f"{class_names[label]}: AP {100 * ap[label]:.1f}", fontsize=8)
    left_out = len(order) - len(shown)
    note = "IoU 0.5 (line), 0.75 (dashes), 0.95 (dots); the shaded area is AP"
    if left_out:
        note += f". The best {(len(shown) + 1) // 2} and worst {len(shown) // 2} classes; "
        note += f"{left_out} between them are left out"
    figure.suptitle(f"{title}\n{note}" if title else note, fontsize=8)
    return figure


def _checked(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    if precision.ndim != 3 or precision.shape[:2] != (len(IOUS), len(RECALLS)):
        raise ValueError(f"precision of shape {precision.shape}: expected (10, 101, C)")
    return precision


def _mean_over_classes(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """(10, 101); NaN where no class has objects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: NDArray[np.float64] = np.nanmean(precision, axis=2)
    return mean


def _percent(values: NDArray[np.float64]) -> str:
    mean = float(values.mean())
    return "-" if math.isnan(mean) else f"{100 * mean:.1f}"


def _label_axes(ax: Axes, *, small: bool = False) -> None:
    size = 6 if small else 8
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("recall", fontsize=size, labelpad=1)
    ax.set_ylabel("precision", fontsize=size, labelpad=1)
    ax.tick_params(labelsize=size)
    ax.locator_params(nbins=3 if small else 6)
    ax.grid(alpha=0.25, linewidth=0.6)


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
        title=title,
    )
    for ax, count, ap in zip(axes.flat, counts, aps, strict=True):
        _draw(ax, is_right[:count], num_objects)
        ax.set_title(f"best {count}: AP {100 * ap:.1f} %", fontsize=9)
    handles, labels = axes[0, -1].get_legend_handles_labels()
    legend_below(figure, columns=4, handles=handles, labels=labels)
    return figure


def _draw(ax: Axes, is_right: Tensor, num_objects: int) -> None:
    precision, recall = precision_recall(is_right, num_objects)
    if len(precision):
        envelope = precision.flip(0).cummax(dim=0).values.flip(0)
        x = torch.cat([recall.new_zeros(1), recall, recall[-1:]])
        y = torch.cat([envelope[:1], envelope, envelope.new_zeros(1)])
        ax.fill_between(x, y, step="pre", color=PALETTE[5], alpha=0.35, linewidth=0, label="AP")
        ax.plot(x, y, drawstyle="steps-pre", color=INK, linewidth=1.0, label="envelope")
    right: dict[str, Any] = {"color": RIGHT, "label": "finds an object"}
    wrong: dict[str, Any] = {"color": WRONG, "label": "wrong or found again", "marker": "x"}
    for chosen, style in ((is_right, right), (~is_right, wrong | {"linewidths": 1.2})):
        size = 22 if len(precision) <= 30 else 9
        ax.scatter(recall[chosen], precision[chosen], s=size, zorder=3, **style)
    _label_axes(ax)
    ax.axis((-0.02, 1.02, 0, 1.05))
    ax.tick_params(labelsize=7)
