"""The numbers of an evaluation of instances, as tables and as JSON.

Chapter 05 of the course.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_lite.evaluation.results_file import ImageResults
from blendmask_lite.terminal import printable

__all__ = ["ClassResult", "InstanceResults"]

CLASS_METRICS = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class ClassResult:
    """The numbers of one class.

    Attributes:
        name: of the class.
        mask: AP, AP50 and AP75 in percent by name; NaN without true objects.
        box: the same of the boxes.
        num_objects: true ones, without crowds.
        num_detections: found.
    """

    name: str
    mask: dict[str, float]
    box: dict[str, float]
    num_objects: int
    num_detections: int


@dataclass(frozen=True)
class InstanceResults:
    """The numbers of an evaluation, in percent.

    Attributes:
        mask: AP, AP50, AP75, APS, APM, APL and AR100 by name; on LVIS APr, APc, APf and AR300
            instead of AR100. NaN where the data has no object to say it by.
        box: the same of the boxes.
        num_images: evaluated.
        classes: C numbers of single classes.
        precision: for "mask" and "box", (10, 101, C) at IoU 0.50, 0.55 to 0.95 and recall 0, 0.01
            to 1, from 0 to 1; NaN for classes without objects.
        found: all detections, by image.
    """

    mask: dict[str, float]
    box: dict[str, float]
    num_images: int
    classes: list[ClassResult] = field(repr=False, default_factory=list)
    precision: dict[str, NDArray[np.float64]] = field(repr=False, default_factory=dict)
    found: list[ImageResults] = field(repr=False, default_factory=list)

    def table(self) -> str:
        """Both rows as text."""
        head = "      " + "".join(f"{name:>7}" for name in self.mask)
        rows = [
            f"{kind:<6}" + "".join(f"{_percent(value):>7}" for value in numbers.values())
            for kind, numbers in (("mask", self.mask), ("box", self.box))
        ]
        return "\n".join([head, *rows, f"{self.num_images} images"])

    def class_table(self) -> str:
        """A row for each class: mask AP, AP50 and AP75, those of the boxes, and counts."""
        names = [printable(each.name) for each in self.classes]
        width = max(len(name) for name in ["class", *names]) + 2
        columns = [f"{kind} {name}" for kind in ("mask", "box") for name in CLASS_METRICS]
        columns += ["objects", "found"]
        lines = [f"{'class':<{width}}" + "".join(f"{name:>11}" for name in columns)]
        for name, each in zip(names, self.classes, strict=True):
            values = [_percent(part[metric]) for part in (each.mask, each.box) for metric in part]
            values += [str(each.num_objects), str(each.num_detections)]
            lines.append(f"{name:<{width}}" + "".join(f"{value:>11}" for value in values))
        return "\n".join(lines)

    def to_json(self) -> str:
        """{"mask": {"AP": percent, ...}, "box": {...}, "num_images": n, "classes": [...]}.

        Each class has name, mask, box, num_objects and num_detections; null stands for NaN.
        """

        def plain(numbers: dict[str, float]) -> dict[str, float | None]:
            return {name: None if math.isnan(value) else value for name, value in numbers.items()}

        classes: list[dict[str, Any]] = [
            {
                "name": each.name,
                "mask": plain(each.mask),
                "box": plain(each.box),
                "num_objects": each.num_objects,
                "num_detections": each.num_detections,
            }
            for each in self.classes
        ]
        content = {"mask": plain(self.mask), "box": plain(self.box), "num_images": self.num_images}
        return json.dumps(content | {"classes": classes}, indent=1)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
