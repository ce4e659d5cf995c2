"""Right answers to the exercises of chapter 09 in other styles."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize


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
