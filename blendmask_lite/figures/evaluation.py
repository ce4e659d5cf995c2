"""An evaluation in figures: precision over recall, AP by size, kinds of mistakes, all in a folder.

Chapter 05.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.mistakes import (
    SCORE_THRESHOLD,
    ImageComparison,
    best_and_worst,
    compare_images,
    count_outcomes,
)
from blendmask_lite.evaluation.one_class import COCO_RECALLS, average_precision, precision_recall
from blendmask_lite.evaluation.results import InstanceResults
from blendmask_lite.figures.gallery import gallery_figure
from blendmask_lite.figures.style import (
    INK,
    PALETTE,
    DescribedFigure,
    add_color_bar,
    draw_text,
    finish_plot,
    legend_below,
    one_panel,
    panel_grid,
    panels,
    save_figure,
    text_on,
)
from blendmask_lite.terminal import counted, printable

__all__ = [
    "EVALUATION_FIGURES",
    "ap_bars_figure",
    "class_precision_recall_figure",
    "evaluation_figures",
    "figure_paths",
    "mistakes_figure",
    "precision_recall_figure",
    "precision_steps_figure",
    "write_evaluation_figures",
]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
COLUMNS = 4  # small panels per row
RIGHT_COLOR, WRONG_COLOR = PALETTE[1], PALETTE[0]
# From dark to light as the required IoU rises; the lightest tenth is too light for lines.
COLORS = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 10)))


def precision_recall_figure(precision: Mapping[str, NDArray[np.float64]]) -> DescribedFigure:
    """Precision against recall, averaged over the classes, with one curve per IoU threshold.

    Args:
        precision: for "mask", "box" or both: (10, 101, C) at IoU 0.50, 0.55 to 0.95 and recall 0,
            0.01 to 1; NaN for classes without objects.

    Raises:
        ValueError: an array has the wrong shape.
    """
    curves = {kind: _mean_over_classes(_checked(values)) for kind, values in precision.items()}
    aps = ", ".join(f"{kind} AP {100 * curve.mean():.1f}" for kind, curve in curves.items())
    figure, axes = panels(
        1,
        len(curves),
        cell=(4.2, 3.8),
        description=f"Precision over recall at ten IoU thresholds: {aps}.",
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
    """One small panel per class, highest AP first; with too many, only the best and the worst.

    Args:
        precision: (10, 101, C) as in `precision_recall_figure`.
        class_names: C names.
        max_classes: largest number of panels.
        title: text above the figure.

    Raises:
        ValueError: an array has the wrong shape, or there is not one name per class.
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
    """(10, 101); NaN if no class has objects."""
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


def precision_steps_figure(
    is_right: Tensor, num_objects: int, *, steps: Sequence[int], title: str = ""
) -> DescribedFigure:
    """One panel each for the best 1, 5, 20 ... detections, with their marks and the envelope.

    Args:
        is_right: (D,) bool, highest score first: whether each detection found a new object.
        num_objects: number of true objects, at least 1.
        steps: number of detections that each panel counts; numbers above D mean D.
        title: text above all panels.

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
    right: dict[str, Any] = {"color": RIGHT_COLOR, "label": "finds an object"}
    wrong: dict[str, Any] = {"color": WRONG_COLOR, "label": "wrong or found again", "marker": "x"}
    for chosen, style in ((is_right, right), (~is_right, wrong | {"linewidths": 1.2})):
        size = 22 if len(precision) <= 30 else 9
        ax.scatter(recall[chosen], precision[chosen], s=size, zorder=3, **style)
    _label_axes(ax)
    ax.axis((-0.02, 1.02, 0, 1.05))
    ax.tick_params(labelsize=7)


# Names of what `evaluation_figures` draws.
EVALUATION_FIGURES = (
    *("precision_recall", "precision_recall_classes", "average_precision", "mistakes"),
    *("best_images", "worst_images"),
)

# What each bar stands for; the other numbers of an evaluation get no bar.
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
MISTAKE_COLORS = (RIGHT_COLOR, PALETTE[2], PALETTE[4], PALETTE[5], WRONG_COLOR)


def ap_bars_figure(numbers: Mapping[str, Mapping[str, float]]) -> DescribedFigure:
    """AP of all objects, at two IoU thresholds, by size and, on LVIS, by how common a class is.

    Args:
        numbers: for "mask", "box" or both, percent by name; NaN gets no bar.
    """
    names = [name for name in BARS if any(name in part for part in numbers.values())]
    told = [
        f"{kind} {name} {part[name]:.1f}"
        for kind, part in numbers.items()
        for name in names
        if not math.isnan(part[name])
    ]
    figure, ax = one_panel(
        cell=(1.2 + 0.85 * len(names), 3.2),
        description=f"Average precision in percent: {', '.join(told) or 'none'}.",
    )
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
    x_label = "objects; sizes are areas in pixels"
    finish_plot(ax, x=x_label, y="average precision, %")
    ax.set_xticks(range(len(names)), [BARS[name] for name in names])
    ax.set_ylim(0, 105)
    by_kind = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if by_kind:
        ax.legend(by_kind.values(), by_kind, fontsize=8, frameon=False, ncols=2, loc="upper right")
    return figure


def mistakes_figure(
    outcomes: Mapping[str, Mapping[str, int]], *, score_threshold: float
) -> DescribedFigure:
    """Outcomes of all detections and of all true objects, as shares of two bars.

    Args:
        outcomes: {"found": {outcome: number}, "true": {outcome: number}}, as `count_outcomes`
            gives them.
        score_threshold: lowest score of the detections.
    """
    rows = {
        f"detections\nwith a score\nof {score_threshold:g} or more": outcomes["found"],
        "true objects": outcomes["true"],
    }
    told = "; ".join(
        ", ".join(f"{number} {name}" for name, number in row.items()) for row in rows.values()
    )
    figure, ax = one_panel(
        cell=(7.2, 2.6), description=f"Detections and true objects by outcome: {told}."
    )
    for y, row in enumerate(rows.values()):
        total, left = sum(row.values()), 0.0
        colors = MISTAKE_COLORS if y == 0 else (RIGHT_COLOR, WRONG_COLOR)
        for number, color in zip(row.values(), colors, strict=True):
            share = 100 * number / total if total else 0.0
            ax.barh(y, share, left=left, color=color, edgecolor="white", height=0.55)
            if share >= 6:
                draw_text(ax, left + share / 2, y, f"{share:.0f} %", color=text_on(color))
            left += share
        for place, (name, color) in enumerate(zip(row, colors, strict=True)):
            x = 100 * place / len(row)  # the parts by name, below their bar
            ax.plot(x + 1, y + 0.4, "s", color=color, markersize=6)
            ax.text(x + 2.5, y + 0.4, f"{name} {row[name]}", fontsize=7, va="center")
    finish_plot(ax, x="share, %")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.4, -0.5)
    ax.set_xlim(0, 100)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return figure


GALLERY = 6  # images in each of the galleries
DPI = 150


def evaluation_figures(
    results: InstanceResults,
    dataset: InstanceDataset,
    *,
    num_images: int = GALLERY,
) -> dict[str, Figure]:
    """Curves, bars and galleries of an evaluation, by name.

    Args:
        results: the results of images of `dataset`.
        dataset: the data set with the true objects and the pictures.
        num_images: number of images in each gallery.
    """
    truth = dataset.select([found.image_id for found in results.found]).ground_truth()
    comparisons = compare_images(truth, results.found, score_threshold=SCORE_THRESHOLD)
    best, worst = best_and_worst(comparisons, num_images)
    place = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    names = dict(zip(dataset.category_ids, dataset.class_names, strict=True))
    image_names = {
        image["id"]: printable(PurePath(image["file_name"]).stem)
        for image in truth["images"]
        if "file_name" in image
    }

    def load_image(image_id: int) -> Tensor:
        return dataset.load(place[image_id]).image

    def gallery(kind: str, chosen: Sequence[ImageComparison]) -> Figure:
        title = f"The {kind} of {counted(results.num_images, 'image')}"
        return gallery_figure(
            chosen,
            load_image,
            names,
            score_threshold=SCORE_THRESHOLD,
            image_names=image_names,
            title=title,
        )

    figures = (
        precision_recall_figure(results.precision),
        class_precision_recall_figure(
            results.precision["mask"], dataset.class_names, title="Masks"
        ),
        ap_bars_figure({"mask": results.mask, "box": results.box}),
        mistakes_figure(count_outcomes(comparisons), score_threshold=SCORE_THRESHOLD),
        gallery("best", best),
        gallery("worst", worst),
    )
    return dict(zip(EVALUATION_FIGURES, figures, strict=True))


def figure_paths(names: Iterable[str], folder: str | Path) -> list[Path]:
    """The files of figures: NAME.png, and also NAME.pdf for those without photographs."""
    return [
        Path(folder) / f"{name}.{kind}"
        for name in names
        for kind in (("png",) if name.endswith("_images") else ("png", "pdf"))
    ]


def write_evaluation_figures(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure to its `figure_paths`, and return these paths."""
    paths = figure_paths(figures, folder)
    return [save_figure(figures[path.stem], path, dpi=DPI) for path in paths]
