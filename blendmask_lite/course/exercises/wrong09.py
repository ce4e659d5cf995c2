"""What students get wrong in chapter 09, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.model.attention import interpolate_attentions

__all__ = ["BLEND", "ENLARGE", "ONE_BASE", "SCORE_MAPS"]


# 09.1


def _enlarge_with_corners_aligned(attentions: Tensor, size: int) -> Tensor:
    return F.interpolate(attentions, size=(size, size), mode="bilinear", align_corners=True)


def _enlarge_to_nearest(attentions: Tensor, size: int) -> Tensor:
    return F.interpolate(attentions, size=(size, size), mode="nearest")


def _enlarge_transposed(attentions: Tensor, size: int) -> Tensor:
    return interpolate_attentions(attentions.transpose(2, 3), size)


ENLARGE = (
    WrongAnswer(
        _enlarge_with_corners_aligned,
        "The outermost cell centers were put on each other (align_corners=True). The two "
        "maps cover the same box, so their outer edges coincide, not their centers.",
    ),
    WrongAnswer(
        _enlarge_to_nearest,
        "Every cell was copied (nearest). The final models blend the neighbours; see "
        "Table 5 for what that is worth.",
    ),
    WrongAnswer(
        _enlarge_transposed,
        "Rows and columns are exchanged: the third axis is y, the fourth is x.",
    ),
)


# 09.2


def _scores_softmax_first(attentions: Tensor, size: int) -> Tensor:
    return interpolate_attentions(attentions.softmax(dim=1), size)


def _scores_over_cells(attentions: Tensor, size: int) -> Tensor:
    cells = interpolate_attentions(attentions, size).flatten(2)
    return cells.softmax(dim=2).unflatten(2, (size, size))


def _scores_over_objects(attentions: Tensor, size: int) -> Tensor:
    return interpolate_attentions(attentions, size).softmax(dim=0)


def _scores_sigmoid(attentions: Tensor, size: int) -> Tensor:
    return interpolate_attentions(attentions, size).sigmoid()


SCORE_MAPS = (
    WrongAnswer(
        _scores_softmax_first,
        "You took the softmax before the interpolation. The weights still sum to 1, but "
        "the border between two bases is washed out over a whole attention cell.",
    ),
    WrongAnswer(
        _scores_over_cells,
        "The softmax runs over the cells of a map. It is the K bases that compete, at "
        "each cell by themselves.",
    ),
    WrongAnswer(
        _scores_over_objects,
        "The softmax runs over the objects (dim=0). Objects do not compete; the K bases of "
        "one object do.",
    ),
    WrongAnswer(
        _scores_sigmoid,
        "A sigmoid weighs every base by itself, so that nothing competes and the K weights "
        "do not sum to 1.",
    ),
)


# 09.3


def _blend_mean(crops: Tensor, scores: Tensor) -> Tensor:
    return (crops * scores).mean(dim=1)


def _blend_winner(crops: Tensor, scores: Tensor) -> Tensor:
    winner = scores.argmax(dim=1, keepdim=True)
    return crops.gather(1, winner).flatten(1, 2)


def _blend_probability(crops: Tensor, scores: Tensor) -> Tensor:
    return (crops * scores).sum(dim=1).sigmoid()


def _blend_softmax_again(crops: Tensor, scores: Tensor) -> Tensor:
    return (crops * scores.softmax(dim=1)).sum(dim=1)


BLEND = (
    WrongAnswer(
        _blend_mean,
        "The products are averaged, so the logits are K times too small. The scores sum "
        "to 1 already; add the products up.",
    ),
    WrongAnswer(
        _blend_winner,
        "Only the base with the largest score was kept. Equation 4 adds all K of them, "
        "each with its weight.",
    ),
    WrongAnswer(
        _blend_probability,
        "These are probabilities. Equation 4 gives logits; the sigmoid belongs to whoever "
        "uses them, the loss or the paste.",
    ),
    WrongAnswer(
        _blend_softmax_again,
        "The scores passed a softmax a second time: they are normalised already.",
    ),
)


# 09.4


def _one_base_probability(crop: Tensor, attention: Tensor) -> Tensor:
    return crop.sigmoid() * attention.sigmoid()


def _one_base_product(crop: Tensor, attention: Tensor) -> Tensor:
    return crop * attention.sigmoid()


def _one_base_softmax(crop: Tensor, attention: Tensor) -> Tensor:
    return crop * attention[:, None].softmax(dim=1)[:, 0]


def _one_base_clamped(crop: Tensor, attention: Tensor) -> Tensor:
    return torch.logit(_one_base_probability(crop, attention), eps=1e-6)


ONE_BASE = (
    WrongAnswer(
        _one_base_probability,
        "This is the probability. The rest of the code expects its logit, log(p / (1 - p)).",
    ),
    WrongAnswer(
        _one_base_product,
        "Only the attention passed a sigmoid: then a negative base under a small attention "
        "gives a logit near 0, which is a probability of one half.",
    ),
    WrongAnswer(
        _one_base_softmax,
        "A softmax over one number is always 1, so the attention has no say.",
    ),
    WrongAnswer(
        _one_base_clamped,
        "Right in the middle, but for large values the probability rounds to 0 or 1 and "
        "the logit is cut off. Simplify 1 / p - 1 on paper first.",
    ),
)
