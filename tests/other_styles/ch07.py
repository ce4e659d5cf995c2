"""Right answers to the exercises of chapter 07 in other styles."""

import math

import torch
from torch.nn import functional as F
from torchvision.ops import RoIPool, roi_align


def sample_bilinear_in_plain_loops(values, points):
    height, width = values.shape
    result = values.new_zeros(len(points))
    for i, (x, y) in enumerate(points.tolist()):
        if not (-0.5 <= x <= width + 0.5 and -0.5 <= y <= height + 0.5):
            continue
        x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                weight = (1 - abs(x - column)) * (1 - abs(y - row))
                if weight > 0:
                    result[i] += weight * values[row, column]
    return result


def sample_bilinear_by_grid_sample(values, points):
    sides = torch.tensor([values.shape[1], values.shape[0]])
    grid = (points / sides * 2 - 1)[None, None]
    found = F.grid_sample(
        values[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    is_near = ((points >= -0.5) & (points <= sides + 0.5)).all(dim=1)
    return torch.where(is_near, found[0, 0, 0], 0.0)


def sample_bilinear_with_tents(values, points):
    height, width = values.shape
    x, y = points[:, 0] - 0.5, points[:, 1] - 0.5
    is_near = (x >= -1) * (x <= width) * (y >= -1) * (y <= height)
    columns = 1 - (x.clamp(0, width - 1)[:, None] - torch.arange(width)).abs()
    rows = 1 - (y.clamp(0, height - 1)[:, None] - torch.arange(height)).abs()
    return torch.einsum("pi,ij,pj,p->p", rows.relu(), values, columns.relu(), is_near.float())


def bin_centers_in_plain_loops(boxes, size, stride):
    centers = torch.zeros(len(boxes), size, size, 2)
    for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        for row in range(size):
            for column in range(size):
                centers[n, row, column, 0] = (x0 + (column + 0.5) * (x1 - x0) / size) / stride
                centers[n, row, column, 1] = (y0 + (row + 0.5) * (y1 - y0) / size) / stride
    return centers


def bin_centers_by_affine_grid(boxes, size, stride):
    first, last = (boxes / stride).chunk(2, dim=1)
    middle, half = (first + last) / 2, (last - first) / 2
    maps = torch.cat([torch.diag_embed(half), middle[:, :, None]], dim=2)
    if len(boxes) == 0:
        return maps.new_zeros(0, size, size, 2)
    return F.affine_grid(maps, [len(boxes), 1, size, size], align_corners=False)


def bin_centers_by_linspace(boxes, size, stride):
    shares = torch.linspace(0.5 / size, 1 - 0.5 / size, size)
    shares = torch.cartesian_prod(shares, shares).flip(1).view(size, size, 2)
    cells = boxes[:, None, None].double().div(stride)
    return torch.lerp(cells[..., :2], cells[..., 2:], shares.double()).float()


def align_by_torchvision(bases, boxes, size, stride):
    regions = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    return roi_align(bases.unsqueeze(0), regions, (size, size), 1 / stride, 1, True)


def align_with_tents(bases, boxes, size, stride):
    def tents(first, last, length):
        place = first[:, None] + (torch.arange(size) + 0.5) / size * (last - first)[:, None]
        place = place / stride - 0.5
        is_near = (place >= -1) & (place <= length)
        far = (place.clamp(0, length - 1)[..., None] - torch.arange(length)).abs()
        return (1 - far).relu() * is_near[..., None]

    x0, y0, x1, y1 = boxes.T
    rows, columns = tents(y0, y1, bases.shape[1]), tents(x0, x1, bases.shape[2])
    return torch.einsum("nih,njw,khw->nkij", rows, columns, bases)


def align_by_grid_sample(bases, boxes, size, stride):
    sides = torch.tensor([bases.shape[2], bases.shape[1]])
    share = (torch.arange(size) + 0.5) / size
    crops = bases.new_zeros(len(boxes), len(bases), size, size)
    for n, box in enumerate(boxes / stride):
        x, y = (box[i] + share * (box[i + 2] - box[i]) for i in (0, 1))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        is_near = ((grid >= -0.5) & (grid <= sides + 0.5)).all(dim=-1)
        grid = (2 * grid / sides - 1)[None]
        own = F.grid_sample(bases[None], grid, padding_mode="border", align_corners=False)
        crops[n] = own[0] * is_near
    return crops


def pool_by_torchvision(bases, boxes, size, stride):
    return RoIPool((size, size), spatial_scale=1 / stride)(bases[None], [boxes])


def pool_by_masks(bases, boxes, size, stride):
    def cells_of_bins(first, last, length):
        first, last = math.floor(first / stride + 0.5), math.floor(last / stride + 0.5)
        cells, wide = torch.arange(length), max(last - first + 1, 1)
        begins = torch.tensor([first + i * wide // size for i in range(size)])
        ends = torch.tensor([first - -(i + 1) * wide // size for i in range(size)])
        return (cells >= begins[:, None]) & (cells < ends[:, None])

    crops = []
    for x0, y0, x1, y1 in boxes.tolist():
        rows = cells_of_bins(y0, y1, bases.shape[1])
        columns = cells_of_bins(x0, x1, bases.shape[2])
        own = rows[:, None, :, None] & columns[None, :, None, :]  # (R, R, H, W)
        largest = bases[:, None, None].masked_fill(~own, -math.inf).flatten(3).amax(dim=3)
        crops.append(torch.where(own.any(dim=(2, 3)), largest, 0.0))
    return torch.stack(crops) if crops else bases.new_zeros(0, len(bases), size, size)


def pool_by_adaptive_max_pool(bases, boxes, size, stride):
    """Its bins are those of RoIPool; -inf around the map stands for no cell."""
    corners = torch.floor(boxes / stride + 0.5).int().tolist()
    crops = torch.zeros(len(corners), len(bases), size, size)
    border = 40
    padded = F.pad(bases, [border] * 4, value=-math.inf)
    for n, (x0, y0, x1, y1) in enumerate(corners):
        rows = slice(y0 + border, max(y1, y0) + border + 1)
        columns = slice(x0 + border, max(x1, x0) + border + 1)
        largest = F.adaptive_max_pool2d(padded[:, rows, columns], size)
        crops[n] = largest.masked_fill(largest == -math.inf, 0)
    return crops
