"""Right answers to the exercises of chapter 05 in other styles."""

import math

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou, nms


def decode_in_plain_loops(locations, ltrb, class_logits, centerness_logits):
    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    rows = []
    for i, (x, y) in enumerate(locations.tolist()):
        left, top, right, bottom = ltrb[i].tolist()
        center = sigmoid(centerness_logits[i].item())
        scores = [math.sqrt(sigmoid(z) * center) for z in class_logits[i].tolist()]
        rows.append([x - left, y - top, x + right, y + bottom, *scores])
    return torch.tensor(rows).reshape(-1, 4 + class_logits.shape[1])


def decode_by_signs(locations, ltrb, class_logits, centerness_logits):
    boxes = locations.repeat(1, 2) + ltrb * torch.tensor([-1, -1, 1, 1])
    logs = F.logsigmoid(class_logits) + F.logsigmoid(centerness_logits).unsqueeze(1)
    return torch.hstack([boxes, torch.exp(logs / 2)])


def decode_in_place(locations, ltrb, class_logits, centerness_logits):
    result = torch.empty(len(locations), 4 + class_logits.shape[1])
    result[:, :2] = locations - ltrb[:, :2]
    result[:, 2:4] = locations + ltrb[:, 2:]
    result[:, 4:] = class_logits.sigmoid().mul_(centerness_logits.sigmoid()[:, None]).sqrt_()
    return result


def keep_greedily_by_torchvision(boxes, scores, labels, iou_threshold):
    is_kept = torch.zeros(len(boxes), dtype=torch.bool)
    is_kept[batched_nms(boxes, scores, labels, iou_threshold)] = True
    return is_kept


def keep_greedily_class_by_class(boxes, scores, labels, iou_threshold):
    is_kept = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero().flatten()
        is_kept[own[nms(boxes[own], scores[own], iou_threshold)]] = True
    return is_kept


def keep_greedily_with_lists(boxes, scores, labels, iou_threshold):
    def iou(a, b):
        width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        areas = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
        return width * height / (areas - width * height)

    boxes, labels = boxes.tolist(), labels.tolist()
    waiting = sorted(range(len(boxes)), key=scores.tolist().__getitem__)
    kept = []
    while waiting:
        best = waiting.pop()
        kept.append(best)
        waiting = [
            i
            for i in waiting
            if labels[i] != labels[best] or iou(boxes[i], boxes[best]) <= iou_threshold
        ]
    return torch.tensor([i in kept for i in range(len(boxes))], dtype=torch.bool)


def keep_greedily_by_striking_out(boxes, scores, labels, iou_threshold):
    removes = (box_iou(boxes, boxes) > iou_threshold) & (labels == labels[:, None])
    is_alive, is_kept = torch.ones(len(boxes)).bool(), torch.zeros(len(boxes)).bool()
    while is_alive.any():
        best = scores.masked_fill(~is_alive, -math.inf).argmax()
        is_kept[best] = True
        is_alive &= ~removes[best]
        is_alive[best] = False
    return is_kept


def keep_fast_in_plain_loops(boxes, scores, labels, iou_threshold):
    iou, is_kept = box_iou(boxes, boxes).tolist(), []
    for i in range(len(boxes)):
        is_removed = False
        for j in range(len(boxes)):
            if labels[i] == labels[j] and scores[j] > scores[i] and iou[i][j] > iou_threshold:
                is_removed = True
        is_kept.append(not is_removed)
    return torch.tensor(is_kept, dtype=torch.bool)


def keep_fast_with_a_triangle(boxes, scores, labels, iou_threshold):
    order = scores.argsort(descending=True)
    same = labels[order].unsqueeze(0) == labels[order].unsqueeze(1)
    overlaps = (box_iou(boxes[order], boxes[order]) * same).triu(diagonal=1)
    is_kept = torch.empty(len(boxes), dtype=torch.bool)
    is_kept[order] = ~(overlaps > iou_threshold).any(dim=0)
    return is_kept


def keep_fast_by_the_largest_overlap(boxes, scores, labels, iou_threshold):
    if not len(boxes):
        return torch.zeros(0, dtype=torch.bool)
    is_rival = (scores > scores[:, None]) & (labels == labels[:, None])
    overlaps = torch.where(is_rival, box_iou(boxes, boxes), 0.0)
    return overlaps.max(dim=1).values <= iou_threshold


def average_precision_in_plain_loops(is_right, num_objects, recalls):
    points, num_right = [], 0
    for d, right in enumerate(is_right.tolist(), start=1):
        num_right += right
        points.append((num_right / num_objects, num_right / d))
    best = [max([p for r, p in points if r >= level], default=0.0) for level in recalls.tolist()]
    return torch.tensor(sum(best) / len(best), dtype=torch.float64)


def average_precision_by_numpy(is_right, num_objects, recalls):
    num_right = np.cumsum(is_right.numpy())
    precision = num_right / np.arange(1, len(num_right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(num_right / num_objects, recalls.numpy(), side="left")
    return torch.tensor(np.append(envelope, 0.0)[first].mean())


def average_precision_by_cummax(is_right, num_objects, recalls):
    num_right = is_right.long().cumsum(dim=0).to(torch.float64)
    place = torch.linspace(1, max(len(is_right), 1), len(is_right), dtype=torch.float64)
    envelope = (num_right / place).flip(0).cummax(dim=0).values.flip(0)
    first = torch.searchsorted((num_right / num_objects).contiguous(), recalls)
    return F.pad(envelope, (0, 1))[first].sum() / len(recalls)
