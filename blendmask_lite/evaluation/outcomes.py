"""What became of detections and of true objects, image by image.

Chapter 05 of the course. The kinds of mistakes are close to those of Bolya et al., "TIDE", section
2.2, at one score threshold.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blendmask_lite.evaluation.panoptic_quality import SegmentCounts

__all__ = [
    "ComparedObject",
    "ImageComparison",
    "best_and_worst",
    "count_outcomes",
]

RIGHT, INACCURATE, CONFUSED = "right", "inaccurate", "wrong class"
TWICE, NONE_SUCH, IGNORED = "twice", "no such object", "ignored"
FOUND, MISSED = "found", "missed"
FOUND_OUTCOMES = (RIGHT, INACCURATE, CONFUSED, TWICE, NONE_SUCH)
TRUE_OUTCOMES = (FOUND, MISSED)


@dataclass(frozen=True)
class ComparedObject:
    """A detection or a true object, and what became of it.

    Attributes:
        category_id: of the data set.
        segmentation: compressed run lengths.
        outcome: of a detection "right"; "inaccurate" (near an object of its class, IoU too low),
            "wrong class" (IoU high enough with an object of another class), "twice" (its object
            has a better detection), "no such object"; of a true object "found" or "missed". Crowds,
            and detections that lie on one or that LVIS's annotators did not check, are "ignored".
        score: of a detection.
        iou: of a "right" detection with its object.
    """

    category_id: int
    segmentation: dict[str, Any]
    outcome: str
    score: float | None = None
    iou: float = 0.0


@dataclass(frozen=True)
class ImageComparison:
    """What was found in an image beside what is there.

    Attributes:
        image_id: of the image.
        size: (H, W) of the stored picture.
        found: detections above the score threshold, best first.
        true: the true objects, crowds among them.
    """

    image_id: int
    size: tuple[int, int]
    found: tuple[ComparedObject, ...]
    true: tuple[ComparedObject, ...]

    @property
    def counts(self) -> SegmentCounts:
        """Of all classes together."""
        matched = [each.iou for each in self.found if each.outcome == RIGHT]
        ignored = sum(each.outcome == IGNORED for each in self.found)
        return SegmentCounts(
            iou_sum=sum(matched),
            matched=len(matched),
            unmatched=len(self.found) - len(matched) - ignored,
            missed=sum(each.outcome == MISSED for each in self.true),
        )

    @property
    def score(self) -> float:
        """Our choice: panoptic quality of the image's objects, all classes together, in percent.

        The mean IoU of the matches times the F1 score of detections and true objects. NaN where
        nothing is and nothing was found.
        """
        return self.counts.quality["PQ"]


def count_outcomes(comparisons: Sequence[ImageComparison]) -> dict[str, dict[str, int]]:
    """{"found": {outcome: number}, "true": {outcome: number}} without what is ignored."""
    found = Counter(each.outcome for image in comparisons for each in image.found)
    true = Counter(each.outcome for image in comparisons for each in image.true)
    return {
        "found": {name: found[name] for name in FOUND_OUTCOMES},
        "true": {name: true[name] for name in TRUE_OUTCOMES},
    }


def best_and_worst(
    comparisons: Sequence[ImageComparison], number: int
) -> tuple[list[ImageComparison], list[ImageComparison]]:
    """The images with the highest and those with the lowest score, most extreme first.

    No image is in both; those without a score are in none. Of equal scores the image with more
    true objects is the more telling one.
    """
    known = [each for each in comparisons if not math.isnan(each.score)]
    best = sorted(known, key=lambda each: (-each.score, -len(each.true), each.image_id))
    worst = sorted(known, key=lambda each: (each.score, -len(each.true), each.image_id))
    half = len(known) // 2
    return best[: min(number, len(known) - half)], worst[: min(number, half)]
