"""Exercises of chapter 14: the panoptic merge, panoptic quality, and what an object costs."""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases14 as cases
from blendmask_lite.course.exercises import wrong14 as wrong

__all__ = ["EXERCISES"]


# 14.1  The panoptic merge


def merge(
    masks: Tensor,
    scores: Tensor,
    stuff: Tensor,
    score_threshold: float,
    overlap: float,
    stuff_area: int,
) -> Tensor:
    """Give every pixel to one object, to one kind of stuff, or to nobody.

    Args:
        masks: (N, H, W) bool; objects may overlap.
        scores: (N,) from 0 to 1, in no order.
        stuff: (H, W) int64 of the semantic branch: 0 things, 1 to S stuff.
        score_threshold: objects below it do not count.
        overlap: an object with a larger share of its mask covered already is left out.
        stuff_area: a kind of stuff with fewer free pixels is left out.

    Returns:
        (H, W) int64: 0 nobody, 1 to N the objects in the order of `masks`, N + s stuff s.
    """
    owner = torch.zeros_like(stuff)
    # Step 1: objects, best score first; each gets its free pixels, unless too much is covered
    for index in scores.argsort(descending=True, stable=True).tolist():
        free = masks[index] & (owner == 0)
        area, free_area = int(masks[index].sum()), int(free.sum())
        if scores[index] < score_threshold or free_area == 0:
            continue
        if (area - free_area) / area <= overlap:
            owner[free] = index + 1
    # Step 2: each kind of stuff gets its free pixels, if there are enough
    for label in stuff[stuff > 0].unique().tolist():
        free = (stuff == label) & (owner == 0)
        if free.sum() >= stuff_area:
            owner[free] = len(masks) + label
    return owner


# 14.2  Matching segments


def count_matches(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    """Match the segments of one picture (Kirillov et al., section 4.1).

    Args:
        true_ids: (H, W) int64: the true segment of each pixel, 1 to T, or 0: nobody said (void).
        true_labels: (T,) int64 class of the segments 1 to T.
        found_ids: (H, W) int64, 1 to F, or 0: nothing found.
        found_labels: (F,) int64.
        num_classes: C.

    Returns:
        (C, 4) float64 per class: sum of the IoUs of matched pairs, number of matched pairs, found
        but unmatched, true but missed.
    """
    counts = torch.zeros(num_classes, 4, dtype=torch.float64)
    void = true_ids == 0
    matched_true, matched_found = set(), set()
    # Step 1: two segments of one class match where the IoU, without void pixels, is above 1/2
    for t, label in enumerate(true_labels.tolist(), start=1):
        for f in (found_labels == label).nonzero()[:, 0].tolist():
            true, found = true_ids == t, found_ids == f + 1
            iou = (true & found).sum() / ((true | found) & ~void).sum()
            if iou > 0.5:
                counts[label] += torch.tensor([iou, 1, 0, 0], dtype=torch.float64)
                matched_true.add(t)
                matched_found.add(f + 1)
    # Step 2: other found ones are unmatched, but not where more than half of them is void
    for f, label in enumerate(found_labels.tolist(), start=1):
        is_void = void[found_ids == f].float().mean() > 0.5
        if f not in matched_found and not is_void:
            counts[label, 2] += 1
    # Step 3: other true ones are missed
    for t, label in enumerate(true_labels.tolist(), start=1):
        if t not in matched_true:
            counts[label, 3] += 1
    return counts


# 14.3  Panoptic quality


def average_quality(counts: Tensor) -> Tensor:
    """PQ, SQ and RQ (Kirillov et al., section 4.2), averaged over the classes that occur.

    Args:
        counts: (C, 4) float64 per class, summed over the pictures: sum of IoUs, matched,
            unmatched, missed; at least one class occurs.

    Returns:
        (3,) float64: PQ, SQ and RQ in percent. A class without a match has SQ 0.
    """
    # Step 1: only classes with a segment, true or found
    iou_sum, matched, unmatched, missed = counts[counts[:, 1:].sum(dim=1) > 0].T
    # Step 2: per class, the mean IoU of its matches and the F1 score of its segments
    segmentation = iou_sum / matched.clamp(min=1)
    recognition = matched / (matched + (unmatched + missed) / 2)
    # Step 3: multiply class by class, then average
    qualities = torch.stack([segmentation * recognition, segmentation, recognition])
    return 100 * qualities.mean(dim=1)


# 14.4  What the objects cost a mask head


def head_cost(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    """Multiply-adds of Mask R-CNN's mask head for one class, all objects together.

    The head runs once an object: `num_convs` convolutions of 3 x 3 on size x size cells, a
    transposed convolution that makes 2 x 2 cells of every cell, each from that cell alone, and a
    1 x 1 convolution to one mask of 2 size x 2 size cells. All layers have `channels` channels.

    Args:
        num_objects: (I,) int64, the number of objects in each of I pictures.
        channels: of the crops and of all layers but the last.
        num_convs: 3 x 3 convolutions.
        size: side of a crop, cells.

    Returns:
        (I,) int64.
    """
    # Step 1: a convolution costs (cells it makes) x (kernel area) x (channels in) x (channels out)
    convs = num_convs * size**2 * 9 * channels**2
    # Step 2: the two layers at twice the size
    doubling, predictor = (2 * size) ** 2 * channels**2, (2 * size) ** 2 * channels
    # Step 3: every object pays for itself
    return num_objects * (convs + doubling + predictor)


EXERCISES = (
    Exercise(
        id="14.1",
        title="Merge objects and stuff",
        minutes=20,
        difficulty=3,
        solution=merge,
        reference=cases.reference_merge,
        make_cases=cases.merge_cases,
        result_axes="H, W",
        wrong_answers=wrong.MERGE,
        hints=(
            "Which pixels of an object are free when its turn comes, and whose turn is first?",
            "free = masks[index] & (owner == 0); the covered share is 1 - free area / area.",
            "Loop over scores.argsort(descending=True), write index + 1 into owner[free]; then "
            "loop over stuff.unique() without 0 and write len(masks) + label the same way.",
        ),
    ),
    Exercise(
        id="14.2",
        title="Match segments",
        minutes=25,
        difficulty=4,
        solution=count_matches,
        reference=cases.reference_count_matches,
        make_cases=cases.match_cases,
        wrong_answers=wrong.COUNT_MATCHES,
        hints=(
            "Can a true segment have two partners with an IoU above 1/2, if segments are disjoint?",
            "So no best partner has to be searched: try all pairs of one class, keep the matched.",
            "IoU: (true & found).sum() / ((true | found) & ~void).sum(). An unmatched found one "
            "counts unless void[found_ids == f].float().mean() > 0.5.",
        ),
    ),
    Exercise(
        id="14.3",
        title="PQ = SQ x RQ, class by class",
        minutes=10,
        difficulty=2,
        solution=average_quality,
        reference=cases.reference_average_quality,
        make_cases=cases.quality_cases,
        wrong_answers=wrong.AVERAGE_QUALITY,
        hints=(
            "Which classes have no segment at all, and should they pull the average down?",
            "SQ = sum of IoUs / matched; RQ = matched / (matched + half of all mistakes).",
            "Multiply SQ and RQ of each class first; .mean(dim=1) of the stacked three afterwards.",
        ),
    ),
    Exercise(
        id="14.4",
        title="What objects cost a mask head",
        minutes=10,
        difficulty=2,
        solution=head_cost,
        reference=cases.reference_head_cost,
        make_cases=cases.cost_cases,
        tolerance=0.0,
        wrong_answers=wrong.HEAD_COST,
        hints=(
            "How many cells does each layer make, and how many numbers does a cell need?",
            "The doubling makes (2 size)^2 cells, each of `channels` products per channel.",
            "num_objects * (num_convs * size**2 * 9 * channels**2 + (2 * size)**2 * "
            "(channels**2 + channels)).",
        ),
    ),
)
