"""Detections as results: collected while a data set is evaluated, and as COCO's results file."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_lite.datasets.coco_format import encode_masks, encode_part
from blendmask_lite.files import write_atomically
from blendmask_lite.structures import AnyDetections, Detections, FoundObjects
from blendmask_lite.terminal import counted, printable

__all__ = [
    "ClassResult",
    "ImageResults",
    "InstanceResults",
    "image_results",
    "submission_path",
    "write_results",
    "write_submission",
]

CLASS_METRICS = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class ClassResult:
    """The numbers of one class."""

    name: str
    mask: dict[str, float]  # AP, AP50 and AP75 in percent by name; NaN if there are no objects
    box: dict[str, float]
    num_objects: int  # true objects, without crowds
    num_detections: int


@dataclass(frozen=True)
class InstanceResults:
    """The numbers of an evaluation, in percent.

    Attributes:
        mask: AP, AP50, AP75, APS, APM, APL and AR100 by name; on LVIS APr, APc, APf and AR300
            instead of AR100. NaN if no object in the data counts for a metric.
        box: the same metrics for the boxes.
        num_images: number of images that were evaluated.
        classes: the numbers of each of the C classes.
        precision: (10, 101, C), 0 to 1, for "mask" and for "box", at IoU 0.50, 0.55 to 0.95 and
            recall 0, 0.01 to 1; NaN for classes without objects.
        found: all detections, by image.
    """

    mask: dict[str, float]
    box: dict[str, float]
    num_images: int
    classes: list[ClassResult] = field(repr=False, default_factory=list)
    precision: dict[str, NDArray[np.float64]] = field(repr=False, default_factory=dict)
    found: list[ImageResults] = field(repr=False, default_factory=list)

    def table(self) -> str:
        """Masks and boxes as rows of text."""
        head = "      " + "".join(f"{name:>7}" for name in self.mask)
        rows = [
            f"{kind:<6}" + "".join(f"{_percent(value):>7}" for value in numbers.values())
            for kind, numbers in (("mask", self.mask), ("box", self.box))
        ]
        return "\n".join([head, *rows, counted(self.num_images, "image")])

    def class_table(self) -> str:
        """One row for each class: mask AP, AP50 and AP75, the same for boxes, and counts.

        Detections of all scores are counted, even low scores, which AP ranks last.
        """
        names = [printable(result.name) for result in self.classes]
        width = max(len(name) for name in ["class", *names]) + 2
        columns = [f"{kind} {name}" for kind in ("mask", "box") for name in CLASS_METRICS]
        columns += ["objects", "detections"]
        lines = [f"{'class':<{width}}" + "".join(f"{name:>11}" for name in columns)]
        for name, result in zip(names, self.classes, strict=True):
            numbers = [*result.mask.values(), *result.box.values()]
            values = [_percent(number) for number in numbers]
            values += [str(result.num_objects), str(result.num_detections)]
            lines.append(f"{name:<{width}}" + "".join(f"{value:>11}" for value in values))
        return "\n".join(lines)

    def to_json(self) -> str:
        """{"mask": {"AP": percent, ...}, "box": {...}, "num_images": n, "classes": [...]}.

        Each class has name, mask, box, num_objects and num_detections; null stands for NaN.
        """

        def plain(numbers: dict[str, float]) -> dict[str, float | None]:
            return {name: None if math.isnan(value) else value for name, value in numbers.items()}

        classes = [
            asdict(result) | {"mask": plain(result.mask), "box": plain(result.box)}
            for result in self.classes
        ]
        content = {"mask": plain(self.mask), "box": plain(self.box), "num_images": self.num_images}
        return json.dumps(content | {"classes": classes}, indent=1)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


@dataclass(frozen=True)
class ImageResults:
    """The detections in one image, about 200 bytes per object.

    Attributes:
        image_id: id of the image.
        size: (H, W) of the stored image.
        category_ids: (N,) int64, category of each object.
        boxes: (N, 4) float64 as x, y, width, height, pixels, rounded to thousandths.
        scores: (N,) float64, rounded to millionths.
        counts: N masks as compressed run lengths.
    """

    image_id: int
    size: tuple[int, int]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    counts: list[str]

    def __len__(self) -> int:
        return len(self.counts)

    def segmentations(self) -> list[dict[str, Any]]:
        """N masks as compressed run lengths."""
        size = list(self.size)
        return [{"size": size, "counts": counts} for counts in self.counts]

    def entries(self, *, has_boxes: bool = True) -> list[dict[str, Any]]:
        """N dictionaries with image_id, category_id, segmentation, bbox and score.

        has_boxes: whether to include bbox. If an entry has one, pycocotools takes the box's area
            for the object's, even when it evaluates masks.
        """
        entries: list[dict[str, Any]] = []
        columns = (self.category_ids.tolist(), self.boxes.tolist(), self.scores.tolist())
        for run, category_id, box, score in zip(self.segmentations(), *columns, strict=True):
            entry = {"image_id": self.image_id, "category_id": category_id, "segmentation": run}
            entries.append(entry | ({"bbox": box} if has_boxes else {}) | {"score": score})
        return entries


def image_results(
    image_id: int,
    found: FoundObjects | AnyDetections,
    category_ids: Sequence[int] | None = None,
) -> ImageResults:
    """The objects found in an image, with masks as run lengths.

    Args:
        image_id: id of the image.
        found: N objects, at the size of the stored image.
        category_ids: category id of each label; by default the labels themselves.

    Raises:
        ValueError: a score or a box is not finite.
    """
    boxes, scores = (each.double().cpu() for each in (found.boxes, found.scores))
    if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
        raise ValueError(f"image {image_id}: a score or a box of a detection is not finite")
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    labels = found.labels.cpu().numpy().astype(np.int64)
    if isinstance(found, AnyDetections) and not isinstance(found, Detections):
        height, width = found.image_size
        runs = [encode_part(*part, (height, width)) for part in found.mask_parts()]
    else:
        height, width = found.masks.shape[-2:]
        runs = encode_masks(found.masks)
    return ImageResults(
        image_id=image_id,
        size=(height, width),
        category_ids=labels if category_ids is None else np.asarray(category_ids)[labels],
        boxes=torch.stack([x0, y0, x1 - x0, y1 - y0], dim=1).numpy().round(3),
        scores=scores.numpy().round(6),
        counts=[run["counts"] for run in runs],
    )


def write_results(path: Path, results: Iterable[ImageResults]) -> None:
    """Write all entries to a JSON file; see `ImageResults.entries`."""
    write_atomically(path, _as_json(results, has_boxes=True))


def submission_path(path: Path, split: str) -> Path:
    """The file for results of a split that only a server can evaluate, such as test-dev2017.

    `path` is a folder, or a file with a name that the server accepts; ValueError otherwise.
    """
    if path.is_dir() or not path.suffix:
        return path / f"detections_{split}_blendmask_results.json"
    if not re.fullmatch(rf"detections_{re.escape(split)}_\w+_results\.json", path.name):
        raise ValueError(
            f"{path}: the server of {split} wants detections_{split}_NAME_results.json; "
            "give such a name or a folder"
        )
    return path


def write_submission(path: Path, results: Iterable[ImageResults]) -> Path:
    """Write results for COCO's server, as masks without boxes, to a `submission_path`.

    Returns:
        The zip file to send, next to the results.
    """
    content = _as_json(results, has_boxes=False)
    write_atomically(path, content)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.name, content)  # without a folder, which the server would refuse
    archive_path = path.with_suffix(".zip")
    write_atomically(archive_path, packed.getvalue())
    return archive_path


def _as_json(results: Iterable[ImageResults], has_boxes: bool) -> bytes:
    parts = (
        json.dumps(result.entries(has_boxes=has_boxes))[1:-1] for result in results if len(result)
    )
    return ("[" + ", ".join(parts) + "]").encode()
