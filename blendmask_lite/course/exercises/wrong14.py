"""What students get wrong in chapter 14, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.course.exercises import cases14 as cases

__all__ = ["AVERAGE_QUALITY", "COUNT_MATCHES", "HEAD_COST", "MERGE"]


# 14.1


def _merge_in_the_given_order(
    masks: Tensor, scores: Tensor, stuff: Tensor, threshold: float, overlap: float, area: int
) -> Tensor:
    falling = torch.linspace(1, 0.9, len(scores))
    scores = torch.where(scores >= threshold, falling, 0.0)
    return cases.reference_merge(masks, scores, stuff, threshold, overlap, area)


def _merge_without_overlap_rule(
    masks: Tensor, scores: Tensor, stuff: Tensor, threshold: float, overlap: float, area: int
) -> Tensor:
    return cases.reference_merge(masks, scores, stuff, threshold, 1.0, area)


def _merge_with_free_share(
    masks: Tensor, scores: Tensor, stuff: Tensor, threshold: float, overlap: float, area: int
) -> Tensor:
    return cases.reference_merge(masks, scores, stuff, threshold, 1 - overlap, area)


def _merge_stuff_first(
    masks: Tensor, scores: Tensor, stuff: Tensor, threshold: float, overlap: float, area: int
) -> Tensor:
    owner = cases.reference_merge(masks, scores, stuff, threshold, overlap, area)
    return torch.where(stuff > 0, len(masks) + stuff, owner)


def _merge_with_whole_stuff_area(
    masks: Tensor, scores: Tensor, stuff: Tensor, threshold: float, overlap: float, area: int
) -> Tensor:
    owner = cases.reference_merge(masks, scores, stuff, threshold, overlap, 0)
    for label in stuff[stuff > 0].unique().tolist():
        if (stuff == label).sum() < area:
            owner[owner == len(masks) + label] = 0
    return owner


MERGE = (
    WrongAnswer(
        _merge_in_the_given_order,
        "The objects come in the order of `masks`. The surest one comes first; sort by score.",
    ),
    WrongAnswer(
        _merge_without_overlap_rule,
        "Every object with a free pixel is kept. One of which more than `overlap` is covered "
        "already is most likely the same object again.",
    ),
    WrongAnswer(
        _merge_with_free_share,
        "`overlap` is compared with the free share. It limits the covered one, 1 minus that.",
    ),
    WrongAnswer(
        _merge_stuff_first,
        "Stuff lies over the objects. It gets what they leave free.",
    ),
    WrongAnswer(
        _merge_with_whole_stuff_area,
        "`stuff_area` is compared with all pixels of the kind. Only its free ones count, those "
        "that no object has.",
    ),
)


# 14.2


def _match_whatever_the_class(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    labels = found_labels.clone()
    for f in range(1, len(labels) + 1):
        for t in range(1, len(true_labels) + 1):
            true, found = true_ids == t, found_ids == f
            if (true & found).sum() > 0.5 * ((true | found) & (true_ids > 0)).sum():
                labels[f - 1] = true_labels[t - 1]
    return cases.reference_count_matches(true_ids, true_labels, found_ids, labels, num_classes)


def _match_with_void(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    counts = cases.reference_count_matches(
        true_ids, true_labels, found_ids, found_labels, num_classes
    )
    counts[:, 0] = 0
    for t, label in enumerate(true_labels.tolist(), start=1):
        for f in (found_labels == label).nonzero()[:, 0].tolist():
            true, found = true_ids == t, found_ids == f + 1
            shared = (true & found).sum().double()
            if shared > 0.5 * ((true | found) & (true_ids > 0)).sum():
                counts[label, 0] += shared / (true | found).sum()
    return counts


def _match_void_held_against(
    true_ids: Tensor, true_labels: Tensor, found_ids: Tensor, found_labels: Tensor, num_classes: int
) -> Tensor:
    counts = cases.reference_count_matches(
        true_ids, true_labels, found_ids, found_labels, num_classes
    )
    every = torch.bincount(found_labels, minlength=num_classes)
    counts[:, 2] = every - counts[:, 1]
    return counts


COUNT_MATCHES = (
    WrongAnswer(
        _match_whatever_the_class,
        "Segments of two classes were matched. A star that is called a disk is one unmatched "
        "disk and one missed star.",
    ),
    WrongAnswer(
        _match_with_void,
        "Void pixels stand in the union. Nobody said what they are, so they cannot be wrong.",
    ),
    WrongAnswer(
        _match_void_held_against,
        "Every found segment without a partner counts. One that lies mostly on void pixels may "
        "well be right; it is left out.",
    ),
)


# 14.3


def _quality_all_classes(counts: Tensor) -> Tensor:
    occurs = (counts[:, 1:].sum(dim=1) > 0).double().mean()
    return cases.reference_average_quality(counts) * occurs


def _quality_product_of_averages(counts: Tensor) -> Tensor:
    _, segmentation, recognition = cases.reference_average_quality(counts)
    return torch.stack([segmentation * recognition / 100, segmentation, recognition])


def _quality_pooled(counts: Tensor) -> Tensor:
    return cases.reference_average_quality(counts.sum(dim=0, keepdim=True))


def _quality_whole_mistakes(counts: Tensor) -> Tensor:
    doubled = counts.clone()
    doubled[:, 2:] *= 2
    return cases.reference_average_quality(doubled)


AVERAGE_QUALITY = (
    WrongAnswer(
        _quality_all_classes,
        "A class without any segment counts as 0. It says nothing about the model: leave it out.",
    ),
    WrongAnswer(
        _quality_product_of_averages,
        "The averages of SQ and RQ were multiplied. PQ = SQ x RQ holds class by class; the "
        "average comes last.",
    ),
    WrongAnswer(
        _quality_pooled,
        "The segments of all classes were thrown together. Every class counts the same, however "
        "many segments it has.",
    ),
    WrongAnswer(
        _quality_whole_mistakes,
        "Mistakes count in full. RQ is an F1 score: an unmatched and a missed segment count half.",
    ),
)


# 14.4


def _cost_of_one(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    return cases.reference_head_cost(num_objects.clamp(max=1), channels, num_convs, size)


def _cost_without_doubling(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    cells = size**2 * channels * (num_convs * 9 * channels + channels + 1)
    return num_objects * cells


def _cost_four_taps(num_objects: Tensor, channels: int, num_convs: int, size: int) -> Tensor:
    extra = num_objects * 3 * (2 * size) ** 2 * channels**2
    return cases.reference_head_cost(num_objects, channels, num_convs, size) + extra


HEAD_COST = (
    WrongAnswer(
        _cost_of_one,
        "The cost does not depend on the number of objects. This head runs once an object.",
    ),
    WrongAnswer(
        _cost_without_doubling,
        "The last two layers were counted at size x size cells. They make 2 size x 2 size.",
    ),
    WrongAnswer(
        _cost_four_taps,
        "Each doubled cell was given a 2 x 2 kernel's four inputs. With stride 2 the kernels do "
        "not overlap: every new cell comes from one old cell.",
    ),
)
