"""Right answers to the exercises of chapter 01 in other styles."""

import math

import torch
from matplotlib.path import Path
from pycocotools import mask as coco_mask
from torchvision.ops import RoIAlign, roi_align


def pairwise_iou_in_plain_loops(found, true):
    ious = torch.zeros(len(found), len(true))
    for i, one in enumerate(found):
        for j, other in enumerate(true):
            union = int((one | other).sum())
            if union:
                ious[i, j] = int((one & other).sum()) / union
    return ious


def pairwise_iou_by_broadcasting(found, true):
    both = (found[:, None] & true).sum(dim=(2, 3))
    either = torch.logical_or(found[:, None], true).sum(dim=(2, 3))
    return torch.where(either > 0, both / either, 0.0)


def pairwise_iou_by_einsum(found, true):
    shared = torch.einsum("dhw,nhw->dn", found.double(), true.double())
    missed = torch.einsum("dhw,nhw->dn", (~found).double(), true.double())
    extra = torch.einsum("dhw,nhw->dn", found.double(), (~true).double())
    return (shared / (shared + missed + extra)).nan_to_num(0.0).float()


def grade_image_in_plain_loops(found, true, is_crowd, threshold, area_range):
    low, high = area_range
    taken, verdicts = set(), []
    for mask in found:
        best = {False: (0.0, None), True: (0.0, None)}  # among those that count, and ignored ones
        for j, other in enumerate(true):
            if j in taken and not is_crowd[j]:
                continue
            shared = int((mask & other).sum())
            whole = int(mask.sum()) if is_crowd[j] else int((mask | other).sum())
            overlap = shared / whole if whole else 0.0
            is_ignored = bool(is_crowd[j]) or not low <= int(other.sum()) <= high
            if overlap >= threshold and overlap >= best[is_ignored][0]:
                best[is_ignored] = overlap, j
        if best[False][1] is not None:
            taken.add(best[False][1])
            verdicts.append(1)
        elif best[True][1] is not None:
            taken.add(best[True][1])
            verdicts.append(-1)
        else:
            verdicts.append(0 if low <= int(mask.sum()) <= high else -1)
    return torch.tensor(verdicts, dtype=torch.int64)


def grade_image_by_sorting_candidates(found, true, is_crowd, threshold, area_range):
    areas, true_areas = found.sum(dim=(1, 2)), true.sum(dim=(1, 2))
    shared = (found[:, None] & true).sum(dim=(2, 3)).float()
    whole = torch.where(is_crowd, areas[:, None], areas[:, None] + true_areas - shared)
    overlaps = torch.where(whole > 0, shared / whole, 0.0)
    counts = ~is_crowd & (true_areas >= area_range[0]) & (true_areas <= area_range[1])
    is_of_size = (areas >= area_range[0]) & (areas <= area_range[1])
    verdicts = 0 - (~is_of_size).long()
    free = list(range(len(true)))
    for i, row in enumerate(overlaps.tolist()):
        order = sorted(free, key=lambda j: (bool(counts[j]), row[j], j), reverse=True)
        fitting = [j for j in order if row[j] >= threshold]
        if fitting:
            verdicts[i] = 1 if counts[fitting[0]] else -1
            free = [j for j in free if j != fitting[0] or is_crowd[j]]
    return verdicts


def grade_image_with_a_running_matrix(found, true, is_crowd, threshold, area_range):
    """What cannot be taken is struck out of the matrix of overlaps."""
    low, high = area_range
    if not len(true) or not len(found):
        sizes = found.sum(dim=(1, 2))
        return torch.where((low <= sizes) & (sizes <= high), 0, -1)
    one, other = (masks.flatten(1).double() for masks in (found, true))
    shared = one @ other.mT
    sizes, true_sizes = one.sum(dim=1), other.sum(dim=1)
    unions = sizes[:, None] + true_sizes - shared
    overlaps = shared / torch.where(is_crowd, sizes[:, None].expand_as(unions), unions).clamp(min=1)
    ignored = is_crowd | ~((low <= true_sizes) & (true_sizes <= high))
    overlaps[overlaps < threshold] = -torch.inf
    overlaps = overlaps + torch.where(ignored, 0.0, 10.0)  # objects that count come first
    verdicts = torch.where((low <= sizes) & (sizes <= high), 0, -1)
    for i in range(len(found)):
        best = overlaps[i].max()
        if best > -torch.inf:
            place = int((overlaps[i] == best).nonzero().max())
            verdicts[i] = -1 if ignored[place] else 1
            if not is_crowd[place]:
                overlaps[:, place] = -torch.inf
    return verdicts


def polygon_mask_in_plain_loops(corners, size):
    height, width = size
    points = corners.tolist()
    mask = torch.zeros(height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            inside = False
            for i, (x1, y1) in enumerate(points):
                x0, y0 = points[i - 1]
                if (y0 <= y < y1 or y1 <= y < y0) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            mask[row, column] = inside
    return mask


def polygon_mask_by_matplotlib(corners, size):
    height, width = size
    if len(corners) == 0:
        return torch.zeros(size, dtype=torch.bool)
    x, y = torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy")
    centers = torch.stack([x, y], dim=-1).reshape(-1, 2)
    inside = Path(corners.numpy()).contains_points(centers.numpy())
    return torch.from_numpy(inside).reshape(height, width)


def polygon_mask_by_the_sum_of_angles(corners, size):
    height, width = size
    corners = corners.double()
    angles = torch.zeros(height, width, dtype=torch.float64)
    centers = torch.cartesian_prod(torch.arange(height) + 0.5, torch.arange(width) + 0.5).flip(1)
    for i in range(len(corners)):
        a, b = corners[i - 1] - centers, corners[i] - centers
        cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        angles += torch.atan2(cross, (a * b).sum(dim=1)).view(height, width)
    return angles.abs() > math.pi


def decode_runs_in_plain_loops(counts, size):
    height, width = size
    pixels = []
    for i, count in enumerate(counts.tolist()):
        pixels += [i % 2 == 1] * count
    mask = torch.zeros(height, width, dtype=torch.bool)
    for i, value in enumerate(pixels):
        mask[i % height, i // height] = value
    return mask


def decode_runs_by_searching_the_ends(counts, size):
    place = torch.arange(size[0] * size[1])
    run = torch.bucketize(place, counts.cumsum(0), right=True)
    return (run % 2).bool().reshape(size[1], size[0]).transpose(0, 1)


def decode_runs_by_toggling(counts, size):
    toggles = torch.zeros(size[0] * size[1] + 1, dtype=torch.int64)
    toggles.index_add_(0, counts.cumsum(0), torch.ones_like(counts))
    return toggles[:-1].cumsum(0).remainder(2).eq(1).unflatten(0, (size[1], size[0])).mT


def decode_runs_by_pycocotools(counts, size):
    entry = coco_mask.frPyObjects({"counts": counts.tolist(), "size": list(size)}, *size)
    return torch.from_numpy(coco_mask.decode(entry)).bool()


def crop_and_resize_one_by_one(masks, boxes, size):
    crops = torch.zeros(len(masks), size, size, dtype=torch.bool)
    for i, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        share = roi_align(mask[None, None].float(), [box[None]], (size, size), aligned=True)
        crops[i] = share[0, 0] >= 0.5
    return crops


def crop_and_resize_by_a_module(masks, boxes, size):
    crop = RoIAlign((size, size), spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    return crop(masks.unsqueeze(1).double(), list(boxes.double().split(1))).squeeze(1).ge(0.5)


def crop_and_resize_by_matrix_products(masks, boxes, size):
    crops = []
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.double(), strict=True):
        rows = _averages(y0, y1, size, mask.shape[0])
        columns = _averages(x0, x1, size, mask.shape[1])
        crops.append(rows @ mask.double() @ columns.T >= 0.5)
    return torch.stack(crops) if crops else torch.zeros(0, size, size, dtype=torch.bool)


def _averages(first, last, size, length):
    """(size, length): how much each bin takes from every pixel of a side."""
    num = math.ceil((last - first) / size)  # samples in each bin
    share = (torch.arange(size * num).double() + 0.5) / (size * num)
    place = (first + share * (last - first) - 0.5).clamp(0, length - 1)
    tents = (1 - (place[:, None] - torch.arange(length)).abs()).clamp(min=0)
    return tents.unflatten(0, (size, num)).mean(dim=1)


def size_groups_in_plain_loops(areas):
    rows = []
    for area in areas.tolist():
        rows.append([area <= 1024, 1024 <= area <= 9216, area >= 9216])
    return torch.tensor(rows, dtype=torch.bool).view(-1, 3)


def size_groups_column_by_column(areas):
    groups = torch.zeros(len(areas), 3, dtype=torch.bool)
    groups[:, 0] = areas <= 32 * 32
    groups[:, 1] = torch.logical_and(areas >= 32 * 32, areas <= 96 * 96)
    groups[:, 2] = areas >= 96 * 96
    return groups


def size_groups_by_buckets(areas):
    borders = torch.tensor([32.0, 96.0]) ** 2
    first, last = (torch.bucketize(areas, borders, right=right) for right in (False, True))
    groups = torch.arange(3)
    return (first[:, None] <= groups) & (groups <= last[:, None])
