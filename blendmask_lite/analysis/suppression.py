"""Who removes whom in non-maximum suppression: greedy, and all boxes at once.

Chapter 05. Greedy: torchvision.ops.nms. At once: Fast NMS (YOLACT, section 5), which BlendMask's
Table 9 stands against.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

__all__ = ["Suppression", "fast_nms", "greedy_nms"]


@dataclass(frozen=True)
class Suppression:
    """What became of N boxes.

    Attributes:
        order: (N,) int64, the boxes by falling score.
        is_kept: (N,) bool.
        remover: (N,) int64, the better box that removed each; -1 where it was kept.
        iou: (N,) with the remover, 0 where it was kept.
    """

    order: Tensor
    is_kept: Tensor
    remover: Tensor
    iou: Tensor

    @property
    def kept(self) -> Tensor:
        """The kept boxes' places, best first."""
        return self.order[self.is_kept[self.order]]

    def removed_by(self, index: int) -> Tensor:
        """Places of the boxes that a box removed, best first."""
        return self.order[self.remover[self.order] == index]


def greedy_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, iou_threshold: float, class_wise: bool = True
) -> Suppression:
    """The best box removes all that overlap it, then the best of the rest does, and so on.

    Args:
        boxes: (N, 4) corners, pixels.
        scores: (N,).
        labels: (N,) int64.
        iou_threshold: a box goes where its IoU with a better one is above.
        class_wise: boxes of different classes leave each other alone.

    Returns:
        Only kept boxes are removers; each removed box went with the first that could remove it.
    """
    order, overlaps = _overlaps_of_better(boxes, scores, labels, class_wise)
    groups = labels.unique() if class_wise else torch.zeros(1)
    is_kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for label in groups:
        own = (labels == label).nonzero()[:, 0] if class_wise else order
        is_kept[own[nms(boxes[own], scores[own], iou_threshold)]] = True
    can_remove = (overlaps > iou_threshold) & is_kept[order][:, None]
    return _named(order, is_kept, can_remove, overlaps)


def fast_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, iou_threshold: float, class_wise: bool = True
) -> Suppression:
    """Every better box removes what overlaps it, removed or not; see `greedy_nms`.

    One matrix and no loop, and so boxes go that greedy suppression keeps, never the reverse.

    Returns:
        Removers may be removed themselves.
    """
    order, overlaps = _overlaps_of_better(boxes, scores, labels, class_wise)
    can_remove = overlaps > iou_threshold
    is_kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    is_kept[order] = ~can_remove.any(dim=0)
    return _named(order, is_kept, can_remove, overlaps)


def _overlaps_of_better(
    boxes: Tensor, scores: Tensor, labels: Tensor, class_wise: bool
) -> tuple[Tensor, Tensor]:
    """The order of the scores, and (N, N) IoU in it: row i is better than column j, else 0."""
    order = scores.argsort(descending=True, stable=True)
    overlaps = box_iou(boxes[order], boxes[order]).triu(diagonal=1)
    if class_wise:
        overlaps = overlaps * (labels[order][:, None] == labels[order])
    return order, overlaps


def _named(order: Tensor, is_kept: Tensor, can_remove: Tensor, overlaps: Tensor) -> Suppression:
    """The first, and so best, of the boxes that can remove one did."""
    remover = torch.full_like(order, -1)
    iou = torch.zeros(len(order), device=overlaps.device)
    if len(order):
        first = can_remove.int().argmax(dim=0)
        was_removed = ~is_kept[order]
        remover[order] = torch.where(was_removed, order[first], -1)
        iou[order] = overlaps.gather(0, first[None])[0] * was_removed
    return Suppression(order=order, is_kept=is_kept, remover=remover, iou=iou)
