"""What the answers of chapter 01 are tried on."""

from __future__ import annotations

import math

import torch
from matplotlib.path import Path
from torch import Generator, Tensor

from blendmask_lite.course.definition import Case
from blendmask_lite.datasets.coco_format import decode_masks, run_length

__all__ = ["coco_polygon", "crop_cases", "polygon_cases", "runs_cases", "size_cases"]


# 01.1


def coco_polygon(corners: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) bool: the polygon as the package reads it from an annotation file."""
    polygons = [corners.flatten().tolist()] if len(corners) else []
    return decode_masks([run_length(polygons, size)], size)[0]


def polygon_cases(generator: Generator) -> list[Case]:
    """Corners and image sizes."""
    rectangle = torch.tensor([[1.0, 2.0], [5.0, 2.0], [5.0, 4.0], [1.0, 4.0]])
    angle = [[1.0, 1.0], [7.0, 1.0], [7.0, 3.0], [3.0, 3.0], [3.0, 7.0], [1.0, 7.0]]
    return [
        Case("a rectangle of 4 x 2 pixels", (rectangle, (5, 7))),
        Case("the letter L upside down, 6 corners", (torch.tensor(angle), (8, 9))),
        Case("a triangle", (_polygon(generator, 3), (20, 24))),
        Case("a star of 8 corners", (_polygon(generator, 8), (20, 24))),
        Case("no corners", (torch.zeros(0, 2), (4, 6))),
    ]


def _polygon(generator: Generator, num: int) -> Tensor:
    """Corners around (12, 10) for which COCO's rule and that of the centers agree."""
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


# 01.2


def runs_cases(generator: Generator) -> list[Case]:
    """Run lengths and image sizes."""
    noise = torch.rand(9, 14, generator=generator) < 0.4
    blocks = (torch.rand(3, 4, generator=generator) < 0.5).repeat_interleave(5, 0)
    first = blocks.repeat_interleave(4, 1)
    first[0, 0] = True  # so that the first run, of zeros, is of length 0
    return [
        Case("4 rows, 3 columns", (torch.tensor([1, 2, 5, 3, 1]), (4, 3))),
        Case("noise, 9 x 14", (_runs(noise), (9, 14))),
        Case("the first pixel belongs to it, 15 x 16", (_runs(first), (15, 16))),
        Case("no pixel of it: one run", (torch.tensor([30]), (5, 6))),
    ]


def _runs(mask: Tensor) -> Tensor:
    pixels = torch.cat([torch.zeros(1, dtype=torch.bool), mask.T.flatten()])
    counts = torch.unique_consecutive(pixels, return_counts=True)[1]
    counts[0] -= 1  # the 0 put in front
    return counts


# 01.3


def crop_cases(generator: Generator) -> list[Case]:
    """Masks, boxes and R."""
    step = torch.zeros(1, 6, 8, dtype=torch.bool)
    step[0, 1:5, 2:4] = step[0, 3, 4:6] = True  # one cell is covered by exactly one half
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
        Case("one mask, 4 x 4 pixels -> 2 x 2", (step, torch.tensor([[2.0, 1.0, 6.0, 5.0]]), 2)),
        Case("three rings -> 7 x 7", (rings, boxes, 7)),
        Case("three rings -> 28 x 28, finer than the pixels", (rings, boxes, 28)),
        Case("stripes -> 14 x 14", (stripes, whole, 14)),
        Case("no object", (torch.zeros(0, 6, 8, dtype=torch.bool), torch.zeros(0, 4), 14)),
    ]


# 01.4


def size_cases(generator: Generator) -> list[Case]:
    """Areas."""
    sides = 200 * torch.rand(6, generator=generator)
    return [
        Case("one of each", (torch.tensor([100.0, 5000.0, 40000.0]),)),
        Case("right on the borders", (torch.tensor([1023.0, 1024.0, 1025.0, 9216.0]),)),
        Case("six objects", ((sides**2).round(),)),
        Case("no object", (torch.zeros(0),)),
    ]
