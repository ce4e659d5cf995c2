"""Right answers to the exercises of chapter 04 in other styles."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou, sigmoid_focal_loss


def focal_loss_by_torchvision(logits, labels, num_positive, alpha, gamma):
    truth = torch.zeros_like(logits)
    for c in range(logits.shape[2]):
        truth[:, :, c] = labels == c
    return sigmoid_focal_loss(logits, truth, alpha, gamma, reduction="sum") / num_positive


def focal_loss_in_plain_loops(logits, labels, num_positive, alpha, gamma):
    total = logits.sum() * 0
    for image, row in enumerate(labels.tolist()):
        for place, label in enumerate(row):
            for c in range(logits.shape[2]):
                z, weight = logits[image, place, c], alpha
                if label != c:
                    z, weight = -z, 1 - alpha
                total = total + weight * torch.sigmoid(-z) ** gamma * F.softplus(-z)
    return total / num_positive


def focal_loss_with_signs(logits, labels, num_positive, alpha, gamma):
    logits = logits.double()
    is_class = F.one_hot(labels + 1, logits.shape[-1] + 1)[..., 1:]
    log_p = F.logsigmoid((2 * is_class - 1) * logits)
    weight = alpha * is_class + (1 - alpha) * (1 - is_class)
    loss = -weight * (1 - log_p.exp()).pow(gamma) * log_p
    return loss.sum().div(num_positive).float()


def centerness_in_plain_loops(ltrb):
    values = []
    for left, top, right, bottom in ltrb.reshape(-1, 4).tolist():
        ratio = min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
        values.append(ratio**0.5)
    return torch.tensor(values).reshape(ltrb.shape[:-1])


def centerness_by_pairs(ltrb):
    pairs = ltrb.unflatten(-1, (2, 2))  # (left, top), (right, bottom)
    return (pairs.amin(dim=-2) / pairs.amax(dim=-2)).prod(dim=-1).sqrt()


def centerness_by_logarithms(ltrb):
    ratios = (ltrb[..., :2].log() - ltrb[..., 2:].log()).abs()
    return torch.exp(-ratios.sum(-1) / 2)


def box_loss_in_plain_loops(predicted, target, weight):
    def area(left, top, right, bottom):
        return (left + right) * (top + bottom)

    total = 0
    for one, other, w in zip(predicted, target, weight, strict=True):
        intersection, hull = area(*torch.min(one, other)), area(*torch.max(one, other))
        union = area(*one) + area(*other) - intersection
        total = total + w * (1 - (intersection + 1) / (union + 1) + (hull - union) / hull)
    return total / sum(weight)


def box_loss_with_corners(predicted, target, weight):
    def corners(sides):
        return torch.cat([-sides[:, :2], sides[:, 2:]], dim=1)

    def area(boxes):
        return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)

    one, other = corners(predicted), corners(target)
    first, last = torch.maximum(one, other), torch.minimum(one, other)
    intersection = area(torch.cat([first[:, :2], last[:, 2:]], dim=1))
    hull = area(torch.cat([last[:, :2], first[:, 2:]], dim=1))
    union = area(one) + area(other) - intersection
    giou = (intersection + 1) / (union + 1) - 1 + union / hull
    return torch.dot(1 - giou, weight / weight.sum())


def box_loss_by_torchvision(predicted, target, weight):
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    one, other = predicted * signs, target * signs
    iou = box_iou(one, other).diagonal()
    outside = iou - generalized_box_iou(one, other).diagonal()  # (hull - union) / hull
    areas = sum((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other))
    union = areas / (1 + iou)
    smooth = (iou * union + 1) / (union + 1)
    return ((1 - smooth + outside) * weight).sum() / weight.sum()


def centerness_loss_by_softplus(logits, target, num_positive):
    return (F.softplus(logits) - target * logits).sum() / num_positive


def centerness_loss_by_logarithms(logits, target, num_positive):
    log_p, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -(target @ log_p + (1 - target) @ log_rest).div(num_positive)


def centerness_loss_in_plain_loops(logits, target, num_positive):
    total = logits.new_zeros(())
    loss = nn.BCEWithLogitsLoss()
    for logit, t in zip(logits, target, strict=True):
        total += loss(logit, t)
    return total / num_positive
