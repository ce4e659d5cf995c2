"""Masks as polygons, and the JSON file in which labelme shows them, to be corrected by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from torch import Tensor

from blendmask_lite.masks import Region, mask_parts

__all__ = ["DRAFT", "Polygon", "labelme_file", "mask_polygons", "part_polygons"]

Polygon = list[list[float]]  # corners [x, y], pixels; the last one is joined to the first

LABELME_VERSION = "6.3.1"  # version whose fields are written; it read them and wrote them back
DRAFT = "draft"  # a flag of the image: a tick box in labelme, which a person clears
LEAST_TOLERANCE = 0.5  # pixels
TOLERANCE = 1 / 150  # relative to the square root of the mask's area
SPECK = 1 / 20  # share of the largest part's area; drafts lose smaller parts and holes


def labelme_file(
    parts: Iterable[tuple[Region, Tensor]],
    labels: Sequence[str],
    size: tuple[int, int],
    *,
    image_path: str,
    descriptions: Sequence[str] | None = None,
    is_draft: bool = False,
    tolerance: float | None = None,
) -> dict[str, Any]:
    """The content of labelme's JSON file for an image: polygons with labels.

    labelme has no holes, so a mask with holes is cut through them. An object of several polygons
    becomes one group, which `data labelme` joins again. Empty masks are left out.

    Args:
        parts: the parts of N masks, as `masks.mask_parts` gives them.
        labels: N names.
        size: (H, W) of the image, pixels.
        image_path: path of the image, relative to the file's folder.
        descriptions: N texts that labelme shows beside the labels, such as scores.
        is_draft: set the flag `DRAFT`; `data labelme` leaves the file out as long as it is set.
            Specks and small holes are left out: each would be one more polygon to correct.
        tolerance: see `mask_polygons`.

    Raises:
        ValueError: the numbers of masks, labels and descriptions differ.
    """
    outlines = [
        part_polygons(region, _without_specks(part) if is_draft else part, tolerance)
        for region, part in parts
    ]
    texts = [""] * len(outlines) if descriptions is None else descriptions
    if not len(outlines) == len(labels) == len(texts):
        raise ValueError(f"{len(outlines)} masks, {len(labels)} labels, {len(texts)} descriptions")
    shapes: list[dict[str, Any]] = []
    objects = zip(outlines, labels, texts, strict=True)
    for number, (polygons, label, text) in enumerate(objects, start=1):
        shapes += [
            {
                "label": label,
                "points": polygon,
                "group_id": number if len(polygons) > 1 else None,
                "description": text,
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for polygon in polygons
        ]
    height, width = size
    return {
        "version": LABELME_VERSION,
        "flags": {DRAFT: True} if is_draft else {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,  # labelme reads the image itself
        "imageHeight": height,
        "imageWidth": width,
    }


def mask_polygons(mask: Tensor, tolerance: float | None = None) -> list[Polygon]:
    """The outlines of a mask as polygons without holes, whose union is the mask.

    Outlines run half way between the pixel centers inside and outside, so at tolerance 0 the
    polygons hold exactly the mask's pixels. A mask with holes is cut from top to bottom through the
    middle of each.

    Args:
        mask: (H, W) bool.
        tolerance: how far the outline may be from a corner that is left out, pixels. By default
            half a pixel, or 1/150 of the square root of the area if that is more (our choice: round
            shapes of 80 pixels and more keep an IoU of 0.99, with a half to a tenth of their
            corners).

    Returns:
        One polygon for each part of the mask; none if it is empty.
    """
    [(region, part)] = mask_parts(mask[None])
    return part_polygons(region, part, tolerance)


def part_polygons(region: Region, part: Tensor, tolerance: float | None = None) -> list[Polygon]:
    """`mask_polygons` of a mask that is given by a region of the image and its pixels there."""
    rows, columns = region
    pixels = part.cpu().numpy()
    if tolerance is None:
        tolerance = max(LEAST_TOLERANCE, TOLERANCE * float(np.sqrt(pixels.sum())))
    holes = (hole for rings in _rings(pixels) for hole in rings[1:])
    cuts = {int(hole[:, 0].min() + hole[:, 0].max()) // 2 for hole in holes}
    polygons: list[Polygon] = []
    for first, last in itertools.pairwise([0, *sorted(cuts), pixels.shape[1]]):
        corner = np.array([columns.start + first, rows.start])
        for [ring] in _rings(pixels[:, first:last]):  # a strip has no holes
            corners = _simplified(ring, tolerance)[:-1]
            polygons.append((corners + corner).tolist())
    return polygons


def _without_specks(part: Tensor) -> Tensor:
    """A mask without its small parts, and with its small holes filled; see `SPECK`."""
    parts = _rings(part.cpu().numpy())
    least = SPECK * max((_ring_area(outline) for outline, *_ in parts), default=0)
    kept = torch.zeros(part.shape, dtype=torch.bool)
    for outline, *holes in parts:
        if _ring_area(outline) >= least:
            pixels = _filled(outline, kept.shape)
            for hole in holes:
                if _ring_area(hole) >= least:
                    pixels &= ~_filled(hole, kept.shape)
            kept |= pixels
    return kept


def _ring_area(ring: NDArray[np.float64]) -> float:
    """The area inside a closed line."""
    x, y = ring.T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2


def _filled(ring: NDArray[np.float64], size: tuple[int, ...]) -> Tensor:
    """The pixels inside a closed line, (H, W) bool."""
    from pycocotools import mask as coco_mask  # models do not need it

    [run] = coco_mask.frPyObjects([ring.ravel().tolist()], *size)
    return torch.from_numpy(np.ascontiguousarray(coco_mask.decode(run))).bool()


def _rings(pixels: NDArray[np.bool_]) -> list[list[NDArray[np.float64]]]:
    """Per part of a mask, its outline and its holes' outlines: (n, 2) closed lines of (x, y)."""
    framed = np.pad(pixels.astype(np.float64), 1)  # a frame of zeros closes every outline
    found: Any = contour_generator(z=framed, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    # The center of pixel i lies at i + 0.5; the frame shifts everything by one.
    return [
        [corners[a:b] - 0.5 for a, b in itertools.pairwise(ends)]
        for corners, ends in zip(*found, strict=True)
    ]


def _simplified(line: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """A closed line without the corners that are within `tolerance` of it (Douglas, Peucker 1973).

    It stays as it is if less than three corners would remain.
    """
    is_kept = np.zeros(len(line), dtype=bool)
    is_kept[[0, -1]] = True
    spans = [(0, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        between = line[first + 1 : last] - line[first]
        if len(between) == 0:
            continue
        x, y = line[last] - line[first]
        length = np.hypot(x, y)
        if length > 0:
            distances = np.abs(x * between[:, 1] - y * between[:, 0]) / length
        else:  # the whole line, which ends where it begins
            distances = np.hypot(between[:, 0], between[:, 1])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            is_kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return line[is_kept] if is_kept.sum() > 3 else line
