"""Right answers to the exercises of chapter 05 in other styles."""

import math

import numpy as np
import torch
from torch import nn
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


class Head_level_by_level(nn.Module):
    def __init__(self, channels, num_classes, num_convs):
        super().__init__()
        groups = max(channels // 2, 1) if channels % 32 else 32
        self.tower = nn.Sequential()
        for _ in range(num_convs):
            self.tower.append(nn.Conv2d(channels, channels, 3, padding=1))
            self.tower.append(nn.GroupNorm(groups, channels))
            self.tower.append(nn.ReLU())
        self.class_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.ltrb = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        for name, value in self.named_parameters():
            if value.dim() == 4:
                nn.init.normal_(value, 0, 0.01)
            elif name.endswith("bias"):
                nn.init.zeros_(value)
        with torch.no_grad():
            self.class_logits.bias.fill_(-math.log(99))

    def forward(self, levels, strides):
        classes, sides, centers, features = [], [], [], []
        for level, stride in zip(levels, strides, strict=True):
            x = self.tower(level)
            classes.append(self.class_logits(x).permute(0, 2, 3, 1).flatten(1, 2))
            sides.append((self.ltrb(x).clamp(min=0) * stride).permute(0, 2, 3, 1).flatten(1, 2))
            centers.append(self.centerness(x).flatten(1))
            features.append(x)
        return torch.cat(classes, 1), torch.cat(sides, 1), torch.cat(centers, 1), features


class Head_with_one_product(nn.Module):
    def __init__(self, c, num_classes, n):
        super().__init__()
        norm = 32 if c % 32 == 0 else max(c // 2, 1)
        blocks = [
            [nn.Conv2d(c, c, 3, padding="same"), nn.GroupNorm(norm, c), nn.ReLU(inplace=True)]
            for _ in range(n)
        ]
        self.tower = nn.Sequential(*(layer for block in blocks for layer in block))
        sizes = {"class_logits": num_classes, "ltrb": 4, "centerness": 1}
        for name, size in sizes.items():
            setattr(self, name, nn.Conv2d(c, size, 3, padding="same"))
        for module in self.modules():
            if type(module) is nn.Conv2d:
                module.weight.data = torch.randn_like(module.weight) * 0.01
                module.bias.data = torch.zeros_like(module.bias)
        self.class_logits.bias.data += math.log(0.01 / 0.99)

    def forward(self, levels, strides):
        layers = self.class_logits, self.ltrb, self.centerness
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        features = [self.tower(level) for level in levels]
        rows = [F.conv2d(x, weight, bias, padding=1).flatten(2) for x in features]
        step = [torch.full((row.shape[2],), float(s)) for row, s in zip(rows, strides, strict=True)]
        every, step = torch.cat(rows, dim=2).mT, torch.cat(step)
        classes, sides, center = every.split([len(weight) - 5, 4, 1], dim=2)
        return classes, F.relu(sides) * step[:, None], center.squeeze(2), features


class Head_that_initialises_itself(nn.Module):
    def __init__(self, channels, num_classes, num_convs):
        super().__init__()
        if channels % 32:
            groups = max(1, channels // 2)
        else:
            groups = 32
        parts = []
        while len(parts) < 3 * num_convs:
            parts.extend((self.conv(channels, channels), nn.GroupNorm(groups, channels), nn.ReLU()))
        self.tower = nn.Sequential(*parts)
        self.class_logits = self.conv(channels, num_classes, -4.59512)
        self.ltrb, self.centerness = self.conv(channels, 4), self.conv(channels, 1)

    def conv(self, before, after, bias=0.0):
        layer = nn.Conv2d(before, after, kernel_size=3, stride=1, padding=1)
        nn.init.normal_(layer.weight, std=1e-2)
        nn.init.constant_(layer.bias, bias)
        return layer

    def forward(self, levels, strides):
        def flat(maps):
            return torch.cat([each.reshape(*each.shape[:2], -1) for each in maps], 2).movedim(1, 2)

        features = list(map(self.tower, levels))
        sides = [torch.relu(self.ltrb(f) * s) for f, s in zip(features, strides, strict=True)]
        center = flat(list(map(self.centerness, features)))
        return flat(list(map(self.class_logits, features))), flat(sides), center[:, :, 0], features


def _scored(ltrb, class_logits, centerness_logits, locations):
    boxes = torch.cat([locations - ltrb[:, :2], locations + ltrb[:, 2:]], dim=1)
    return boxes, class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]


def find_boxes_by_torchvision(locations, ltrb, classes, centers, threshold, iou_threshold, most):
    boxes, products = _scored(ltrb, classes, centers, locations)
    place, label = torch.where(products > threshold)
    best = products[place, label].sort(descending=True, stable=True).indices[:1000]
    place, label = place[best], label[best]
    kept = batched_nms(boxes[place], products[place, label], label, iou_threshold)[:most]
    return boxes[place[kept]], products[place, label][kept].sqrt(), label[kept], place[kept]


def find_boxes_flat(locations, ltrb, classes, centers, threshold, iou_threshold, most):
    boxes, products = _scored(ltrb, classes, centers, locations)
    flat = products.flatten()
    values, pairs = flat.topk(min(1000, len(flat)))
    pairs = pairs[values > threshold]
    place = torch.div(pairs, classes.shape[1], rounding_mode="floor")
    label = pairs - place * classes.shape[1]
    shifted = boxes[place] + 10_000.0 * label[:, None]
    kept = nms(shifted, flat[pairs], iou_threshold)[:most]
    return boxes[place[kept]], flat[pairs[kept]] ** 0.5, label[kept], place[kept]


def find_boxes_in_plain_loops(locations, ltrb, classes, centers, threshold, iou_threshold, most):
    boxes, products = _scored(ltrb, classes, centers, locations)
    pairs = [
        (score, place, label)
        for place, row in enumerate(products.tolist())
        for label, score in enumerate(row)
        if score > threshold
    ]
    pairs = sorted(pairs, reverse=True)[:1000]
    overlap, kept = box_iou(boxes, boxes), []
    for score, place, label in pairs:
        rivals = [other for _, other, its_label in kept if its_label == label]
        if len(kept) < most and not any(overlap[place, o] > iou_threshold for o in rivals):
            kept.append((score, place, label))
    places = torch.tensor([place for _, place, _ in kept], dtype=torch.int64)
    labels = torch.tensor([label for _, _, label in kept], dtype=torch.int64)
    return boxes[places], products[places, labels].sqrt(), labels, places
