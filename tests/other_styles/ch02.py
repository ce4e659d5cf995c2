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


class ResidualBlock_with_helpers(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.bn1 = self.pair(before, after, 3, stride)
        self.conv2, self.bn2 = self.pair(after, after, 3, 1)
        same = before == after and stride == 1
        self.downsample = None if same else nn.Sequential(*self.pair(before, after, 1, stride))

    @staticmethod
    def pair(before, after, size, stride):
        conv = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
        return conv, nn.BatchNorm2d(after)

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.downsample is not None:
            x = self.downsample(x)
        return (out + x).clamp(min=0)


class ResidualBlock_with_an_early_shortcut(nn.Module):
    def __init__(self, c_in, c_out, s):
        super().__init__()
        if s != 1 or c_in != c_out:
            layers = [nn.Conv2d(c_in, c_out, kernel_size=1, stride=s, bias=False)]
            self.downsample = nn.Sequential(*layers, nn.BatchNorm2d(c_out))
        else:
            self.register_module("downsample", None)
        self.conv1 = nn.Conv2d(c_in, c_out, kernel_size=3, stride=s, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, kernel_size=3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()

    def forward(self, x):
        shortcut = self.downsample(x) if self.downsample else x
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = norm(conv(x))
            if conv is self.conv1:
                x = self.relu(x)
        return self.relu(x + shortcut)


class ResidualBlock_with_functions(nn.Module):
    def __init__(self, num_in, num_out, step):
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, (3, 3), (step, step), (1, 1), bias=False)
        self.conv2 = nn.Conv2d(num_out, num_out, (3, 3), padding="same", bias=False)
        self.bn1, self.bn2 = map(nn.BatchNorm2d, (num_out, num_out))
        self.downsample = None
        if (num_in, 1) != (num_out, step):
            short = nn.Conv2d(num_in, num_out, 1, step, 0, bias=False)
            self.downsample = nn.Sequential(short, nn.BatchNorm2d(num_out))

    def forward(self, images):
        hidden = torch.relu(self.bn1(self.conv1(images)))
        residual = self.bn2(self.conv2(hidden))
        own = images if self.downsample is None else self.downsample(images)
        return torch.relu(torch.add(own, residual))


class Pyramid_from_a_list(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lateral, self.output = nn.ModuleDict(), nn.ModuleDict()
        for name, num in in_channels.items():
            self.lateral[name] = nn.Conv2d(num, out_channels, kernel_size=1)
            self.output[name] = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, maps):
        above, result = None, {}
        for name in sorted(maps, reverse=True):
            merged = self.lateral[name](maps[name])
            if above is not None:
                merged = merged + F.interpolate(above, size=merged.shape[2:], mode="nearest")
            result["p" + name[1:]] = self.output[name](merged)
            above = merged
        return {name: result[name] for name in sorted(result, reverse=True)}


class Pyramid_by_repeating(nn.Module):
    def __init__(self, widths, num):
        super().__init__()
        self.lateral = nn.ModuleDict({n: nn.Conv2d(w, num, 1) for n, w in widths.items()})
        self.output = nn.ModuleDict({n: nn.Conv2d(num, num, 3, 1, 1) for n in widths})

    def forward(self, maps):
        sums = {name: conv(maps[name]) for name, conv in self.lateral.items()}
        names = list(sums)
        for fine, coarse in zip(names[-2::-1], names[:0:-1], strict=True):
            copies = sums[coarse].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            sums[fine] = sums[fine] + copies
        return {name.replace("c", "p"): self.output[name](sums[name]) for name in names}


class Pyramid_with_recursion(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        convs = {k: nn.Conv2d(c, out_channels, 1, bias=True) for k, c in in_channels.items()}
        self.lateral = nn.ModuleDict(convs)
        smooth = {k: nn.Conv2d(out_channels, out_channels, 3, padding="same") for k in in_channels}
        self.output = nn.ModuleDict(smooth)

    def merged(self, maps, level):
        own = self.lateral[f"c{level}"](maps[f"c{level}"])
        if f"c{level + 1}" not in maps:
            return own
        return own + nn.Upsample(scale_factor=2)(self.merged(maps, level + 1))

    def forward(self, maps):
        levels = sorted(int(name[1]) for name in maps)
        return {f"p{i}": self.output[f"c{i}"](self.merged(maps, i)) for i in levels}
