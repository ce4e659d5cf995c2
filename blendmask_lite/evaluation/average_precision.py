"""Average precision of boxes and masks, by COCO's rules or LVIS's.

Chapter 05 of the course. Lin et al., "Microsoft COCO"; Gupta et al., "LVIS", section 2.1.
hotcoco computes the numbers, which are those of pycocotools, bit by bit; the tests compare them,
`benchmarks/evaluation.py` the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import hotcoco.mask
import numpy as np
from numpy.typing import NDArray

from blendmask_lite.evaluation.results import ImageResults

__all__ = [
    "COCO_METRICS",
    "LVIS_METRICS",
    "AveragePrecision",
    "evaluate_detections",
    "is_federated",
]

# Our names -> hotcoco's.
COCO_METRICS = {
    **{"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APS": "APs", "APM": "APm", "APL": "APl"},
    "AR100": "AR100",
}
LVIS_METRICS = {
    **{"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APS": "APs", "APM": "APm", "APL": "APl"},
    **{"APr": "APr", "APc": "APc", "APf": "APf", "AR300": "AR@300"},
}
IOU_THRESHOLDS = {"AP50": 0, "AP75": 5}  # places among 0.50, 0.55, ..., 0.95


@dataclass(frozen=True)
class AveragePrecision:
    """How well the masks, or the boxes, of all classes were found.

    Attributes:
        numbers: in percent by name, those of `COCO_METRICS` or `LVIS_METRICS`; NaN where the data
            has no object to say it by.
        classes: C times AP, AP50 and AP75 in percent, in the order of the labels.
        precision: (10, 101, C) at IoU 0.50, 0.55 to 0.95 and recall 0, 0.01 to 1, from 0 to 1;
            objects of all sizes, most detections; NaN for classes without objects.
    """

    numbers: dict[str, float]
    classes: list[dict[str, float]]
    precision: NDArray[np.float64]


def is_federated(truth: dict[str, Any]) -> bool:
    """Whether each image says which classes were looked for in it, as LVIS's do."""
    images = truth["images"]
    return bool(images) and all("neg_category_ids" in each for each in images)


def evaluate_detections(
    truth: dict[str, Any], results: Sequence[ImageResults]
) -> dict[str, AveragePrecision]:
    """Compare detections with the true objects.

    Federated truth is evaluated as LVIS's: a class counts in the images where it is present or
    known to be absent; surplus detections of it are no mistakes where not all of its objects
    are marked; the best 300 detections of an image count.

    Args:
        truth: images, annotations and categories in COCO's or LVIS's format.
        results: of images of `truth`.

    Returns:
        For "mask" and "box".
    """
    federated = is_federated(truth)
    # Ids may be beyond float64. They are counted anew, images in their order, because ties are
    # decided by it.
    images = {each: n for n, each in enumerate(sorted(x["id"] for x in truth["images"]), start=1)}
    labels = {each: n for n, each in enumerate((x["id"] for x in truth["categories"]), start=1)}
    true = hotcoco.COCO(_renumbered(truth, images, labels))
    found = _load(true, results, images, labels)
    areas = {"box": None, "mask": _mask_areas(results)}
    evaluated = {}
    for kind, area in areas.items():
        if area is not None and len(area):
            found.update_anns(ids=np.arange(1, len(area) + 1), area=area)
        evaluated[kind] = _evaluate(true, found, kind, federated)
    return {kind: evaluated[kind] for kind in ("mask", "box")}


def _renumbered(
    truth: dict[str, Any], images: dict[int, int], labels: dict[int, int]
) -> dict[str, Any]:
    def image(entry: dict[str, Any]) -> dict[str, Any]:
        kept = {key: entry[key] for key in ("height", "width")}
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if key in entry:
                kept[key] = [labels[each] for each in entry[key]]
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


def _load(
    true: hotcoco.COCO,
    results: Sequence[ImageResults],
    images: dict[int, int],
    labels: dict[int, int],
) -> hotcoco.COCO:
    rows = [np.zeros((0, 7))]
    for each in results:
        row = np.empty((len(each), 7))
        row[:, 0] = images[each.image_id]
        row[:, 1:5] = each.boxes
        row[:, 5] = each.scores
        row[:, 6] = [labels[category] for category in each.category_ids.tolist()]
        rows.append(row)
    segmentations: list[Any] = [run for each in results for run in each.segmentations()]
    return true.load_res(np.concatenate(rows), segmentation=segmentations)


def _mask_areas(results: Sequence[ImageResults]) -> NDArray[np.float64]:
    areas = [hotcoco.mask.area(each.segmentations()) for each in results if len(each)]
    return np.concatenate([np.zeros(0), *areas])


def _evaluate(
    true: hotcoco.COCO, found: hotcoco.COCO, kind: str, federated: bool
) -> AveragePrecision:
    iou_type = {"mask": "segm", "box": "bbox"}[kind]
    evaluation = hotcoco.COCOeval(true, found, iou_type, lvis_style=federated)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # fills the numbers in, without printing as `summarize` does
    values = evaluation.get_results()
    assert evaluation.eval is not None
    every: NDArray[np.float64] = evaluation.eval["precision"][:, :, :, 0, -1]
    precision = np.where(every < 0, np.nan, every)  # (10, 101, C)
    metrics = LVIS_METRICS if federated else COCO_METRICS
    return AveragePrecision(
        numbers={name: _percent(values[key]) for name, key in metrics.items()},
        classes=[_class_numbers(precision[:, :, label]) for label in range(precision.shape[2])],
        precision=precision,
    )


def _class_numbers(precision: NDArray[np.float64]) -> dict[str, float]:
    """AP, AP50 and AP75 of one class from its (10, 101) precisions."""
    numbers = {"AP": float(precision.mean())}
    numbers |= {name: float(precision[place].mean()) for name, place in IOU_THRESHOLDS.items()}
    return {name: round(100 * value, 4) for name, value in numbers.items()}


def _percent(value: float) -> float:
    """COCO says -1 where there is nothing to measure."""
    return float("nan") if value < 0 else round(100 * value, 4)
