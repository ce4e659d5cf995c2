"""Right answers to the exercises of chapter 11 in other styles."""

import torch
from torch.nn import functional as F


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
