"""What students get wrong in chapter 15, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.research.basis_scores import correlations, crop_moments

__all__ = ["AUC", "LEAVE_OUT", "LIMIT", "POSITION"]


# 15.1


def _auc_without_ties(values: Tensor, is_object: Tensor) -> Tensor:
    on, off = values[:, is_object], values[:, ~is_object]
    if on.shape[1] * off.shape[1] == 0:
        return torch.full((len(values),), 0.5)
    return (on[:, :, None] > off[:, None]).float().mean(dim=(1, 2))


def _auc_at_zero(values: Tensor, is_object: Tensor) -> Tensor:
    return ((values > 0) == is_object).float().mean(dim=1)


def _auc_turned(values: Tensor, is_object: Tensor) -> Tensor:
    on, off = values[:, is_object], values[:, ~is_object]
    if on.shape[1] * off.shape[1] == 0:
        return torch.full((len(values),), 0.5)
    difference = off[:, None] - on[:, :, None]
    return ((difference.sign() + 1) / 2).mean(dim=(1, 2))


AUC = (
    WrongAnswer(
        _auc_without_ties,
        "Equal values were counted as lost. They say nothing either way, so they count one half.",
    ),
    WrongAnswer(
        _auc_at_zero,
        "You asked whether the base is above 0 at each cell. The score compares cells of objects "
        "with cells of background in pairs, so no threshold is needed.",
    ),
    WrongAnswer(
        _auc_turned,
        "The pairs are turned: count those in which the base is larger on the object.",
    ),
)


# 15.2


def _position_of_the_whole_box(crops: Tensor, inside: Tensor) -> Tensor:
    return correlations(crop_moments(crops, torch.ones_like(inside)))[:, 1:].float()


def _position_swapped(crops: Tensor, inside: Tensor) -> Tensor:
    return correlations(crop_moments(crops, inside))[:, 1:].flip(1).float()


def _position_each_object(crops: Tensor, inside: Tensor) -> Tensor:
    if len(crops) == 0:
        return torch.zeros(crops.shape[1], 2)
    each = [
        correlations(crop_moments(crop[None], own[None]))[:, 1:]
        for crop, own in zip(crops, inside, strict=True)
    ]
    return torch.stack(each).mean(dim=0).float()


def _position_covariance(crops: Tensor, inside: Tensor) -> Tensor:
    _, row, column = inside.nonzero(as_tuple=True)
    place = torch.stack([column, row]).float()
    values = crops.transpose(0, 1)[:, inside]
    if values.shape[1] == 0:
        return torch.zeros(len(values), 2)
    place = place - place.mean(dim=1, keepdim=True)
    return (values - values.mean(dim=1, keepdim=True)) @ place.T / values.shape[1]


POSITION = (
    WrongAnswer(
        _position_of_the_whole_box,
        "All cells of the boxes were taken. Only the object's own cells count: elsewhere the base "
        "answers to neighbours and background.",
    ),
    WrongAnswer(_position_swapped, "x and y are exchanged: rows are y, columns are x."),
    WrongAnswer(
        _position_each_object,
        "Each object was correlated by itself. Take the cells of all objects together: a base is "
        "of use to the blender only if it has the same value at the same place of all objects.",
    ),
    WrongAnswer(
        _position_covariance,
        "This is the covariance, which grows with the base's values. Divide by both lengths, so "
        "that the result lies between -1 and 1.",
    ),
)


# 15.3


def _leave_out_zeroed(crops: Tensor, attentions: Tensor, base: int) -> Tensor:
    weights = interpolate_attentions(attentions, crops.shape[-1]).softmax(dim=1).clone()
    weights[:, base] = 0
    return (crops * weights).sum(dim=1)


def _leave_out_attention_zero(crops: Tensor, attentions: Tensor, base: int) -> Tensor:
    silenced = attentions.clone()
    silenced[:, base] = 0
    return (crops * interpolate_attentions(silenced, crops.shape[-1]).softmax(dim=1)).sum(dim=1)


def _leave_out_from_one(crops: Tensor, attentions: Tensor, base: int) -> Tensor:
    stay = torch.arange(crops.shape[1]) != (base - 1) % crops.shape[1]
    weights = interpolate_attentions(attentions[:, stay], crops.shape[-1]).softmax(dim=1)
    return (crops[:, stay] * weights).sum(dim=1)


LEAVE_OUT = (
    WrongAnswer(
        _leave_out_zeroed,
        "The base (or its weight) is 0, but it still takes its share of the softmax: the other "
        "weights do not sum to 1. Take it out before the softmax.",
    ),
    WrongAnswer(
        _leave_out_attention_zero,
        "An attention of 0 is not silence: e^0 = 1 still competes, and the base still enters the "
        "sum. Leave both out.",
    ),
    WrongAnswer(_leave_out_from_one, "The wrong base is left out: they are counted from 0."),
)


# 15.4


def _limit_of_largest(crops: Tensor, true_masks: Tensor) -> Tensor:
    return mask_iou(crops.amax(dim=1) >= 0, true_masks)


def _limit_of_one_base(crops: Tensor, true_masks: Tensor) -> Tensor:
    every = torch.stack([mask_iou(base >= 0, true_masks) for base in crops.unbind(dim=1)])
    return every.amax(dim=0)


def _limit_of_mean(crops: Tensor, true_masks: Tensor) -> Tensor:
    return mask_iou(crops.mean(dim=1) >= 0, true_masks)


def _limit_as_accuracy(crops: Tensor, true_masks: Tensor) -> Tensor:
    best = torch.where(true_masks, crops.amax(dim=1) >= 0, crops.amin(dim=1) >= 0)
    return (best == true_masks).flatten(1).float().mean(dim=1)


LIMIT = (
    WrongAnswer(
        _limit_of_largest,
        "Every cell took its largest base. That is best on the object only; on the background the "
        "best attention asks for the smallest.",
    ),
    WrongAnswer(
        _limit_of_one_base,
        "One base was chosen for the whole box. Attentions are maps: every cell chooses anew.",
    ),
    WrongAnswer(
        _limit_of_mean,
        "All bases weigh the same here. The question is what the best weights could do.",
    ),
    WrongAnswer(
        _limit_as_accuracy,
        "This is the share of cells that are right. Asked for is intersection over union.",
    ),
)
