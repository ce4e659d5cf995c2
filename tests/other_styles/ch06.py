"""Right answers to the exercises of chapter 06 in other styles."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize


def conv_block_by_batch_norm(x, kernel, norm):
    mean, variance, scale, shift = norm
    return F.relu(F.batch_norm(F.conv2d(x, kernel, padding=1), mean, variance, scale, shift))


def conv_block_by_a_folded_kernel(x, kernel, norm):
    factor = norm[2] / torch.sqrt(norm[1] + 1e-5)
    folded = torch.einsum("oihw,o->oihw", kernel, factor)
    return F.conv2d(x, folded, norm[3] - norm[0] * factor, padding="same").clamp(min=0)


def conv_block_by_unfolding_in_float64(x, kernel, norm):
    mean, variance, scale, shift = norm.double().unsqueeze(-1)
    columns = F.unfold(x.double(), 3, padding=1)
    y = kernel.double().flatten(1) @ columns
    y = (y - mean) * torch.rsqrt(variance + 1e-5) * scale + shift
    return torch.where(y > 0, y, 0.0).unflatten(2, x.shape[2:]).to(x.dtype)


def conv_block_channel_by_channel(x, kernel, norm):
    maps = []
    for one, (mean, variance, scale, shift) in zip(kernel, norm.T, strict=True):
        y = F.conv2d(x, one[None], padding=1)
        maps.append(torch.relu((y - mean) / (variance + 1e-5) ** 0.5 * scale + shift))
    return torch.cat(maps, dim=1)


def join_levels_by_modules(p3, p4, p5):
    enlarge = nn.Upsample(size=p3.shape[2:], mode="bilinear")
    return enlarge(p4) + enlarge(p5) + p3


def join_levels_by_torchvision(p3, p4, p5):
    total = p3.clone()
    for level in (p4, p5):
        total += resize(level, list(p3.shape[-2:]), antialias=False)
    return total


def join_levels_by_matrix_products(p3, p4, p5):
    def tents(size, length):
        place = ((torch.arange(size) + 0.5) * length / size - 0.5).clamp(0, length - 1)
        return (1 - (place[:, None] - torch.arange(length)).abs()).clamp(min=0)

    height, width = p3.shape[2:]
    return p3 + sum(
        tents(height, level.shape[2]) @ level @ tents(width, level.shape[3]).T for level in (p4, p5)
    )


def make_bases_by_batch_norm(x, kernels, norms, weight, bias):
    for number, (kernel, norm) in enumerate(zip(kernels, norms, strict=True), start=1):
        if number == len(kernels):
            x = nn.Upsample(scale_factor=2, mode="bilinear")(x)
        x = F.relu(F.batch_norm(F.conv2d(x, kernel, padding=1), *norm, eps=1e-5))
    return F.conv2d(x, weight, bias)


def make_bases_by_folded_kernels(x, kernels, norms, weight, bias):
    mean, variance, scale, shift = norms.unbind(dim=1)
    factors = scale / (variance + 1e-5).sqrt()
    shifts = shift - mean * factors
    folded = kernels * factors[:, :, None, None, None]

    def block(x, i):
        return F.conv2d(x, folded[i], shifts[i], padding=1).relu()

    for i in range(len(kernels) - 1):
        x = block(x, i)
    size = (2 * x.shape[2], 2 * x.shape[3])
    x = block(F.interpolate(x, size, mode="bilinear"), -1)
    return torch.einsum("kc,bcyx->bkyx", weight.flatten(1), x) + bias[:, None, None]


def make_bases_backwards(x, kernels, norms, weight, bias):
    def after(n):
        """The map after n blocks."""
        if n == 0:
            return x
        below = after(n - 1)
        if n == len(kernels):
            below = resize(below, [2 * side for side in x.shape[2:]], antialias=False)
        y = F.conv2d(below, kernels[n - 1], padding=1).permute(0, 2, 3, 1)
        mean, variance, scale, shift = norms[n - 1]
        y = (y - mean) / torch.sqrt(variance + 1e-5) * scale + shift
        return y.clamp(min=0).permute(0, 3, 1, 2)

    return F.linear(after(len(kernels)).movedim(1, 3), weight[..., 0, 0], bias).movedim(3, 1)


def cost_of_in_plain_loops(convs):
    rows = []
    for channels_in, channels_out, side, height, width in convs.tolist():
        weights = channels_in * channels_out * side**2
        rows.append((weights, weights * height * width))
    return torch.tensor(rows)


def cost_of_by_products(convs):
    weights = convs[:, :3].prod(dim=1) * convs[:, 2]
    cells = convs[:, 3] * convs[:, 4]
    return weights[:, None] * torch.stack([torch.ones_like(cells), cells], dim=1)


def cost_of_by_layers(convs):
    costs = torch.zeros(len(convs), 2, dtype=torch.int64)
    for i, (channels_in, channels_out, side, height, width) in enumerate(convs.tolist()):
        layer = nn.Conv2d(channels_in, channels_out, side, bias=False, device="meta")
        costs[i, 0] = sum(parameter.numel() for parameter in layer.parameters())
        costs[i, 1] = costs[i, 0] * height * width
    return costs


def _block(inputs, outputs, size=1, dilation=1):
    conv = nn.Conv2d(inputs, outputs, size, padding="same", dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Decoder_with_a_helper(nn.Module):
    def __init__(self, fine, coarse, inner, num_bases):
        super().__init__()
        self.branches = nn.ModuleList(
            _block(coarse, inner, 3 if dilation else 1, dilation or 1) for dilation in (0, 3, 6, 9)
        )
        conv = nn.Conv2d(coarse, inner, 1, bias=False)
        self.image = nn.Sequential(conv, nn.GroupNorm(max(inner // 8, 1), inner), nn.ReLU())
        self.join, self.fine = _block(inner * 5, inner), _block(fine, 48)
        self.tower = nn.Sequential(_block(48 + inner, inner, 3), _block(inner, inner, 3))
        self.bases = nn.Conv2d(inner, num_bases, 1)

    def forward(self, fine, coarse):
        pooled = F.adaptive_avg_pool2d(coarse, 1)
        image = F.interpolate(self.image(pooled), size=coarse.shape[-2:], mode="nearest")
        looks = torch.cat([*(branch(coarse) for branch in self.branches), image], 1)
        x = F.interpolate(self.join(looks), fine.shape[-2:], mode="bilinear")
        return self.bases(self.tower(torch.cat((x, self.fine(fine)), 1)))


class Decoder_in_steps(nn.Module):
    def __init__(self, fine_channels, coarse_channels, channels, num_bases):
        super().__init__()
        self.branches = nn.ModuleList()
        for size, dilation in ((1, 1), (3, 3), (3, 6), (3, 9)):
            self.branches.append(_block(coarse_channels, channels, size, dilation))
        self.image = nn.Sequential()
        self.image.append(nn.Conv2d(coarse_channels, channels, (1, 1), bias=False))
        self.image.append(nn.GroupNorm(channels // 8 or 1, channels))
        self.image.append(nn.ReLU())
        self.join = _block(channels + 4 * channels, channels)
        self.fine = _block(fine_channels, 48)
        self.tower = nn.Sequential()
        for before in (channels + 48, channels):
            self.tower.append(_block(before, channels, 3))
        self.bases = nn.Conv2d(channels, num_bases, 1)

    def forward(self, fine, coarse):
        looks = []
        for branch in self.branches:
            looks.append(branch(coarse))
        mean = coarse.flatten(2).mean(dim=2)[:, :, None, None]
        looks.append(self.image(mean) + torch.zeros_like(looks[0]))
        x = self.join(torch.cat(looks, dim=1))
        x = nn.Upsample(size=fine.shape[2:], mode="bilinear", align_corners=False)(x)
        x = torch.cat([x, self.fine(fine)], dim=1)
        for block in self.tower:
            x = block(x)
        return self.bases(x)


class Decoder_by_matrix_product(nn.Module):
    def __init__(self, num_fine, num_coarse, num, num_bases):
        super().__init__()
        looks = [_block(num_coarse, num)] + [_block(num_coarse, num, 3, 3 * i) for i in (1, 2, 3)]
        self.branches = nn.ModuleList(looks)
        layers = nn.Conv2d(num_coarse, num, 1, bias=False), nn.GroupNorm(max(num // 8, 1), num)
        self.image = nn.Sequential(*layers, nn.ReLU())
        self.join = _block(5 * num, num)
        self.fine = _block(num_fine, 48)
        self.tower = nn.Sequential(_block(num + 48, num, 3), _block(num, num, 3))
        self.bases = nn.Conv2d(num, num_bases, 1)

    def forward(self, fine, coarse):
        height, width = coarse.shape[2:]
        image = self.image(coarse.mean((2, 3), keepdim=True)).repeat(1, 1, height, width)
        looks = torch.cat([look(coarse) for look in self.branches] + [image], dim=1)
        x = resize(self.join(looks), list(fine.shape[2:]), antialias=False)
        x = self.tower(torch.cat([x, self.fine(fine)], dim=1))
        kernel = self.bases.weight[:, :, 0, 0]
        return torch.einsum("kc,bchw->bkhw", kernel, x) + self.bases.bias[:, None, None]
