"""Exercises of chapter 08, attentions: the top layer where it is needed, and how to read it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Exercise
from blendmask_lite.course.exercises import cases08 as cases
from blendmask_lite.course.exercises import wrong08 as wrong
from blendmask_lite.model.attention import TopLayer, gather_windows
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.model.merge import Blender

__all__ = ["EXERCISES"]


# 08.1  One number names a cell


def find_cells(location: Tensor, shapes: Tensor) -> Tensor:
    """Tell the level, row and column of locations that are counted over all levels.

    Args:
        location: (N,) whole numbers; 0 is the first cell of the first level. Cells are counted
            row by row, level after level.
        shapes: (number of levels, 2) height and width of every level, cells.

    Returns:
        (N, 3) whole numbers: level, row, column, all from 0.
    """
    # Step 1: where each level begins
    ends = shapes.prod(dim=1).cumsum(dim=0)
    begins = ends - shapes.prod(dim=1)
    # Step 2: the level that each location lies in
    level = (location[:, None] >= ends).sum(dim=1)
    # Step 3: row and column in this level
    inside, width = location - begins[level], shapes[level, 1]
    return torch.stack([level, inside // width, inside % width], dim=1)


def _reference_find_cells(location: Tensor, shapes: Tensor) -> Tensor:
    sizes = [(height, width) for height, width in shapes.tolist()]
    xy = pyramid_locations(sizes, [1] * len(sizes)).long()  # cell 0 of stride 1 lies at 0
    level = torch.arange(len(sizes)).repeat_interleave(shapes.prod(dim=1))
    return torch.stack([level, xy[:, 1], xy[:, 0]], dim=1)[location]


# 08.2  What a 3x3 convolution reads


def windows_at(features: Tensor, cells: Tensor) -> Tensor:
    """Cut out the 3 x 3 neighbourhood of some cells of a map.

    Args:
        features: (C, h, w) of one level.
        cells: (N, 2) whole numbers: row, column.

    Returns:
        (N, C, 3, 3), the cell itself in the middle; zeros where the map has ended.
    """
    # Step 1: a border of zeros, so that every cell has eight neighbours
    padded = F.pad(features, (1, 1, 1, 1))
    # Step 2: the three rows and three columns of each cell, in the padded map
    offset = torch.arange(3)
    row = cells[:, 0, None, None] + offset[:, None]
    column = cells[:, 1, None, None] + offset
    # Step 3: look them up, and bring N to the front
    return padded[:, row, column].transpose(0, 1)


def _reference_windows_at(features: Tensor, cells: Tensor) -> Tensor:
    location = cells[:, 0] * features.shape[2] + cells[:, 1]
    index = torch.stack([torch.zeros_like(location), location], dim=1)
    return gather_windows([features[None]], index).transpose(1, 2).unflatten(2, (3, 3))


# 08.3  The convolution at these places


def attend(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Apply a 3x3 convolution to windows: what it would give at their middle cells.

    Args:
        windows: (N, C, 3, 3).
        kernel: (A, C, 3, 3) of `nn.Conv2d`.
        bias: (A,).

    Returns:
        (N, A).
    """
    return windows.flatten(1) @ kernel.flatten(1).T + bias


@torch.no_grad()
def _reference_attend(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    top = TopLayer(in_channels=windows.shape[1], attention_channels=len(kernel))
    top.conv.load_state_dict({"weight": kernel, "bias": bias})
    image = torch.arange(len(windows))
    middle = torch.full_like(image, 4)  # of 3 x 3 cells, row by row
    attentions: Tensor = top([windows], torch.stack([image, middle], dim=1))
    return attentions


# 08.4  Channels become grids


def to_grids(raw: Tensor, num_bases: int) -> Tensor:
    """Read the numbers of each object as a grid for each base.

    Args:
        raw: (N, K*M*M); the number of base k at row y and column x is channel k*M*M + y*M + x.
        num_bases: K.

    Returns:
        (N, K, M, M).
    """
    # Step 1: M
    size = round((raw.shape[1] / num_bases) ** 0.5)
    # Step 2: one axis becomes three
    return raw.unflatten(1, (num_bases, size, size))


def _reference_to_grids(raw: Tensor, num_bases: int) -> Tensor:
    size = round((raw.shape[1] / num_bases) ** 0.5)
    return Blender(num_bases=num_bases, attention_size=size).enlarge(raw, size)


EXERCISES = (
    Exercise(
        id="08.1",
        title="From a flat index to level, row, column",
        minutes=10,
        difficulty=3,
        solution=find_cells,
        reference=_reference_find_cells,
        make_cases=cases.cell_cases,
        result_axes="N, number",
        wrong_answers=wrong.FIND_CELLS,
        hints=(
            "How many cells come before the first cell of the second level?",
            "shapes.prod(dim=1) are the cells of each level, their cumsum is where each ends; a "
            "location's level is the number of ends that it has passed.",
            "inside = location - begin of its level; the row is inside // width, the column "
            "inside % width.",
        ),
    ),
    Exercise(
        id="08.2",
        title="Gather the neighbourhoods",
        minutes=15,
        difficulty=3,
        solution=windows_at,
        reference=_reference_windows_at,
        make_cases=cases.window_cases,
        result_axes="N, C, row, column",
        wrong_answers=wrong.WINDOWS_AT,
        hints=(
            "What does a convolution with padding=1 read to the left of the first column?",
            "After F.pad(features, (1, 1, 1, 1)) the window of cell (y, x) begins at row y and "
            "column x of the padded map.",
            "Rows (N, 3, 1) and columns (N, 1, 3) of indices: padded[:, row, column] is then "
            "(C, N, 3, 3). Transpose its first two axes.",
        ),
    ),
    Exercise(
        id="08.3",
        title="The top layer on windows",
        minutes=5,
        difficulty=2,
        solution=attend,
        reference=_reference_attend,
        make_cases=cases.attend_cases,
        result_axes="N, A",
        wrong_answers=wrong.ATTEND,
        hints=(
            "How many numbers does a channel out read, and with how many weights?",
            "Both flatten to rows of C * 9 numbers, in the same order: a matrix product.",
            "windows.flatten(1) @ kernel.flatten(1).T, plus the bias.",
        ),
    ),
    Exercise(
        id="08.4",
        title="Channels become grids",
        minutes=5,
        difficulty=1,
        solution=to_grids,
        reference=_reference_to_grids,
        make_cases=cases.grid_cases,
        result_axes="N, K, M, M",
        wrong_answers=wrong.TO_GRIDS,
        hints=(
            "Which of k, y, x moves when the channel goes up by one, and which the most slowly?",
            "unflatten and reshape let the last axis move fastest.",
            "raw.unflatten(1, (num_bases, size, size)) with size * size = channels / num_bases.",
        ),
    ),
)
