"""Instances and stuff in one map, in which every pixel belongs to one segment at most.

BlendMask, section 4.4; Kirillov et al., "Panoptic Segmentation", section 6, in the released code's
order: the best instance first, stuff on what is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_lite.structures import Detections, PanopticResult, Segment

__all__ = ["merge_things_and_stuff"]


def merge_things_and_stuff(
    detections: Detections,
    labels: Tensor,
    *,
    score_threshold: float,
    overlap: float,
    stuff_area: int,
) -> PanopticResult:
    """Decide for every pixel which instance or which kind of stuff it belongs to.

    Instances come first, the surest at the front. One of which too much is covered already is
    left out; of the others the free part becomes a segment. Then each kind of stuff takes what it
    has of the free pixels. Pixels that the branch calls things, without an instance, stay
    unlabelled.

    Args:
        detections: N instances with masks (N, H, W).
        labels: (H, W) integers: 0 things, 1 to S stuff.
        score_threshold: least score of an instance.
        overlap: largest share of a mask that may be covered already.
        stuff_area: least free pixels of a kind of stuff.

    Raises:
        ValueError: masks and labels differ in size.
    """
    if detections.masks.shape[1:] != labels.shape:
        raise ValueError(
            f"masks of {tuple(detections.masks.shape[1:])} pixels, labels of {tuple(labels.shape)}"
        )
    ids = torch.zeros_like(labels, dtype=torch.int32)
    segments: list[Segment] = []

    def take(
        mask: Tensor, label: int, area: int, score: float | None, instance: int | None
    ) -> None:
        number = len(segments) + 1
        ids[mask] = number
        segments.append(Segment(number, label, area, score=score, instance_index=instance))

    scores = detections.scores.tolist()
    order = detections.scores.argsort(descending=True, stable=True).tolist()
    for index in order:
        if scores[index] < score_threshold:
            break
        mask = detections.masks[index]
        free = mask & (ids == 0)
        area, free_area = int(mask.count_nonzero()), int(free.count_nonzero())
        # A free area of 0 gets this far only with `overlap` = 1.
        if free_area == 0 or (area - free_area) / area > overlap:
            continue
        take(free, int(detections.labels[index]), free_area, scores[index], index)
    for label in labels.unique().tolist():
        free = (labels == label) & (ids == 0)
        area = int(free.count_nonzero())
        if label > 0 and area > 0 and area >= stuff_area:
            take(free, label, area, None, None)
    return PanopticResult(ids=ids, segments=segments)
