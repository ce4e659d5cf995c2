"""From predictions to boxes: scores, the best of each level, non-maximum suppression.

Chapter 05. FCOS, section 3.3, in the released code's order; it knows nothing of masks, but keeps
for every box the location that found it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from blendmask_lite.boxes import ltrb_to_xyxy
from blendmask_lite.model.fcos import level_values
from blendmask_lite.model.precision import at_least_float32

__all__ = ["Proposals", "select_candidates", "suppress"]


@dataclass(frozen=True)
class Proposals:
    """Boxes of one image, N of them, best first.

    Attributes:
        boxes: (N, 4) corners, pixels of the padded input, not clipped to it.
        scores: (N,) sqrt(class probability x centerness).
        labels: (N,) int64.
        location_index: (N,) int64, place in the flattened pyramid.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    location_index: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice) -> Proposals:
        return Proposals(
            self.boxes[index], self.scores[index], self.labels[index], self.location_index[index]
        )


def select_candidates(
    class_logits: Tensor,
    ltrb: Tensor,
    centerness_logits: Tensor,
    locations: Tensor,
    level_sizes: Sequence[int],
    *,
    score_threshold: float,
    max_per_level: int,
) -> Proposals:
    """The (location, class) pairs of one image that are worth a box.

    Args:
        class_logits: (L, C).
        ltrb: (L, 4) pixels.
        centerness_logits: (L,).
        locations: (L, 2) pixels.
        level_sizes: number of locations of every level; they sum up to L.
        score_threshold: least class probability x centerness, exclusive.
        max_per_level: the best of each level are kept, at most so many.

    Returns:
        Boxes before suppression, best first. A location may appear with several classes.
    """
    num_classes = class_logits.shape[1]
    class_logits = at_least_float32(class_logits)
    centerness_logits = at_least_float32(centerness_logits)
    products = (class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]).flatten()
    pairs = (products > score_threshold).nonzero()[:, 0]
    pairs = pairs[products[pairs].argsort(descending=True)]
    levels = level_values(range(len(level_sizes)), level_sizes, device=pairs.device)
    level = levels[pairs // num_classes]
    is_of_level = level[:, None] == torch.arange(len(level_sizes), device=pairs.device)
    rank = is_of_level.cumsum(dim=0).gather(1, level[:, None])[:, 0]  # in its level, from 1
    pairs = pairs[(rank <= max_per_level).nonzero()[:, 0]]
    index = pairs // num_classes
    return Proposals(
        boxes=ltrb_to_xyxy(locations[index], at_least_float32(ltrb[index])),
        scores=products[pairs].sqrt(),
        labels=pairs % num_classes,
        location_index=index,
    )


def suppress(candidates: Proposals, *, nms_iou: float, max_detections: int) -> Proposals:
    """Drop boxes that overlap a better one of their class, and keep the best of the rest.

    Differs from AdelaiDet, which may keep more than `max_detections` where scores tie exactly, and
    where boxes that reach outside the image may suppress some of another class.
    """
    # Boxes of different classes are moved apart, so that one suppression serves them all. Unclipped
    # boxes begin below 0: the largest coordinate alone, which torchvision's `batched_nms` goes by,
    # is not far enough. The zero keeps the extremes of no boxes defined.
    corners = torch.cat([candidates.boxes.flatten(), candidates.boxes.new_zeros(1)])
    shift = candidates.labels * (corners.max() - corners.min() + 1)
    kept = nms(candidates.boxes + shift[:, None], candidates.scores, nms_iou)
    return candidates[kept[:max_detections]]
