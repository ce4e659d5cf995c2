"""Evaluates a model's panoptic segmentation, and writes its files in COCO's format.

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
from blendmask_lite.evaluation.pictures import in_batches, own_images, require_same_names
from blendmask_lite.files import write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import evaluating
from blendmask_lite.structures import PanopticResult

__all__ = [
    "count_segments",
    "evaluate_panoptic",
    "panoptic_entry",
    "panoptic_results_path",
    "write_panoptic_json",
]


def evaluate_panoptic(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    max_images: int | None = None,
    batch_size: int | None = None,
    share: tuple[int, int] = (0, 1),
    gather: Callable[[list[Any]], list[list[Any]]] | None = None,
    results: Path | None = None,
) -> PanopticQuality:
    """Divide every image into segments and compare them with the true ones.

    Only counts are kept of an image. Several processes may share the work, as in
    `evaluate_model`.

    Args:
        model: with a panoptic branch; each image is resized to its `inference.test_size` and
            `max_size`; its mode is evaluation mode during the call and afterwards what it was.
        dataset: of the model's classes and kinds of stuff.
        progress: called with (done, total) of this process' images.
        max_images: the first so many only.
        batch_size: as in `evaluate_model`.
        share: (rank, number of processes).
        gather: takes plain values of this process and returns those of all of them, in every
            process. Called once, also by a process that had no image.
        results: a .json file that gets all segments in COCO's panoptic format; their pictures go
            into the folder of the same name without .json.

    Raises:
        ValueError: the model has no panoptic branch; the data has no segments, or others than
            the model; no images; a share of several without `gather`; or hotcoco, which counts,
            cannot be imported.
    """
    _counter()  # before the work
    if not model.stuff_names:
        raise ValueError("the model has no panoptic branch: it knows objects and no stuff")
    if not isinstance(dataset, PanopticData):
        raise ValueError("the data has no panoptic annotations, only objects")
    require_same_names("classes", model.class_names, dataset.class_names)
    require_same_names("kinds of stuff", model.stuff_names, dataset.stuff_names)
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    mine = own_images(total, share, can_gather=gather is not None)
    categories = panoptic_categories(dataset)
    own: list[Any] = []
    with evaluating(model):
        for batch in in_batches(model, dataset, mine, batch_size):
            found = model.predict_panoptic(
                [each.image for each in batch], output_sizes=[each.stored_size for each in batch]
            )
            for picture, each in zip(batch, found, strict=True):
                own.append(_counted(dataset, picture.index, each.to("cpu"), categories, results))
                if progress is not None:
                    progress(len(own), len(mine))
    gathered = [own] if gather is None else gather(own)
    # In the order of the images, so that sums are the same whoever counted.
    images = sorted((each for part in gathered for each in part), key=lambda each: each[0])
    if results is not None and share[0] == 0:
        write_panoptic_json(results, [entry for _, entry, _ in images], categories)
    return _summed([counts for _, _, counts in images], categories)


def _counted(
    dataset: PanopticData,
    index: int,
    found: PanopticResult,
    categories: list[dict[str, Any]],
    results: Path | None,
) -> tuple[int, dict[str, Any], dict[int, SegmentCounts]]:
    """What is kept of one image: its index, its entry of the results, and counts."""
    image_id = dataset.image_ids[index]
    entry = panoptic_entry(image_id, found, dataset.category_ids, dataset.stuff_ids)
    if results is not None:
        write_segment_ids(results.with_suffix("") / entry["file_name"], found.ids)
    category_of = {each["id"]: each["category_id"] for each in entry["segments_info"]}
    return index, entry, count_segments(dataset.segments(index), found.ids, category_of, categories)


def count_segments(
    truth: TrueSegments,
    ids: Tensor,
    category_of: Mapping[int, int],
    categories: list[dict[str, Any]],
) -> dict[int, SegmentCounts]:
    """Match the segments of one image (Kirillov et al., section 4.1).

    A true and a predicted segment of one class match above an IoU of 0.5; pixels without a true
    segment leave the union. A predicted segment without match is not held against the model where
    more than half of it lies on such pixels and on a crowd of its class (the last one, if there are
    several, as in panopticapi); a crowd is not missed.

    Args:
        truth: the true segments.
        ids: (H, W) integers, the predicted segment of each pixel; 0 for none.
        category_of: the category ids of the predicted segments.
        categories: id, name and isthing of all.

    Returns:
        Counts by category id, of the categories that occur.

    Raises:
        ValueError: sizes differ, a segment is of none of the categories, or hotcoco cannot be
            imported.
    """
    if ids.shape != truth.ids.shape:
        raise ValueError(
            f"segments of {tuple(ids.shape)} pixels, true ones of {tuple(truth.ids.shape)}"
        )
    true = {each.id: each.category_id for each in truth.segments}
    known = {each["id"] for each in categories}
    if unknown := {*true.values(), *category_of.values()} - known:
        raise ValueError(f"segments of category {min(unknown)}, which the classes do not have")
    crowds = {each.id for each in truth.segments if each.is_crowd}
    height, width = ids.shape
    common = {"images": [image_record(1, (height, width), "")], "categories": categories}
    evaluation = _counter().PanopticEval(
        {**common, "annotations": _annotations(truth.ids, true, crowds)},
        {**common, "annotations": _annotations(ids, category_of, set())},
    )
    evaluation.evaluate()
    found = {
        category_id: SegmentCounts(each["iou"], each["tp"], each["fp"], each["fn"])
        for category_id, each in evaluation.results()["per_class"].items()
    }
    return {category_id: counts for category_id, counts in found.items() if counts.occurs}


def _counter() -> Any:
    return import_hotcoco("hotcoco.panoptic", purpose="panoptic quality")


def _annotations(
    ids: Tensor, category_of: Mapping[int, int], crowds: set[int]
) -> list[dict[str, Any]]:
    """Segments as hotcoco reads them without files: one mask each."""
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
    totals = {each["id"]: SegmentCounts() for each in categories}
    for counts in images:
        for category_id, each in counts.items():
            totals[category_id] += each
    parts = [
        {each["name"]: totals[each["id"]] for each in categories if each["isthing"] == is_thing}
        for is_thing in (1, 0)
    ]
    return PanopticQuality(thing_classes=parts[0], stuff_classes=parts[1], num_images=len(images))


def panoptic_results_path(folder: str | Path, split: str) -> Path:
    """Where the results of a split go, named as COCO's server asks."""
    return Path(folder) / f"panoptic_{split}_blendmask_results.json"


def panoptic_entry(
    image_id: int,
    result: PanopticResult,
    category_ids: Sequence[int],
    stuff_ids: Sequence[int],
) -> dict[str, Any]:
    """The segments of one image as an entry of the results file.

    Args:
        image_id: of the image.
        result: its segments.
        category_ids: of the labels 0 to C-1 of things.
        stuff_ids: of the labels 1 to S of stuff.
    """
    segments = [
        {
            "id": each.id,
            "category_id": (
                category_ids[each.label] if each.is_thing else stuff_ids[each.label - 1]
            ),
        }
        for each in result.segments
    ]
    return {
        "image_id": image_id,
        "file_name": f"{image_id:012}.png",
        "segments_info": segments,
    }


def write_panoptic_json(
    path: Path, entries: Sequence[dict[str, Any]], categories: Sequence[dict[str, Any]]
) -> None:
    """Write the results file of all images."""
    content = {"annotations": list(entries), "categories": list(categories)}
    write_atomically(path, json.dumps(content).encode())
