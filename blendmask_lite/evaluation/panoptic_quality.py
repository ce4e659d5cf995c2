"""The numbers of a panoptic evaluation: PQ and its two factors.

Chapter 14 of the course. Kirillov et al., "Panoptic Segmentation", section 4.2, equations 1 and 2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from blendmask_lite.terminal import counted, printable

__all__ = ["PanopticQuality", "SegmentCounts"]

METRICS = ("PQ", "SQ", "RQ")


@dataclass(frozen=True)
class SegmentCounts:
    """Counts of matched and unmatched segments of one class."""

    iou_sum: float = 0.0  # sum over the matched pairs
    matched: int = 0  # pairs of a predicted and a true segment
    unmatched: int = 0  # predicted segments without a true segment
    missed: int = 0  # true segments without a predicted segment

    def __add__(self, other: SegmentCounts) -> SegmentCounts:
        return SegmentCounts(
            self.iou_sum + other.iou_sum,
            self.matched + other.matched,
            self.unmatched + other.unmatched,
            self.missed + other.missed,
        )

    @property
    def occurs(self) -> bool:
        """Whether there is any segment, predicted or true."""
        return self.matched + self.unmatched + self.missed > 0

    @property
    def quality(self) -> dict[str, float]:
        """PQ = SQ x RQ in percent (equations 1 and 2); NaN for a class that does not occur.

        SQ is the mean IoU of the matched pairs, 0 if nothing matches; RQ is the F1 score.
        """
        if not self.occurs:
            return dict.fromkeys(METRICS, math.nan)
        recognition = self.matched / (self.matched + (self.unmatched + self.missed) / 2)
        segmentation = self.iou_sum / max(self.matched, 1)
        values = (segmentation * recognition, segmentation, recognition)
        return {name: 100 * value for name, value in zip(METRICS, values, strict=True)}


@dataclass(frozen=True)
class PanopticQuality:
    """Panoptic quality of every class, by name, and averages over the classes that occur."""

    thing_classes: Mapping[str, SegmentCounts]
    stuff_classes: Mapping[str, SegmentCounts]
    num_images: int

    @property
    def all(self) -> dict[str, float]:
        """PQ, SQ and RQ, percent, averaged over things and stuff; NaN if nothing occurs."""
        return _average([*self.thing_classes.values(), *self.stuff_classes.values()])

    @property
    def things(self) -> dict[str, float]:
        """The same, averaged over things."""
        return _average(self.thing_classes.values())

    @property
    def stuff(self) -> dict[str, float]:
        """The same, averaged over stuff."""
        return _average(self.stuff_classes.values())

    def table(self) -> str:
        """Averages as text, each with its number of classes."""
        head = f"{'':<8}" + "".join(f"{name:>7}" for name in METRICS) + f"{'classes':>9}"
        things, stuff = list(self.thing_classes.values()), list(self.stuff_classes.values())
        rows = [
            _row(f"{name:<8}", _average(counts)) + f"{sum(count.occurs for count in counts):>9}"
            for name, counts in (("all", things + stuff), ("things", things), ("stuff", stuff))
        ]
        return "\n".join([head, *rows, counted(self.num_images, "image")])

    def class_table(self) -> str:
        """One row for each class that occurs, with its counts; things first."""
        every = [*self.thing_classes.items(), *self.stuff_classes.items()]
        classes = [(printable(name), counts) for name, counts in every if counts.occurs]
        width = max([len(name) for name, _ in classes], default=0) + 2
        head = f"{'':<{width}}" + "".join(f"{name:>7}" for name in METRICS)
        rows = [
            _row(f"{name:<{width}}", counts.quality)
            + f"{counts.matched:>9}{counts.unmatched:>11}{counts.missed:>8}"
            for name, counts in classes
        ]
        return "\n".join([f"{head}{'matched':>9}{'unmatched':>11}{'missed':>8}", *rows])

    def to_json(self) -> str:
        """{"all": {"PQ": percent, ...}, "things", "stuff", "num_images", "thing_classes":
        {name: {"PQ", "SQ", "RQ", "iou_sum", "matched", "unmatched", "missed"}},
        "stuff_classes"}; null for NaN.
        """
        content = {
            "all": _plain(self.all),
            "things": _plain(self.things),
            "stuff": _plain(self.stuff),
            "num_images": self.num_images,
            "thing_classes": _classes(self.thing_classes),
            "stuff_classes": _classes(self.stuff_classes),
        }
        return json.dumps(content, indent=1)


def _average(classes: Iterable[SegmentCounts]) -> dict[str, float]:
    found = [category.quality for category in classes if category.occurs]
    return {
        name: sum(quality[name] for quality in found) / len(found) if found else math.nan
        for name in METRICS
    }


def _row(head: str, quality: Mapping[str, float]) -> str:
    values = (quality[name] for name in METRICS)
    return head + "".join(f"{'-' if math.isnan(value) else f'{value:.1f}':>7}" for value in values)


def _plain(quality: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in quality.items()}


def _classes(classes: Mapping[str, SegmentCounts]) -> dict[str, dict[str, float | None]]:
    return {name: {**_plain(counts.quality), **asdict(counts)} for name, counts in classes.items()}
