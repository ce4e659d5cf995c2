"""The right and the wrong detections of an image, and the kind of each mistake.

Chapter 05. Average precision says how good a model is; this file shows where to look: at the best
and the worst images, and at the kinds of mistakes at one score threshold. The kinds are similar to
the ones in Bolya et al., "TIDE", section 2.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from blendmask_lite.datasets.coco_format import run_length
from blendmask_lite.evaluation.panoptic_quality import SegmentCounts
from blendmask_lite.evaluation.results import ImageResults

__all__ = [
    "SCORE_THRESHOLD",
    "ComparedObject",
    "ImageComparison",
    "best_and_worst",
    "compare_images",
    "count_outcomes",
]

SCORE_THRESHOLD = 0.4  # lowest score of a detection, as in `blendmask-lite segment`
MATCH_IOU = 0.5  # above this IoU a detection matches a true object of its class
NEAR_IOU = 0.1  # above this IoU a detection counts as "inaccurate"
RIGHT, INACCURATE, CONFUSED = "right", "inaccurate", "wrong class"
TWICE, NONE_SUCH, IGNORED = "twice", "no such object", "ignored"
FOUND, MISSED = "found", "missed"
FOUND_OUTCOMES = (RIGHT, INACCURATE, CONFUSED, TWICE, NONE_SUCH)
TRUE_OUTCOMES = (FOUND, MISSED)


@dataclass(frozen=True)
class ComparedObject:
    """A detection or a true object, and its outcome.

    The outcome of a detection is "right", "inaccurate" (near an object of its class, IoU too low),
    "wrong class" (IoU high enough with an object of another class), "twice" (its object has a
    better detection) or "no such object". The outcome of a true object is "found" or "missed".
    Crowds, detections on a crowd, and detections of a class that LVIS's annotators did not check in
    the image are "ignored".
    """

    category_id: int
    segmentation: dict[str, Any]  # compressed run lengths
    outcome: str
    score: float | None = None  # a detection's score
    iou: float = 0.0  # IoU of a "right" detection with its object


@dataclass(frozen=True)
class ImageComparison:
    """The detections and the true objects of an image, compared."""

    image_id: int
    size: tuple[int, int]  # (H, W) of the stored image
    found: tuple[ComparedObject, ...]  # detections above the score threshold, best first
    true: tuple[ComparedObject, ...]  # including crowds

    @property
    def counts(self) -> SegmentCounts:
        """The counts for all classes together."""
        matched = [detection.iou for detection in self.found if detection.outcome == RIGHT]
        ignored = sum(detection.outcome == IGNORED for detection in self.found)
        return SegmentCounts(
            iou_sum=sum(matched),
            matched=len(matched),
            unmatched=len(self.found) - len(matched) - ignored,
            missed=sum(target.outcome == MISSED for target in self.true),
        )

    @property
    def score(self) -> float:
        """Our choice: panoptic quality of the image's objects, all classes together, in percent.

        It is the mean IoU of the matches times the F1 score of detections and true objects. NaN if
        there are no objects and no detections.
        """
        return self.counts.quality["PQ"]


def compare_images(
    truth: dict[str, Any],
    results: Iterable[ImageResults],
    *,
    score_threshold: float = SCORE_THRESHOLD,
) -> list[ImageComparison]:
    """Match the detections of each image with its true objects, best detection first.

    A detection gets the unmatched object of its class with the highest mask IoU, if that is above
    0.5. Detections with a score below the threshold do not count.

    Args:
        truth: images, annotations and categories in COCO's or LVIS's format.
        results: detections in images of `truth`.
        score_threshold: lowest score that counts, 0 to 1.
    """
    images = {image["id"]: image for image in truth["images"]}
    annotations: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    for annotation in truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return [
        _compare(result, images[result.image_id], annotations[result.image_id], score_threshold)
        for result in results
    ]


def _compare(
    results: ImageResults,
    image: dict[str, Any],
    annotations: Sequence[dict[str, Any]],
    score_threshold: float,
) -> ImageComparison:
    order = np.argsort(-results.scores, kind="stable")
    order = order[results.scores[order] >= score_threshold]
    runs = results.segmentations()
    found = [runs[place] for place in order]
    true = [run_length(annotation["segmentation"], results.size) for annotation in annotations]
    true_ids = np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64)
    found_ids = results.category_ids[order]
    is_crowd = np.array([annotation.get("iscrowd", 0) == 1 for annotation in annotations], bool)
    ious = np.zeros((len(found), len(true)))
    if found and true:
        # For a crowd, it is the share of the detection that lies on the crowd.
        ious = coco_mask.iou(found, true, is_crowd.astype(np.uint8))
    partners = _match(ious, found_ids[:, None] == true_ids, is_crowd)
    checked = _checked_categories(image, true_ids)
    scores = results.scores[order].tolist()
    detections = []
    for place, category_id in enumerate(found_ids.tolist()):
        partner = partners[place]
        if partner is not None:
            outcome = RIGHT
        elif checked is not None and category_id not in checked:
            outcome = IGNORED
        else:
            outcome = _mistake(ious[place], true_ids == category_id, is_crowd)
        iou = 0.0 if partner is None else float(ious[place, partner])
        detections.append(ComparedObject(category_id, found[place], outcome, scores[place], iou))
    targets = []
    for place, category_id in enumerate(true_ids.tolist()):
        outcome = IGNORED if is_crowd[place] else FOUND if place in partners else MISSED
        targets.append(ComparedObject(category_id, true[place], outcome))
    return ImageComparison(results.image_id, results.size, tuple(detections), tuple(targets))


def _match(
    ious: NDArray[np.float64], same_class: NDArray[np.bool_], is_crowd: NDArray[np.bool_]
) -> list[int | None]:
    """For each detection, the index of its true object, or None."""
    free = np.where(same_class & ~is_crowd, ious, 0.0)
    partners: list[int | None] = []
    for row in range(len(free)):
        best = int(free[row].argmax()) if free.shape[1] else 0
        is_match = free.shape[1] > 0 and free[row, best] > MATCH_IOU
        partners.append(best if is_match else None)
        if is_match:
            free[:, best] = 0.0
    return partners


def _mistake(
    ious: NDArray[np.float64], same_class: NDArray[np.bool_], is_crowd: NDArray[np.bool_]
) -> str:
    """The outcome of a detection without a matched object."""

    def largest(chosen: NDArray[np.bool_]) -> float:
        return float(ious[chosen].max(initial=0.0))

    if largest(same_class & ~is_crowd) > MATCH_IOU:
        return TWICE
    if largest(same_class & is_crowd) > MATCH_IOU:
        return IGNORED
    if largest(~same_class & ~is_crowd) > MATCH_IOU:
        return CONFUSED
    return INACCURATE if largest(same_class & ~is_crowd) > NEAR_IOU else NONE_SUCH


def _checked_categories(image: dict[str, Any], present: NDArray[np.int64]) -> set[int] | None:
    """The classes whose objects LVIS marks completely in an image; None means all of them."""
    if "neg_category_ids" not in image:
        return None
    unfinished = set(image.get("not_exhaustive_category_ids", []))
    return ({*image["neg_category_ids"], *present.tolist()}) - unfinished


def count_outcomes(comparisons: Sequence[ImageComparison]) -> dict[str, dict[str, int]]:
    """{"found": {outcome: number}, "true": {outcome: number}}; ignored ones are left out."""
    found = Counter(detection.outcome for image in comparisons for detection in image.found)
    true = Counter(target.outcome for image in comparisons for target in image.true)
    return {
        "found": {name: found[name] for name in FOUND_OUTCOMES},
        "true": {name: true[name] for name in TRUE_OUTCOMES},
    }


def best_and_worst(
    comparisons: Sequence[ImageComparison], number: int
) -> tuple[list[ImageComparison], list[ImageComparison]]:
    """The images with the highest and with the lowest score, most extreme first.

    No image is in both, and images without a score are in neither. If scores are equal, the image
    with more true objects comes first.
    """
    known = [image for image in comparisons if not math.isnan(image.score)]
    best = sorted(known, key=lambda each: (-each.score, -len(each.true), each.image_id))
    worst = sorted(known, key=lambda each: (each.score, -len(each.true), each.image_id))
    half = len(known) // 2
    return best[: min(number, len(known) - half)], worst[: min(number, half)]
