"""Exercises of chapter 15, the explorer: measure what a base is for, and what a mask could be."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.merge import Blender
from blendmask_lite.research.basis_scores import area_under_curve, correlations, crop_moments
from blendmask_lite.research.oracles import attention_limit

__all__ = ["EXERCISES"]


@task("15.1", "Object or background: the area under the curve", minutes=10, difficulty=2)
def object_auc(values: Tensor, is_object: Tensor) -> Tensor:
    """How well each base tells objects from background, without any threshold.

    Args:
        values: (K, n) each base at n cells.
        is_object: (n,) bool, whether the cell belongs to an object.

    Returns:
        (K,) the share of all pairs (cell of an object, cell of the background) in which the base
        is larger on the object; equal values count one half. 0.5 if there are no pairs.
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


def _auc_cases(generator: Generator) -> list[Case]:
    few = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])  # pairs: 3 > 2, 3 > 0, 1 > 0, 2 = 2, 2 > 0
    on_few = torch.tensor([True, True, True, False, False])
    steps = torch.randint(-3, 4, (4, 60), generator=generator).float()
    on_some = torch.rand(60, generator=generator) < 0.3
    on_some[:2] = torch.tensor([True, False])
    return [
        Case("one base, three cells of an object, two of background: 4.5 of 6 pairs", few, on_few),
        Case("four bases, 60 cells, many equal values", steps, on_some),
        Case("no cell of the background", torch.zeros(2, 3), torch.ones(3, dtype=torch.bool)),
        Case("no cell of an object", torch.zeros(2, 3), torch.zeros(3, dtype=torch.bool)),
    ]


AUC = Exercise(
    solution=object_auc,
    reference=_reference_object_auc,
    make_cases=_auc_cases,
    result_axes="K",
    wrong_answers=(
        WrongAnswer(
            {" + 0.5 * (difference == 0).float()": ""},
            "You counted equal values as lost. They say nothing either way, so they count one "
            "half.",
        ),
        WrongAnswer(
            lambda values, is_object: ((values > 0) == is_object).float().mean(dim=1),
            "You tested whether the base is above 0 at each cell. The score compares cells of "
            "objects with cells of the background in pairs, so it needs no threshold.",
        ),
        WrongAnswer(
            {"difference > 0": "difference < 0"},
            "The pairs are reversed: count those in which the base is larger on the object.",
        ),
    ),
    hints=(
        "How many pairs of one object cell and one background cell are there?",
        "values[:, is_object][:, :, None] and values[:, ~is_object][:, None, :] make all pairs, "
        "(K, p, q). Ties count one half.",
        "wins = (on > off).float() + 0.5 * (on == off).float(), then the mean over both axes of "
        "pairs; return 0.5 if there are none.",
    ),
)


@task("15.2", "Does a base follow the position in the box?", minutes=15, difficulty=3)
def follow_position(crops: Tensor, inside: Tensor) -> Tensor:
    """Whether a base's values follow the position inside the objects' boxes.

    Args:
        crops: (N, K, R, R) cropped bases; N may be 0.
        inside: (N, R, R) bool, the objects' own cells; only these count.

    Returns:
        (K, 2) Pearson's correlation with x and with y over the cells of all objects together;
        0 if it is not defined because the base is constant or there are no cells.
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


def _position_cases(generator: Generator) -> list[Case]:
    left_right = torch.tensor([[-1.0, 0.0, 1.0]]).expand(3, 3)
    by_hand = torch.stack([left_right, left_right.T * -5])[None]
    flat = torch.stack([torch.full((3, 3), 0.5), left_right * 1e-3])[None]
    crops = torch.randn(3, 4, 14, 14, generator=generator)
    crops = crops + torch.linspace(-2, 2, 14) + torch.tensor([3.0, -4.0, 1.0])[:, None, None, None]
    inside = torch.rand(3, 14, 14, generator=generator) < 0.5
    inside[0, :, 9:] = False
    inside[1, :4] = False
    none = torch.zeros(0, 4, 7, 7), torch.zeros(0, 7, 7, dtype=torch.bool)
    return [
        Case("3 x 3, bases grow to the right and upwards", by_hand, by_hand[:, 0] < 9),
        Case("three objects, four bases, 14 x 14", crops, inside),
        Case("a constant base and a faint one", flat, by_hand[:, 0] < 9),
        Case("no object", *none),
    ]


def _position_each_object(crops: Tensor, inside: Tensor) -> Tensor:
    pairs = zip(crops, inside, strict=True)
    found = [follow_position(crop[None], own[None]) for crop, own in pairs]
    return torch.stack(found).mean(dim=0) if found else torch.zeros(crops.shape[1], 2)


POSITION = Exercise(
    solution=follow_position,
    reference=lambda crops, inside: correlations(crop_moments(crops, inside))[:, 1:].float(),
    make_cases=_position_cases,
    result_axes="K, 2",
    wrong_answers=(
        WrongAnswer(
            {"column = inside": "column = (inside := torch.ones_like(inside))"},
            "You took all cells of the boxes. Only the object's own cells count: elsewhere the "
            "base responds to neighbours and background.",
        ),
        WrongAnswer(
            {"[column, row]": "[row, column]"}, "x and y are exchanged: rows are y, columns are x."
        ),
        WrongAnswer(
            _position_each_object,
            "You correlated each object on its own. Take the cells of all objects together: a base "
            "only helps the blender if it has the same value at the same position of all objects.",
        ),
        WrongAnswer(
            {"/ lengths": "/ values.shape[1]"},
            "This is the covariance, which grows with the base's values. Divide by both lengths, "
            "so that the result is between -1 and 1.",
        ),
    ),
    hints=(
        "Which cells count, and where are x and y of each of them?",
        "inside.nonzero(as_tuple=True) gives object, row (y) and column (x); crops.transpose(0, "
        "1)[:, inside] gives the bases at the same cells.",
        "Subtract each row's mean, then values @ place.T, divided by the product of the norms; "
        "torch.where keeps 0 where that product is 0.",
    ),
)


@task("15.3", "Leave a base out of the competition", minutes=10, difficulty=2)
def leave_out(crops: Tensor, attentions: Tensor, base: int) -> Tensor:
    """Masks without one base: the others compete among themselves.

    Args:
        crops: (N, K, R, R) cropped bases, K > 2; N may be 0.
        attentions: (N, K, M, M) raw attentions.
        base: which base is left out, counted from 0.

    Returns:
        (N, R, R) mask logits; at every cell, the weights of the other K - 1 bases sum to 1.
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


def _leave_out_cases(generator: Generator) -> list[Case]:
    levels = torch.tensor([100.0, 2.0, 4.0])[None, :, None, None].expand(1, 3, 2, 2).contiguous()
    crops = torch.randn(3, 4, 14, 14, generator=generator) * 2 + 1
    attentions = torch.randn(3, 4, 7, 7, generator=generator) * 2
    return [
        Case(
            "bases 100, 2, 4 without the first: 3 everywhere", levels, torch.zeros_like(levels), 0
        ),
        Case("three objects, four bases, the last left out", crops, attentions, 3),
        Case("the second left out", crops, attentions, 1),
        Case("no object", torch.zeros(0, 4, 7, 7), torch.zeros(0, 4, 7, 7), 2),
    ]


LEAVE_OUT = Exercise(
    solution=leave_out,
    reference=_reference_leave_out,
    make_cases=_leave_out_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"attentions[:, stay]": "attentions", "* weights": "* weights[:, stay]"},
            "The base or its weight is 0, but it still takes its share of the softmax, so the "
            "other weights do not sum to 1. Remove it before the softmax.",
        ),
        WrongAnswer(
            {
                " if k != base]": "]",
                "attentions[:, stay]": "attentions * (torch.tensor(stay) != base)[:, None, None]",
            },
            "An attention of 0 still competes, since e^0 = 1, and the base still enters the sum. "
            "Leave out both.",
        ),
        WrongAnswer(
            {"k != base": "k != (base - 1) % crops.shape[1]"},
            "You left out the wrong base: they are counted from 0.",
        ),
    ),
    hints=(
        "If a weight is only set to 0, what is the sum of the other K - 1?",
        "Remove the base from crops and from attentions, then do equations 2 to 4 as usual.",
        "stay = [k for k in range(K) if k != base]; interpolate_attentions(attentions[:, stay], "
        "R).softmax(dim=1) weighs crops[:, stay].",
    ),
)


@task("15.4", "The best that any attention could do", minutes=15, difficulty=4)
def best_possible_iou(crops: Tensor, true_masks: Tensor) -> Tensor:
    """The IoU that no attention can beat if every cell may choose its own weights.

    Args:
        crops: (N, K, R, R) cropped bases; N may be 0.
        true_masks: (N, R, R) bool over the same boxes.

    Returns:
        (N,) IoU of the best possible mask with the true one; a cell with a logit of 0 or more
        belongs to the mask. 0 if both masks are empty.
    """
    # Step 1: the weights sum to 1, so a logit is between the smallest and the largest crop
    highest, lowest = crops.amax(dim=1), crops.amin(dim=1)
    # Step 2: cells of the object that can be reached, background cells that cannot be avoided
    best = torch.where(true_masks, highest >= 0, lowest >= 0)
    # Step 3: intersection over union
    both = (best & true_masks).flatten(1).sum(dim=1)
    either = (best | true_masks).flatten(1).sum(dim=1)
    return both / either.clamp(min=1)


def _limit_cases(generator: Generator) -> list[Case]:
    crops = torch.tensor([[[[1.0, -1.0], [2.0, 3.0]], [[-5.0, -2.0], [1.0, -1.0]]]])
    truth = torch.tensor([[[True, True], [False, False]]])
    signs = torch.tensor([[1.0, -1.0], [-1.0, -1.0]]).expand(1, 2, 2, 2)
    noise = torch.randn(4, 4, 14, 14, generator=generator)
    masks = torch.rand(4, 14, 14, generator=generator) < 0.4
    empty = torch.zeros(0, 4, 7, 7), torch.zeros(0, 7, 7, dtype=torch.bool)
    return [
        Case("two bases, 2 x 2: one of two cells reached, one too many: 1/3", crops, truth),
        Case("four objects, four bases, 14 x 14", noise, masks),
        Case("the same, few positive values", noise - 1, masks),
        Case("values of exactly 0", crops.clamp(-1, 0) * 0, truth),
        Case("a mask of one cell, which is reached", signs, signs[:, 0] > 0),
        Case("nothing to reach, nothing to find", crops * 0 - 1, truth & False),
        Case("no object", *empty),
    ]


LIMIT = Exercise(
    solution=best_possible_iou,
    reference=attention_limit,
    make_cases=_limit_cases,
    result_axes="N",
    wrong_answers=(
        WrongAnswer(
            {"lowest >= 0": "highest >= 0"},
            "You took the largest base at every cell. That is best on the object only; on the "
            "background, the best attention chooses the smallest.",
        ),
        WrongAnswer(
            lambda crops, true_masks: torch.stack(
                [mask_iou(base >= 0, true_masks) for base in crops.unbind(dim=1)]
            ).amax(dim=0),
            "You chose one base for the whole box. Attentions are maps, so every cell chooses.",
        ),
        WrongAnswer(
            {"torch.where(true_masks, highest >= 0, lowest >= 0)": "crops.mean(dim=1) >= 0"},
            "All bases have the same weight here. The question is what the best weights could do.",
        ),
        WrongAnswer(
            {"both / either.clamp(min=1)": "(best == true_masks).flatten(1).float().mean(dim=1)"},
            "This is the share of cells that are right, not intersection over union.",
        ),
    ),
    hints=(
        "Between which two values must the weighted mean of the K crops lie?",
        "A cell of the object can be right if its largest crop is at least 0, a background cell if "
        "its smallest is below 0.",
        "torch.where(true_masks, crops.amax(dim=1) >= 0, crops.amin(dim=1) >= 0) is the best "
        "mask; then intersection over union, object by object.",
    ),
)


EXERCISES = (AUC, POSITION, LEAVE_OUT, LIMIT)
