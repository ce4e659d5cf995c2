"""What students get wrong in chapter 10, and what to tell them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.model.merge import Assembler, crop_bases

__all__ = ["ASSEMBLE", "ONE_CELL", "SUM_THEN_CROP", "WEIGHTED_SUM"]


def _crop_sums(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    maps = torch.einsum("nk,kyx->nyx", coefficients, bases)
    own = torch.arange(len(boxes))
    return crop_bases(maps[:, None], boxes, own, size=size, stride=4)[:, 0]


# 10.1


def _weighted_softmax(crops: Tensor, coefficients: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", coefficients.softmax(dim=1), crops.relu())


def _weighted_without_tanh(crops: Tensor, coefficients: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", coefficients, crops.relu())


def _weighted_relu_last(crops: Tensor, coefficients: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", coefficients.tanh(), crops).relu()


def _weighted_without_relu(crops: Tensor, coefficients: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", coefficients.tanh(), crops)


WEIGHTED_SUM = (
    WrongAnswer(
        _weighted_softmax,
        "The coefficients passed a softmax. YOLACT's do not compete, and may be negative: "
        "a prototype can be subtracted.",
    ),
    WrongAnswer(
        _weighted_without_tanh,
        "The tanh is missing: a single coefficient can now outvote all the others.",
    ),
    WrongAnswer(
        _weighted_relu_last,
        "The ReLU came after the sum, so no logit is negative and no cell is ever less "
        "than half likely. It belongs to the prototypes.",
    ),
    WrongAnswer(
        _weighted_without_relu,
        "The prototypes still have negative values: YOLACT passes them through a ReLU.",
    ),
)


# 10.2


def _assemble_by_columns(crops: Tensor) -> Tensor:
    tiles = math.isqrt(crops.shape[1])
    crops = crops.unflatten(1, (tiles, tiles)).transpose(1, 2).flatten(1, 2)
    return Assembler(num_bases=crops.shape[1])(crops, crops.new_zeros(len(crops), 0))


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


ASSEMBLE = (
    WrongAnswer(
        _assemble_by_columns,
        "The tiles are counted by columns. They go row by row: base 1 is right of base 0.",
    ),
    WrongAnswer(
        _assemble_shrunk,
        "Every base was shrunk into its tile. The crop already covers the box: take only "
        "the part of base k that lies in tile k, where it lies.",
    ),
    WrongAnswer(
        _assemble_smoothly,
        "The tiles fade into each other (bilinear). FCIS copies, so the weights are "
        "exactly 0 or 1: nearest.",
    ),
)


# 10.3


def _one_cell_without_softmax(crops: Tensor, attentions: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", attentions, crops)


def _one_cell_tanh(crops: Tensor, attentions: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", attentions.tanh(), crops)


def _one_cell_over_objects(crops: Tensor, attentions: Tensor) -> Tensor:
    return torch.einsum("nk,nkyx->nyx", attentions.softmax(dim=0), crops)


ONE_CELL = (
    WrongAnswer(
        _one_cell_without_softmax,
        "The raw attentions were used as weights. In the blender they compete, also with "
        "M = 1: their weights are positive and sum to 1.",
    ),
    WrongAnswer(
        _one_cell_tanh,
        "The tanh is YOLACT's own choice. The blender's weights come from a softmax.",
    ),
    WrongAnswer(
        _one_cell_over_objects,
        "The softmax runs over the objects (dim=0), it belongs over the bases.",
    ),
)


# 10.4


def _sum_with_relu(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    return _crop_sums(bases.relu(), coefficients, boxes, size)


def _sum_without_stride(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    return _crop_sums(bases, coefficients, boxes * 4, size)


def _sum_sigmoid_first(bases: Tensor, coefficients: Tensor, boxes: Tensor, size: int) -> Tensor:
    maps = torch.einsum("nk,kyx->nyx", coefficients, bases).sigmoid()
    own = torch.arange(len(boxes))
    return crop_bases(maps[:, None], boxes, own, size=size, stride=4)[:, 0].logit(eps=1e-6)


SUM_THEN_CROP = (
    WrongAnswer(
        _sum_with_relu,
        "A ReLU passed over the bases: the two orders agree also with it, but the task "
        "uses the bases as they are.",
    ),
    WrongAnswer(
        _sum_without_stride,
        "The boxes were scaled before the crop as well: crop_bases divides by the stride "
        "itself, it wants pixels.",
    ),
    WrongAnswer(
        _sum_sigmoid_first,
        "A sigmoid came before the crop. The two orders agree because both steps are "
        "linear; a sigmoid in between is not.",
    ),
)
