"""Box and mask AP of a model, by COCO's own evaluation.

Chapter 05 of the course. Lin et al., "Microsoft COCO"; pycocotools computes the numbers.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_lite.datasets.coco_format import encode_masks
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.transforms import resize_for_test
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Detections

__all__ = ["InstanceEvaluator", "InstanceResults", "coco_results", "evaluate_model"]

# Places in COCOeval's list of twelve numbers.
METRICS = {"AP": 0, "AP50": 1, "AP75": 2, "APS": 3, "APM": 4, "APL": 5, "AR100": 8}


@dataclass(frozen=True)
class InstanceResults:
    """The numbers of an evaluation, in percent.

    Attributes:
        mask: AP, AP50, AP75, APS, APM, APL and AR100 by name; NaN where the data has no object
            of that size.
        box: the same of the boxes.
        num_images: evaluated.
        results_file: all detections in COCO's results format.
    """

    mask: dict[str, float]
    box: dict[str, float]
    num_images: int
    results_file: list[dict[str, Any]] = field(repr=False, default_factory=list)

    def table(self) -> str:
        """Both rows as text."""
        head = "      " + "".join(f"{name:>7}" for name in METRICS)
        rows = [
            f"{kind:<6}" + "".join(f"{_percent(numbers[name]):>7}" for name in METRICS)
            for kind, numbers in (("mask", self.mask), ("box", self.box))
        ]
        return "\n".join([head, *rows, f"{self.num_images} images"])

    def to_json(self) -> str:
        """{"mask": {"AP": percent, ...}, "box": {...}, "num_images": n}; null for NaN."""

        def plain(numbers: dict[str, float]) -> dict[str, float | None]:
            return {name: None if np.isnan(value) else value for name, value in numbers.items()}

        content = {"mask": plain(self.mask), "box": plain(self.box), "num_images": self.num_images}
        return json.dumps(content, indent=1)


class InstanceEvaluator:
    """Collects detections image by image, as run lengths, so that memory stays small.

    Args:
        dataset: with the true objects.
    """

    def __init__(self, dataset: InstanceDataset) -> None:
        self.dataset = dataset
        self.results: list[dict[str, Any]] = []
        self.image_ids: list[int] = []

    def add(self, image_id: int, detections: Detections) -> None:
        """Take in what was found in an image, at the size of the stored picture.

        Raises:
            ValueError: an image of another data set, or one that was added before.
        """
        if image_id not in self.dataset.image_ids:
            raise ValueError(f"image {image_id}: not in the data set")
        if image_id in self.image_ids:
            raise ValueError(f"image {image_id}: added twice")
        self.image_ids.append(image_id)
        self.results += coco_results(image_id, detections, self.dataset.category_ids)

    def finish(self) -> InstanceResults:
        """Evaluate the images that were added."""
        truth = self.dataset.select(self.image_ids).ground_truth()
        return InstanceResults(
            mask=_evaluate(truth, self.results, "segm"),
            box=_evaluate(truth, self.results, "bbox"),
            num_images=len(self.image_ids),
            results_file=self.results,
        )


def coco_results(
    image_id: int, detections: Detections, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Detections as entries of COCO's results format.

    Args:
        image_id: of the image.
        detections: N, at the size of the stored picture.
        category_ids: of the labels; without, the labels themselves.

    Returns:
        N dictionaries with image_id, category_id, segmentation (compressed run lengths), bbox
        (x, y, width, height) and score.
    """
    entries = []
    for run, box, label, score in zip(
        encode_masks(detections.masks),
        detections.boxes.tolist(),
        detections.labels.tolist(),
        detections.scores.tolist(),
        strict=True,
    ):
        x0, y0, x1, y1 = box
        entries.append(
            {
                "image_id": image_id,
                "category_id": label if category_ids is None else category_ids[label],
                "segmentation": run,
                "bbox": [round(side, 3) for side in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(score, 6),
            }
        )
    return entries


def evaluate_model(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    max_images: int | None = None,
    device: torch.device | str = "cpu",
) -> InstanceResults:
    """Find the objects of every image and compare them with the true ones.

    Args:
        model: each image is resized to its `inference.test_size` and `max_size`; its mode is
            evaluation mode during the call and afterwards what it was.
        dataset: of the model's classes.
        progress: called with (done, total).
        max_images: the first so many only.
        device: of the model.

    Raises:
        ValueError: the data has other classes than the model, or no images.
    """
    if tuple(dataset.class_names) != model.class_names:
        raise ValueError(
            f"the model knows {_listed(model.class_names)}, the data has "
            f"{_listed(dataset.class_names)}"
        )
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    if total < 1:
        raise ValueError("there are no images to evaluate")
    evaluator = InstanceEvaluator(dataset)
    was_training = model.training
    model.eval()
    try:
        for index in range(total):
            sample = dataset.load(index)
            image = resize_for_test(
                sample.image.to(device), model.inference.test_size, model.inference.max_size
            )
            found = model.predict([image], output_sizes=[sample.original_size])[0]
            evaluator.add(sample.image_id, found.to("cpu"))
            if progress is not None:
                progress(index + 1, total)
    finally:
        model.train(was_training)
    return evaluator.finish()


def _evaluate(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: str
) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = {"info": {}, **truth}
        true.createIndex()
        # pycocotools takes a result's area from its box where it has one; the sizes of masks
        # are to be those of the masks.
        dropped = "bbox" if kind == "segm" else "segmentation"
        entries = [{k: v for k, v in entry.items() if k != dropped} for entry in results]
        found = true.loadRes(entries) if entries else COCO()
        if not entries:
            found.dataset = {**true.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(true, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = evaluation.stats
    return {
        name: float("nan") if values[place] < 0 else round(100 * float(values[place]), 4)
        for name, place in METRICS.items()
    }


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"


def _listed(names: Sequence[str], limit: int = 4) -> str:
    more = "" if len(names) <= limit else f" and {len(names) - limit} more"
    return f"{len(names)} classes ({', '.join(names[:limit])}{more})"
