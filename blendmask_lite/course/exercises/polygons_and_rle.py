"""Exercises of chapter 01's appendix: polygons and run lengths as masks."""

from __future__ import annotations

import math

import torch
from matplotlib.path import Path
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.datasets.coco_format import decode_masks, run_length

__all__ = ["POLYGON", "RUNS"]

APPENDIX = "appendix_polygons_and_rle"


@task("01.5", "Fill a polygon", minutes=15, difficulty=3)
def polygon_mask(corners: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill a polygon: the pixels whose center lies inside it.

    Args:
        corners: (P, 2) as (x, y), pixels; the last is joined to the first. P may be 0.
        size: (H, W) of the image.

    Returns:
        (H, W) bool. A center is inside if a ray from it to the right crosses the outline an odd
        number of times.
    """
    # Step 1: the centers of all pixels, x as (W,) and y as (H, 1)
    height, width = size
    x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
    # Step 2: the two ends of all sides as (P, 1, 1); the last side ends at the first corner
    x0, y0 = corners.T[:, :, None, None]
    x1, y1 = corners.roll(-1, dims=0).T[:, :, None, None]
    # Step 3: which rows does a side cross, and at which x?
    is_crossed = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    # Step 4: count the crossings to the right of every center; an odd number means inside
    return (is_crossed & (x < crossing)).sum(dim=0) % 2 == 1


def coco_polygon(corners: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) bool: the polygon as the package reads it from an annotation file."""
    polygons = [corners.flatten().tolist()] if len(corners) else []
    return decode_masks([run_length(polygons, size)], size)[0]


def _polygon_cases(generator: Generator) -> list[Case]:
    rectangle = torch.tensor([[1.0, 2.0], [5.0, 2.0], [5.0, 4.0], [1.0, 4.0]])
    angle = [[1.0, 1.0], [7.0, 1.0], [7.0, 3.0], [3.0, 3.0], [3.0, 7.0], [1.0, 7.0]]
    comb = torch.tensor([[1, 1], [3, 1], [3, 6], [5, 6], [5, 1], [7, 1], [7, 6], [9, 6], [9, 1]])
    comb = torch.cat([comb, torch.tensor([[11, 1], [11, 7], [1, 7]])]).float()
    pointed = torch.tensor([[1.0, 1.0], [8.75, 4.5], [1.0, 8.0]])
    return [
        Case("a rectangle of 4 x 2 pixels", rectangle, (5, 7)),
        Case("the letter L upside down, 6 corners", torch.tensor(angle), (8, 9)),
        Case("a triangle", _polygon(generator, 3), (20, 24)),
        Case("a star of 8 corners", _polygon(generator, 8), (20, 24)),
        Case("a comb: up to six crossings in a row", comb, (8, 14)),
        Case("a corner at the height of pixel centers", pointed, (9, 10)),
        Case("no corners", torch.zeros(0, 2), (4, 6)),
    ]


def _polygon(generator: Generator, num: int) -> Tensor:
    """Corners around (12, 10) for which COCO's rule and the rule of the centers agree."""
    y, x = torch.meshgrid(torch.arange(20) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    centers = torch.stack([x, y], dim=-1).flatten(0, 1).numpy()
    while True:
        turns = (torch.arange(num) + torch.rand(num, generator=generator)) / num * 2 * math.pi
        radius = 4 + 5 * torch.rand(num, generator=generator)
        offsets = torch.stack([turns.cos(), turns.sin()], dim=1) * radius[:, None]
        corners = offsets + torch.tensor([12.0, 10.0])
        inside = torch.from_numpy(Path(corners.numpy()).contains_points(centers))
        if inside.view(20, 24).equal(coco_polygon(corners, (20, 24))):
            return corners


POLYGON = Exercise(
    solution=polygon_mask,
    appendix=APPENDIX,
    reference=coco_polygon,
    make_cases=_polygon_cases,
    result_axes="H, W",
    wrong_answers=(
        WrongAnswer(
            {"+ 0.5": "+ 0"},
            "You tested the corners of the pixels. Pixel 0 covers 0 to 1, its center is at 0.5.",
        ),
        WrongAnswer(
            {"(y0 > y) != (y1 > y)": "(y0 - y) * (y1 - y) <= 0"},
            "A ray through a corner crosses two sides there. Count only one end of every side, the "
            "upper or the lower one.",
        ),
        WrongAnswer(
            {"corners": "corners.flip(1)"},
            "x and y are exchanged: corners are (x, y), but a mask has its rows (y) first.",
        ),
        WrongAnswer(
            {
                "is_crossed & (x < crossing)": "(x1 - x0) * (y - y0) <= (y1 - y0) * (x - x0)",
                "% 2 == 1": "== 0",
            },
            "To be on the same side of all edges is enough for convex polygons only, and the L has "
            "a notch. Count the crossings of a ray instead.",
        ),
        WrongAnswer(
            {
                "is_crossed & (x < crossing)": "x0 < x",
                "sum(dim=0)": "any(0)",
                "% 2 == 1": "& (x < x0).any(0) & (y0 < y).any(0) & (y < y0).any(0)",
            },
            "This fills the polygon's box.",
        ),
    ),
    hints=(
        "A side crosses a row if one of its ends is above the row's center and one is not.",
        "Where? While y goes from y0 to y1, x goes from x0 to x1 at a constant rate.",
        "(y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0), added up.",
    ),
)


@task("01.6", "Decode run lengths", minutes=10, difficulty=2)
def decode_runs(counts: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn COCO's run lengths into a mask.

    Args:
        counts: (P,) int64 lengths of runs of 0, 1, 0, 1, ..., beginning with 0. They go down the
            first column, then down the second, and so on, and add up to H * W.
        size: (H, W) of the image.

    Returns:
        (H, W) bool.
    """
    # Step 1: the value of every run: 0, 1, 0, 1, ...
    values = torch.arange(len(counts)) % 2 == 1
    # Step 2: as many copies of each as its length, one after the other
    pixels = values.repeat_interleave(counts)
    # Step 3: W columns of H pixels, then rows first
    height, width = size
    return pixels.view(width, height).T


def _reference_decode_runs(counts: Tensor, size: tuple[int, int]) -> Tensor:
    segmentation = {"size": list(size), "counts": counts.tolist()}
    return decode_masks([run_length(segmentation, size)], size)[0]


def _runs_cases(generator: Generator) -> list[Case]:
    noise = torch.rand(9, 14, generator=generator) < 0.4
    blocks = (torch.rand(3, 4, generator=generator) < 0.5).repeat_interleave(5, 0)
    first = blocks.repeat_interleave(4, 1)
    first[0, 0] = True  # so that the first run, of zeros, has the length 0
    return [
        Case("4 rows, 3 columns", torch.tensor([1, 2, 5, 3, 1]), (4, 3)),
        Case("noise, 9 x 14", _runs(noise), (9, 14)),
        Case("the first pixel belongs to the mask, 15 x 16", _runs(first), (15, 16)),
        Case("an empty mask: one run", torch.tensor([30]), (5, 6)),
    ]


def _runs(mask: Tensor) -> Tensor:
    pixels = torch.cat([torch.zeros(1, dtype=torch.bool), mask.T.flatten()])
    counts = torch.unique_consecutive(pixels, return_counts=True)[1]
    counts[0] -= 1  # the 0 put in front
    return counts


def _runs_as_starts_and_lengths(counts: Tensor, size: tuple[int, int]) -> Tensor:
    pixels = torch.zeros(size[0] * size[1], dtype=torch.bool)
    starts, lengths = counts[0 : len(counts) // 2 * 2 : 2], counts[1::2]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        pixels[start : start + length] = True
    return pixels.view(size[1], size[0]).T


RUNS = Exercise(
    solution=decode_runs,
    appendix=APPENDIX,
    reference=_reference_decode_runs,
    make_cases=_runs_cases,
    result_axes="H, W",
    wrong_answers=(
        WrongAnswer(
            {"pixels.view(width, height).T": "pixels.view(size)"},
            "You went along the rows. COCO goes down the columns, as MATLAB stores matrices.",
        ),
        WrongAnswer(
            {"% 2 == 1": "% 2 == 0"},
            "Inside and outside are exchanged: the first run is of zeros, and its length is 0 if "
            "the first pixel belongs to the mask.",
        ),
        WrongAnswer(
            _runs_as_starts_and_lengths,
            "All counts are lengths. Pairs of start and length are another format.",
        ),
    ),
    hints=(
        "Which value does the first run have, and which the second?",
        "repeat_interleave copies entry i of a tensor counts[i] times.",
        "A view as (W, H) has a column of the mask in each row; .T makes it (H, W).",
    ),
)
