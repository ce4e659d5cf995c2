"""An evaluation in figures: average precision by size, kinds of mistakes, all of it in a folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.mistakes import (
    SCORE_THRESHOLD,
    ImageComparison,
    best_and_worst,
    compare_images,
    count_outcomes,
)
from blendmask_lite.evaluation.results import InstanceResults
from blendmask_lite.figures.gallery import gallery_figure
from blendmask_lite.figures.precision_recall import (
    class_precision_recall_figure,
    precision_recall_figure,
)
from blendmask_lite.figures.style import (
    PALETTE,
    DescribedFigure,
    draw_text,
    finish_plot,
    one_panel,
    save_figure,
    text_on,
)

__all__ = [
    "EVALUATION_FIGURES",
    "ap_bars_figure",
    "evaluation_figures",
    "figure_paths",
    "mistakes_figure",
    "write_evaluation_figures",
]

# Names of what `evaluation_figures` draws.
EVALUATION_FIGURES = (
    *("precision_recall", "precision_recall_classes", "average_precision", "mistakes"),
    *("best_images", "worst_images"),
)

# What the bars stand for; the other numbers of an evaluation have none.
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
    finish_plot(ax, x=x_label, y="average precision, %", title=title)
    ax.set_xticks(range(len(names)), [BARS[name] for name in names])
    ax.set_ylim(0, 105)
    by_kind = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if by_kind:
        ax.legend(by_kind.values(), by_kind, fontsize=8, frameon=False, ncols=2, loc="upper right")
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
    finish_plot(ax, x="share, %", title=title)
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
    score_threshold: float = SCORE_THRESHOLD,
    num_images: int = GALLERY,
) -> dict[str, Figure]:
    """Curves, bars and galleries of an evaluation, by name.

    Args:
        results: of images of `dataset`.
        dataset: with the true objects and the pictures.
        score_threshold: least score of the detections in "mistakes" and in the galleries.
        num_images: in each gallery.
    """
    truth = dataset.select([found.image_id for found in results.found]).ground_truth()
    comparisons = compare_images(truth, results.found, score_threshold=score_threshold)
    best, worst = best_and_worst(comparisons, num_images)
    place = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    names = dict(zip(dataset.category_ids, dataset.class_names, strict=True))

    def load_image(image_id: int) -> Tensor:
        return dataset.load(place[image_id]).image

    def gallery(kind: str, chosen: Sequence[ImageComparison]) -> Figure:
        title = f"The {kind} of {results.num_images} images"
        return gallery_figure(
            chosen, load_image, names, score_threshold=score_threshold, title=title
        )

    figures = (
        precision_recall_figure(results.precision),
        class_precision_recall_figure(
            results.precision["mask"], dataset.class_names, title="Masks"
        ),
        ap_bars_figure({"mask": results.mask, "box": results.box}),
        mistakes_figure(count_outcomes(comparisons), score_threshold=score_threshold),
        gallery("best", best),
        gallery("worst", worst),
    )
    return dict(zip(EVALUATION_FIGURES, figures, strict=True))


def figure_paths(names: Iterable[str], folder: str | Path) -> list[Path]:
    """The files of figures: NAME.png, and NAME.pdf, too, of those without photographs."""
    return [
        Path(folder) / f"{name}.{kind}"
        for name in names
        for kind in (("png",) if name.endswith("_images") else ("png", "pdf"))
    ]


def write_evaluation_figures(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure into its `figure_paths`, which are returned."""
    paths = figure_paths(figures, folder)
    return [save_figure(figures[path.stem], path, dpi=DPI) for path in paths]
