"""Right answers to the exercises of chapter 09 in other styles."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align
from torchvision.transforms.v2.functional import resize

from blendmask_lite.model.attention import normalize_attentions
from blendmask_lite.model.merge import crop_bases


def enlarge_by_a_module(attentions, size):
    return nn.Upsample((size, size), mode="bilinear")(attentions)


def enlarge_by_torchvision(attentions, size):
    return resize(attentions, [size, size], antialias=False)


def enlarge_by_matrix_products(attentions, size):
    length = attentions.shape[-1]
    place = ((torch.arange(size) + 0.5) * length / size - 0.5).clamp(0, length - 1)
    tents = (1 - (place[:, None] - torch.arange(length)).abs()).clamp(min=0)
    return torch.einsum("im,jl,nkml->nkij", tents, tents, attentions)


def enlarge_in_plain_loops(attentions, size):
    length = attentions.shape[2]
    rows, columns = [], []
    for lines, axis in ((rows, 2), (columns, 3)):
        source = attentions if axis == 2 else torch.stack(rows, dim=2)
        for i in range(size):
            place = min(max((i + 0.5) * length / size - 0.5, 0), length - 1)
            first = int(place)
            second, share = min(first + 1, length - 1), place - first
            one, other = source.select(axis, first), source.select(axis, second)
            lines.append((1 - share) * one + share * other)
    return torch.stack(columns, dim=3)


def score_maps_by_exponentials(attentions, size):
    maps = F.interpolate(attentions, (size, size), mode="bilinear")
    maps = (maps - maps.amax(dim=1, keepdim=True)).exp()
    return maps / maps.sum(dim=1, keepdim=True)


def score_maps_by_logarithms(attentions, size):
    maps = F.interpolate(attentions.double(), size=size, mode="bilinear", align_corners=False)
    return torch.exp(maps - torch.logsumexp(maps, 1, keepdim=True)).float()


def score_maps_one_by_one(attentions, size):
    scores = torch.zeros(*attentions.shape[:2], size, size)
    for n, own in enumerate(attentions):
        scores[n] = nn.Softmax(dim=0)(resize(own, [size, size], antialias=False))
    return scores


def blend_by_einsum(crops, scores):
    return torch.einsum("nkyx,nkyx->nyx", crops, scores)


def blend_base_by_base(crops, scores):
    logits = torch.zeros_like(crops[:, 0])
    for k in range(crops.shape[1]):
        logits += crops[:, k] * scores[:, k]
    return logits


def blend_by_matrix_products(crops, scores):
    weights, values = scores.permute(0, 2, 3, 1), crops.permute(0, 2, 3, 1)
    return (weights.unsqueeze(-2) @ values.unsqueeze(-1)).squeeze(-1).squeeze(-1)


def blend_by_vecdot(crops, scores):
    return torch.linalg.vecdot(scores.double(), crops.double(), dim=1).to(crops.dtype)


def blend_one_base_by_logaddexp(crop, attention):
    return -torch.logaddexp(torch.logaddexp(-crop, -attention), -(crop + attention))


def blend_one_base_by_softplus(crop, attention):
    # 1 / p - 1 = e^-b (1 + e^-a) + e^-a
    return -torch.logaddexp(F.softplus(-attention) - crop, -attention)


def blend_one_base_in_float64(crop, attention):
    first, second = torch.exp(-crop.double()), torch.exp(-attention.double())
    return -torch.log(first + second + first * second).to(crop.dtype)


def boxes_in_cells(bases, boxes, image_size):
    (height, width), (h, w) = image_size, bases.shape[1:]
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    return torch.stack([x0 * w / width, y0 * h / height, x1 * w / width, y1 * h / height], dim=1)


def blended(bases, attentions, boxes, size, image_size):
    regions = [boxes_in_cells(bases, boxes, image_size)]
    crops = roi_align(bases[None], regions, size, sampling_ratio=1, aligned=True)
    scores = normalize_attentions(enlarge_by_a_module(attentions, size))
    return torch.einsum("nkyx,nkyx->nyx", crops, scores).sigmoid()


def masks_for_boxes_by_matrix_products(bases, attentions, boxes, size, image_size):
    weights = []
    for length, low, high in zip(image_size, boxes.T[[1, 0]], boxes.T[[3, 2]], strict=True):
        share = (torch.arange(length) + 0.5 - low[:, None]) / (high - low)[:, None]
        tents = 1 - (share[..., None] * size - 0.5 - torch.arange(size)).abs()
        weights.append(tents.relu())
    masks = blended(bases, attentions, boxes, size, image_size)
    return torch.einsum("nyi,nxj,nij->nyx", *weights, masks)


def masks_for_boxes_by_an_affine_grid(bases, attentions, boxes, size, image_size):
    height, width = image_size
    if len(boxes) == 0:  # affine_grid refuses it
        return torch.zeros(0, height, width)
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    zero = torch.zeros_like(x0)
    across = torch.stack([width / (x1 - x0), zero, (width - x0 - x1) / (x1 - x0)], dim=1)
    down = torch.stack([zero, height / (y1 - y0), (height - y0 - y1) / (y1 - y0)], dim=1)
    shape = [len(boxes), 1, height, width]
    places = F.affine_grid(torch.stack([across, down], dim=1), shape, align_corners=False)
    masks = blended(bases, attentions, boxes, size, image_size)
    return F.grid_sample(masks.unsqueeze(1), places, align_corners=False).squeeze(1)


def masks_for_boxes_one_by_one(bases, attentions, boxes, size, image_size):
    height, width = image_size
    masks = torch.zeros(len(boxes), height, width)
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        cells = boxes_in_cells(bases, boxes[n : n + 1], image_size)
        crop = crop_bases(bases[None], cells, torch.tensor([0]), size=size, stride=1)
        scores = score_maps_by_exponentials(attentions[n : n + 1], size)
        mask = F.pad((crop * scores).sum(1)[0].sigmoid(), (1, 1, 1, 1))
        x = ((torch.arange(width) + 0.5 - x0) / (x1 - x0) * size + 0.5).clamp(0, size + 1)
        y = ((torch.arange(height) + 0.5 - y0) / (y1 - y0) * size + 0.5).clamp(0, size + 1)
        i, j = y.long().clamp(max=size)[:, None], x.long().clamp(max=size)[None]
        v, u = y[:, None] - i, x[None] - j
        upper = mask[i, j] * (1 - u) + mask[i, j + 1] * u
        masks[n] = upper * (1 - v) + (mask[i + 1, j] * (1 - u) + mask[i + 1, j + 1] * u) * v
    return masks
