"""Right answers to the exercises of chapter 10 in other styles."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from blendmask_lite.model.merge import crop_bases


def weighted_sum_by_broadcasting(crops, coefficients):
    return (crops.clamp(min=0) * torch.tanh(coefficients)[:, :, None, None]).sum(1)


def weighted_sum_by_bmm(crops, coefficients):
    weights = coefficients.tanh().unsqueeze(1)  # (N, 1, K)
    return torch.bmm(weights, F.relu(crops).flatten(2)).view(-1, *crops.shape[2:])


def weighted_sum_base_by_base(crops, coefficients):
    logits = 0
    for prototype, weight in zip(crops.unbind(1), coefficients.unbind(1), strict=True):
        logits = logits + torch.where(prototype > 0, prototype, 0.0) * weight.tanh().view(-1, 1, 1)
    return logits


def assemble_in_plain_loops(crops):
    num, num_bases, size, _ = crops.shape
    tiles = math.isqrt(num_bases)
    logits = crops.new_zeros(num, size, size)
    for y in range(size):
        for x in range(size):
            logits[:, y, x] = crops[:, y * tiles // size * tiles + x * tiles // size, y, x]
    return logits


def assemble_tile_by_tile(crops):
    size, tiles = crops.shape[-1], math.isqrt(crops.shape[1])
    ends = [math.ceil(i * size / tiles) for i in range(tiles + 1)]
    logits = torch.zeros(len(crops), size, size)
    for k in range(tiles * tiles):
        row, column = divmod(k, tiles)
        part = slice(ends[row], ends[row + 1]), slice(ends[column], ends[column + 1])
        logits[:, part[0], part[1]] = crops[:, k, part[0], part[1]]
    return logits


def assemble_by_nearest_interpolation(crops):
    tiles = math.isqrt(crops.shape[1])
    one_hot = torch.eye(tiles * tiles).view(1, -1, tiles, tiles)
    return (crops * F.interpolate(one_hot, size=crops.shape[2:], mode="nearest")).sum(dim=1)


def assemble_by_gather(crops):
    size, tiles = crops.shape[3], round(math.sqrt(crops.shape[1]))
    tile = torch.floor(torch.arange(size).double() * tiles / size).long()
    owner = (tiles * tile).unsqueeze(1) + tile.unsqueeze(0)
    return crops.gather(1, owner.expand(len(crops), 1, size, size)).squeeze(1)


def blend_with_one_cell_by_broadcasting(crops, attentions):
    weights = torch.exp(attentions - attentions.logsumexp(dim=1, keepdim=True))
    return (weights[..., None, None] * crops).sum(dim=1)


def blend_with_one_cell_base_by_base(crops, attentions):
    shares = attentions.exp()
    logits = torch.zeros_like(crops[:, 0])
    for k in range(crops.shape[1]):
        logits += crops[:, k] * (shares[:, k] / shares.sum(dim=1))[:, None, None]
    return logits


def blend_with_one_cell_by_matmul(crops, attentions):
    weights = F.softmax(attentions.double(), dim=-1)[:, None]
    return (weights @ crops.double().flatten(2)).unflatten(2, crops.shape[2:])[:, 0].float()


def sum_then_crop_by_torchvision(bases, coefficients, boxes, size):
    maps = torch.tensordot(coefficients, bases, dims=1)
    crops = roi_align(maps[:, None], list(boxes.split(1)), size, 0.25, 1, aligned=True)
    return crops.squeeze(1)


def sum_then_crop_one_by_one(bases, coefficients, boxes, size):
    masks = []
    for weights, box in zip(coefficients, boxes, strict=True):
        whole = (weights[:, None, None] * bases).sum(dim=0)
        image = torch.zeros(1, dtype=torch.int64)
        crop = crop_bases(whole[None, None], box[None], image, size=size, stride=4)
        masks.append(crop[0, 0])
    return torch.stack(masks)


def sum_then_crop_with_maps_as_channels(bases, coefficients, boxes, size):
    maps = (coefficients @ bases.flatten(1)).view(1, -1, *bases.shape[1:])
    image = torch.zeros(len(boxes), dtype=torch.int64)
    return crop_bases(maps, boxes, image, size=size, stride=4).diagonal().movedim(-1, 0)


def make_masks_by_torchvision(bases, boxes, image, attentions, owner, size, stride):
    regions = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    crops = roi_align(bases, regions, size, 1 / stride, sampling_ratio=1, aligned=True)
    num = bases.shape[1]
    grid = math.isqrt(attentions.shape[1] // num)
    maps = attentions.reshape(len(attentions), num, grid, grid)
    large = F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)
    return (large.softmax(1) * crops[owner]).sum(1)


def make_masks_one_by_one(bases, boxes, image, attentions, owner, size, stride):
    num = bases.shape[1]
    masks = [bases.new_zeros(0, size, size) * bases.sum() * attentions.sum()]
    for row, place in zip(attentions, owner.tolist(), strict=True):
        own = bases[image[place]][None]
        crop = crop_bases(own, boxes[place][None], torch.zeros(1), size=size, stride=stride)[0]
        grid = round((len(row) / num) ** 0.5)
        large = F.interpolate(row.view(1, num, grid, grid), (size, size), mode="bilinear")[0]
        masks.append(torch.einsum("kyx,kyx->yx", large.softmax(0), crop)[None])
    return torch.cat(masks)


def make_masks_with_a_crop_for_each_location(bases, boxes, image, attentions, owner, size, stride):
    crops = crop_bases(bases, boxes[owner], image[owner], size=size, stride=stride)
    side = int((attentions.shape[1] / crops.shape[1]) ** 0.5 + 0.5)
    grids = attentions.unflatten(1, (-1, side, side))
    weights = nn.functional.interpolate(grids, size=size, mode="bilinear").exp()
    return (weights * crops).sum(dim=1) / weights.sum(dim=1)
