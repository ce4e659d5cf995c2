"""Right answers to the exercises of chapter 02 in other styles."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def level_sizes_in_plain_loops(image_sizes, strides):
    sizes = []
    for height, width in image_sizes.tolist():
        height, width = (math.ceil(side / 32) * 32 for side in (height, width))
        sizes.append([(math.ceil(height / s), math.ceil(width / s)) for s in strides.tolist()])
    return torch.tensor(sizes)


def level_sizes_with_float_division(image_sizes, strides):
    padded = torch.ceil(image_sizes / 32) * 32
    return torch.ceil(padded.unsqueeze(1) / strides.view(1, -1, 1)).to(torch.int64)


def level_sizes_by_halving(image_sizes, strides):
    levels, size = {}, -(-image_sizes // 32) * 32
    for exponent in range(9):
        levels[2**exponent] = size
        size = torch.div(size + 1, 2, rounding_mode="floor")
    return torch.stack([levels[s] for s in strides.tolist()], dim=1)


def field_sides_in_plain_loops(kernels, strides):
    side, step, sides = 1, 1, []
    for kernel, stride in zip(kernels.tolist(), strides.tolist(), strict=True):
        side += (kernel - 1) * step
        step *= stride
        sides.append(side)
    return torch.tensor(sides)


def field_sides_from_the_top_down(kernels, strides):
    sides = kernels.clone()
    for top in range(len(kernels)):
        for layer in reversed(range(top)):
            sides[top] = (sides[top] - 1) * strides[layer] + kernels[layer]
    return sides


def field_sides_by_a_matrix_product(kernels, strides):
    steps = F.pad(strides, (1, -1), value=1).cumprod(0)
    below = torch.ones(len(kernels), len(kernels), dtype=torch.int64).tril()
    return below @ ((kernels - 1) * steps) + 1


def merge_levels_by_repeating(fine, above, weight, bias):
    lateral = torch.einsum("pc,bchw->bphw", weight[:, :, 0, 0], fine) + bias[:, None, None]
    twice = above.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return lateral + twice[..., : fine.shape[-2], : fine.shape[-1]]


def merge_levels_by_index(fine, above, weight, bias):
    row, column = torch.arange(fine.shape[2]) // 2, torch.arange(fine.shape[3]) // 2
    lateral = F.linear(fine.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return above[:, :, row[:, None], column] + lateral


def merge_levels_in_place(fine, above, weight, bias):
    merged = F.conv2d(fine, weight, bias)
    for down in (0, 1):
        for right in (0, 1):
            part = merged[:, :, down::2, right::2]
            part += above[:, :, : part.shape[2], : part.shape[3]]
    return merged


def merge_levels_by_a_module(fine, above, weight, bias):
    enlarged = nn.Upsample(scale_factor=2)(above)
    return F.conv2d(fine, weight, bias).add(enlarged[:, :, : fine.size(2), : fine.size(3)])


def two_levels_up_by_skipping_cells(p5, weights, biases):
    p6 = F.conv2d(p5, weights[0], biases[0], padding=1)[:, :, ::2, ::2]
    return F.conv2d(p6.clamp(min=0), weights[1], biases[1], padding=1)[:, :, ::2, ::2]


def two_levels_up_by_unfolding(p5, weights, biases):
    x = p5
    for level, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        height, width = (math.ceil(side / 2) for side in x.shape[2:])
        columns = F.unfold(torch.relu(x) if level else x, 3, padding=1, stride=2)
        x = (weight.flatten(1) @ columns + bias[:, None]).unflatten(2, (height, width))
    return x


def two_levels_up_place_by_place(p5, weights, biases):
    def half(x, weight, bias):
        height, width = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
        padded, total = F.pad(x, (1, 1, 1, 1)), bias[:, None, None]
        for row in range(3):
            for column in range(3):
                part = padded[:, :, row::2, column::2][:, :, :height, :width]
                total = total + torch.einsum("oc,bcyx->boyx", weight[:, :, row, column], part)
        return total

    p6 = half(p5, weights[0], biases[0])
    return half(torch.where(p6 > 0, p6, 0.0), weights[1], biases[1])
