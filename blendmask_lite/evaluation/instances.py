"""Box and mask AP of a model: it runs image by image, then all detections are compared at once.

Chapter 05 of the course. Lin et al., "Microsoft COCO".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.average_precision import (
    evaluate_detections,
    import_hotcoco,
    is_federated,
)
from blendmask_lite.evaluation.pictures import (
    Gather,
    made_by_first,
    predictions,
    require_same_names,
)
from blendmask_lite.evaluation.results import (
    ClassResult,
    ImageResults,
    InstanceResults,
    image_results,
)
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import FoundObjects

__all__ = ["InstanceEvaluator", "detect_all", "evaluate_model"]


class InstanceEvaluator:
    """Collects detections image by image, as run lengths, which need little memory."""

    def __init__(self, dataset: InstanceDataset) -> None:
        self.dataset = dataset
        self._known = frozenset(dataset.image_ids)
        self._found: dict[int, ImageResults] = {}

    @property
    def found(self) -> list[ImageResults]:
        """The detections, one picklable entry per image, in the data set's order."""
        ids = self.dataset.image_ids
        return [self._found[image_id] for image_id in ids if image_id in self._found]

    def add(self, image_id: int, found: FoundObjects) -> None:
        """Add the detections of an image, at the size of the stored image.

        Raises:
            ValueError: the image is not in the data set or was added before, or a score or a box is
                not finite.
        """
        self.add_results([image_results(image_id, found, self.dataset.category_ids)])

    def add_results(self, results: Iterable[ImageResults]) -> None:
        """Add another evaluator's `found`, of the same data set; errors as in `add`."""
        for result in results:
            image_id = result.image_id
            if image_id not in self._known:
                raise ValueError(f"image {image_id}: not in the data set")
            if image_id in self._found:
                raise ValueError(f"image {image_id}: added twice")
            self._found[image_id] = result

    def finish(self, truth: dict[str, Any] | None = None) -> InstanceResults:
        """Evaluate the images that have been added.

        Args:
            truth: the `ground_truth` of these images, if already known; by default it is taken from
                the data set.
        """
        found = self.found
        if truth is None:
            truth = self.dataset.select([result.image_id for result in found]).ground_truth()
        scores = evaluate_detections(truth, found)
        objects = Counter(
            annotation["category_id"]
            for annotation in truth["annotations"]
            if not annotation.get("iscrowd", 0)
        )
        detections = Counter(number for result in found for number in result.category_ids.tolist())
        classes = [
            ClassResult(
                name=name,
                mask=scores["mask"].classes[label],
                box=scores["box"].classes[label],
                num_objects=objects[category_id],
                num_detections=detections[category_id],
            )
            for label, (name, category_id) in enumerate(
                zip(self.dataset.class_names, self.dataset.category_ids, strict=True)
            )
        ]
        return InstanceResults(
            mask=scores["mask"].numbers,
            box=scores["box"].numbers,
            num_images=len(found),
            classes=classes,
            precision={kind: score.precision for kind, score in scores.items()},
            found=found,
        )


def evaluate_model(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    max_images: int | None = None,
    batch_size: int | None = None,
    share: tuple[int, int] = (0, 1),
    gather: Gather | None = None,
) -> InstanceResults:
    """Find the objects of every image and compare them with the true ones; see `detect_all`.

    If there are several processes, the first one compares and sends the numbers to the others.

    Raises:
        ValueError: as in `detect_all`. Before detection: an annotation is damaged, or the data set
            is LVIS and hotcoco cannot be imported.
    """
    require_same_names("classes", model.class_names, dataset.class_names)
    truth = dataset.select(dataset.image_ids[:max_images]).ground_truth()
    if is_federated(truth):
        import_hotcoco("hotcoco", purpose="LVIS's AP")
    evaluator = detect_all(
        model,
        dataset,
        progress=progress,
        max_images=max_images,
        batch_size=batch_size,
        share=share,
        gather=gather,
    )
    # All processes know the detections.
    numbers = made_by_first(lambda: replace(evaluator.finish(truth), found=[]), share[0], gather)
    return replace(numbers, found=evaluator.found)


def detect_all(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    max_images: int | None = None,
    batch_size: int | None = None,
    share: tuple[int, int] = (0, 1),
    gather: Gather | None = None,
) -> InstanceEvaluator:
    """Find the objects of every image.

    Several processes may share the work: each takes every n-th image, `gather` collects all
    detections, and every process returns the same.

    Args:
        model: each image is resized to its `inference.test_size` and `max_size`. It is in
            evaluation mode during the call.
        dataset: data set with the model's classes.
        progress: called with (done, total), counting this process's images.
        max_images: number of images to take from the start of the data set; by default all.
        batch_size: largest number of images that the model gets at once, all of one padded size; up
            to rounding, the results do not depend on it. By default 1 on the CPU, 8 on a GPU.
        share: (rank, number of processes).
        gather: takes this process's picklable values and returns the values gathered from all
            processes, in every process, as torch.distributed's all_gather_object does. Every
            process calls it equally often, even if it had no image.

    Raises:
        ValueError: the data has other classes than the model, or no images; or the work is shared
            without a `gather`.
    """
    require_same_names("classes", model.class_names, dataset.class_names)
    evaluator = InstanceEvaluator(dataset)
    for index, found in predictions(
        model,
        dataset,
        model.predict,
        progress=progress,
        max_images=max_images,
        batch_size=batch_size,
        share=share,
        gather=gather,
    ):
        evaluator.add(dataset.image_ids[index], found)
    if gather is None:
        return evaluator
    whole = InstanceEvaluator(dataset)
    for results in gather(evaluator.found):
        whole.add_results(results)
    return whole
