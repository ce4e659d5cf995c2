"""Exercises of chapter 15, the explorer: measure what a base is for, and what a mask could be."""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases15 as cases
from blendmask_lite.course.exercises import wrong15 as wrong
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.merge import Blender
from blendmask_lite.research.basis_scores import (
    area_under_curve,
    correlations,
    crop_moments,
)
from blendmask_lite.research.oracles import attention_limit

__all__ = ["EXERCISES"]


# 15.1  Object or background


def object_auc(values: Tensor, is_object: Tensor) -> Tensor:
    """How well each base tells objects from background, without any threshold.

    Args:
        values: (K, n) each base at n cells.
        is_object: (n,) bool, whether the cell belongs to an object.

    Returns:
        (K,) the share of all pairs (cell of an object, cell of the background) in which the base
        is larger on the object; equal values count one half. 0.5 where there is no pair.
    """
    # Step 1: both kinds of cells, (K, p) and (K, q)
    on, off = values[:, is_object], values[:, ~is_object]
    if on.shape[1] * off.shape[1] == 0:
        return torch.full((len(values),), 0.5)
    # Step 2: every pair at once, (K, p, q)
    difference = on[:, :, None] - off[:, None, :]
    wins = (difference > 0).float() + 0.5 * (difference == 0).float()
    return wins.mean(dim=(1, 2))


def _reference_object_auc(values: Tensor, is_object: Tensor) -> Tensor:
    scores = torch.tensor([area_under_curve(row, is_object) for row in values])
    return scores.nan_to_num(nan=0.5)


# 15.2  Place in the box


def follow_position(crops: Tensor, inside: Tensor) -> Tensor:
    """Whether a base's values follow the place inside the objects' boxes.

    Args:
        crops: (N, K, R, R) cropped bases.
        inside: (N, R, R) bool, the objects' own cells; only these count.

    Returns:
        (K, 2) Pearson's correlation with x and with y over the cells of all objects together;
        0 where it is not defined, because the base is constant or there are no cells.
    """
    # Step 1: columns and rows of all inside cells, (n,) each
    _, row, column = inside.nonzero(as_tuple=True)
    place = torch.stack([column, row]).float()  # (2, n)
    # Step 2: the bases there, (K, n)
    values = crops.transpose(0, 1)[:, inside]
    # Step 3: subtract the means, then r = sum of products / product of lengths
    if values.shape[1] == 0:
        return torch.zeros(len(values), 2)
    values = values - values.mean(dim=1, keepdim=True)
    place = place - place.mean(dim=1, keepdim=True)
    lengths = values.norm(dim=1)[:, None] * place.norm(dim=1)
    return torch.where(lengths > 0, values @ place.T / lengths, torch.zeros(()))


def _reference_follow_position(crops: Tensor, inside: Tensor) -> Tensor:
    return correlations(crop_moments(crops, inside))[:, 1:].float()


# 15.3  Knock a base out of the competition


def leave_out(crops: Tensor, attentions: Tensor, base: int) -> Tensor:
    """Masks without one base: the others compete among themselves.

    Args:
        crops: (N, K, R, R) cropped bases, K > 2.
        attentions: (N, K, M, M) raw attentions.
        base: which base is left out, counted from 0.

    Returns:
        (N, R, R) mask logits; at every cell the weights of the K - 1 others sum to 1.
    """
    # Step 1: the K - 1 bases that stay
    stay = [k for k in range(crops.shape[1]) if k != base]
    # Step 2: equations 2 to 4 with these alone
    weights = interpolate_attentions(attentions[:, stay], crops.shape[-1]).softmax(dim=1)
    return (crops[:, stay] * weights).sum(dim=1)


def _reference_leave_out(crops: Tensor, attentions: Tensor, base: int) -> Tensor:
    num_bases, size = attentions.shape[1:3]
    stay = torch.arange(num_bases) != base
    blender = Blender(num_bases=num_bases - 1, attention_size=size)
    return blender(crops[:, stay], attentions[:, stay].flatten(1))


# 15.4  The best that any attention could do


def best_possible_iou(crops: Tensor, true_masks: Tensor) -> Tensor:
    """The IoU that no attention can beat, if every cell may choose its own weights.

    Args:
        crops: (N, K, R, R) cropped bases.
        true_masks: (N, R, R) bool over the same boxes.

    Returns:
        (N,) IoU of the best possible mask with the true one; a cell with a logit of 0 or more
        belongs to the mask. 0 where both masks are empty.
    """
    # Step 1: the weights sum to 1, so a logit lies between the smallest and the largest crop
    highest, lowest = crops.amax(dim=1), crops.amin(dim=1)
    # Step 2: which cells of the object can be reached, which of the background cannot be avoided
    best = torch.where(true_masks, highest >= 0, lowest >= 0)
    # Step 3: intersection over union
    both = (best & true_masks).flatten(1).sum(dim=1)
    either = (best | true_masks).flatten(1).sum(dim=1)
    return both / either.clamp(min=1)


EXERCISES = (
    Exercise(
        id="15.1",
        title="Object or background: the area under the curve",
        minutes=10,
        difficulty=2,
        solution=object_auc,
        reference=_reference_object_auc,
        make_cases=cases.auc_cases,
        result_axes="K",
        wrong_answers=wrong.AUC,
        hints=(
            "How many pairs of one object cell and one background cell are there?",
            "values[:, is_object][:, :, None] against values[:, ~is_object][:, None, :] gives all "
            "pairs, (K, p, q). Ties count one half.",
            "wins = (on > off).float() + 0.5 * (on == off).float(), then the mean over both axes "
            "of pairs; return 0.5 if there are none.",
        ),
    ),
    Exercise(
        id="15.2",
        title="Does a base follow the place in the box?",
        minutes=15,
        difficulty=3,
        solution=follow_position,
        reference=_reference_follow_position,
        make_cases=cases.position_cases,
        result_axes="K, 2",
        wrong_answers=wrong.POSITION,
        hints=(
            "Which cells count, and where are x and y of each of them?",
            "inside.nonzero(as_tuple=True) gives object, row (y) and column (x); "
            "crops.transpose(0, 1)[:, inside] gives the bases at the same cells.",
            "Subtract each row's mean, then values @ place.T, divided by the product of the norms; "
            "torch.where keeps 0 where that product is 0.",
        ),
    ),
    Exercise(
        id="15.3",
        title="Leave a base out of the competition",
        minutes=10,
        difficulty=2,
        solution=leave_out,
        reference=_reference_leave_out,
        make_cases=cases.leave_out_cases,
        result_axes="N, R, R",
        wrong_answers=wrong.LEAVE_OUT,
        hints=(
            "If a weight is only set to 0, what do the other K - 1 sum to?",
            "Remove the base from crops and from attentions, then do equations 2 to 4 as ever.",
            "stay = [k for k in range(K) if k != base]; interpolate_attentions(attentions[:, "
            "stay], R).softmax(dim=1) weighs crops[:, stay].",
        ),
    ),
    Exercise(
        id="15.4",
        title="The best that any attention could do",
        minutes=15,
        difficulty=4,
        solution=best_possible_iou,
        reference=attention_limit,
        make_cases=cases.limit_cases,
        result_axes="N",
        wrong_answers=wrong.LIMIT,
        hints=(
            "Between which two values must the weighted mean of the K crops lie?",
            "A cell of the object can be right if its largest crop is at least 0, a cell of the "
            "background if its smallest is below 0.",
            "torch.where(true_masks, crops.amax(dim=1) >= 0, crops.amin(dim=1) >= 0) is the best "
            "mask; then intersection over union, object by object.",
        ),
    ),
)
