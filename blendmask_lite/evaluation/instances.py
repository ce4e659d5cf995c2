"""Box and mask AP of a model, by COCO's own evaluation.

Chapter 05 of the course. Lin et al., "Microsoft COCO"; pycocotools computes the numbers.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.transforms import resize_for_test
from blendmask_lite.evaluation.results_file import coco_results
from blendmask_lite.evaluation.sharing import own_images, require_same_names
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import FoundObjects

__all__ = ["InstanceEvaluator", "InstanceResults", "evaluate_model"]

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
        self._known = frozenset(dataset.image_ids)
        self._results: dict[int, list[dict[str, Any]]] = {}

    @property
    def image_ids(self) -> list[int]:
        """Of the images that were added, in the data set's order."""
        return [image_id for image_id in self.dataset.image_ids if image_id in self._results]

    def add(self, image_id: int, detections: FoundObjects) -> None:
        """Take in what was found in an image, at the size of the stored picture.

        Raises:
            ValueError: an image of another data set, or one that was added before.
        """
        self._add(image_id, coco_results(image_id, detections, self.dataset.category_ids))

    def state(self) -> list[Any]:
        """What was added so far, as plain values that can be sent to another process."""
        return list(self._results.items())

    def merge(self, states: Iterable[list[Any]]) -> None:
        """Take in what other evaluators of the same data set have, as their `state` gives it.

        Raises:
            ValueError: an image of another data set, or one that was added before.
        """
        for state in states:
            for image_id, entries in state:
                self._add(image_id, entries)

    def _add(self, image_id: int, entries: list[dict[str, Any]]) -> None:
        if image_id not in self._known:
            raise ValueError(f"image {image_id}: not in the data set")
        if image_id in self._results:
            raise ValueError(f"image {image_id}: added twice")
        self._results[image_id] = entries

    def finish(self) -> InstanceResults:
        """Evaluate the images that were added."""
        image_ids = self.image_ids
        truth = self.dataset.select(image_ids).ground_truth()
        results = [entry for image_id in image_ids for entry in self._results[image_id]]
        return InstanceResults(
            mask=_evaluate(truth, results, "segm"),
            box=_evaluate(truth, results, "bbox"),
            num_images=len(image_ids),
            results_file=results,
        )


def evaluate_model(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    max_images: int | None = None,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    gather: Callable[[list[Any]], list[list[Any]]] | None = None,
) -> InstanceResults:
    """Find the objects of every image and compare them with the true ones.

    Several processes may share the work: each takes every n-th image, `gather` brings together
    what they found, and all of them return the same numbers.

    Args:
        model: each image is resized to its `inference.test_size` and `max_size`; its mode is
            evaluation mode during the call and afterwards what it was.
        dataset: of the model's classes.
        progress: called with (done, total) of this process' images.
        max_images: the first so many only.
        device: of the model.
        share: (rank, number of processes).
        gather: takes plain values of this process and returns those of all of them, in every
            process; such as torch.distributed's all_gather_object. Called once, also by a
            process that had no image.

    Raises:
        ValueError: the data has other classes than the model, or no images; or a share of
            several without `gather`.
    """
    require_same_names("classes", model.class_names, dataset.class_names)
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    mine = own_images(total, share, can_gather=gather is not None)
    evaluator = InstanceEvaluator(dataset)
    was_training = model.training
    model.eval()
    try:
        for done, index in enumerate(mine, start=1):
            sample = dataset.load(index)
            image = resize_for_test(
                sample.image.to(device), model.inference.test_size, model.inference.max_size
            )
            found = model.predict([image], output_sizes=[sample.original_size])[0]
            evaluator.add(sample.image_id, found.to("cpu"))
            if progress is not None:
                progress(done, len(mine))
    finally:
        model.train(was_training)
    if gather is None:
        return evaluator.finish()
    whole = InstanceEvaluator(dataset)
    whole.merge(gather(evaluator.state()))
    return whole.finish()


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
