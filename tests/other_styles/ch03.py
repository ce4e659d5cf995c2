"""Right answers to the exercises of chapter 03 in other styles."""

import math

import torch


def level_locations_in_plain_loops(level, stride):
    found = []
    for row in range(level.shape[2]):
        for column in range(level.shape[3]):
            found.append((column * stride + stride // 2, row * stride + stride // 2))
    return torch.tensor(found, dtype=torch.float32)


def level_locations_by_a_product_of_sets(level, stride):
    _, _, height, width = level.size()
    y, x = (torch.arange(size).float() for size in (height, width))
    return torch.cartesian_prod(y, x).flip(1) * stride + stride // 2


def level_locations_by_index(level, stride):
    width = level.shape[-1]
    index = torch.arange(level[0, 0].numel())
    cells = torch.stack([index % width, index.div(width, rounding_mode="floor")], dim=-1)
    return cells.mul(stride).add(stride // 2).to(torch.float32)


def side_distances_in_plain_loops(locations, boxes):
    distances = torch.zeros(len(locations), len(boxes), 4)
    for i, (x, y) in enumerate(locations.tolist()):
        for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            distances[i, n] = torch.tensor([x - x0, y - y0, x1 - x, y1 - y])
    return distances


def side_distances_corner_by_corner(locations, boxes):
    places = locations.unsqueeze(1)
    return torch.cat([places - boxes[:, :2], boxes[:, 2:] - places], dim=-1)


def side_distances_by_signs(locations, boxes):
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    return locations.repeat(1, 2)[:, None] * signs - boxes * signs


def is_central_in_plain_loops(locations, boxes, strides, radius):
    result = torch.zeros(len(locations), len(boxes), dtype=torch.bool)
    for i, ((x, y), stride) in enumerate(zip(locations.tolist(), strides.tolist(), strict=True)):
        for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            is_inside = x0 < x < x1 and y0 < y < y1
            far = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2))
            result[i, n] = is_inside and far < radius * stride
    return result


def is_central_by_cutting_the_boxes(locations, boxes, strides, radius):
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = (radius * strides)[:, None, None]
    first = torch.maximum(boxes[:, :2], center - reach)
    last = torch.minimum(boxes[:, 2:], center + reach)
    places = locations[:, None]
    return ((first < places) & (places < last)).all(-1)


def is_central_by_the_largest_offset(locations, boxes, strides, radius):
    offset = torch.cdist(locations, (boxes[:, :2] + boxes[:, 2:]) / 2, p=math.inf)
    x, y = locations.T[..., None]
    inside = (x > boxes[:, 0]) & (y > boxes[:, 1]) & (x < boxes[:, 2]) & (y < boxes[:, 3])
    return inside.logical_and(offset < radius * strides[:, None])


def assign_in_plain_loops(locations, boxes, strides, size_ranges, radius):
    owners = []
    for (x, y), stride, (least, most) in zip(
        locations.tolist(), strides.tolist(), size_ranges.tolist(), strict=True
    ):
        owner, smallest = -1, math.inf
        for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            sides = x - x0, y - y0, x1 - x, y1 - y
            far = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2))
            fits = min(sides) > 0 and least <= max(sides) <= most and far < radius * stride
            area = (x1 - x0) * (y1 - y0)
            if fits and area < smallest:
                owner, smallest = n, area
        owners.append(owner)
    return torch.tensor(owners)


def assign_by_painting(locations, boxes, strides, size_ranges, radius):
    owner = torch.full((len(locations),), -1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    # The large ones first, so that smaller ones are painted over them.
    for n in areas.argsort(stable=True).flip(0).tolist():
        sides = torch.cat([locations - boxes[n, :2], boxes[n, 2:] - locations], dim=1)
        far = (locations - (boxes[n, :2] + boxes[n, 2:]) / 2).abs().amax(dim=1)
        farthest = sides.amax(dim=1)
        fits = (sides > 0).all(dim=1) & (far < radius * strides)
        fits &= (farthest >= size_ranges[:, 0]) & (farthest <= size_ranges[:, 1])
        owner[fits] = n
    return owner


def assign_with_one_more_column(locations, boxes, strides, size_ranges, radius):
    num = len(boxes)
    sides = torch.cat([locations[:, None] - boxes[:, :2], boxes[:, 2:] - locations[:, None]], 2)
    offset = (sides[..., :2] - sides[..., 2:]).abs() / 2
    fits = (sides > 0).all(2) & (offset < radius * strides[:, None, None]).all(2)
    farthest = sides.amax(2)
    fits &= (size_ranges[:, :1] <= farthest) & (farthest <= size_ranges[:, 1:])
    areas = torch.where(fits, (boxes[:, 2:] - boxes[:, :2]).prod(1), torch.inf)
    none = torch.full((len(locations), 1), torch.finfo(areas.dtype).max)
    chosen = torch.cat([areas, none], dim=1).argmin(dim=1)
    return chosen.masked_fill(chosen == num, -1)
