"""Exercises of chapter 05, the detector's end: decode, suppress, and average precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases05 as cases
from blendmask_lite.course.exercises import wrong05 as wrong
from blendmask_lite.evaluation import one_class
from blendmask_lite.model.fcos import select_candidates
from blendmask_lite.research import detector

__all__ = ["EXERCISES"]


# 05.1  FCOS, equation 1 backwards, and the score


def decode(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    """Turn what the head predicts at each location into a box and C scores.

    Args:
        locations: (L, 2) as (x, y), pixels.
        ltrb: (L, 4) distances to the left, top, right and bottom side, pixels.
        class_logits: (L, C).
        centerness_logits: (L,).

    Returns:
        (L, 4 + C): x0, y0, x1, y1 in pixels, then for every class the square root of its
        probability times the centerness.
    """
    # Step 1: two corners, left and above, right and below
    top_left = locations - ltrb[:, :2]
    bottom_right = locations + ltrb[:, 2:]
    # Step 2: logits to probabilities, and the score of every class
    products = class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]
    return torch.cat([top_left, bottom_right, products.sqrt()], dim=1)


def _reference_decode(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    num, num_classes = class_logits.shape
    every = select_candidates(
        class_logits,
        ltrb,
        centerness_logits,
        locations,
        [num],
        score_threshold=-1.0,
        max_per_level=num * num_classes,
    )
    scores = class_logits.new_zeros(num, num_classes)
    scores[every.location_index, every.labels] = every.scores
    boxes = ltrb.new_zeros(num, 4)
    boxes[every.location_index] = every.boxes
    return torch.cat([boxes, scores], dim=1)


# 05.2  Greedy non-maximum suppression


def keep_greedily(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """The best box removes what overlaps it, then the best of the rest does, and so on.

    Args:
        boxes: (N, 4) corners, pixels.
        scores: (N,).
        labels: (N,) classes; boxes of different classes leave each other alone.
        iou_threshold: a box is removed where its IoU with a kept one is above.

    Returns:
        (N,) bool: which boxes are kept.
    """
    iou = box_iou(boxes, boxes)
    is_kept = torch.zeros(len(boxes), dtype=torch.bool)
    # Step 1: go through the boxes from the best to the worst
    # Step 2: keep each, unless a box kept earlier removes it
    for index in scores.argsort(descending=True).tolist():
        rivals = is_kept & (labels == labels[index])
        is_kept[index] = not (iou[index, rivals] > iou_threshold).any()
    return is_kept


def _reference_greedy(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    return detector.greedy_nms(boxes, scores, labels, iou_threshold=iou_threshold).is_kept


# 05.3  Fast NMS


def keep_fast(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Every better box removes what overlaps it, whether it is removed itself or not.

    Args:
        boxes: (N, 4) corners, pixels.
        scores: (N,), all different.
        labels: (N,) classes; boxes of different classes leave each other alone.
        iou_threshold: a box is removed where its IoU with a better one is above.

    Returns:
        (N,) bool: which boxes are kept. No loop.
    """
    # Step 1: (N, N) bool, whether row i is better than column j, and of the same class
    is_rival = (scores[:, None] > scores) & (labels[:, None] == labels)
    # Step 2: which columns have a rival that overlaps them too much
    removes = is_rival & (box_iou(boxes, boxes) > iou_threshold)
    return ~removes.any(dim=0)


def _reference_fast(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    return detector.fast_nms(boxes, scores, labels, iou_threshold=iou_threshold).is_kept


# 05.4  Average precision


def average_precision(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    """The mean, over levels of recall, of the best precision that has at least this recall.

    Args:
        is_right: (D,) bool, detections of all images from the best score to the worst: whether
            each found an object that no better one had found.
        num_objects: true ones, at least 1.
        recalls: (T,) float64 levels, ascending; COCO takes 0, 0.01, ..., 1.

    Returns:
        A float64 of no axes. A level that is never reached counts as 0.
    """
    # Step 1: precision and recall after the best 1, 2, ... detections
    num_right = is_right.double().cumsum(dim=0)
    precision = num_right / torch.arange(1, len(is_right) + 1)
    recall = num_right / num_objects
    # Step 2: for every level, the best precision of all points that reach it
    reaches = recall >= recalls[:, None]  # (T, D)
    best = torch.cat([recalls.new_zeros(len(recalls), 1), reaches * precision], dim=1).amax(dim=1)
    return best.mean()


EXERCISES = (
    Exercise(
        id="05.1",
        title="Decode: boxes and scores",
        minutes=10,
        difficulty=1,
        solution=decode,
        reference=_reference_decode,
        make_cases=cases.decode_cases,
        result_axes="L, 4 + C",
        wrong_answers=wrong.DECODE,
        hints=(
            "Which two of the four distances are subtracted, and which are added?",
            "torch.cat of the corners; class probabilities (L, C) times centerness (L, 1).",
            "(class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]).sqrt()",
        ),
    ),
    Exercise(
        id="05.2",
        title="Greedy suppression",
        minutes=15,
        difficulty=3,
        solution=keep_greedily,
        reference=_reference_greedy,
        make_cases=cases.suppression_cases,
        result_axes="N",
        wrong_answers=wrong.GREEDY,
        hints=(
            "Who may remove a box: all better ones, or only those that were kept?",
            "Begin with is_kept all False, and go through scores.argsort(descending=True).",
            "A box stays if no kept box of its class has box_iou above the threshold with it.",
        ),
    ),
    Exercise(
        id="05.3",
        title="Fast NMS, without a loop",
        minutes=10,
        difficulty=3,
        solution=keep_fast,
        reference=_reference_fast,
        make_cases=cases.suppression_cases,
        result_axes="N",
        wrong_answers=wrong.FAST,
        hints=(
            "One (N, N) matrix holds all pairs. Which of them may remove?",
            "scores[:, None] > scores says for every pair whether the row is better.",
            "Combine better, same class and IoU above; a column without any True is kept.",
        ),
    ),
    Exercise(
        id="05.4",
        title="Average precision at one IoU",
        minutes=20,
        difficulty=3,
        solution=average_precision,
        reference=one_class.average_precision,
        make_cases=cases.precision_cases,
        tolerance=1e-9,
        wrong_answers=wrong.PRECISION,
        hints=(
            "After the best d detections: how many are right, of how many, of how many objects?",
            "is_right.double().cumsum(0) is divided by 1, 2, 3, ... and by num_objects.",
            "Of all points with recall >= level take the largest precision, or 0; then the mean.",
        ),
    ),
)
