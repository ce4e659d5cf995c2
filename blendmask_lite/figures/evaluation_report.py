"""All figures of an evaluation, written into a folder."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.mistakes import (
    SCORE_THRESHOLD,
    best_and_worst,
    compare_images,
    count_outcomes,
)
from blendmask_lite.evaluation.results import InstanceResults
from blendmask_lite.figures.evaluation_bars import ap_bars_figure, mistakes_figure
from blendmask_lite.figures.gallery import gallery_figure
from blendmask_lite.figures.precision_recall import (
    class_precision_recall_figure,
    precision_recall_figure,
)
from blendmask_lite.files import write_atomically

__all__ = ["evaluation_figures", "write_evaluation_figures"]

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
    truth = dataset.select([each.image_id for each in results.found]).ground_truth()
    comparisons = compare_images(truth, results.found, score_threshold=score_threshold)
    best, worst = best_and_worst(comparisons, num_images)
    place = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    names = dict(zip(dataset.category_ids, dataset.class_names, strict=True))

    def load_image(image_id: int) -> Tensor:
        return dataset.load(place[image_id]).image

    def gallery(kind: str) -> Figure:
        return gallery_figure(
            {"best": best, "worst": worst}[kind],
            load_image,
            names,
            score_threshold=score_threshold,
            title=f"The {kind} of {results.num_images} images",
        )

    return {
        "precision_recall": precision_recall_figure(results.precision),
        "precision_recall_classes": class_precision_recall_figure(
            results.precision["mask"], dataset.class_names, title="Masks"
        ),
        "average_precision": ap_bars_figure({"mask": results.mask, "box": results.box}),
        "mistakes": mistakes_figure(count_outcomes(comparisons), score_threshold=score_threshold),
        "best_images": gallery("best"),
        "worst_images": gallery("worst"),
    }


def write_evaluation_figures(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as NAME.png, and those without photographs as NAME.pdf, too."""
    written = []
    for name, figure in figures.items():
        for kind in ("png",) if name.endswith("_images") else ("png", "pdf"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white")
            written.append(Path(folder) / f"{name}.{kind}")
            write_atomically(written[-1], buffer.getvalue())
    return written
