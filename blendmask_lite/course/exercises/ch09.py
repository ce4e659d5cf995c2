"""Exercises of chapter 09, the blender: equations 2 to 4, one base alone, and any detector."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.merge import Blender, Merger, crop_bases

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
        Case("attentions of up to 1200, whose exponential overflows", 100 * two, 4),
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


@task("09.5", "Masks for another detector", minutes=30, difficulty=4)
def masks_for_boxes(
    bases: Tensor, attentions: Tensor, boxes: Tensor, size: int, image_size: tuple[int, int]
) -> Tensor:
    """Make masks for the boxes of any detector, in pixels of its image: equations 1 to 4.

    Args:
        bases: (K, h, w) over the whole image, whatever size it had when they were made.
        attentions: (N, K, M, M) raw maps; N may be 0.
        boxes: (N, 4) corners, pixels of the detector's image; they may reach outside it.
        size: R, cells.
        image_size: height and width of the detector's image, pixels.

    Returns:
        (N, height, width) probabilities. The center of every pixel is looked up in the R x R
        probabilities over the box: bilinearly between the centers of cells, with zeros outside.
    """
    height, width = image_size
    # Step 1: equation 1 by crop_bases, along the boxes in cells of the bases (a stride of 1)
    scale = torch.tensor([bases.shape[2] / width, bases.shape[1] / height]).repeat(2)
    image_index = torch.zeros(len(boxes), dtype=torch.int64)
    crops = crop_bases(bases[None], boxes * scale, image_index, size=size, stride=1)
    # Step 2: equations 2 to 4 with your functions, and probabilities
    probabilities = blend(crops, score_maps(attentions, size)).sigmoid()
    # Step 3: where each column and each row of pixels lies in each box, from -1 to 1
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=1)
    x = 2 * (torch.arange(width) + 0.5 - x0) / (x1 - x0) - 1
    y = 2 * (torch.arange(height) + 0.5 - y0) / (y1 - y0) - 1
    # Step 4: every column with every row, and F.grid_sample
    places = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), dim=3)
    return F.grid_sample(probabilities[:, None], places, align_corners=False)[:, 0]


def _reference_masks_for_boxes(
    bases: Tensor, attentions: Tensor, boxes: Tensor, size: int, image_size: tuple[int, int]
) -> Tensor:
    unit = boxes.new_tensor([image_size[1], image_size[0]] * 2)
    own = boxes / unit * boxes.new_tensor([bases.shape[2], bases.shape[1]] * 2)
    crops = crop_bases(bases[None], own, torch.zeros(len(boxes)), size=size, stride=1)
    blender = Blender(num_bases=attentions.shape[1], attention_size=attentions.shape[2])
    probabilities = blender(crops, attentions.flatten(1)).sigmoid()
    across = _tents(boxes[:, 0::2], size, image_size[1])
    down = _tents(boxes[:, 1::2], size, image_size[0])
    return down @ probabilities @ across.transpose(1, 2)


def _tents(ends: Tensor, size: int, length: int) -> Tensor:
    """(N, 2) ends of boxes along an axis -> (N, length, R) bilinear weights of their cells."""
    low, high = ends[:, :, None, None].unbind(dim=1)
    place = (torch.arange(length)[:, None] + 0.5 - low) / (high - low) * size - 0.5
    return (1 - (place - torch.arange(size)).abs()).clamp(min=0)


def _boxes_cases(generator: Generator) -> list[Case]:
    bases = torch.tensor([[[-4.0, 4.0], [-4.0, 4.0]], [[2.0, 2.0], [-2.0, -2.0]]])
    attentions = torch.tensor([[[[1.0]], [[0.0]]]])
    whole = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    corner = torch.rand(3, 2, generator=generator) * 10
    sides = 5 + torch.rand(3, 2, generator=generator) * 8
    boxes = torch.cat([corner, corner + sides], dim=1)
    outside = torch.tensor([[-4.0, 3.0, 9.0, 14.0], [20.0, -6.0, 30.0, 9.0]])
    return [
        Case("2 x 2 bases, one box around an image of 4 x 4", bases, attentions, whole, 2, (4, 4)),
        Case(
            "three objects, an image of 19 x 25 pixels, bases of 10 x 8 cells",
            _normal(generator, 4, 10, 8),
            _normal(generator, 3, 4, 3, 3),
            boxes,
            8,
            (19, 25),
        ),
        Case(
            "two boxes that reach outside the image",
            _normal(generator, 2, 6, 9),
            _normal(generator, 2, 2, 2, 2),
            outside,
            6,
            (18, 24),
        ),
        Case(
            "no object",
            _normal(generator, 2, 6, 9),
            torch.zeros(0, 2, 2, 2),
            torch.zeros(0, 4),
            6,
            (18, 24),
        ),
    ]


MASKS_FOR_BOXES = Exercise(
    solution=masks_for_boxes,
    reference=_reference_masks_for_boxes,
    make_cases=_boxes_cases,
    gradients=("bases", "attentions"),
    result_axes="N, H, W",
    wrong_answers=(
        WrongAnswer(
            {"boxes * scale": "boxes"},
            "You cropped along boxes in pixels of the detector's image. With a stride of 1, "
            "crop_bases takes cells of the bases.",
        ),
        WrongAnswer(
            {"bases.shape[1] / height": "bases.shape[2] / width"},
            "You scaled x and y by one factor. The network may have seen the image stretched, so "
            "each has a factor of its own.",
        ),
        WrongAnswer(
            {"+ 0.5 - x0": "- x0", "+ 0.5 - y0": "- y0"},
            "You looked up the upper left corners of the pixels, so every mask is half a pixel "
            "off. The center of pixel i is at i + 0.5.",
        ),
        WrongAnswer(
            {".sigmoid()": "", "[:, 0]": "[:, 0].sigmoid()"},
            "You pasted logits and took the sigmoid afterwards. Outside a box there are zeros, and "
            "the sigmoid of 0 is one half.",
        ),
        WrongAnswer(
            {"x[:, None], y[:, :, None]": "y[:, :, None], x[:, None]"},
            "x and y are exchanged: grid_sample reads its last axis as (x, y).",
        ),
    ),
    hints=(
        "Three sizes are involved: cells of the bases, R x R cells of a box, and pixels of the "
        "detector's image. Which of them is each number given in?",
        "F.grid_sample wants -1 at the left edge of a box and 1 at its right edge. Where is the "
        "center of pixel i between x0 and x1?",
        "x = 2 * (torch.arange(width) + 0.5 - x0) / (x1 - x0) - 1 for every box, y likewise; stack "
        "them to (N, height, width, 2), and align_corners=False.",
    ),
)


EXERCISES = (ENLARGE, SCORE_MAPS, BLEND, ONE_BASE, MASKS_FOR_BOXES)
