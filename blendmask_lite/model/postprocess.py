"""Back to the users' image: scale, clip, drop what is empty, paste.

Chapter 05. AdelaiDet's order; see its trap in `place_detections`.
"""

from __future__ import annotations

from torch import Tensor

from blendmask_lite.boxes import clip_boxes, has_sides, scale_boxes
from blendmask_lite.model.detect import Proposals
from blendmask_lite.structures import Detections, UnpastedDetections

__all__ = ["finish_detections", "place_detections"]


def finish_detections(
    proposals: Proposals,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    *,
    mask_threshold: float,
) -> Detections:
    """Detections at the size that the user wants; arguments as `place_detections`'s."""
    return place_detections(
        proposals, mask_logits, image_size, output_size, mask_threshold=mask_threshold
    ).pasted()


def place_detections(
    proposals: Proposals,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    *,
    mask_threshold: float,
) -> UnpastedDetections:
    """Detections at the size that the user wants, before their masks are pasted.

    Masks are pasted into the clipped boxes although the bases were cropped with the unclipped
    ones, as in the released code: a mask of a box that sticks out is squeezed into the image.

    Args:
        proposals: N boxes of one image, pixels of the padded input.
        mask_logits: (N, R, R) over these boxes.
        image_size: (height, width) before padding.
        output_size: (height, width) wanted.
        mask_threshold: probability from which a pixel belongs to the mask.

    Returns:
        At most N detections; boxes that are empty after clipping are dropped.
    """
    height, width = output_size
    boxes = clip_boxes(scale_boxes(proposals.boxes, image_size, (height, width)), output_size)
    left = has_sides(boxes).nonzero()[:, 0]  # once: each boolean index would count anew
    kept, boxes, mask_logits = proposals[left], boxes[left], mask_logits[left]
    return UnpastedDetections(
        boxes=boxes,
        scores=kept.scores,
        labels=kept.labels,
        mask_logits=mask_logits,
        location_index=kept.location_index,
        proposal_boxes=kept.boxes,
        image_size=(height, width),
        mask_threshold=mask_threshold,
    )
