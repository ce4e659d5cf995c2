"""Right answers to the exercises of chapter 08 in other styles."""

import math

import torch
from torch.nn import functional as F


def find_cells_in_plain_loops(location, shapes):
    cells = []
    for place in location.tolist():
        for level, (height, width) in enumerate(shapes.tolist()):
            if place < height * width:
                cells.append((level, *divmod(place, width)))
                break
            place -= height * width
    return torch.tensor(cells, dtype=torch.int64).reshape(-1, 3)


def find_cells_by_a_table(location, shapes):
    table = []
    for level, (height, width) in enumerate(shapes.tolist()):
        table.append(
            torch.cartesian_prod(torch.tensor([level]), torch.arange(height), torch.arange(width))
        )
    return torch.cat(table)[location]


def find_cells_by_buckets(location, shapes):
    areas = shapes[:, 0] * shapes[:, 1]
    level = torch.bucketize(location, areas.cumsum(0), right=True)
    inside = location - torch.cat([areas.new_zeros(1), areas.cumsum(0)])[level]
    row = torch.div(inside, shapes[level, 1], rounding_mode="trunc")
    return torch.stack((level, row, inside - row * shapes[level, 1])).T


def windows_at_by_unfolding(features, cells):
    columns = F.unfold(features[None], kernel_size=3, padding=1)[0]  # (C * 9, h * w)
    place = cells[:, 0] * features.shape[2] + cells[:, 1]
    return columns[:, place].T.unflatten(1, (len(features), 3, 3))


def windows_at_in_plain_loops(features, cells):
    channels, height, width = features.shape
    windows = features.new_zeros(len(cells), channels, 3, 3)
    for n, (row, column) in enumerate(cells.tolist()):
        for i in range(3):
            for j in range(3):
                y, x = row + i - 1, column + j - 1
                if 0 <= y < height and 0 <= x < width:
                    windows[n, :, i, j] = features[:, y, x]
    return windows


def windows_at_by_sliding_views(features, cells):
    padded = F.pad(features, [1] * 4)
    views = padded.unfold(1, 3, 1).unfold(2, 3, 1)  # (C, h, w, 3, 3)
    return views[:, cells[:, 0], cells[:, 1]].movedim(1, 0)


def attend_by_conv2d(windows, kernel, bias):
    return F.conv2d(windows, kernel, bias)[:, :, 0, 0]


def attend_by_einsum(windows, kernel, bias):
    return torch.einsum("ncyx,acyx->na", windows, kernel) + bias


def attend_place_by_place(windows, kernel, bias):
    attentions = bias.repeat(len(windows), 1)
    for row in range(3):
        for column in range(3):
            attentions += F.linear(windows[..., row, column], kernel[..., row, column])
    return attentions


def attend_by_broadcasting_in_float64(windows, kernel, bias):
    products = windows.double()[:, None] * kernel
    return (products.sum(dim=(2, 3, 4)) + bias).to(windows.dtype)


def to_grids_by_reshape(raw, num_bases):
    size = math.isqrt(raw.shape[1] // num_bases)
    return raw.reshape(len(raw), num_bases, size, size)


def to_grids_in_plain_loops(raw, num_bases):
    size = int(math.sqrt(raw.shape[1] / num_bases))
    grids = torch.zeros(len(raw), num_bases, size, size)
    for k in range(num_bases):
        for y in range(size):
            for x in range(size):
                grids[:, k, y, x] = raw[:, k * size * size + y * size + x]
    return grids


def to_grids_by_chunks(raw, num_bases):
    maps = []
    for of_base in raw.chunk(num_bases, dim=1):
        size = round(of_base.shape[1] ** 0.5)
        maps.append(torch.stack(of_base.split(size, dim=1), dim=1))
    return torch.stack(maps, dim=1)


def attentions_at_by_the_whole_convolution(index, kernel, bias, *levels):
    maps = [F.conv2d(level, kernel, bias, padding=1).flatten(2) for level in levels]
    every = torch.cat(maps, dim=2)
    return every[index[:, 0], :, index[:, 1]]


def attentions_at_in_plain_loops(index, kernel, bias, *levels):
    rows = []
    for image, location in index.tolist():
        for level in levels:
            size = level.shape[2] * level.shape[3]
            if location < size:
                y, x = divmod(location, level.shape[3])
                window = F.pad(level[image], (1, 1, 1, 1))[:, y : y + 3, x : x + 3]
                rows.append((window * kernel).sum(dim=(1, 2, 3)) + bias)
                break
            location -= size
    return torch.stack(rows) if rows else bias.new_zeros(0, len(bias)) + 0 * kernel.sum()


def attentions_at_by_unfolding(index, kernel, bias, *levels):
    columns = torch.cat([F.unfold(level, 3, padding=1) for level in levels], dim=2)
    chosen = columns[index[:, 0], :, index[:, 1]]
    return torch.addmm(bias, chosen, kernel.flatten(1).T)
