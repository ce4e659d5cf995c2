"""How good the masks are when the boxes are the true ones.

It leaves out what the detector adds: chance between seeds is least here. Objects whose boxes
overlap another object's are counted on their own, because there the blender has most to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target
from blendmask_lite.training.targets import object_locations

__all__ = ["OVERLAP", "TrueBoxScores", "score_true_boxes", "true_box_masks"]

OVERLAP = 0.2  # IoU of two boxes from which their objects count as overlapping


@dataclass(frozen=True)
class TrueBoxScores:
    """Mean IoU of masks predicted over true boxes, percent.

    Attributes:
        iou: over all objects that some location learns.
        overlapping_iou: over those whose box overlaps another one by an IoU of `OVERLAP` or more;
            NaN if there are none.
        num_objects, num_overlapping: how many these are.
    """

    iou: float
    overlapping_iou: float
    num_objects: int
    num_overlapping: int


@torch.no_grad()
def score_true_boxes(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TrueBoxScores:
    """Compare masks over true boxes with the true masks, in every picture at its own size.

    Args:
        model: in evaluation mode.
        dataset: with masks.
        progress: called with (done, total).
    """
    ious, overlaps = [], []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        place, masks = true_box_masks(model, sample.image, sample.target)
        truth = sample.target.masks
        assert truth is not None
        ious.append(mask_iou(masks, truth[place]))
        boxes = sample.target.boxes.float()
        between = box_iou(boxes, boxes).fill_diagonal_(0)
        overlaps.append((between.amax(dim=1) >= OVERLAP)[place] if len(boxes) else place.bool())
        if progress is not None:
            progress(index + 1, len(dataset))
    iou = torch.cat(ious).double() if ious else torch.zeros(0, dtype=torch.float64)
    is_overlapping = torch.cat(overlaps) if overlaps else torch.zeros(0, dtype=torch.bool)
    return TrueBoxScores(
        iou=100 * iou.mean().item(),
        overlapping_iou=100 * iou[is_overlapping].mean().item(),
        num_objects=len(iou),
        num_overlapping=int(is_overlapping.sum()),
    )


@torch.no_grad()
def true_box_masks(model: BlendMask, image: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Masks over the true boxes, by the attentions of the locations that learn these objects.

    Args:
        model: in evaluation mode.
        image: (3, H, W).
        target: N objects in pixels of `image`.

    Returns:
        On the CPU (n,) int64 positions of the objects that a location learns, ascending, and their
        (n, H, W) bool masks. Of an object's locations the most central one is taken.
    """
    target = target.to(model.device)
    output = model([image.to(model.device)])
    location, is_learned = object_locations(output, target, model.config)
    place = is_learned.nonzero()[:, 0]
    index = F.pad(location[place, None], (1, 0))  # (n, 2), image 0
    boxes = target.boxes.float()[place]
    logits = model.masks_at(output, index, boxes)
    height, width = image.shape[-2:]
    return place.cpu(), paste_masks(logits, boxes, (height, width)).cpu()
