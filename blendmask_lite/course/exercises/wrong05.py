"""What students get wrong in chapter 05, and what to tell them."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from blendmask_lite.course.definition import WrongAnswer
from blendmask_lite.evaluation.one_class import precision_recall
from blendmask_lite.research import detector

__all__ = ["DECODE", "FAST", "GREEDY", "PRECISION"]


# 05.1


def _decoded(corners: Tensor, scores: Tensor) -> Tensor:
    return torch.cat([corners, scores], dim=1)


def _corners(locations: Tensor, ltrb: Tensor) -> Tensor:
    return torch.cat([locations - ltrb[:, :2], locations + ltrb[:, 2:]], dim=1)


def _products(class_logits: Tensor, centerness_logits: Tensor) -> Tensor:
    return class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]


def _decode_added(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    corners = torch.cat([locations + ltrb[:, :2], locations + ltrb[:, 2:]], dim=1)
    return _decoded(corners, _products(class_logits, centerness_logits).sqrt())


def _decode_without_root(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    return _decoded(_corners(locations, ltrb), _products(class_logits, centerness_logits))


def _decode_softmax(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    products = class_logits.softmax(dim=1) * centerness_logits.sigmoid()[:, None]
    return _decoded(_corners(locations, ltrb), products.sqrt())


def _decode_class_alone(
    locations: Tensor, ltrb: Tensor, class_logits: Tensor, centerness_logits: Tensor
) -> Tensor:
    return _decoded(_corners(locations, ltrb), class_logits.sigmoid().sqrt())


DECODE = (
    WrongAnswer(
        _decode_added,
        "All four distances were added. The left and the upper side lie at smaller x and y than "
        "the location.",
    ),
    WrongAnswer(
        _decode_without_root,
        "The product is right, but the score is its square root: without it a pair of 0.7 and "
        "0.7 would look like 0.49.",
    ),
    WrongAnswer(
        _decode_softmax,
        "The classes passed a softmax. In FCOS every class has a sigmoid of its own, and none "
        "stands for background.",
    ),
    WrongAnswer(
        _decode_class_alone,
        "The centerness is missing: boxes of locations near an edge would score as high as "
        "those of the center.",
    ),
)


# 05.2


def _greedy_all_remove(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    return detector.fast_nms(boxes, scores, labels, iou_threshold=iou_threshold).is_kept


def _greedy_all_classes(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    return detector.greedy_nms(
        boxes, scores, labels, iou_threshold=iou_threshold, class_wise=False
    ).is_kept


def _greedy_in_given_order(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    order = -torch.arange(len(scores), dtype=torch.float32)
    return detector.greedy_nms(boxes, order, labels, iou_threshold=iou_threshold).is_kept


GREEDY = (
    WrongAnswer(
        _greedy_all_remove,
        "Removed boxes still remove others: a box goes although nobody who is kept overlaps it. "
        "That is Fast NMS, the next exercise.",
    ),
    WrongAnswer(
        _greedy_all_classes,
        "Boxes of different classes remove each other. A mug in front of a ring is two objects.",
    ),
    WrongAnswer(
        _greedy_in_given_order,
        "The boxes are taken in the order in which they come, not from the best score down.",
    ),
)


# 05.3


def _fast_greedy(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    return detector.greedy_nms(boxes, scores, labels, iou_threshold=iou_threshold).is_kept


def _fast_all_classes(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    return detector.fast_nms(
        boxes, scores, labels, iou_threshold=iou_threshold, class_wise=False
    ).is_kept


def _fast_wrong_axis(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    return detector.fast_nms(boxes, -scores, labels, iou_threshold=iou_threshold).is_kept


def _fast_unsorted(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    overlaps = box_iou(boxes, boxes).triu(diagonal=1) * (labels[:, None] == labels)
    return ~(overlaps > iou_threshold).any(dim=0)


FAST = (
    WrongAnswer(
        _fast_greedy,
        "This is greedy suppression. In Fast NMS removed boxes remove others, too.",
    ),
    WrongAnswer(
        _fast_all_classes,
        "Boxes of different classes remove each other; compare the labels of each pair, too.",
    ),
    WrongAnswer(
        _fast_wrong_axis,
        "Worse boxes remove better ones. Rows are who removes, columns who is removed: take "
        "`any` over dim=0.",
    ),
    WrongAnswer(
        _fast_unsorted,
        "The upper triangle is the better box only where boxes are sorted by score; these are not.",
    ),
)


# 05.4


def _precision_at_levels(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    precision, recall = precision_recall(is_right, num_objects)
    place = torch.searchsorted(recall, recalls)
    return torch.cat([precision, precision.new_zeros(1)])[place].mean()


def _precision_at_right(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    precision, _ = precision_recall(is_right, num_objects)
    return (precision * is_right).sum() / num_objects


def _precision_of_reached(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    precision, recall = precision_recall(is_right, num_objects)
    if len(precision) == 0:
        return recalls.new_zeros(())
    best = precision.flip(0).cummax(dim=0).values.flip(0)
    place = torch.searchsorted(recall, recalls)
    return best[place[place < len(best)]].mean()


def _precision_over_found(is_right: Tensor, num_objects: int, recalls: Tensor) -> Tensor:
    num_right = int(is_right.sum())
    if num_right == 0:
        return recalls.new_zeros(())
    return _precision_of_reached(is_right, num_right, recalls)


PRECISION = (
    WrongAnswer(
        _precision_at_levels,
        "You took the precision where a level is first reached. COCO takes the best precision "
        "from there on: the envelope of the curve.",
    ),
    WrongAnswer(
        _precision_at_right,
        "You averaged the precision at each right detection, without levels and envelope. It is "
        "near, but it is not COCO's number.",
    ),
    WrongAnswer(
        _precision_of_reached,
        "Levels of recall that are never reached were left out. They count as 0, or missing "
        "objects would cost nothing.",
    ),
    WrongAnswer(
        _precision_over_found,
        "Recall is divided by the objects that were found. It has to be all true objects, the "
        "missed ones, too.",
    ),
)
