"""Exercises of chapter 10, YOLACT and FCIS: two older methods as settings of equation 4."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum, crop_bases

__all__ = ["EXERCISES"]


# 10.1  YOLACT


def weighted_sum(crops: Tensor, coefficients: Tensor) -> Tensor:
    """YOLACT's mask: one coefficient per prototype and object.

    Args:
        crops: (N, K, R, R) cropped prototypes, before their ReLU.
        coefficients: (N, K) raw coefficients, before their tanh.

    Returns:
        (N, R, R) mask logits; YOLACT's sigmoid comes after the sum and is not applied here.
    """
    # Step 1: prototypes are never negative, coefficients lie between -1 and 1
    prototypes, weights = crops.relu(), coefficients.tanh()
    # Step 2: the same weight at every cell of a prototype
    return torch.einsum("nk,nkyx->nyx", weights, prototypes)


def _reference_weighted_sum(crops: Tensor, coefficients: Tensor) -> Tensor:
    merger = WeightedSum(num_bases=crops.shape[1], has_tanh=True, has_relu=True)
    return merger(crops, coefficients)


def _weighted_cases(generator: Generator) -> list[Case]:
    crops = torch.tensor([[[[1.0, -1.0], [2.0, 0.0]], [[3.0, 3.0], [-3.0, 1.0]]]])
    return [
        Case("one object, two prototypes, 2 x 2", crops, torch.tensor([[10.0, -10.0]])),
        Case(
            "three objects, 32 prototypes, 7 x 7",
            _normal(generator, 3, 32, 7, 7),
            _normal(generator, 3, 32),
        ),
        Case("no object", torch.zeros(0, 32, 7, 7), torch.zeros(0, 32)),
    ]


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator) * 2


WEIGHTED_SUM = Exercise(
    id="10.1",
    title="YOLACT's weighted sum",
    minutes=10,
    difficulty=2,
    solution=weighted_sum,
    reference=_reference_weighted_sum,
    make_cases=_weighted_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"tanh()": "softmax(dim=1)"},
            "The coefficients passed a softmax. YOLACT's do not compete, and may be negative: a "
            "prototype can be subtracted.",
        ),
        WrongAnswer(
            {".tanh()": ""},
            "The tanh is missing: a single coefficient can now outvote all the others.",
        ),
        WrongAnswer(
            {".relu()": "", "weights, prototypes)": "weights, prototypes).relu()"},
            "The ReLU came after the sum, so no logit is negative and no cell is ever less than "
            "half likely. It belongs to the prototypes.",
        ),
        WrongAnswer(
            {".relu()": ""},
            "The prototypes still have negative values: YOLACT passes them through a ReLU.",
        ),
    ),
    hints=(
        "Two limits come before the sum: which one for the prototypes, which one for the "
        "coefficients?",
        "A coefficient has to spread over R x R cells: index it with [:, :, None, None].",
        "(crops.relu() * coefficients.tanh()[:, :, None, None]).sum(dim=1)",
    ),
)


# 10.2  FCIS


def assemble(crops: Tensor) -> Tensor:
    """FCIS' mask: base k fills tile k of a T x T grid over the box, row by row.

    Args:
        crops: (N, T*T, R, R) cropped position-sensitive bases.

    Returns:
        (N, R, R) mask logits: cell (y, x) is copied from the base that owns its tile. Cell i lies
        in row (or column) floor(i * T / R) of the tiles.
    """
    num_bases, size = crops.shape[1:3]
    num_tiles = round(num_bases**0.5)
    # Step 1: which row of tiles a row of cells lies in
    tile = torch.arange(size) * num_tiles // size  # (R,)
    # Step 2: which base owns each cell, (R, R)
    owner = tile[:, None] * num_tiles + tile
    # Step 3: pick that base's value
    rows = torch.arange(size)[:, None]
    columns = torch.arange(size)
    return crops[:, owner, rows, columns]


def _reference_assemble(crops: Tensor) -> Tensor:
    no_attentions = crops.new_zeros(len(crops), 0)
    return Assembler(num_bases=crops.shape[1])(crops, no_attentions)


def _assemble_cases(generator: Generator) -> list[Case]:
    constant = torch.arange(4.0)[None, :, None, None].expand(1, 4, 4, 4).contiguous()
    return [
        Case("one object, 2 x 2 tiles, base k is k everywhere", constant),
        Case("two objects, 7 x 7 tiles, R = 28", _normal(generator, 2, 49, 28, 28)),
        Case("R no multiple of the tiles: 3 x 3 tiles, R = 8", _normal(generator, 1, 9, 8, 8)),
        Case("no object", torch.zeros(0, 4, 6, 6)),
    ]


def _assemble_shrunk(crops: Tensor) -> Tensor:
    """Each base, shrunk as a whole, stands in its tile."""
    size, tiles = crops.shape[2], math.isqrt(crops.shape[1])
    step = -(-size // tiles)
    small = F.adaptive_avg_pool2d(crops, step).unflatten(1, (tiles, tiles))
    mosaic = small.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)
    return mosaic[:, :size, :size]


def _assemble_smoothly(crops: Tensor) -> Tensor:
    tiles = math.isqrt(crops.shape[1])
    one_hot = torch.eye(tiles * tiles).unflatten(1, (tiles, tiles))[None]
    scores = F.interpolate(one_hot, size=crops.shape[2:], mode="bilinear", align_corners=False)
    return (crops * scores).sum(dim=1)


ASSEMBLE = Exercise(
    id="10.2",
    title="FCIS' assembler",
    minutes=15,
    difficulty=3,
    solution=assemble,
    reference=_reference_assemble,
    make_cases=_assemble_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"tile[:, None] * num_tiles + tile": "tile * num_tiles + tile[:, None]"},
            "The tiles are counted by columns. They go row by row: base 1 is right of base 0.",
        ),
        WrongAnswer(
            _assemble_shrunk,
            "Every base was shrunk into its tile. The crop already covers the box: take only the "
            "part of base k that lies in tile k, where it lies.",
        ),
        WrongAnswer(
            _assemble_smoothly,
            "The tiles fade into each other (bilinear). FCIS copies, so the weights are exactly 0 "
            "or 1: nearest.",
        ),
    ),
    hints=(
        "For R = 4 and 2 x 2 tiles, write down on paper which base owns each of the 16 cells.",
        "The owner of cell (y, x) is tile(y) * T + tile(x), with tile(i) = i * T // R.",
        "crops[:, owner, rows, columns] picks, for every cell, one base at that same cell.",
    ),
)


# 10.3  Section 4.1: the blender at M = 1


def blend_with_one_cell(crops: Tensor, attentions: Tensor) -> Tensor:
    """The blender with M = 1, written without a single map.

    Args:
        crops: (N, K, R, R) cropped bases, K > 1.
        attentions: (N, K) raw attentions, one number per base.

    Returns:
        (N, R, R) mask logits, equal to the blender's with attention maps of 1 x 1.
    """
    # Step 1: the K numbers compete once, for the whole box
    coefficients = attentions.softmax(dim=1)
    # Step 2: a plain weighted sum
    return torch.einsum("nk,nkyx->nyx", coefficients, crops)


def _one_cell_cases(generator: Generator) -> list[Case]:
    crops = torch.tensor([[[[4.0, 8.0], [0.0, -4.0]], [[0.0, -8.0], [4.0, 4.0]]]])
    return [
        Case("one object, two bases of equal attention", crops, torch.zeros(1, 2)),
        Case(
            "three objects, four bases, 7 x 7",
            _normal(generator, 3, 4, 7, 7),
            _normal(generator, 3, 4),
        ),
        Case("no object", torch.zeros(0, 4, 7, 7), torch.zeros(0, 4)),
    ]


ONE_CELL = Exercise(
    id="10.3",
    title="The blender with a single cell",
    minutes=10,
    difficulty=2,
    solution=blend_with_one_cell,
    reference=lambda crops, attentions: Blender(num_bases=crops.shape[1], attention_size=1)(
        crops, attentions
    ),
    make_cases=_one_cell_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {".softmax(dim=1)": ""},
            "The raw attentions were used as weights. In the blender they compete, also with M = "
            "1: their weights are positive and sum to 1.",
        ),
        WrongAnswer(
            {"softmax(dim=1)": "tanh()"},
            "The tanh is YOLACT's own choice. The blender's weights come from a softmax.",
        ),
        WrongAnswer(
            {"dim=1": "dim=0"},
            "The softmax runs over the objects (dim=0), it belongs over the bases.",
        ),
    ),
    hints=(
        "What does a 1 x 1 map look like after it was enlarged to R x R?",
        "Equal numbers at every cell have equal softmaxes at every cell: compute it once.",
        "attentions.softmax(dim=1), and then exercise 10.1 without its two limits.",
    ),
)


# 10.4  The two orders of YOLACT


def sum_then_crop(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    """YOLACT's own order: add the bases up over the whole image, crop afterwards.

    Args:
        bases: (K, H/4, W/4) bases of one image, stride 4.
        coefficients: (N, K) weights, used as they are.
        boxes: (N, 4) corners, pixels of the image.
        size: R, cells.

    Returns:
        (N, R, R) mask logits, equal to cropping all K bases first and adding up the crops.
    """
    # Step 1: one map for each object, over the whole image
    maps = torch.einsum("nk,kyx->nyx", coefficients, bases)
    # Step 2: from each object's own map its own box; crop_bases wants (B, K, H/s, W/s)
    own = torch.arange(len(boxes))
    return crop_bases(maps[:, None], boxes, own, size=size, stride=4)[:, 0]


def _crop_then_sum(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    image = torch.zeros(len(boxes), dtype=torch.int64)
    crops = crop_bases(bases[None], boxes, image, size=size, stride=4)
    return WeightedSum(num_bases=len(bases))(crops, coefficients)


def _sum_cases(generator: Generator) -> list[Case]:
    ramp = torch.arange(4.0).expand(4, 4)  # columns 0 to 3, 16 pixels wide
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    corner = torch.rand(3, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 10 + torch.rand(3, 2, generator=generator) * 30], dim=1)
    return [
        Case(
            "two bases that rise to the right and fall downwards, the whole image",
            torch.stack([ramp, -ramp.T]),
            torch.tensor([[1.0, 1.0]]),
            box,
            4,
        ),
        Case(
            "three objects, five bases, 64 x 80 pixels",
            _normal(generator, 5, 16, 20),
            _normal(generator, 3, 5),
            boxes,
            7,
        ),
        Case("no object", _normal(generator, 5, 16, 20), torch.zeros(0, 5), torch.zeros(0, 4), 7),
    ]


SUM_THEN_CROP = Exercise(
    id="10.4",
    title="Sum first or crop first",
    minutes=15,
    difficulty=3,
    solution=sum_then_crop,
    reference=_crop_then_sum,
    make_cases=_sum_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"bases)": "bases.relu())"},
            "A ReLU passed over the bases: the two orders agree also with it, but the task uses "
            "the bases as they are.",
        ),
        WrongAnswer(
            {"boxes, own": "boxes * 4, own"},
            "The boxes were scaled before the crop as well: crop_bases divides by the stride "
            "itself, it wants pixels.",
        ),
        WrongAnswer(
            {"bases)": "bases).sigmoid()", "[:, 0]": "[:, 0].logit(eps=1e-6)"},
            "A sigmoid came before the crop. The two orders agree because both steps are linear; "
            "a sigmoid in between is not.",
        ),
    ),
    hints=(
        "How many maps are there after the sum: K, or N?",
        "crop_bases takes a batch of images: here every object's map is an image of its own.",
        "image = torch.arange(N), maps[:, None] as the bases, and [:, 0] on the result.",
    ),
)


EXERCISES = (WEIGHTED_SUM, ASSEMBLE, ONE_CELL, SUM_THEN_CROP)
