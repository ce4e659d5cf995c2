"""Exercises of chapter 08, attentions: the top layer where it is needed, and how to read it."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.model.attention import TopLayer, gather_windows
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.model.merge import Blender

__all__ = ["EXERCISES"]


@task("08.1", "From a flat index to level, row, column", minutes=10, difficulty=3)
def find_cells(location: Tensor, shapes: Tensor) -> Tensor:
    """Find the level, row and column of locations that are counted over all levels.

    Args:
        location: (N,) whole numbers; 0 is the first cell of the first level. Cells are counted
            row by row, level by level. N may be 0.
        shapes: (number of levels, 2) height and width of every level, cells.

    Returns:
        (N, 3) int64: level, row, column, all from 0.
    """
    # Step 1: where each level begins
    ends = shapes.prod(dim=1).cumsum(dim=0)
    begins = ends - shapes.prod(dim=1)
    # Step 2: the level of each location
    level = (location[:, None] >= ends).sum(dim=1)
    # Step 3: row and column in this level
    inside, width = location - begins[level], shapes[level, 1]
    return torch.stack([level, inside // width, inside % width], dim=1)


def _reference_find_cells(location: Tensor, shapes: Tensor) -> Tensor:
    sizes = [(height, width) for height, width in shapes.tolist()]
    xy = pyramid_locations(sizes, [1] * len(sizes)).long()  # cell 0 of stride 1 is at 0
    level = torch.arange(len(sizes)).repeat_interleave(shapes.prod(dim=1))
    return torch.stack([level, xy[:, 1], xy[:, 0]], dim=1)[location]


def _cell_cases(generator: Generator) -> list[Case]:
    small = torch.tensor([[2, 3], [1, 2]])
    pyramid = torch.tensor([[32, 40], [16, 20], [8, 10]])
    total = int(pyramid.prod(dim=1).sum())
    some = torch.randint(0, total, (20,), generator=generator)
    return [
        Case("2 x 3 and 1 x 2 cells, all of them", torch.arange(8), small),
        Case("twenty locations of three levels", some, pyramid),
        Case("no location", some[:0], pyramid),
    ]


FIND_CELLS = Exercise(
    solution=find_cells,
    reference=_reference_find_cells,
    make_cases=_cell_cases,
    result_axes="N, number",
    wrong_answers=(
        WrongAnswer(
            {"inside // width, inside % width": "inside % width, inside // width"},
            "Row and column are exchanged. Cells are counted row by row, so the column changes "
            "fastest.",
        ),
        WrongAnswer(
            {"shapes[level, 1]": "shapes[level, 0]"},
            "You divided by the height. A row is as long as the level is wide.",
        ),
        WrongAnswer(
            {" - begins[level]": ""},
            "Right on the first level only: subtract the cells of all levels before it.",
        ),
    ),
    hints=(
        "How many cells come before the first cell of the second level?",
        "shapes.prod(dim=1) are the cells of each level, and their cumsum is where each level "
        "ends. A location's level is the number of ends before it.",
        "inside = location - begin of its level; the row is inside // width, the column inside % "
        "width.",
    ),
)


@task("08.2", "Gather the neighbourhoods", minutes=15, difficulty=3)
def windows_at(features: Tensor, cells: Tensor) -> Tensor:
    """Cut out the 3 x 3 neighbourhoods of some cells of a map.

    Args:
        features: (C, h, w) of one level.
        cells: (N, 2) whole numbers: row, column. N may be 0.

    Returns:
        (N, C, 3, 3) with the cell in the middle, and zeros outside the map.
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


def _window_cases(generator: Generator) -> list[Case]:
    ramp = torch.arange(1.0, 13.0).view(1, 3, 4)
    high, wide = 7, 9
    rows = torch.randint(0, high, (10,), generator=generator)
    columns = torch.randint(0, wide, (10,), generator=generator)
    features = _normal(generator, 5, high, wide)
    return [
        Case("a 3 x 4 map, its middle and a corner", ramp, torch.tensor([[1, 1], [0, 0]])),
        Case("ten cells of 7 x 9", features, torch.stack([rows, columns], dim=1)),
        Case("the last cell", features, torch.tensor([[high - 1, wide - 1]])),
        Case("no cell", features, rows[:0, None].expand(0, 2)),
    ]


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


WINDOWS_AT = Exercise(
    solution=windows_at,
    reference=_reference_windows_at,
    make_cases=_window_cases,
    gradients=("features",),
    result_axes="N, C, row, column",
    wrong_answers=(
        WrongAnswer(
            {"(features, (1, 1, 1, 1))": '(features[None], (1, 1, 1, 1), mode="replicate")[0]'},
            "You repeated the last cell beyond the border, as clamped indices do. A convolution "
            "with padding=1 reads zeros there.",
        ),
        WrongAnswer(
            {"(1, 1, 1, 1)": "(0, 2, 0, 2)"},
            "The windows begin at the cell. It belongs in their middle: one row above, one below.",
        ),
        WrongAnswer(
            {"transpose(0, 1)": "permute(1, 0, 3, 2)"},
            "Rows and columns of the windows are exchanged: the third axis is y, the fourth is x.",
        ),
    ),
    hints=(
        "What does a convolution with padding=1 read to the left of the first column?",
        "After F.pad(features, (1, 1, 1, 1)), the window of cell (y, x) begins at row y and column "
        "x of the padded map.",
        "With rows (N, 3, 1) and columns (N, 1, 3), padded[:, row, column] is (C, N, 3, 3). "
        "Transpose its first two axes.",
    ),
)


@task("08.3", "The top layer on windows", minutes=5, difficulty=2)
def attend(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Apply a 3x3 convolution to windows: its results at their middle cells.

    Args:
        windows: (N, C, 3, 3); N may be 0.
        kernel: (A, C, 3, 3) of `nn.Conv2d`.
        bias: (A,).

    Returns:
        (N, A).
    """
    return windows.flatten(1) @ kernel.flatten(1).T + bias


def _reference_attend(windows: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    image = torch.arange(len(windows))
    middle = torch.full_like(image, 4)  # of 3 x 3 cells, row by row
    return _reference_attentions_at(torch.stack([image, middle], dim=1), kernel, bias, windows)


def _attend_cases(generator: Generator) -> list[Case]:
    window = torch.arange(9.0).view(1, 1, 3, 3)
    kernel = torch.zeros(2, 1, 3, 3)
    kernel[0, 0, 0, 1] = 1.0  # reads the cell above
    kernel[1, 0, 1, 1] = 2.0  # twice the middle
    channels, attentions = 6, 12
    weights = _normal(generator, attentions, channels, 3, 3)
    bias = _normal(generator, attentions)
    return [
        Case("above + 10, and twice the middle", window, kernel, torch.tensor([10.0, 0.0])),
        Case("five windows", _normal(generator, 5, channels, 3, 3), weights, bias),
        Case("no window", torch.zeros(0, channels, 3, 3), weights, bias),
    ]


ATTEND = Exercise(
    solution=attend,
    reference=_reference_attend,
    make_cases=_attend_cases,
    gradients=("windows", "kernel", "bias"),
    result_axes="N, A",
    wrong_answers=(
        WrongAnswer(
            {"kernel.flatten": "kernel.flip(2, 3).flatten"},
            "You turned the kernel upside down. The convolution of mathematics does that; the one "
            "of networks does not.",
        ),
        WrongAnswer({" + bias": ""}, "The bias is missing: one number for each of the A channels."),
        WrongAnswer(
            {".flatten(1)": "[:, :, 1, 1]"},
            "You only used the middle cell. That is a 1 x 1 convolution; all nine cells count.",
        ),
        WrongAnswer(
            {"windows.flatten": "windows.transpose(1, 3).flatten"},
            "You flattened windows and kernel in different orders, so numbers meet the wrong "
            "weights.",
        ),
    ),
    hints=(
        "How many numbers does an output channel read, and with how many weights?",
        "Flatten both to rows of C * 9 numbers in the same order: a matrix product.",
        "windows.flatten(1) @ kernel.flatten(1).T, plus the bias.",
    ),
)


@task("08.4", "Channels become grids", minutes=5, difficulty=1)
def to_grids(raw: Tensor, num_bases: int) -> Tensor:
    """Read the numbers of each object as one grid per base.

    Args:
        raw: (N, K*M*M); the number of base k at row y and column x is channel k*M*M + y*M + x.
        num_bases: K.

    Returns:
        (N, K, M, M); N may be 0.
    """
    # Step 1: M
    size = round((raw.shape[1] / num_bases) ** 0.5)
    # Step 2: one axis becomes three
    return raw.unflatten(1, (num_bases, size, size))


def _reference_to_grids(raw: Tensor, num_bases: int) -> Tensor:
    size = round((raw.shape[1] / num_bases) ** 0.5)
    return Blender(num_bases=num_bases, attention_size=size).enlarge(raw, size)


def _grid_cases(generator: Generator) -> list[Case]:
    return [
        Case("one object, K = 2, M = 2", torch.arange(8.0)[None], 2),
        Case("three objects, K = 4, M = 7", _normal(generator, 3, 196), 4),
        Case("K = 1, M = 5", _normal(generator, 2, 25), 1),
        Case("no object", torch.zeros(0, 784), 4),
    ]


TO_GRIDS = Exercise(
    solution=to_grids,
    reference=_reference_to_grids,
    make_cases=_grid_cases,
    gradients=("raw",),
    result_axes="N, K, M, M",
    wrong_answers=(
        WrongAnswer(
            {"(num_bases, size, size))": "(size, size, num_bases)).permute(0, 3, 1, 2)"},
            "You read the channels as (M, M, K), with the base changing fastest. They are (K, M, "
            "M): all cells of base 1 come first.",
        ),
        WrongAnswer(
            {"size, size))": "size, size)).transpose(2, 3)"},
            "Rows and columns are exchanged: x changes faster than y.",
        ),
        WrongAnswer(
            {"(num_bases, size, size))": "(size, num_bases, size)).transpose(1, 2)"},
            "You read the channels as (M, K, M). They are (K, M, M): the base changes most slowly.",
        ),
    ),
    hints=(
        "Which of k, y, x changes when the channel goes up by one, and which changes most slowly?",
        "In unflatten and reshape the last axis changes fastest.",
        "raw.unflatten(1, (num_bases, size, size)) with size * size = channels / num_bases.",
    ),
)


@task("08.5", "Attentions only where they are needed", minutes=30, difficulty=4)
def attentions_at(index: Tensor, kernel: Tensor, bias: Tensor, *levels: Tensor) -> Tensor:
    """The top layer at some locations of a batch, built from your own pieces.

    Args:
        index: (N, 2) int64 pairs (image, location), locations counted over all levels; N may be 0.
        kernel: (A, C, 3, 3) of the top layer.
        bias: (A,).
        levels: (B, C, h, w) of every level.

    Returns:
        (N, A), as a convolution of all levels would give at these locations.
    """
    # Step 1: level, row and column of each location
    image, location = index.unbind(dim=1)
    shapes = torch.tensor([level.shape[2:] for level in levels])
    level_of, row, column = find_cells(location, shapes).unbind(dim=1)
    # Step 2: the windows of each image on each level, put where they belong
    windows = levels[0].new_zeros(len(index), levels[0].shape[1], 3, 3)
    for number, level in enumerate(levels):
        for place, features in enumerate(level):
            is_own = (level_of == number) & (image == place)
            cells = torch.stack([row[is_own], column[is_own]], dim=1)
            windows[is_own] = windows_at(features, cells)
    # Step 3: the top layer on all windows
    return attend(windows, kernel, bias)


@torch.no_grad()
def _reference_attentions_at(
    index: Tensor, kernel: Tensor, bias: Tensor, *levels: Tensor
) -> Tensor:
    top = TopLayer(in_channels=kernel.shape[1], attention_channels=len(kernel))
    top.conv.load_state_dict({"weight": kernel, "bias": bias})
    return top(levels, index)


def _attentions_cases(generator: Generator) -> list[Case]:
    def some(num: int, batch: int, *sizes: tuple[int, int]) -> tuple[Tensor, ...]:
        total = sum(height * width for height, width in sizes)
        image = torch.randint(0, batch, (num,), generator=generator)
        location = torch.randint(0, total, (num,), generator=generator)
        levels = [_normal(generator, batch, 4, *size) for size in sizes]
        weights = _normal(generator, 6, 4, 3, 3), _normal(generator, 6)
        return torch.stack([image, location], dim=1), *weights, *levels

    sum_up = torch.ones(1, 1, 3, 3)
    first, second = torch.ones(1, 1, 2, 2), torch.full((1, 1, 1, 1), 10.0)
    both = torch.tensor([[0, 4], [0, 0]])  # the second level's only cell, the first's first
    return [
        Case(
            "sums of neighbours on 2 x 2 and 1 x 1 cells",
            both,
            sum_up,
            torch.zeros(1),
            first,
            second,
        ),
        Case("twelve locations of two images, three levels", *some(12, 2, (8, 10), (4, 5), (2, 3))),
        Case("five locations of one level", *some(5, 2, (3, 4))),
        Case("no location", *some(0, 2, (8, 10), (4, 5))),
    ]


ATTENTIONS_AT = Exercise(
    solution=attentions_at,
    reference=_reference_attentions_at,
    make_cases=_attentions_cases,
    gradients=("kernel", "bias", "levels"),
    result_axes="N, A",
    wrong_answers=(
        WrongAnswer(
            {" & (image == place)": ""},
            "All windows come from the last image of the batch. A location has to be looked up in "
            "its own image.",
        ),
        WrongAnswer(
            {
                "row[is_own], column[is_own]": (
                    "column[is_own] % features.shape[1], row[is_own] % features.shape[2]"
                )
            },
            "Row and column are exchanged: a cell is (row, column).",
        ),
        WrongAnswer(
            {
                "windows[is_own] = windows_at(features, cells)": (
                    "parts.append(windows_at(features, cells))"
                ),
                "# Step 2": "parts = []\n    # Step 2",
                "return attend(windows,": "return attend(torch.cat(parts),",
            },
            "You joined the windows level by level, so that the results stand in another order "
            "than `index`. Put every window in the row of its location.",
        ),
    ),
    hints=(
        "Two loops: over levels, and over images. Which rows of `index` belong to one pass?",
        "find_cells gives level, row and column; windows_at wants (row, column) of one map.",
        "Make room with new_zeros(N, C, 3, 3), fill windows[is_own], and attend once at the end.",
    ),
)


EXERCISES = (FIND_CELLS, WINDOWS_AT, ATTEND, TO_GRIDS, ATTENTIONS_AT)
