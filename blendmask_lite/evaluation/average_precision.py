"""Average precision of boxes and masks, by COCO's rules or LVIS's.

Chapter 05 of the course. Lin et al., "Microsoft COCO"; Gupta et al., "LVIS", section 2.1.
hotcoco computes the numbers. If it cannot be imported, pycocotools does, which is slower and knows
only COCO's rules; the tests compare their numbers, `benchmarks/evaluation.py` their speed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_lite.evaluation.results import ImageResults

__all__ = [
    "COCO_METRICS",
    "LVIS_METRICS",
    "AveragePrecision",
    "evaluate_detections",
    "import_hotcoco",
    "is_federated",
]

# Our names -> hotcoco's names.
_AP = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APS": "APs", "APM": "APm", "APL": "APl"}
COCO_METRICS = _AP | {"AR100": "AR100"}
LVIS_METRICS = _AP | {"APr": "APr", "APc": "APc", "APf": "APf", "AR300": "AR@300"}
IOU_TYPES = {"mask": "segm", "box": "bbox"}  # the libraries' words
IOU_THRESHOLDS = {"AP50": 0, "AP75": 5}  # positions among 0.50, 0.55, ..., 0.95


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of the masks, or of the boxes, of all classes.

    Attributes:
        numbers: the `COCO_METRICS` or `LVIS_METRICS` in percent, by name; NaN if no object in the
            data counts for a metric.
        classes: AP, AP50 and AP75 of each of the C classes in percent, in the order of the labels.
        precision: (10, 101, C), 0 to 1, at IoU 0.50, 0.55 to 0.95 and recall 0, 0.01 to 1; for
            objects of all sizes and the largest number of detections; NaN for classes without
            objects.
    """

    numbers: dict[str, float]
    classes: list[dict[str, float]]
    precision: NDArray[np.float64]


def evaluate_detections(
    truth: dict[str, Any], results: Sequence[ImageResults]
) -> dict[str, AveragePrecision]:
    """Compare detections with the true objects.

    Federated truth is evaluated by LVIS's rules: a class counts in the images where it is present
    or known to be absent; its surplus detections are not counted as mistakes in images where not
    all of its objects are annotated; the best 300 detections of an image count. This needs hotcoco.

    Args:
        truth: images, annotations and categories in COCO's or LVIS's format.
        results: detections in images of `truth`.

    Returns:
        The average precision for "mask" and for "box".
    """
    federated = is_federated(truth)
    # Ids may be too large for float64, so smaller numbers replace them. Images keep their order,
    # which decides ties.
    images = {each: n for n, each in enumerate(sorted(x["id"] for x in truth["images"]), start=1)}
    labels = {each: n for n, each in enumerate((x["id"] for x in truth["categories"]), start=1)}
    renumbered = _renumbered(truth, images, labels)
    rows = _rows(results, images, labels)
    runs = [run for result in results for run in result.segmentations()]
    areas = {
        # One by one: pycocotools refuses to measure more than 255 at once.
        "mask": np.array([coco_mask.area(run) for run in runs], dtype=np.float64),
        "box": rows[:, 3] * rows[:, 4],
    }
    try:
        hotcoco = import_hotcoco("hotcoco", purpose="LVIS's AP")
    except ValueError:
        if federated:
            raise
        return {
            kind: _by_pycocotools(renumbered, rows, runs, area, kind)
            for kind, area in areas.items()
        }
    true = hotcoco.COCO(renumbered)
    found = true.load_res(rows, segmentation=runs)
    evaluated = {}
    for kind, area in areas.items():
        if len(area):
            found.update_anns(ids=np.arange(1, len(area) + 1), area=area)
        evaluated[kind] = _by_hotcoco(hotcoco, true, found, kind, federated)
    return evaluated


def is_federated(truth: dict[str, Any]) -> bool:
    """Whether every image lists the classes verified to be absent, as LVIS's images do."""
    images = truth["images"]
    return bool(images) and all("neg_category_ids" in image for image in images)


def import_hotcoco(module: str, *, purpose: str) -> Any:
    """A module of the library hotcoco; if it cannot be imported, ValueError says what needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{purpose} needs hotcoco ({error}): pip install hotcoco") from None


def _renumbered(
    truth: dict[str, Any], images: dict[int, int], labels: dict[int, int]
) -> dict[str, Any]:
    def image(entry: dict[str, Any]) -> dict[str, Any]:
        kept = {key: entry[key] for key in ("height", "width")}
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if key in entry:
                kept[key] = [labels[number] for number in entry[key]]
        return kept | {"id": images[entry["id"]]}

    def category(entry: dict[str, Any]) -> dict[str, Any]:
        frequency = {key: entry[key] for key in ("frequency",) if key in entry}
        return {"id": labels[entry["id"]], "name": str(labels[entry["id"]]), **frequency}

    def annotation(number: int, entry: dict[str, Any]) -> dict[str, Any]:
        return {
            **{key: entry[key] for key in ("segmentation", "bbox", "area")},
            "iscrowd": int(entry.get("iscrowd", 0)),
            "id": number,
            "image_id": images[entry["image_id"]],
            "category_id": labels[entry["category_id"]],
        }

    return {
        "images": [image(each) for each in truth["images"]],
        "categories": [category(each) for each in truth["categories"]],
        "annotations": [
            annotation(number, each) for number, each in enumerate(truth["annotations"], start=1)
        ],
    }


def _rows(
    results: Sequence[ImageResults], images: dict[int, int], labels: dict[int, int]
) -> NDArray[np.float64]:
    """(N, 7): image, x, y, width, height, score, class."""
    rows = [np.zeros((0, 7))]
    for result in results:
        row = np.empty((len(result), 7))
        row[:, 0] = images[result.image_id]
        row[:, 1:5] = result.boxes
        row[:, 5] = result.scores
        row[:, 6] = [labels[category] for category in result.category_ids.tolist()]
        rows.append(row)
    return np.concatenate(rows)


def _by_hotcoco(
    hotcoco: Any, true: Any, found: Any, kind: str, federated: bool
) -> AveragePrecision:
    evaluation = hotcoco.COCOeval(true, found, IOU_TYPES[kind], lvis_style=federated)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # computes the numbers without printing them, unlike `summarize`
    values = evaluation.get_results()
    metrics = LVIS_METRICS if federated else COCO_METRICS
    numbers = {name: values[key] for name, key in metrics.items()}
    return _as_result(numbers, evaluation.eval["precision"])


def _by_pycocotools(
    truth: dict[str, Any],
    rows: NDArray[np.float64],
    runs: Sequence[dict[str, Any]],
    areas: NDArray[np.float64],
    kind: str,
) -> AveragePrecision:
    entries = [
        {
            "id": number,
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "bbox": row[1:5].tolist(),
            "score": row[5],
            "segmentation": run,
            "area": area,
            "iscrowd": 0,
        }
        for number, (row, run, area) in enumerate(zip(rows, runs, areas, strict=True), start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        true, found = COCO(), COCO()
        true.dataset, found.dataset = truth, truth | {"annotations": entries}
        true.createIndex()
        found.createIndex()
        evaluation = COCOeval(true, found, IOU_TYPES[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = dict(zip(COCO_METRICS, evaluation.stats[[0, 1, 2, 3, 4, 5, 8]], strict=True))
    return _as_result(numbers, evaluation.eval["precision"])


def _as_result(numbers: dict[str, float], precision: NDArray[np.float64]) -> AveragePrecision:
    """The result, from numbers 0 to 1 and (10, 101, C, sizes, detection limits); -1: no value."""
    every = precision[:, :, :, 0, -1]
    every = np.where(every < 0, np.nan, every)
    return AveragePrecision(
        numbers={name: _percent(value) for name, value in numbers.items()},
        classes=[_class_numbers(every[:, :, label]) for label in range(every.shape[2])],
        precision=every,
    )


def _class_numbers(precision: NDArray[np.float64]) -> dict[str, float]:
    """AP, AP50 and AP75 of one class from its (10, 101) precisions."""
    numbers = {"AP": float(precision.mean())}
    numbers |= {name: float(precision[place].mean()) for name, place in IOU_THRESHOLDS.items()}
    return {name: round(100 * value, 4) for name, value in numbers.items()}


def _percent(value: float) -> float:
    """The libraries return -1 if there is nothing to measure."""
    return float("nan") if value < 0 else round(100 * value, 4)
