"""Exercises of chapter 01, objects as data: polygons, run lengths, crops of masks, sizes."""

from __future__ import annotations

import math

import torch
from matplotlib.path import Path
from torch import Generator, Tensor
from torchvision.ops import roi_align

from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.datasets.coco_format import decode_masks, encode_masks, run_length
from blendmask_lite.evaluation.average_precision import evaluate_detections
from blendmask_lite.masks import crop_masks

__all__ = ["EXERCISES"]


@task("01.1", "Fill a polygon", minutes=15, difficulty=3)
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


@task("01.2", "Decode run lengths", minutes=10, difficulty=2)
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


@task("01.3", "Crop and resize a mask to R x R", minutes=10, difficulty=3)
def crop_and_resize(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop every mask along its box and resize it to R x R: the target of a mask head.

    Args:
        masks: (N, H, W) bool; N may be 0.
        boxes: (N, 4) corners, pixels, one per mask.
        size: R, cells.

    Returns:
        (N, R, R) bool: True for cells of which the mask covers at least half, by roi_align's
        samples.
    """
    # Step 1: a region is (index of its mask, x0, y0, x1, y1); maps are (N, 1, H, W), float
    index = torch.arange(len(masks))
    regions = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    # Step 2: roi_align with aligned=True averages samples; sampling_ratio=0: one per pixel
    shares = roi_align(
        masks[:, None].to(boxes), regions, size, spatial_scale=1.0, sampling_ratio=0, aligned=True
    )
    # Step 3: half or more
    return shares[:, 0] >= 0.5


def _crop_cases(generator: Generator) -> list[Case]:
    step = torch.zeros(1, 6, 8, dtype=torch.bool)
    step[0, 1:5, 2:4] = step[0, 3, 4:6] = True  # exactly half of one cell is covered
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    middle = 16 + 16 * torch.rand(3, 2, 1, 1, generator=generator)
    radius = 7 + 8 * torch.rand(3, 1, 1, generator=generator)
    far = ((x - middle[:, 0]) ** 2 + (y - middle[:, 1]) ** 2).sqrt()
    rings = (far < radius) & (far > 0.6 * radius)
    around = torch.cat([middle[..., 0, 0], middle[..., 0, 0]], dim=1)
    boxes = around + radius[:, 0] * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    stripes = (x + 2 * y)[None] % 6 < 3
    whole = torch.tensor([[3.0, 2.0, 61.0, 45.0]])
    return [
        Case("one mask, 4 x 4 pixels -> 2 x 2", step, torch.tensor([[2.0, 1.0, 6.0, 5.0]]), 2),
        Case("three rings -> 7 x 7", rings, boxes, 7),
        Case("three rings -> 28 x 28, finer than the pixels", rings, boxes, 28),
        Case("stripes -> 14 x 14", stripes, whole, 14),
        Case("no object", torch.zeros(0, 6, 8, dtype=torch.bool), torch.zeros(0, 4), 14),
    ]


CROP = Exercise(
    solution=crop_and_resize,
    reference=crop_masks,
    make_cases=_crop_cases,
    result_axes="N, R, R",
    wrong_answers=(
        WrongAnswer(
            {"aligned=True": "aligned=False"},
            "Everything is half a pixel off: without aligned=True, roi_align puts the center of "
            "pixel 0 at 0, not at 0.5. Chapter 07 is about this half pixel.",
        ),
        WrongAnswer(
            {">= 0.5": "> 0"},
            "You took every cell that the mask touches, so the object grows. A cell counts if half "
            "of it is covered.",
        ),
        WrongAnswer(
            {"sampling_ratio=0": "sampling_ratio=1"},
            "One sample per cell (sampling_ratio=1) sees a single point. A target averages over "
            "the cell's pixels (sampling_ratio=0).",
        ),
        WrongAnswer(
            {">= 0.5": "> 0.5"},
            "A cell of which exactly half is covered belongs to the mask, too: use >=.",
        ),
    ),
    hints=(
        "What share of a cell does the mask cover, and which share is enough?",
        "masks[:, None].float() are the maps; torch.cat puts the index in front of each box.",
        "roi_align(maps, regions, size, sampling_ratio=0, aligned=True)[:, 0] >= 0.5",
    ),
)


@task("01.4", "Small, medium, large", minutes=5, difficulty=1)
def size_groups(areas: Tensor) -> Tensor:
    """Which of COCO's three AP numbers by size each object counts for.

    Args:
        areas: (N,) pixels of each mask; N may be 0.

    Returns:
        (N, 3) bool: for AP small, medium, large. The ranges of area are 0 to 32 squared, 32
        squared to 96 squared, and from 96 squared up; both ends belong to a range.
    """
    # Step 1: the lower and the upper end of the three ranges, (3,) each
    low, high = torch.tensor([0, 32**2, 96**2]), torch.tensor([32**2, 96**2, torch.inf])
    # Step 2: compare (N, 1) with (3,)
    return (areas[:, None] >= low) & (areas[:, None] <= high)


def _reference_size_groups(areas: Tensor) -> Tensor:
    """Ask the evaluation: its number is NaN if a single object does not count for it."""
    rows = [_counts_for(area) for area in areas.tolist()]
    return torch.tensor(rows, dtype=torch.bool).reshape(-1, 3)


def _counts_for(area: float) -> list[bool]:
    run = encode_masks(torch.ones(1, 1, 1, dtype=torch.bool))[0]
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": run, "area": area}
    truth = {
        "images": [{"id": 1, "height": 1, "width": 1}],
        "annotations": [entry | {"bbox": [0, 0, 1, 1], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "object"}],
    }
    numbers = evaluate_detections(truth, [])["mask"].numbers
    return [not math.isnan(numbers[name]) for name in ("APS", "APM", "APL")]


def _size_cases(generator: Generator) -> list[Case]:
    sides = 200 * torch.rand(6, generator=generator)
    return [
        Case("one of each", torch.tensor([100.0, 5000.0, 40000.0])),
        Case("at the borders", torch.tensor([0.0, 1023, 1024, 1025, 9216, 9300])),
        Case("six objects", (sides**2).round()),
        Case("no object", torch.zeros(0)),
    ]


SIZES = Exercise(
    solution=size_groups,
    reference=_reference_size_groups,
    make_cases=_size_cases,
    wrong_answers=(
        WrongAnswer(
            {"<= high": "< high"},
            "Almost: an area right on a border counts for both ranges, since both ends belong to a "
            "range.",
        ),
        WrongAnswer(
            {"**2": ""},
            "You compared the area with 32 and 96, the sides of squares. Areas need 32 ** 2.",
        ),
        WrongAnswer(
            {"(areas[:, None] >= low) & ": ""},
            "You only tested the upper ends, so every small object is medium and large as well.",
        ),
    ),
    hints=(
        "What is an object of exactly 32 x 32 pixels: small or medium?",
        "areas[:, None] has the shape (N, 1): compared with (3,) it gives (N, 3).",
        "(areas[:, None] >= low) & (areas[:, None] <= high), with torch.inf as the last high.",
    ),
)


EXERCISES = (POLYGON, RUNS, CROP, SIZES)
