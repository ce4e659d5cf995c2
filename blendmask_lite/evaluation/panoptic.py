"""Evaluate a model's panoptic segmentation, and write its files in COCO's format.

Chapter 14.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.datasets.coco_format import encode_masks, image_record
from blendmask_lite.datasets.panoptic import (
    PanopticData,
    TrueSegments,
    panoptic_categories,
    write_segment_ids,
)
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.evaluation.average_precision import import_hotcoco
from blendmask_lite.evaluation.panoptic_quality import PanopticQuality, SegmentCounts
from blendmask_lite.evaluation.pictures import Gather, predictions, require_same_names
from blendmask_lite.files import write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import PanopticResult

__all__ = [
    "count_segments",
    "evaluate_panoptic",
    "panoptic_entry",
    "panoptic_results_path",
]


def evaluate_panoptic(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    max_images: int | None = None,
    batch_size: int | None = None,
    share: tuple[int, int] = (0, 1),
    gather: Gather | None = None,
    results: Path | None = None,
) -> PanopticQuality:
    """Divide every image into segments and compare them with the true segments.

    Only counts are kept for each image. `detect_all` explains the arguments, except for `results`:
    a .json file to which all segments are written in COCO's panoptic format. The segment images go
    into a folder of the same name without .json.

    Raises:
        ValueError: the model has no panoptic branch; the data have no segments, or other classes
            than the model; there are no images; the work is shared without a `gather`; or hotcoco,
            which does the counting, cannot be imported.
    """
    _counter()  # fails before any work if hotcoco is missing
    if not model.stuff_names:
        raise ValueError("the model has no panoptic branch: it knows objects and no stuff")
    if not isinstance(dataset, PanopticData):
        raise ValueError("the data has no panoptic annotations, only objects")
    require_same_names("classes", model.class_names, dataset.class_names)
    require_same_names("kinds of stuff", model.stuff_names, dataset.stuff_names)
    categories = panoptic_categories(dataset)
    own: list[Any] = []
    for index, found in predictions(
        model,
        dataset,
        model.predict_panoptic,
        progress=progress,
        max_images=max_images,
        batch_size=batch_size,
        share=share,
        gather=gather,
    ):
        own.append(_counted(dataset, index, found, categories, results))
    gathered = [own] if gather is None else gather(own)
    # In the order of the images: the sums must not depend on which process counted.
    images = sorted((counted for part in gathered for counted in part), key=lambda each: each[0])
    if results is not None and share[0] == 0:
        content = {"annotations": [entry for _, entry, _ in images], "categories": categories}
        write_atomically(results, json.dumps(content).encode())
    return _summed([counts for _, _, counts in images], categories)


def _counted(
    dataset: PanopticData,
    index: int,
    found: PanopticResult,
    categories: list[dict[str, Any]],
    results: Path | None,
) -> tuple[int, dict[str, Any], dict[int, SegmentCounts]]:
    """The data kept for one image: its index, its entry in the results, and its counts."""
    image_id = dataset.image_ids[index]
    entry = panoptic_entry(image_id, found, dataset.category_ids, dataset.stuff_ids)
    if results is not None:
        write_segment_ids(results.with_suffix("") / entry["file_name"], found.ids)
    category_of = {segment["id"]: segment["category_id"] for segment in entry["segments_info"]}
    return index, entry, count_segments(dataset.segments(index), found.ids, category_of, categories)


def count_segments(
    truth: TrueSegments,
    ids: Tensor,
    category_of: Mapping[int, int],
    categories: list[dict[str, Any]],
) -> dict[int, SegmentCounts]:
    """Match the segments of one image (Kirillov et al., section 4.1).

    A true and a predicted segment of one class match above an IoU of 0.5; pixels without a true
    segment do not count in the union. A predicted segment without a match does not count if more
    than half of it lies on such pixels and on a crowd of its class (on the last crowd, if there are
    several, as in panopticapi). A crowd cannot be missed.

    Args:
        truth: the true segments.
        ids: (H, W) integers, the predicted segment of each pixel; 0 for none.
        category_of: the category ids of the predicted segments.
        categories: id, name and isthing of every category.

    Returns:
        Counts by category id, for the categories that occur.

    Raises:
        ValueError: sizes differ, a segment belongs to no category, or hotcoco cannot be
            imported.
    """
    if ids.shape != truth.ids.shape:
        sizes = f"{tuple(ids.shape)} pixels, true ones of {tuple(truth.ids.shape)}"
        raise ValueError(f"segments of {sizes}")
    true = {segment.id: segment.category_id for segment in truth.segments}
    known = {category["id"] for category in categories}
    if unknown := {*true.values(), *category_of.values()} - known:
        raise ValueError(f"segments of category {min(unknown)}, which the classes do not have")
    crowds = {segment.id for segment in truth.segments if segment.is_crowd}
    height, width = ids.shape
    common = {"images": [image_record(1, (height, width), "")], "categories": categories}
    evaluation = _counter().PanopticEval(
        {**common, "annotations": _annotations(truth.ids, true, crowds)},
        {**common, "annotations": _annotations(ids, category_of, set())},
    )
    evaluation.evaluate()
    found = {
        category_id: SegmentCounts(numbers["iou"], numbers["tp"], numbers["fp"], numbers["fn"])
        for category_id, numbers in evaluation.results()["per_class"].items()
    }
    return {category_id: counts for category_id, counts in found.items() if counts.occurs}


def _counter() -> Any:
    return import_hotcoco("hotcoco.panoptic", purpose="panoptic quality")


def _annotations(
    ids: Tensor, category_of: Mapping[int, int], crowds: set[int]
) -> list[dict[str, Any]]:
    """Segments as hotcoco accepts them without files: one mask per segment."""
    numbers = torch.tensor(list(category_of), dtype=torch.int64)
    runs = encode_masks(ids == numbers[:, None, None])
    return [
        {
            "id": place,
            "image_id": 1,
            "category_id": category_id,
            "iscrowd": int(number in crowds),
            "segmentation": run,
        }
        for place, ((number, category_id), run) in enumerate(
            zip(category_of.items(), runs, strict=True), start=1
        )
    ]


def _summed(
    images: list[dict[int, SegmentCounts]], categories: list[dict[str, Any]]
) -> PanopticQuality:
    totals = {category["id"]: SegmentCounts() for category in categories}
    for counts in images:
        for category_id, count in counts.items():
            totals[category_id] += count
    parts = [
        {each["name"]: totals[each["id"]] for each in categories if each["isthing"] == is_thing}
        for is_thing in (1, 0)
    ]
    return PanopticQuality(thing_classes=parts[0], stuff_classes=parts[1], num_images=len(images))


def panoptic_results_path(folder: str | Path, split: str) -> Path:
    """The results file of a split, with the name that COCO's server expects."""
    return Path(folder) / f"panoptic_{split}_blendmask_results.json"


def panoptic_entry(
    image_id: int,
    result: PanopticResult,
    category_ids: Sequence[int],
    stuff_ids: Sequence[int],
) -> dict[str, Any]:
    """The segments of one image as an entry of the results file.

    `category_ids` belong to the thing labels 0 to C-1, `stuff_ids` to the stuff labels 1 to S.
    """
    segments = []
    for segment in result.segments:
        number = category_ids[segment.label] if segment.is_thing else stuff_ids[segment.label - 1]
        segments.append({"id": segment.id, "category_id": number})
    name = f"{image_id:012}.png"
    return {"image_id": image_id, "file_name": name, "segments_info": segments}
