"""Right answers to the exercises of chapter 12 in other styles."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms.v2.functional import horizontal_flip
from torchvision.tv_tensors import BoundingBoxes

from blendmask_lite.training.schedule import learning_rate_at


def pad_batch_by_pad(divisor, *images):
    height = math.ceil(max(image.shape[1] for image in images) / divisor) * divisor
    width = math.ceil(max(image.shape[2] for image in images) / divisor) * divisor
    padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    return torch.stack(padded)


def pad_batch_side_by_side(divisor, *images):
    sizes = torch.tensor([image.shape[1:] for image in images])
    height, width = (-(-sizes.amax(dim=0) // divisor) * divisor).tolist()
    batch = []
    for image in images:
        right = image.new_zeros(3, image.shape[1], width - image.shape[2])
        below = image.new_zeros(3, height - image.shape[1], width)
        batch.append(torch.cat([torch.cat([image, right], dim=2), below], dim=1))
    return torch.stack(batch)


def pad_batch_in_plain_loops(divisor, *images):
    height = width = divisor
    while any(image.size(1) > height for image in images):
        height += divisor
    while any(image.size(2) > width for image in images):
        width += divisor
    batch = torch.zeros(len(images), 3, height, width)
    for b, image in enumerate(images):
        for c in range(3):
            batch[b, c][: image.size(1), : image.size(2)].copy_(image[c])
    return batch


def learning_rates_in_plain_loops(iteration, length, peak, warmup):
    rates = []
    for i in iteration.tolist():
        if i < warmup:
            rates.append(peak * (0.001 + 0.999 * i / warmup))
        else:
            share = (i - warmup) / (length - warmup)
            rates.append(peak * 0.5 * (1 + math.cos(math.pi * share)))
    return torch.tensor(rates)


def learning_rates_by_where(iteration, length, peak, warmup):
    rising = torch.lerp(torch.tensor(peak / 1000), torch.tensor(peak), iteration / warmup)
    falling = peak * torch.cos(math.pi / 2 * (iteration - warmup) / (length - warmup)) ** 2
    return torch.where(iteration < warmup, rising, falling)


def learning_rates_in_place(iteration, length, peak, warmup):
    rates = torch.full_like(iteration, peak)
    early = iteration < warmup
    rates[early] *= 1e-3 + (1 - 1e-3) * iteration[early] / warmup
    late = iteration[~early].double()
    rates[~early] *= (0.5 + 0.5 * torch.cos((late - warmup) / (length - warmup) * torch.pi)).float()
    return rates


def train_loop_with_a_counter(model, optimizer, batches, config, first):
    model.train()
    step = first
    for x, y in batches:
        losses = model(x, y)
        loss = torch.stack(list(losses.values())).sum()
        model.zero_grad()
        loss.backward()
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        optimizer.step()
        step += 1
        yield {name: value.detach() for name, value in losses.items()}


def train_loop_with_a_scheduler(model, optimizer, batches, config, first):
    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    schedule = LambdaLR(
        optimizer,
        lambda step: learning_rate_at(step, config) / config.learning_rate,
        last_epoch=first - 1,
    )
    for x, y in batches:
        losses = model(x, y)
        loss = torch.zeros(())
        for part in losses.values():
            loss = loss + part
        loss.backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield losses


def train_loop_clipping_by_hand(model, optimizer, batches, config, first):
    parameters = list(model.parameters())
    for step, batch in enumerate(batches):
        losses = model(*batch)
        gradients = torch.autograd.grad(sum(losses.values()), parameters)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        factor = 1.0 if config.clip_norm is None else min(1.0, config.clip_norm / norm.item())
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient * factor
        for group in optimizer.param_groups:
            group.update(lr=learning_rate_at(first + step, config))
        optimizer.step()
        yield losses


def average_weights_in_place(weights, decay):
    average = weights[0].clone()
    for n, new in enumerate(weights[1:], start=1):
        average.lerp_(new, 1 - min(decay, (1 + n) / (10 + n)))
    return average


def average_weights_by_one_product(weights, decay):
    n = torch.arange(1, len(weights), dtype=torch.float64)
    kept = ((1 + n) / (10 + n)).clamp(max=decay)
    later = torch.cat([kept, torch.ones(1)]).flip(0).cumprod(0).flip(0)  # what all later steps keep
    return (later * torch.cat([torch.ones(1), 1 - kept]) @ weights.double()).float()


def average_weights_in_plain_loops(weights, decay):
    first, *later = weights.tolist()
    for n, row in enumerate(later, start=1):
        share = min((1 + n) / (10 + n), decay)
        first = [share * old + (1 - share) * new for old, new in zip(first, row, strict=True)]
    return torch.tensor(first)


def flip_by_index(image, boxes, masks):
    width = image.shape[-1]
    order = torch.arange(width - 1, -1, -1)
    turned = boxes.clone()
    turned[:, 0], turned[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return image[:, :, order], turned, masks[:, :, order]


def flip_by_a_product(image, boxes, masks):
    width = float(image.shape[2])
    turn = boxes.new_tensor([[0, 0, -1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    shift = boxes.new_tensor([width, 0, width, 0])
    return torch.fliplr(image.movedim(0, 2)).movedim(2, 0), boxes @ turn + shift, masks.flip(-1)


def flip_by_torchvision(image, boxes, masks):
    sides = BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[1:])
    turned = horizontal_flip(sides)
    return horizontal_flip(image), turned.as_subclass(torch.Tensor), masks.flip(2)
