"""Exercises of chapter 09, the blender: equations 2 to 4, and the special case of one base."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.merge import Blender, Merger

__all__ = ["EXERCISES"]


@task("09.1", "Enlarge the attentions, M x M to R x R", minutes=5, difficulty=1)
def enlarge(attentions: Tensor, size: int) -> Tensor:
    """Enlarge every attention map bilinearly (equation 2).

    Args:
        attentions: (N, K, M, M) raw maps; N may be 0.
        size: R, cells.

    Returns:
        (N, K, R, R). Maps of M and of R cells cover the same box: the center of cell i of the
        large map is at (i + 0.5) * M / R of the small one.
    """
    return F.interpolate(attentions, size=(size, size), mode="bilinear", align_corners=False)


def _attention_cases(generator: Generator) -> list[Case]:
    ramp = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    two = torch.cat([ramp, 6 - ramp], dim=1)  # two bases that compete
    return [
        Case("one object, two bases, 2 x 2 -> 4 x 4", two, 4),
        Case("three objects, four bases, 7 x 7 -> 28 x 28", _normal(generator, 3, 4, 7, 7), 28),
        Case("R is not a multiple of M, 3 x 3 -> 8 x 8", _normal(generator, 2, 3, 3, 3), 8),
        Case("no object", torch.zeros(0, 4, 7, 7), 14),
    ]


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator) * 2


ENLARGE = Exercise(
    solution=enlarge,
    reference=interpolate_attentions,
    make_cases=_attention_cases,
    gradients=("attentions",),
    result_axes="N, K, R, R",
    wrong_answers=(
        WrongAnswer(
            {"align_corners=False": "align_corners=True"},
            "You aligned the outermost cell centers (align_corners=True). The two maps cover the "
            "same box, so their outer edges coincide, not their centers.",
        ),
        WrongAnswer(
            {'mode="bilinear", align_corners=False': 'mode="nearest"'},
            "You copied every cell (nearest). The final models blend the neighbours; Table 5 says "
            "what that is worth.",
        ),
        WrongAnswer(
            {"(attentions,": "(attentions.transpose(2, 3),"},
            "Rows and columns are exchanged: the third axis is y, the fourth is x.",
        ),
    ),
    hints=(
        "Where is the center of cell 0 of a map of 4 cells, on the axis of a map of 2 cells?",
        "torch.nn.functional.interpolate does this for (N, K, M, M); it needs size and mode.",
        'mode="bilinear", and align_corners=False, so that the outer edges coincide.',
    ),
)


@task("09.2", "Let the bases compete", minutes=10, difficulty=2)
def score_maps(attentions: Tensor, size: int) -> Tensor:
    """Turn raw attentions into weights: enlarge them, then let the bases compete (equation 3).

    Args:
        attentions: (N, K, M, M) raw maps; N may be 0.
        size: R, cells.

    Returns:
        (N, K, R, R) weights; at every cell of every object, the K weights sum to 1.
    """
    # Step 1: the K maps at the mask's resolution
    maps = enlarge(attentions, size)
    # Step 2: the K numbers at each cell compete
    return maps.softmax(dim=1)


def _reference_score_maps(attentions: Tensor, size: int) -> Tensor:
    blender = Blender(num_bases=attentions.shape[1], attention_size=attentions.shape[2])
    return blender.scores(attentions.flatten(1), size)


SCORE_MAPS = Exercise(
    solution=score_maps,
    reference=_reference_score_maps,
    make_cases=_attention_cases,
    gradients=("attentions",),
    result_axes="N, K, R, R",
    wrong_answers=(
        WrongAnswer(
            {"(attentions,": "(attentions.softmax(dim=1),", "maps.softmax(dim=1)": "maps"},
            "You took the softmax before the interpolation. The weights still sum to 1, but the "
            "border between two bases is blurred over a whole attention cell.",
        ),
        WrongAnswer(
            {"maps.softmax(dim=1)": "maps.flatten(2).softmax(dim=2).view_as(maps)"},
            "The softmax runs over the cells of a map. The K bases should compete at each cell.",
        ),
        WrongAnswer(
            {"dim=1": "dim=0"},
            "The softmax runs over the objects (dim=0). Objects do not compete; the K bases of an "
            "object do.",
        ),
        WrongAnswer(
            {"softmax(dim=1)": "sigmoid()"},
            "A sigmoid weighs every base on its own, so nothing competes and the K weights do not "
            "sum to 1.",
        ),
    ),
    hints=(
        "Which K numbers must sum to 1, and along which axis are they?",
        "Equation 2 comes first: enlarge, then normalise at the full resolution.",
        "enlarge(attentions, size), and then .softmax(dim=1) on it.",
    ),
)


@task("09.3", "Multiply and add: the mask", minutes=5, difficulty=1)
def blend(crops: Tensor, scores: Tensor) -> Tensor:
    """Weight the cropped bases with the score maps and add them up (equation 4).

    Args:
        crops: (N, K, R, R) cropped bases r; N may be 0.
        scores: (N, K, R, R) score maps s.

    Returns:
        (N, R, R) mask logits m.
    """
    return (crops * scores).sum(dim=1)


class _GivenScores(Merger):
    """The package's equation 4 with given score maps."""

    def scores(self, attentions: Tensor, size: int) -> Tensor:
        return attentions


def _blend_cases(generator: Generator) -> list[Case]:
    crops = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[-10.0, -20.0], [10.0, 20.0]]]])
    first = torch.tensor([[1.0, 0.5], [0.5, 0.0]])
    scores = torch.stack([first, 1 - first])[None]
    weights = _normal(generator, 3, 4, 14, 14).softmax(dim=1)
    return [
        Case("one object, two bases, 2 x 2", crops, scores),
        Case("three objects, four bases, 14 x 14", _normal(generator, 3, 4, 14, 14), weights),
        Case("no object", torch.zeros(0, 4, 7, 7), torch.zeros(0, 4, 7, 7)),
    ]


BLEND = Exercise(
    solution=blend,
    reference=lambda crops, scores: _GivenScores()(crops, scores),
    make_cases=_blend_cases,
    gradients=("crops", "scores"),
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {".sum(": ".mean("},
            "You averaged the products, so the logits are K times too small. The scores already "
            "sum to 1: add up the products.",
        ),
        WrongAnswer(
            lambda crops, scores: crops.gather(1, scores.argmax(dim=1, keepdim=True))[:, 0],
            "You only kept the base with the largest score. Equation 4 adds all K of them, each "
            "with its weight.",
        ),
        WrongAnswer(
            {".sum(dim=1)": ".sum(dim=1).sigmoid()"},
            "These are probabilities. Equation 4 gives logits; the loss or the pasting applies the "
            "sigmoid.",
        ),
        WrongAnswer(
            {"* scores": "* scores.softmax(dim=1)"},
            "You passed the scores through a second softmax. They are already normalised.",
        ),
    ),
    hints=(
        "How many numbers go into one cell of the mask, and which axis disappears?",
        "Multiply element by element: the shapes are equal, so nothing must be reshaped.",
        "(crops * scores), summed over the axis of the bases, dim=1.",
    ),
)


@task("09.4", "One base alone", minutes=15, difficulty=4)
def blend_one_base(crop: Tensor, attention: Tensor) -> Tensor:
    """Mask logits with K = 1: nothing competes, and both inputs have a sigmoid (section 4.1).

    Args:
        crop: (N, R, R) the only base, cropped.
        attention: (N, R, R) its attention, enlarged.

    Returns:
        (N, R, R) logits of sigmoid(crop) * sigmoid(attention); finite for inputs of +-100, too.
    """
    # Step 1: with p = sigmoid(b) * sigmoid(a), simplify 1 / p - 1
    terms = torch.stack([-crop, -attention, -crop - attention])
    # Step 2: the logit is -log(1 / p - 1), the logarithm of a sum of exponentials
    return -terms.logsumexp(dim=0)


def _reference_blend_one_base(crop: Tensor, attention: Tensor) -> Tensor:
    blender = Blender(num_bases=1, attention_size=crop.shape[-1])
    return blender(crop[:, None], attention.flatten(1))


def _one_base_cases(generator: Generator) -> list[Case]:
    zero = torch.zeros(1, 1, 1)  # p = 1/4, so the logit is -log 3 = -1.0986
    crop, attention = _normal(generator, 2, 8, 8) * 3, _normal(generator, 2, 8, 8) * 3
    large = torch.tensor([[[100.0, -100.0], [100.0, -100.0]]])
    return [
        Case("one cell, both 0: a probability of 1/4", zero, zero),
        Case("two objects, 8 x 8", crop, attention),
        Case("values of +-100", large, large.transpose(1, 2).contiguous()),
    ]


ONE_BASE = Exercise(
    solution=blend_one_base,
    reference=_reference_blend_one_base,
    make_cases=_one_base_cases,
    gradients=("crop", "attention"),
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"-terms.logsumexp(dim=0)": "crop.sigmoid() * attention.sigmoid()"},
            "This is the probability. The rest of the code expects its logit, log(p / (1 - p)).",
        ),
        WrongAnswer(
            {"-terms.logsumexp(dim=0)": "crop * attention.sigmoid()"},
            "You passed only the attention through a sigmoid. A negative base with a small "
            "attention then has a logit near 0, a probability of one half.",
        ),
        WrongAnswer(
            {"-terms.logsumexp(dim=0)": "crop * attention[:, None].softmax(dim=1)[:, 0]"},
            "A softmax over one number is always 1, so the attention has no effect.",
        ),
        WrongAnswer(
            {"-terms.logsumexp(dim=0)": "(crop.sigmoid() * attention.sigmoid()).logit(eps=1e-6)"},
            "Right for small values, but for large ones the probability rounds to 0 or 1 and the "
            "logit is cut off. Simplify 1 / p - 1 on paper first.",
        ),
    ),
    hints=(
        "What is 1 / sigmoid(x)? Multiply out two of these.",
        "1 / p - 1 = e^-b + e^-a + e^(-a - b), and the logit is minus its logarithm.",
        "torch.logsumexp of the three stacked exponents, with a minus in front.",
    ),
)


EXERCISES = (ENLARGE, SCORE_MAPS, BLEND, ONE_BASE)
