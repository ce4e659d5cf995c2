"""Records of the COCO format: reads and checks masks, and writes the entries of an annotation file.

Chapter 01 of the course. Lin et al., "Microsoft COCO: Common Objects in Context".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from blendmask_lite.datasets.coco_entries import shortened
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.masks import Region, lazy_zeros
from blendmask_lite.structures import Target

__all__ = [
    "annotation_records",
    "category_records",
    "check_segmentation",
    "completed",
    "decode_masks",
    "decode_region",
    "encode_masks",
    "encode_part",
    "image_record",
    "instances_content",
    "run_boxes",
    "run_length",
]

MAX_OUTLINE = 2e6  # pixels along a mask's polygons: 100 times the outline of the largest photos
MAX_COUNT_BITS = 40  # bits of one compressed run length


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """(N, H, W) bool masks -> N compressed run lengths {"size": [H, W], "counts": text}."""
    columns = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    runs = coco_mask.encode(columns)
    return [{"size": list(run["size"]), "counts": run["counts"].decode("ascii")} for run in runs]


def encode_part(region: Region, part: Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """Encode one mask like `encode_masks`, given a region outside which it has no pixels.

    Runs go down the columns of the whole image, but only the region is searched for them.

    Args:
        region: rows and columns; may be empty if the mask is empty.
        part: (h, w) bool, the pixels inside the region.
        size: (H, W) of the image.
    """
    height, width = size
    rows, columns = region
    pixels = part.cpu().numpy().T  # (w, h): column after column
    length = pixels.shape[1]
    if length < height:
        # A pixel outside the mask ends the last run of every column.
        pixels = np.pad(pixels, ((0, 0), (0, 1)))
        length += 1
    edges = np.flatnonzero(np.diff(pixels.ravel(), prepend=False, append=False))
    column, row = np.divmod(edges, length)
    borders = (columns.start + column) * height + rows.start + row
    counts = np.diff(borders, prepend=0, append=height * width).tolist()
    if counts[-1] == 0:
        counts.pop()
    run = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": run["counts"].decode("ascii")}


def decode_masks(runs: Sequence[dict[str, Any]], size: tuple[int, int]) -> Tensor:
    """N compressed run lengths -> (N, H, W) bool masks; see `lazy_zeros` for their memory."""
    masks = lazy_zeros(len(runs), *size)
    for mask, run in zip(masks, runs, strict=True):
        region, part = decode_region(run)
        mask[region] = part
    return masks


def decode_region(run: dict[str, Any]) -> tuple[Region, Tensor]:
    """Rows and columns of a mask's tight box, and the (h, w) bool mask in it."""
    x, y, width, height = (int(value) for value in coco_mask.toBbox(run))
    region = (slice(y, y + height), slice(x, x + width))
    part = np.ascontiguousarray(coco_mask.decode(run)[region])
    return region, torch.from_numpy(part).bool()


def run_boxes(runs: Sequence[dict[str, Any]]) -> Tensor:
    """The tight boxes of N encoded masks: (N, 4) float corners, pixels; zeros for an empty mask."""
    if not runs:
        return torch.zeros((0, 4))
    boxes = torch.from_numpy(np.asarray(coco_mask.toBbox(list(runs)))).float()
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def run_length(segmentation: object, size: tuple[int, int]) -> dict[str, Any]:
    """Convert a mask of COCO (polygons, uncompressed or compressed RLE) to compressed RLE.

    Args:
        segmentation: a list of polygons [x0, y0, x1, y1, ...], whose union is the mask; or
            {"size", "counts"} with a list of run lengths (uncompressed RLE) or a text (compressed).
        size: (H, W) of the image.

    Raises:
        ValueError: the segmentation is invalid; the message says why.
    """
    height, width = size
    counts = check_segmentation(segmentation, size)
    if counts is None:
        assert isinstance(segmentation, list)
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    run = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    # When it computes the box, pycocotools treats an empty run as one pixel.
    return coco_mask.encode(coco_mask.decode(run)) if 0 in counts[1:] else run


def check_segmentation(segmentation: object, size: tuple[int, int]) -> list[int] | None:
    """Check a segmentation as `run_length` does, without making a mask.

    Returns:
        The run lengths; None if the segmentation is a list of polygons, which is not empty.
    """
    height, width = size
    if isinstance(segmentation, list):
        _require_polygons(segmentation)
        return None if segmentation else [height * width]
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= set(segmentation):
        raise ValueError("segmentation: neither polygons nor run lengths")
    if segmentation["size"] != [height, width]:
        given = shortened(segmentation["size"])
        raise ValueError(f"segmentation: for {given} pixels, the image has [{height}, {width}]")
    counts = segmentation["counts"]
    if not isinstance(counts, list):
        return _counts_in_text(counts, height * width)
    if not set(map(type, counts)) <= {int} or min(counts, default=0) < 0:
        raise ValueError("segmentation: run lengths must be whole numbers of at least 0")
    if sum(counts) != height * width:
        covered = f"{sum(counts)} of {height * width}"
        raise ValueError(f"segmentation: the run lengths cover {covered} pixels")
    return counts


def _require_polygons(polygons: list[Any]) -> None:
    """Refuse invalid polygons, and polygons for which pycocotools would need too much memory.

    pycocotools lists every pixel from corner to corner, even outside the image.
    """
    length = 0.0
    for polygon in polygons:
        # pycocotools would treat four numbers as a box.
        is_list = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not is_list or not set(map(type, polygon)) <= {int, float}:
            text = f"{shortened(polygon)} is no polygon (x and y of at least 3 corners)"
            raise ValueError(f"segmentation: {text}")
        if not -MAX_OUTLINE < min(polygon) <= max(polygon) < MAX_OUTLINE:
            raise ValueError(f"segmentation: {shortened(polygon)} has corners far off the image")
        corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        length += float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())
    if not length < MAX_OUTLINE:
        raise ValueError(f"segmentation: the outline is {length:.3g} pixels long")


def _counts_in_text(counts: object, num_pixels: int) -> list[int]:
    """The run lengths in a compressed text, which must cover the image exactly.

    If they covered more, pycocotools would write past the mask's end.
    """
    if not isinstance(counts, (str, bytes)):
        raise ValueError("segmentation: counts must be a list or text")
    text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    runs: list[int] = []
    value, shift = 0, 0
    for byte in text:
        # Each character holds five bits; the sixth says that more follow. From the fourth run on,
        # the difference from the run two places before is stored (maskApi.c, rleFrString).
        code = byte - 48
        if not 0 <= code < 64:
            raise ValueError("segmentation: the compressed run lengths are damaged")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20 and shift < MAX_COUNT_BITS:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift or min(runs, default=0) < 0 or sum(runs) != num_pixels:
        raise ValueError("segmentation: the compressed run lengths are damaged")
    return runs


def completed(annotation: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """The annotation with area, box and crowd flag; missing values come from its run lengths."""
    bbox = [float(side) for side in coco_mask.toBbox(run)]
    return {"area": float(coco_mask.area(run)), "bbox": bbox, "iscrowd": 0} | annotation


def instances_content(
    samples: Iterable[Sample],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    *,
    file_name: str | None = None,
) -> dict[str, Any]:
    """The content of an instances file: "images", "annotations" with ids from 1, "categories".

    Args:
        samples: samples with masks.
        class_names: C names.
        category_ids: C ids, in the order of the labels.
        file_name: pattern of the images' file names, with {} for the id; if None, images have no
            names.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        name = None if file_name is None else file_name.format(sample.image_id)
        images.append(image_record(sample.image_id, sample.original_size, name))
        annotations += annotation_records(
            sample.target, sample.image_id, category_ids, first_id=len(annotations) + 1
        )
    categories = category_records(class_names, category_ids)
    return {"images": images, "annotations": annotations, "categories": categories}


def image_record(
    image_id: int, size: tuple[int, int], file_name: str | None = None
) -> dict[str, Any]:
    """An entry of "images"."""
    height, width = size
    record = {"id": image_id, "height": height, "width": width}
    return record if file_name is None else record | {"file_name": file_name}


def category_records(names: Sequence[str], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The entries of "categories"."""
    return [
        {"id": category_id, "name": name, "supercategory": "thing"}
        for name, category_id in zip(names, category_ids, strict=True)
    ]


def annotation_records(
    target: Target, image_id: int, category_ids: Sequence[int], *, first_id: int
) -> list[dict[str, Any]]:
    """The entries of "annotations" for one image, with ids from `first_id`.

    Masks of the target become run lengths, and boxes become x, y, width and height. `category_ids`
    are in the order of the labels.
    """
    if target.masks is None:
        raise ValueError(f"image {image_id}: the target has no masks")
    runs = encode_masks(target.masks)
    areas = target.masks.flatten(1).sum(dim=1).tolist()
    records = []
    for offset, (run, area) in enumerate(zip(runs, areas, strict=True)):
        x0, y0, x1, y1 = (round(value, 2) for value in target.boxes[offset].tolist())
        records.append(
            {
                "id": first_id + offset,
                "image_id": image_id,
                "category_id": category_ids[int(target.labels[offset])],
                "segmentation": run,
                "area": area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
        )
    return records
