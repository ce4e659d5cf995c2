"""Right answers to the exercises of chapter 11 in other styles."""

import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss


def masks_to_learn_in_plain_loops(owner, num_objects, mask_crops):
    chosen, before = [], 0
    for row, num in zip(owner.tolist(), num_objects.tolist(), strict=True):
        chosen += [before + own for own in row if own >= 0]
        before += num
    return mask_crops[torch.tensor(chosen, dtype=torch.int64)]


def masks_to_learn_image_by_image(owner, num_objects, mask_crops):
    images = mask_crops.split(num_objects.tolist())
    return torch.cat([own[row[row.ne(-1)]] for row, own in zip(owner, images, strict=True)])


def masks_to_learn_by_nonzero(owner, num_objects, mask_crops):
    image, place = torch.nonzero(owner != -1, as_tuple=True)
    begins = F.pad(num_objects, (1, 0)).cumsum(dim=0)
    return mask_crops.index_select(0, begins[image] + owner[image, place])


def average_mask_loss_by_one_call(logits, target, weight, total_weight):
    cells = logits.shape[1] * logits.shape[2]
    weights = weight.view(-1, 1, 1) / (total_weight * cells)
    return F.binary_cross_entropy_with_logits(logits, target.float(), weights, reduction="sum")


def average_mask_loss_in_plain_loops(logits, target, weight, total_weight):
    total = torch.zeros(())
    for m, t, w in zip(logits, target, weight, strict=True):
        total = total + w * F.binary_cross_entropy_with_logits(m, t.to(m.dtype))
    return total / total_weight


def average_mask_loss_by_signs(logits, target, weight, total_weight):
    signs = 1 - 2 * target.double()
    entropy = F.softplus(signs * logits.double()).flatten(1).mean(dim=1)
    return (entropy @ weight.double() / total_weight).float()


def losses_of_parts_by_index_add(logits, target, weight, part, num_parts):
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    of_masks = weight * entropy.flatten(1).mean(dim=1)
    sums = logits.new_zeros(num_parts).index_add(0, part, of_masks)
    return sums / weight.sum().clamp(min=1e-6)


def losses_of_parts_by_one_hot(logits, target, weight, part, num_parts):
    entropy = F.softplus(logits) - logits * target
    belongs = (part == torch.arange(num_parts)[:, None]).float()  # (parts, P)
    total = torch.maximum(weight.sum(), torch.tensor(1e-6))
    return belongs @ (entropy.mean(dim=(-1, -2)) * weight) / total


def losses_of_parts_in_plain_loops(logits, target, weight, part, num_parts):
    total = max(weight.sum().item(), 1e-6)
    losses = [torch.zeros(()) for _ in range(num_parts)]
    for i, number in enumerate(part.tolist()):
        mask_loss = F.binary_cross_entropy_with_logits(logits[i], target[i].float())
        losses[number] = losses[number] + mask_loss * weight[i] / total
    return torch.stack(losses)


def gradient_of_crops_by_autograd(logits, scores, target, weight, total_weight):
    with torch.enable_grad():
        crops = torch.zeros_like(scores).requires_grad_()
        blended = (crops * scores).sum(dim=1) + logits
        entropy = F.binary_cross_entropy_with_logits(blended, target.float(), reduction="none")
        loss = (entropy.mean(dim=(1, 2)) * weight).sum() / total_weight
        loss.backward()
    return crops.grad


def gradient_of_crops_by_einsum(logits, scores, target, weight, total_weight):
    error = torch.sigmoid(logits) - target.to(logits.dtype)
    factor = weight / total_weight / logits[0:1, 0].numel() ** 2 if len(logits) else weight
    return torch.einsum("p,pyx,pkyx->pkyx", factor, error, scores)


def gradient_of_crops_in_plain_loops(logits, scores, target, weight, total_weight):
    gradient = torch.empty_like(scores)
    for p in range(scores.shape[0]):
        for k in range(scores.shape[1]):
            error = torch.where(target[p], -(-logits[p]).sigmoid(), logits[p].sigmoid())
            gradient[p, k] = weight[p] / total_weight * error * scores[p, k] / error.numel()
    return gradient


def _giou_loss(one, other, weight):
    inner, outer = torch.minimum(one, other), torch.maximum(one, other)

    def area(sides):
        return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])

    union = area(one) + area(other) - area(inner)
    giou = (area(inner) + 1) / (union + 1) - (area(outer) - union) / area(outer)
    return ((1 - giou) * weight).sum()


def _centerness(sides):
    pairs = sides.unflatten(1, (2, 2))
    return (pairs.amin(1) / pairs.amax(1)).prod(1).sqrt()


def batch_losses_by_masking(logits, ltrb, centers, mask_logits, labels, true, strides, masks):
    is_positive = labels >= 0
    num = is_positive.sum().clamp(min=1)
    weight = _centerness(true)
    total = torch.clamp(weight.sum(), min=1e-6)
    unit = strides.expand_as(labels)[is_positive][:, None]
    classes = F.one_hot(labels + 1, logits.shape[2] + 1)[:, :, 1:].to(logits)
    focal = sigmoid_focal_loss(logits, classes, 0.25, 2, reduction="sum") / num
    box = _giou_loss(ltrb[is_positive] / unit, true / unit, weight) / total
    center = F.binary_cross_entropy_with_logits(centers[is_positive], weight, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(mask_logits, masks.float(), reduction="none")
    mask = (entropy.mean((1, 2)) * weight).sum() / total
    return torch.stack([focal, box, center / num, mask])


def batch_losses_with_softplus(logits, ltrb, centers, mask_logits, labels, true, strides, masks):
    image, place = torch.where(labels >= 0)
    num, weight = max(len(place), 1), _centerness(true)
    total = max(weight.sum().item(), 1e-6)
    is_class = (labels[..., None] == torch.arange(logits.shape[2])).float()
    sign, alpha = 1 - 2 * is_class, 0.75 - 0.5 * is_class
    wrong = (sign * logits).sigmoid()
    focal = (alpha * wrong**2 * F.softplus(sign * logits)).sum() / num
    step = strides[place].unsqueeze(1)
    box = _giou_loss(ltrb[image, place] / step, true / step, weight) / total
    own = centers[image, place]
    center = (F.softplus(own) - own * weight).sum() / num
    cells = F.softplus(mask_logits) - mask_logits * masks
    mask = (cells.flatten(1).mean(1) @ weight) / total
    return torch.cat([each.reshape(1) for each in (focal, box, center, mask)])


def batch_losses_image_by_image(logits, ltrb, centers, mask_logits, labels, true, strides, masks):
    found = (labels >= 0).sum(dim=1).tolist()
    num, weight = max(sum(found), 1), _centerness(true)
    total = weight.sum().clamp(min=1e-6)
    losses = torch.zeros(4)
    first = 0
    for i, count in enumerate(found):
        own, rows = labels[i] >= 0, slice(first, first + count)
        first += count
        classes = (labels[i][:, None] == torch.arange(logits.shape[2])).float()
        focal = sigmoid_focal_loss(logits[i], classes, alpha=0.25, gamma=2, reduction="sum")
        unit = strides[own][:, None]
        box = _giou_loss(ltrb[i][own] / unit, true[rows] / unit, weight[rows])
        arguments = centers[i][own], weight[rows]
        center = F.binary_cross_entropy_with_logits(*arguments, reduction="sum")
        cells = F.binary_cross_entropy_with_logits(
            mask_logits[rows], masks[rows].float(), reduction="none"
        )
        mask = (cells.mean(dim=(1, 2)) * weight[rows]).sum()
        losses = losses + torch.stack([focal / num, box / total, center / num, mask / total])
    return losses
