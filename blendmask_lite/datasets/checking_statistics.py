"""What a split contains in numbers, and what those numbers say about its annotations."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from blendmask_lite.datasets.checking_masks import MaskSizes
from blendmask_lite.datasets.coco_entries import AnnotationFile
from blendmask_lite.datasets.entries import Problem, Report

__all__ = ["check_numbers", "statistics"]

SIZES = {"small": 32**2, "medium": 96**2}  # COCO's: areas up to these; all others are large
MAX_DETECTIONS = 100  # of an image, that COCO's evaluation counts
LEAST_FOR_A_SHARE = 20  # annotations, before a share of them means something


def statistics(index: AnnotationFile, masks: MaskSizes) -> dict[str, Any]:
    """Numbers of images, objects, crowds, sizes and classes.

    Args:
        index: the valid entries.
        masks: of the annotations whose masks could be read.
    """
    every = [each for entries in index.annotations.values() for each in entries]
    objects = [each for each in every if not each.get("iscrowd", 0)]
    per_image = Counter(each["image_id"] for each in objects)
    per_class = Counter(each["category_id"] for each in objects)
    sizes = dict.fromkeys((*SIZES, "large"), 0)
    for each in objects:
        area = each.get("area", masks.get(each["id"], (0.0, False))[0])
        sizes[next((name for name, most in SIZES.items() if area <= most), "large")] += 1
    return {
        "images": len(index.images),
        "images_without_objects": len(index.images) - len(per_image),
        "objects": len(objects),
        "crowds": len(every) - len(objects),
        "most_objects_in_an_image": max(per_image.values(), default=0),
        "instances_by_size": sizes,
        "classes": [
            {"id": number, "name": name, "objects": per_class[number]}
            for number, name in index.categories.items()
        ],
    }


def check_numbers(
    index: AnnotationFile, masks: MaskSizes, numbers: Mapping[str, Any], report: Report
) -> None:
    """Report what the numbers of a split show: unused classes, crowds, masks of boxes.

    Args:
        index: the valid entries.
        masks: of the annotations whose masks could be read.
        numbers: of `statistics`.
        report: of the problems.
    """
    if not index.images:
        report(Problem("no images", "images", "there is no valid one"))
    if not index.categories:
        report(Problem("no categories", "categories", "there is no valid one"))
    _check_categories(numbers["classes"], report)
    for image_id in index.images:
        entries = index.annotations.get(image_id, [])
        num_objects = sum(not each.get("iscrowd", 0) for each in entries)
        if num_objects == 0:
            report(Problem("image without objects", f"image {image_id}", "has no object"))
        elif num_objects > MAX_DETECTIONS:
            text = f"has {num_objects} objects"
            report(Problem("crowded image", f"image {image_id}", text))
    num_annotations = numbers["objects"] + numbers["crowds"]
    if num_annotations >= LEAST_FOR_A_SHARE and numbers["crowds"] > numbers["objects"]:
        text = f"{numbers['crowds']} of {num_annotations} are crowds"
        report(Problem("mostly crowds", "annotations", text))
    num_rectangles = sum(is_filled for _, is_filled in masks.values())
    if len(masks) >= LEAST_FOR_A_SHARE and num_rectangles > len(masks) / 2:
        text = f"{num_rectangles} of {len(masks)} masks fill their boxes"
        report(Problem("rectangular masks", "annotations", text))


def _check_categories(classes: list[dict[str, Any]], report: Report) -> None:
    names: dict[str, int] = {}
    for each in classes:
        entry = f"category {each['id']}"
        if not each["objects"]:
            report(Problem("unused category", entry, f"{each['name']} has no object"))
        other = names.setdefault(each["name"], each["id"])
        if other != each["id"]:
            text = f"{each['name']} is the name of category {other}, too"
            report(Problem("category name twice", entry, text))
    numbers = [each["id"] for each in classes]
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            text = f"follows category {before}"
            report(Problem("gaps between category ids", f"category {after}", text))
