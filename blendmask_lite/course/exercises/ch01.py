"""Exercises of chapter 01, objects as data: polygons, run lengths, crops of masks, sizes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import roi_align

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases01 as cases
from blendmask_lite.course.exercises import wrong01 as wrong
from blendmask_lite.datasets.coco_format import decode_masks, encode_masks, run_length
from blendmask_lite.evaluation.average_precision import evaluate_detections
from blendmask_lite.masks import crop_masks

__all__ = ["EXERCISES"]


# 01.1  Polygons


def polygon_mask(corners: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill a polygon: the pixels whose center lies inside of it.

    Args:
        corners: (P, 2) as (x, y), pixels; the last is joined to the first. P may be 0.
        size: (H, W) of the image.

    Returns:
        (H, W) bool. A ray from the center to the right crosses the outline an odd number of
        times: inside.
    """
    # Step 1: the centers of all pixels, x as (W,) and y as (H, 1)
    height, width = size
    x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
    # Step 2: the two ends of all sides as (P, 1, 1); the last side ends at the first corner
    x0, y0 = corners.T[:, :, None, None]
    x1, y1 = corners.roll(-1, dims=0).T[:, :, None, None]
    # Step 3: which rows does a side cross, and at which x?
    is_crossed = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    # Step 4: count the crossings to the right of every center; odd is inside
    return (is_crossed & (x < crossing)).sum(dim=0) % 2 == 1


# 01.2  Run lengths


def decode_runs(counts: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn COCO's run lengths into a mask.

    Args:
        counts: (P,) int64, the lengths of runs of 0, 1, 0, 1, ... in turn, beginning with 0. They
            go down the first column, then down the second, and so on, and add up to H * W.
        size: (H, W) of the image.

    Returns:
        (H, W) bool.
    """
    # Step 1: the value of every run: 0, 1, 0, 1, ...
    values = torch.arange(len(counts)) % 2 == 1
    # Step 2: as many copies of each as its length, one after the other
    pixels = values.repeat_interleave(counts)
    # Step 3: W columns of H pixels, then rows first
    height, width = size
    return pixels.view(width, height).T


def _reference_decode_runs(counts: Tensor, size: tuple[int, int]) -> Tensor:
    segmentation = {"size": list(size), "counts": counts.tolist()}
    return decode_masks([run_length(segmentation, size)], size)[0]


# 01.3  Crop and resize


def crop_and_resize(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut every mask out along its box and resize it to R x R: the target of a mask head.

    Args:
        masks: (N, H, W) bool.
        boxes: (N, 4) corners, pixels, one a mask.
        size: R, cells.

    Returns:
        (N, R, R) bool: cells of which the mask covers half or more.
    """
    # Step 1: a region is (index of its mask, x0, y0, x1, y1); maps are (N, 1, H, W), float
    index = torch.arange(len(masks))
    regions = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    # Step 2: roi_align with aligned=True averages samples; sampling_ratio=0: one a pixel
    shares = roi_align(
        masks[:, None].to(boxes), regions, size, spatial_scale=1.0, sampling_ratio=0, aligned=True
    )
    # Step 3: half or more
    return shares[:, 0] >= 0.5


# 01.4  Sizes


def size_groups(areas: Tensor) -> Tensor:
    """Which of COCO's three numbers by size every object counts for.

    Args:
        areas: (N,) pixels of each mask.

    Returns:
        (N, 3) bool: for AP small, medium, large. Ranges of area are 0 to 32 squared, 32 squared
        to 96 squared, and 96 squared up, each with both of its ends.
    """
    # Step 1: the lower and the upper end of the three ranges, (3,) each
    low, high = torch.tensor([0, 32**2, 96**2]), torch.tensor([32**2, 96**2, torch.inf])
    # Step 2: compare (N, 1) with (3,)
    return (areas[:, None] >= low) & (areas[:, None] <= high)


def _reference_size_groups(areas: Tensor) -> Tensor:
    """Ask the evaluation: a number that a single object does not count for is NaN."""
    rows = [_counts_for(area) for area in areas.tolist()]
    return torch.tensor(rows, dtype=torch.bool).reshape(-1, 3)


def _counts_for(area: float) -> list[bool]:
    run = encode_masks(torch.ones(1, 1, 1, dtype=torch.bool))[0]
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": run, "area": area}
    truth = {
        "images": [{"id": 1, "height": 1, "width": 1}],
        "annotations": [entry | {"bbox": [0, 0, 1, 1], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "object"}],
    }
    numbers = evaluate_detections(truth, [])["mask"].numbers
    return [not math.isnan(numbers[name]) for name in ("APS", "APM", "APL")]


EXERCISES = (
    Exercise(
        id="01.1",
        title="Fill a polygon",
        minutes=15,
        difficulty=3,
        solution=polygon_mask,
        reference=cases.coco_polygon,
        make_cases=cases.polygon_cases,
        result_axes="H, W",
        wrong_answers=wrong.POLYGON,
        hints=(
            "A side crosses a row if one of its ends is above the row's center and one is not.",
            "Where? y grows from y0 to y1 while x grows from x0 to x1, at the same pace.",
            "(y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0), added up.",
        ),
    ),
    Exercise(
        id="01.2",
        title="Decode run lengths",
        minutes=10,
        difficulty=2,
        solution=decode_runs,
        reference=_reference_decode_runs,
        make_cases=cases.runs_cases,
        result_axes="H, W",
        wrong_answers=wrong.RUNS,
        hints=(
            "Which value does the first run have, and which the second?",
            "repeat_interleave copies entry i of a tensor counts[i] times.",
            "A view as (W, H) has a column in each of its rows; .T makes (H, W) of it.",
        ),
    ),
    Exercise(
        id="01.3",
        title="Crop and resize a mask to R x R",
        minutes=10,
        difficulty=3,
        solution=crop_and_resize,
        reference=crop_masks,
        make_cases=cases.crop_cases,
        result_axes="N, R, R",
        wrong_answers=wrong.CROP,
        hints=(
            "What share of a cell does the mask cover, and which share is enough?",
            "masks[:, None].float() are the maps; torch.cat puts the index in front of each box.",
            "roi_align(maps, regions, size, sampling_ratio=0, aligned=True)[:, 0] >= 0.5",
        ),
    ),
    Exercise(
        id="01.4",
        title="Small, medium, large",
        minutes=5,
        difficulty=1,
        solution=size_groups,
        reference=_reference_size_groups,
        make_cases=cases.size_cases,
        wrong_answers=wrong.SIZES,
        hints=(
            "What is an object of exactly 32 x 32 pixels: small, or medium?",
            "areas[:, None] has the shape (N, 1): compared with (3,) it gives (N, 3).",
            "(areas[:, None] >= low) & (areas[:, None] <= high), with torch.inf as the last high.",
        ),
    ),
)
