"""Chapter 14's tools: outlines of objects, and maps of each pixel's owner.

The outlines are those that R x R cells can follow or that annotators click; the tools measure how
far off they are. In a map of owners, 0 is nobody, 1 to N are objects, and N + s is stuff label s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.datasets.coco_format import (
    annotation_records,
    category_records,
    decode_masks,
    image_record,
    run_length,
)
from blendmask_lite.evaluation.average_precision import evaluate_detections
from blendmask_lite.evaluation.results import image_results
from blendmask_lite.masks import there_and_back
from blendmask_lite.structures import Detections, PanopticResult, Segment, Target

__all__ = [
    "best_masks",
    "clicked_mask",
    "clicked_truth",
    "mask_ap",
    "masks_as_detections",
    "mean_offset",
    "owners_as_result",
    "true_owners",
    "worst_window",
]


def best_masks(target: Target, size: int) -> Tensor:
    """The best masks of R x R cells, pasted back into the image.

    Args:
        target: N objects with masks (N, H, W).
        size: R, cells per side.

    Returns:
        (N, H, W) bool.
    """
    return there_and_back(_masks(target), target.boxes.float(), size)


def mean_offset(masks: Sequence[Tensor], targets: Sequence[Target]) -> float:
    """The mean error of the outlines, in pixels: wrong pixels divided by the true outline's length.

    Args:
        masks: (N, H, W) bool for each image.
        targets: one per image; its N masks are neither empty nor full.

    Returns:
        The mean over all objects.
    """
    offsets = []
    for found, target in zip(masks, targets, strict=True):
        true = _masks(target)
        rows, columns = true[:, 1:] != true[:, :-1], true[:, :, 1:] != true[:, :, :-1]
        sides = rows.sum(dim=(1, 2)) + columns.sum(dim=(1, 2))
        offsets.append((found ^ true).sum(dim=(1, 2)) / sides)
    return float(torch.cat(offsets).mean())


def worst_window(mask: Tensor, truth: Tensor, side: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the square of `side` pixels with the most wrong pixels."""
    rows = F.avg_pool2d((mask ^ truth)[None].float(), (1, side), stride=1)
    wrong = F.avg_pool2d(rows, (side, 1), stride=1)[0]  # two steps are faster than one square
    y, x = divmod(int(wrong.argmax()), wrong.shape[1])
    return x, y, x + side, y + side


def mask_ap(truths: Sequence[Target], masks: Sequence[Tensor], num_classes: int) -> float:
    """Mask AP, in percent, of masks that all have the right class and the score 1.

    Args:
        truths: one per image, with masks.
        masks: (N, H, W) bool for each image, one for each true object.
        num_classes: C.
    """
    ids = tuple(range(1, num_classes + 1))
    categories = category_records([str(n) for n in ids], ids)
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    results = []
    for number, (target, found) in enumerate(zip(truths, masks, strict=True)):
        truth["images"].append(image_record(number, (found.shape[1], found.shape[2])))
        first_id = len(truth["annotations"]) + 1
        truth["annotations"] += annotation_records(target, number, ids, first_id=first_id)
        detections = masks_as_detections(found, torch.ones(len(found)), target.labels)
        results.append(image_results(number, replace(detections, boxes=target.boxes.float()), ids))
    return evaluate_detections(truth, results)["mask"].numbers["AP"]


def masks_as_detections(masks: Tensor, scores: Tensor, labels: Tensor) -> Detections:
    """Detections with these (N, H, W) masks, scores and labels, and zeros elsewhere."""
    num, (height, width) = len(masks), masks.shape[-2:]
    return Detections(
        boxes=torch.zeros(num, 4),
        scores=scores,
        labels=labels,
        masks=masks,
        mask_logits=torch.zeros(num, 1, 1),
        location_index=torch.zeros(num, dtype=torch.int64),
        proposal_boxes=torch.zeros(num, 4),
        image_size=(height, width),
    )


def clicked_truth(target: Target, num_clicks: int) -> Target:
    """The target with every mask replaced by its `clicked_mask`."""
    masks = [clicked_mask(mask, num_clicks) for mask in _masks(target)]
    return replace(target, masks=torch.stack(masks))


def _masks(target: Target) -> Tensor:
    if target.masks is None:
        raise ValueError("a target without masks has no outlines")
    return target.masks


def clicked_mask(mask: Tensor, num_clicks: int) -> Tensor:
    """The mask that an annotator would click, as in COCO: polygons without holes.

    Args:
        mask: (H, W) bool, at least one pixel.
        num_clicks: number of points on the outlines of all parts together, at equal distances; each
            part gets at least three.

    Returns:
        (H, W) bool.
    """
    framed = F.pad(mask, (1, 1, 1, 1))  # so that every outline is closed
    lines = Figure().subplots().contour(framed.cpu().numpy(), [0.5]).allsegs[0]
    # The center of row or column i lies at i + 0.5; the frame shifts everything by one.
    outlines = [np.asarray(line, dtype=np.float64) - 0.5 for line in lines]
    length = sum(_lengths(outline)[-1] for outline in outlines)
    polygons = [
        _evenly(outline, max(3, round(num_clicks * _lengths(outline)[-1] / length)))
        for outline in outlines
    ]
    size = (mask.shape[0], mask.shape[1])
    run = run_length([polygon.ravel().tolist() for polygon in polygons], size)
    return decode_masks([run], size)[0]


def _evenly(outline: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """(number, 2) points on a closed line, at equal distances along it."""
    lengths = _lengths(outline)
    places = np.linspace(0, lengths[-1], number, endpoint=False)
    x, y = outline.T
    return np.stack([np.interp(places, lengths, x), np.interp(places, lengths, y)], axis=1)


def _lengths(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,) distance along the line to each of its points."""
    steps = np.linalg.norm(np.diff(outline, axis=0), axis=1)
    return np.concatenate([[0.0], steps.cumsum()])


def true_owners(target: Target) -> Tensor:
    """(H, W) int64 owners of a target with stuff and masks that do not overlap.

    Raises:
        ValueError: the target has no masks or no stuff.
    """
    if target.masks is None or target.stuff is None:
        raise ValueError("a target without masks or without stuff has no owners")
    numbers = torch.arange(1, len(target) + 1)[:, None, None]
    owners = (target.masks * numbers).sum(dim=0)
    return torch.where(target.stuff > 0, len(target) + target.stuff.long(), owners)


def owners_as_result(
    owners: Tensor, labels: Tensor, scores: Sequence[float] | None = None
) -> PanopticResult:
    """A map of owners as a panoptic result, which figures can draw.

    Args:
        owners: (H, W).
        labels: (N,) labels of the objects.
        scores: N scores of the objects; None for true ones.
    """
    segments = []
    for number in owners[owners > 0].unique().tolist():
        area, index = int((owners == number).sum()), number - 1
        if index < len(labels):
            score = None if scores is None else float(scores[index])
            segments.append(Segment(number, int(labels[index]), area, score, index))
        else:
            segments.append(Segment(number, number - len(labels), area))
    return PanopticResult(ids=owners.int(), segments=segments)
