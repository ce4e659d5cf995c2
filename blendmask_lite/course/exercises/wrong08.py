"""What students get wrong in chapter 08, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import WrongAnswer

__all__ = ["ATTEND", "FIND_CELLS", "TO_GRIDS", "WINDOWS_AT"]


# 08.1


def _parts(location: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Level, place inside it, and (N, 2) its shape."""
    sizes = shapes.prod(dim=1)
    ends = sizes.cumsum(dim=0)
    level = (location[:, None] >= ends).sum(dim=1)
    return level, location - (ends - sizes)[level], shapes[level]


def _cells_x_before_y(location: Tensor, shapes: Tensor) -> Tensor:
    level, inside, shape = _parts(location, shapes)
    return torch.stack([level, inside % shape[:, 1], inside // shape[:, 1]], dim=1)


def _cells_by_height(location: Tensor, shapes: Tensor) -> Tensor:
    level, inside, shape = _parts(location, shapes)
    return torch.stack([level, inside // shape[:, 0], inside % shape[:, 0]], dim=1)


def _cells_without_beginning(location: Tensor, shapes: Tensor) -> Tensor:
    level, _, shape = _parts(location, shapes)
    return torch.stack([level, location // shape[:, 1], location % shape[:, 1]], dim=1)


FIND_CELLS = (
    WrongAnswer(
        _cells_x_before_y,
        "Row and column are exchanged. Cells are counted row by row, so that the column moves "
        "fastest.",
    ),
    WrongAnswer(
        _cells_by_height,
        "You divided by the height. A row is as long as the level is wide.",
    ),
    WrongAnswer(
        _cells_without_beginning,
        "Right on the first level only: subtract the cells of all levels before.",
    ),
)


# 08.2


def _cut(padded: Tensor, cells: Tensor) -> Tensor:
    offset = torch.arange(3)
    row = cells[:, 0, None, None] + offset[:, None]
    column = cells[:, 1, None, None] + offset
    return padded[:, row, column].transpose(0, 1)


def _windows_that_repeat_the_border(features: Tensor, cells: Tensor) -> Tensor:
    return _cut(F.pad(features[None], (1, 1, 1, 1), mode="replicate")[0], cells)


def _windows_that_begin_at_the_cell(features: Tensor, cells: Tensor) -> Tensor:
    return _cut(F.pad(features, (0, 2, 0, 2)), cells)


def _windows_transposed(features: Tensor, cells: Tensor) -> Tensor:
    return _cut(F.pad(features, (1, 1, 1, 1)), cells).transpose(2, 3)


WINDOWS_AT = (
    WrongAnswer(
        _windows_that_repeat_the_border,
        "Beyond the border you repeated the last cell, which is what clamped indices do. A "
        "convolution with padding=1 reads zeros there.",
    ),
    WrongAnswer(
        _windows_that_begin_at_the_cell,
        "The windows begin at the cell. It has to stand in their middle: one row above, one below.",
    ),
    WrongAnswer(
        _windows_transposed,
        "Rows and columns of the windows are exchanged: the third axis is y, the fourth is x.",
    ),
)


# 08.3


def _attend_flipped(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return windows.flatten(1) @ kernel.flip(2, 3).flatten(1).T + bias


def _attend_without_bias(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return windows.flatten(1) @ kernel.flatten(1).T


def _attend_middle(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return windows[:, :, 1, 1] @ kernel[:, :, 1, 1].T + bias


def _attend_in_another_order(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return windows.permute(0, 3, 2, 1).flatten(1) @ kernel.flatten(1).T + bias


ATTEND = (
    WrongAnswer(
        _attend_flipped,
        "The kernel is turned upside down. Mathematics' convolution does so; the networks' does "
        "not.",
    ),
    WrongAnswer(
        _attend_without_bias,
        "The bias is missing: a number for each of the A channels.",
    ),
    WrongAnswer(
        _attend_middle,
        "Only the middle cell was used. That is a 1 x 1 convolution; all nine cells count.",
    ),
    WrongAnswer(
        _attend_in_another_order,
        "Windows and kernel were flattened in different orders, so that numbers meet the weights "
        "of others.",
    ),
)


# 08.4


def _size(raw: Tensor, num_bases: int) -> int:
    return round((raw.shape[1] / num_bases) ** 0.5)


def _grids_bases_last(raw: Tensor, num_bases: int) -> Tensor:
    size = _size(raw, num_bases)
    return raw.unflatten(1, (size, size, num_bases)).permute(0, 3, 1, 2)


def _grids_x_before_y(raw: Tensor, num_bases: int) -> Tensor:
    size = _size(raw, num_bases)
    return raw.unflatten(1, (num_bases, size, size)).transpose(2, 3)


def _grids_bases_between(raw: Tensor, num_bases: int) -> Tensor:
    size = _size(raw, num_bases)
    return raw.unflatten(1, (size, num_bases, size)).transpose(1, 2)


TO_GRIDS = (
    WrongAnswer(
        _grids_bases_last,
        "The channels were read as (M, M, K), the base moving fastest. They are (K, M, M): all "
        "cells of base 1 first.",
    ),
    WrongAnswer(
        _grids_x_before_y,
        "Rows and columns are exchanged: of y and x it is x that moves fastest.",
    ),
    WrongAnswer(
        _grids_bases_between,
        "The channels were read as (M, K, M). They are (K, M, M): the base moves most slowly.",
    ),
)
