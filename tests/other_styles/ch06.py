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
