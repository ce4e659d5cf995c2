"""Right answers to the exercises of chapter 15 in other styles."""

import torch
from torch.nn import functional as F

from blendmask_lite.masks import mask_iou
from blendmask_lite.model.merge import Blender


def object_auc_in_plain_loops(values, is_object):
    shares = []
    for row in values.tolist():
        wins = pairs = 0
        for one, is_on in zip(row, is_object.tolist(), strict=True):
            for other, is_other_on in zip(row, is_object.tolist(), strict=True):
                if is_on and not is_other_on:
                    pairs += 1
                    wins += 1 if one > other else 0.5 if one == other else 0
        shares.append(wins / pairs if pairs else 0.5)
    return torch.tensor(shares)


def object_auc_by_sorting(values, is_object):
    on, off = values[:, is_object], values[:, ~is_object].sort(dim=1).values
    if on.shape[1] == 0 or off.shape[1] == 0:
        return torch.zeros(len(values)) + 0.5
    below = torch.searchsorted(off, on.contiguous(), right=False)
    not_above = torch.searchsorted(off, on.contiguous(), right=True)
    return (below + not_above).float().mean(dim=1) / (2 * off.shape[1])


def object_auc_by_ranks(values, is_object):
    """Mann and Whitney: the sum of the objects' ranks, less the smallest possible."""
    p, q = int(is_object.sum()), int((~is_object).sum())
    if p * q == 0:
        return torch.full((values.shape[0],), 0.5)
    less = (values[:, None, :] < values[:, :, None]).sum(dim=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(dim=2)
    ranks = less + (equal + 1) / 2
    return (ranks @ is_object.float() - p * (p + 1) / 2) / (p * q)


def object_auc_by_signs(values, is_object):
    signs = torch.sign(values[:, is_object].unsqueeze(-1) - values[:, ~is_object].unsqueeze(1))
    return ((signs.mean(dim=(1, 2)) + 1) / 2).nan_to_num(nan=0.5)


def follow_position_in_plain_loops(crops, inside):
    result = torch.zeros(crops.shape[1], 2)
    cells = inside.nonzero().tolist()
    for k in range(crops.shape[1]):
        values = [crops[n, k, y, x].item() for n, y, x in cells]
        for axis, places in enumerate(([c[2] for c in cells], [c[1] for c in cells])):
            if not cells:
                continue
            v, p = sum(values) / len(cells), sum(places) / len(cells)
            product = sum((a - v) * (b - p) for a, b in zip(values, places, strict=True))
            lengths = sum((a - v) ** 2 for a in values) * sum((b - p) ** 2 for b in places)
            if lengths > 0:
                result[k, axis] = product / lengths**0.5
    return result


def follow_position_by_corrcoef(crops, inside):
    num_bases, size = crops.shape[1:3]
    if not inside.any():
        return crops.new_zeros(num_bases, 2)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    rows = [*crops.unbind(dim=1), x.expand_as(inside), y.expand_as(inside)]
    table = torch.corrcoef(torch.stack([row[inside].double() for row in rows]))
    return table[:num_bases, num_bases:].nan_to_num(0.0).float()


def follow_position_by_moments(crops, inside):
    weight = inside.double()
    num, place = weight.sum(), torch.arange(crops.shape[3], dtype=torch.float64)
    axes = torch.stack([place.expand(len(place), -1), place[:, None].expand(-1, len(place))])
    values = crops.double()

    def mean(*factors):
        """Over all inside cells; letters: n objects, k bases, a axes, i rows, j columns."""
        names = ",".join(["nij", *(name for name, _ in factors)])
        kept = "".join(letter for letter in "ka" if letter in names)
        total = torch.einsum(f"{names}->{kept}", weight, *(factor for _, factor in factors))
        return total / num.clamp(min=1)

    v, p = ("nkij", values), ("aij", axes)
    covariance = mean(v, p) - mean(v)[:, None] * mean(p)
    spread = (mean(v, v) - mean(v) ** 2)[:, None] * (mean(p, p) - mean(p) ** 2)
    is_defined = spread > 1e-12
    return torch.where(is_defined, covariance / spread.clamp(min=1e-12).sqrt(), 0.0).float()


def leave_out_with_minus_infinity(crops, attentions, base):
    maps = F.interpolate(attentions, crops.shape[2:], mode="bilinear")
    is_out = (torch.arange(crops.shape[1]) == base)[:, None, None]
    return (crops * maps.masked_fill(is_out, -torch.inf).softmax(dim=1)).sum(dim=1)


def leave_out_by_renormalising(crops, attentions, base):
    maps = F.interpolate(attentions, size=crops.shape[-1], mode="bilinear", align_corners=False)
    weights = F.softmax(maps, dim=1)
    weights[:, base] = 0
    return torch.einsum("nkyx,nkyx->nyx", crops, weights / weights.sum(dim=1, keepdim=True))


def leave_out_by_the_package(crops, attentions, base):
    def others(x):
        return torch.cat([x[:, :base], x[:, base + 1 :]], dim=1)

    kept = others(attentions)
    blender = Blender(num_bases=kept.shape[1], attention_size=kept.shape[2])
    return blender(others(crops), kept.flatten(1))


def best_possible_iou_in_plain_loops(crops, true_masks):
    result = torch.zeros(len(crops))
    for n in range(len(crops)):
        both = either = 0
        for y in range(crops.shape[2]):
            for x in range(crops.shape[3]):
                is_true, values = bool(true_masks[n, y, x]), crops[n, :, y, x].tolist()
                is_found = max(values) >= 0 if is_true else min(values) >= 0
                both += is_true and is_found
                either += is_true or is_found
        result[n] = both / either if either else 0.0
    return result


def best_possible_iou_by_mask_iou(crops, true_masks):
    can, must = (crops >= 0).any(dim=1), (crops >= 0).all(dim=1)
    return mask_iou((can & true_masks) | (must & ~true_masks), true_masks)


def best_possible_iou_by_products(crops, true_masks):
    ordered, truth = crops.sort(dim=1).values.flatten(2), true_masks.flatten(1).double()
    reached = truth * (ordered[:, -1] >= 0)
    unavoidable = (1 - truth) * (ordered[:, 0] >= 0)
    total = truth.sum(dim=1) + unavoidable.sum(dim=1)
    return torch.where(total > 0, reached.sum(dim=1) / total, 0.0).float()
