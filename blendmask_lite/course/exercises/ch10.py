"""Exercises of chapter 10, YOLACT and FCIS: two older methods as settings of equation 4."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.exercises.ch07 import align
from blendmask_lite.course.exercises.ch08 import to_grids
from blendmask_lite.course.exercises.ch09 import blend, score_maps
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum, crop_bases

__all__ = ["EXERCISES"]


@task("10.1", "YOLACT's weighted sum", minutes=10, difficulty=2)
def weighted_sum(crops: Tensor, coefficients: Tensor) -> Tensor:
    """YOLACT's mask: one coefficient per prototype and object.

    Args:
        crops: (N, K, R, R) cropped prototypes, before their ReLU.
        coefficients: (N, K) raw coefficients, before their tanh.

    Returns:
        (N, R, R) mask logits; YOLACT's sigmoid comes after the sum and is not applied here.
    """
    # Step 1: prototypes are never negative, coefficients are between -1 and 1
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
        Case("three objects, 32 prototypes, 7 x 7", *_drawn(generator, 3, 32)),
    ]


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator) * 2


def _drawn(generator: Generator, *sizes: int) -> tuple[Tensor, Tensor]:
    """(N, K, 7, 7) crops and (N, K) numbers."""
    return _normal(generator, *sizes, 7, 7), _normal(generator, *sizes)


WEIGHTED_SUM = Exercise(
    solution=weighted_sum,
    reference=_reference_weighted_sum,
    make_cases=_weighted_cases,
    gradients=("crops", "coefficients"),
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"tanh()": "softmax(dim=1)"},
            "You passed the coefficients through a softmax. YOLACT's do not compete, and may be "
            "negative: a prototype can be subtracted.",
        ),
        WrongAnswer(
            {".tanh()": ""},
            "The tanh is missing: a single coefficient can now outvote all the others.",
        ),
        WrongAnswer(
            {".relu()": "", "weights, prototypes)": "weights, prototypes).relu()"},
            "The ReLU came after the sum, so no logit is negative and no probability is below one "
            "half. It belongs to the prototypes.",
        ),
        WrongAnswer(
            {".relu()": ""},
            "The prototypes still have negative values: YOLACT passes them through a ReLU.",
        ),
    ),
    hints=(
        "Two functions limit the values before the sum: which one is for the prototypes, and which "
        "for the coefficients?",
        "A coefficient must spread over R x R cells: index it with [:, :, None, None].",
        "(crops.relu() * coefficients.tanh()[:, :, None, None]).sum(dim=1)",
    ),
)


@task("10.2", "FCIS' assembler", minutes=15, difficulty=3)
def assemble(crops: Tensor) -> Tensor:
    """FCIS' mask: base k fills tile k of a T x T grid over the box, row by row.

    Args:
        crops: (N, T*T, R, R) cropped position-sensitive bases.

    Returns:
        (N, R, R) mask logits: cell (y, x) is copied from the base that owns its tile. Cell i is
        in row (or column) floor(i * T / R) of the tiles.
    """
    num_bases, size = crops.shape[1:3]
    num_tiles = round(num_bases**0.5)
    # Step 1: the row of tiles of every row of cells
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
        Case("R is not a multiple: 3 x 3 tiles, R = 8", _normal(generator, 1, 9, 8, 8)),
    ]


def _assemble_shrunk(crops: Tensor) -> Tensor:
    """Each base as a whole, shrunk into its tile."""
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


TILE = "torch.arange(size) * num_tiles // size"  # a piece of the solution

ASSEMBLE = Exercise(
    solution=assemble,
    reference=_reference_assemble,
    make_cases=_assemble_cases,
    gradients=("crops",),
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"tile[:, None] * num_tiles + tile": "tile * num_tiles + tile[:, None]"},
            "You counted the tiles by columns. They go row by row: base 1 is to the right of base "
            "0.",
        ),
        WrongAnswer(
            {"owner, rows, columns": "owner, columns, rows"},
            "The tiles are right, but you read each base at (x, y). Its third axis is y, the "
            "fourth is x.",
        ),
        WrongAnswer(
            {TILE: "((torch.arange(size) + 0.5) * num_tiles / size).long()"},
            "You chose the tile by the middle of the cell, (i + 0.5) * T / R. Here it is chosen by "
            "the cell's first edge, floor(i * T / R), which matters if T does not divide R.",
        ),
        WrongAnswer(
            {TILE: "(torch.arange(size) // (size // num_tiles)).clamp(max=num_tiles - 1)"},
            "You gave every tile R // T cells, and the rest to the last one. If T does not divide "
            "R, multiply before you divide: floor(i * T / R).",
        ),
        WrongAnswer(
            {
                TILE: "(torch.arange(size) * num_tiles / size).round().long()"
                ".clamp(max=num_tiles - 1)"
            },
            "You rounded i * T / R to the nearest tile, so the first tile is half as large as it "
            "should be. Cut the fraction off (floor).",
        ),
        WrongAnswer(
            {
                TILE: "(torch.arange(size) * num_tiles / size).ceil().long()"
                ".clamp(max=num_tiles - 1)"
            },
            "You rounded i * T / R up, so the first tile is one cell wide. Cut the fraction off "
            "(floor).",
        ),
        WrongAnswer(
            _assemble_shrunk,
            "You shrank every base into its tile. The crop already covers the box: take the part "
            "of base k that is in tile k, and leave it where it is.",
        ),
        WrongAnswer(
            _assemble_smoothly,
            "The tiles fade into each other (bilinear). FCIS copies, so the weights are exactly 0 "
            "or 1 (nearest).",
        ),
    ),
    hints=(
        "For R = 4 and 2 x 2 tiles, write down which base owns each of the 16 cells.",
        "The owner of cell (y, x) is tile(y) * T + tile(x), with tile(i) = i * T // R.",
        "crops[:, owner, rows, columns] picks, for every cell, one base at that same cell.",
    ),
)


@task("10.3", "The blender with a single cell", minutes=10, difficulty=2)
def blend_with_one_cell(crops: Tensor, attentions: Tensor) -> Tensor:
    """The blender with M = 1, written without attention maps.

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
        Case("three objects, four bases, 7 x 7", *_drawn(generator, 3, 4)),
    ]


ONE_CELL = Exercise(
    solution=blend_with_one_cell,
    reference=lambda crops, attentions: Blender(num_bases=crops.shape[1], attention_size=1)(
        crops, attentions
    ),
    make_cases=_one_cell_cases,
    gradients=("crops", "attentions"),
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {".softmax(dim=1)": ""},
            "You used the raw attentions as weights. In the blender they compete, also with M = 1: "
            "the weights are positive and sum to 1.",
        ),
        WrongAnswer(
            {"softmax(dim=1)": "tanh()"},
            "The tanh is YOLACT's own choice. The blender's weights come from a softmax.",
        ),
        WrongAnswer(
            {"dim=1": "dim=0"},
            "The softmax runs over the objects (dim=0). It belongs over the bases.",
        ),
    ),
    hints=(
        "What does a 1 x 1 map look like when it is enlarged to R x R?",
        "Equal numbers at every cell have equal softmaxes: compute the softmax once.",
        "attentions.softmax(dim=1), then exercise 10.1 without ReLU and tanh.",
    ),
)


@task("10.4", "Sum first or crop first", minutes=15, difficulty=3)
def sum_then_crop(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    """YOLACT's own order: add up the bases over the whole image, then crop.

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
    # Step 2: crop each object's box from its own map; crop_bases takes (B, K, H/s, W/s)
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
    ramps, ones = torch.stack([ramp, -ramp.T]), torch.ones(1, 2)
    bases, coefficients = _normal(generator, 5, 16, 20), _normal(generator, 3, 5)
    return [
        Case("a base that rises to the right, one that falls downwards", ramps, ones, box, 4),
        Case("three objects, five bases, 64 x 80 pixels", bases, coefficients, boxes, 7),
    ]


SUM_THEN_CROP = Exercise(
    solution=sum_then_crop,
    reference=_crop_then_sum,
    make_cases=_sum_cases,
    gradients=("bases", "coefficients"),
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"bases)": "bases.relu())"},
            "You passed the bases through a ReLU. The two orders agree with it, too, but the task "
            "uses the bases as they are.",
        ),
        WrongAnswer(
            {"boxes, own": "boxes * 4, own"},
            "You scaled the boxes before the crop. crop_bases takes pixels and divides by the "
            "stride itself.",
        ),
        WrongAnswer(
            {"bases)": "bases).sigmoid()", "[:, 0]": "[:, 0].logit(eps=1e-6)"},
            "You applied a sigmoid before the crop. The two orders agree because both steps are "
            "linear; a sigmoid in between is not.",
        ),
    ),
    hints=(
        "How many maps are there after the sum: K, or N?",
        "crop_bases takes a batch of images: here every object's map is an image of its own.",
        "image = torch.arange(N), maps[:, None] as the bases, and [:, 0] on the result.",
    ),
)


@task("10.5", "Masks of your own pieces", minutes=30, difficulty=4)
def make_masks(
    bases: Tensor,
    boxes: Tensor,
    image: Tensor,
    attentions: Tensor,
    owner: Tensor,
    size: int,
    stride: int,
) -> Tensor:
    """BlendMask's masks of a batch, with your own crops, grids, scores and blender.

    Args:
        bases: (B, K, H/s, W/s).
        boxes: (N, 4) corners, pixels; N may be 0.
        image: (N,) int64, the image of each box.
        attentions: (P, K*M*M) raw attentions of P locations; P may be 0.
        owner: (P,) int64, which of the N boxes each location belongs to. In training several
            locations share a box: its crops are made once.
        size: R, cells.
        stride: s of the bases, pixels.

    Returns:
        (P, R, R) mask logits.
    """
    # Step 1: crops of every box, from the bases of its own image
    crops = bases.new_zeros(len(boxes), bases.shape[1], size, size)
    for place, own in enumerate(bases):
        crops[image == place] = align(own, boxes[image == place], size, stride)
    # Step 2: the scores of every location
    scores = score_maps(to_grids(attentions, bases.shape[1]), size)
    # Step 3: blend them with the crops of the location's box
    return blend(crops[owner], scores)


def _reference_make_masks(
    bases: Tensor,
    boxes: Tensor,
    image: Tensor,
    attentions: Tensor,
    owner: Tensor,
    size: int,
    stride: int,
) -> Tensor:
    num_bases = bases.shape[1]
    grid = math.isqrt(attentions.shape[1] // num_bases)
    blender = Blender(num_bases=num_bases, attention_size=grid)
    crops = crop_bases(bases, boxes, image, size=size, stride=stride)
    return blender(crops[owner], attentions)


def _mask_cases(generator: Generator) -> list[Case]:
    def case(what: str, num: int, num_bases: int, grid: int, size: int) -> Case:
        corner = torch.rand(3, 2, generator=generator) * 30
        side = 10 + torch.rand(3, 2, generator=generator) * 30
        bases = _normal(generator, 2, num_bases, 16, 20)
        attentions = _normal(generator, num, num_bases * grid * grid)
        owner = torch.randint(0, 3, (num,), generator=generator)
        boxes, image = torch.cat([corner, corner + side], dim=1), torch.tensor([1, 0, 1])
        return Case(what, bases, boxes, image, attentions, owner, size, 4)

    ramp = torch.arange(4.0).expand(4, 4)
    bases = torch.stack([ramp, -ramp.T])[None]
    box, none = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.zeros(0, dtype=torch.int64)
    first = torch.zeros(1, dtype=torch.int64)
    return [
        Case(
            "two bases of equal attention, M = 1", bases, box, first, torch.zeros(1, 2), first, 4, 4
        ),
        case("five locations of three objects in two images", 5, 4, 7, 14),
        case("nine locations, M = 3, R = 8", 9, 2, 3, 8),
        Case("no object", bases, box[:0], none, torch.zeros(0, 8), none, 4, 4),
    ]


MAKE_MASKS = Exercise(
    solution=make_masks,
    reference=_reference_make_masks,
    make_cases=_mask_cases,
    gradients=("bases", "attentions"),
    result_axes="N, R, R",
    tolerance=1e-3,
    wrong_answers=(
        WrongAnswer(
            {
                "crops[image == place] = align(own, boxes[image == place]": (
                    "crops = crops if place else align(own, boxes"
                )
            },
            "You cropped all boxes from the bases of the first image. Each box has an image of its "
            "own.",
        ),
        WrongAnswer(
            {"crops[owner]": "crops[owner.sort().values]"},
            "Crops and scores do not belong together: row p needs the crops of box owner[p].",
        ),
        WrongAnswer(
            {"(attentions, bases.shape[1])": "(attentions, bases.shape[1]).softmax(dim=1)"},
            "The bases competed twice: your score_maps has the softmax already.",
        ),
    ),
    hints=(
        "Which of your functions turns what into what: align, to_grids, score_maps, blend?",
        "align takes the bases of one image: go through the images, and choose the boxes of each.",
        "blend(crops[owner], score_maps(to_grids(attentions, K), size))",
    ),
)


EXERCISES = (WEIGHTED_SUM, ASSEMBLE, ONE_CELL, SUM_THEN_CROP, MAKE_MASKS)
