"""Three models that share everything but their last layers: blender, YOLACT, FCIS.

Chapter 10. All three keep the trained network's backbone, pyramid and detector. The layers that
make bases and attentions start with new weights and are trained with each model's merger, so that
the three are compared on the same features and boxes, after seconds instead of hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_lite.boxes import centerness
from blendmask_lite.config import MergerKind
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import Criterion
from blendmask_lite.training.losses import mask_loss

__all__ = ["Lesson", "learn", "make_sibling", "mean_crop_iou", "prepare_lessons"]

LEARNING_RATE = 3e-3  # our choice: AdamW with a linear decay to 0


@dataclass(frozen=True)
class Lesson:
    """A few images, as the output of the fixed part of the network, with their targets."""

    output: BlendMaskOutput  # the trained model's
    targets: tuple[Target, ...]  # one per image


@torch.no_grad()
def prepare_lessons(
    model: BlendMask, images: Sequence[Tensor], targets: Sequence[Target], *, batch_size: int = 8
) -> list[Lesson]:
    """Run the fixed part of the network once on all images.

    Args:
        model: trained, in evaluation mode.
        images: (3, H, W) each, all of one size.
        targets: one per image, with masks.
        batch_size: number of images in one lesson.
    """
    targets = [target.to(model.device) for target in targets]
    return [
        Lesson(model(images[i : i + batch_size]), tuple(targets[i : i + batch_size]))
        for i in range(0, len(images), batch_size)
    ]


def make_sibling(
    model: BlendMask, *, merger: MergerKind, num_bases: int, seed: int = 0
) -> BlendMask:
    """A copy of a model with another merger, and with new last layers for it.

    Args:
        model: trained; it is not changed.
        merger: "blender", "weighted_sum" or "assembler".
        num_bases: K.
        seed: of the new layers' weights.

    Returns:
        A model in evaluation mode on the device of `model`; only its bottom module and its top
        layer are trainable.
    """
    config = replace(model.config, merger=merger, num_bases=num_bases)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sibling = BlendMask(config, inference=model.inference, class_names=model.class_names)
    own = sibling.state_dict()
    new = ("bottom.bases.", "top_layer.")
    kept = {name: value for name, value in model.state_dict().items() if name in own}
    kept = {name: value for name, value in kept.items() if not name.startswith(new)}
    sibling.load_state_dict(own | kept)
    for name, parameter in sibling.named_parameters():
        parameter.requires_grad_(name.startswith(("bottom.", "top_layer.")))
    return sibling.eval().to(model.device)


def learn(sibling: BlendMask, lessons: Sequence[Lesson], *, num_steps: int) -> Iterator[float]:
    """Train the last layers on the mask loss, one lesson per step, yielding each step's loss."""
    parameters = [part for part in sibling.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.01, total_iters=num_steps
    )
    for step in range(num_steps):
        logits, targets, weight = _masks(sibling, lessons[step % len(lessons)])
        loss = mask_loss(logits, targets, weight, weight.sum().clamp(min=1e-6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield float(loss.detach())


@torch.no_grad()
def mean_crop_iou(sibling: BlendMask, lessons: Sequence[Lesson]) -> float:
    """Mean IoU, 0 to 1, of the masks of all positive locations, measured in the true boxes."""
    shares = []
    for lesson in lessons:
        logits, targets, _ = _masks(sibling, lesson)
        shares.append(mask_iou(logits > 0, targets.bool()))
    return float(torch.cat(shares).mean())


def _masks(sibling: BlendMask, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (P, R, R), true masks and centerness of positive locations, over the true boxes."""
    output = replace(lesson.output, bases=sibling.bottom(lesson.output.features))
    criterion = Criterion(sibling.config)
    assignment = criterion.assign(output, lesson.targets)
    logits = criterion.masks(sibling, output, lesson.targets, assignment)
    targets = criterion.mask_targets(lesson.targets)[assignment.object_index]
    return logits, targets, centerness(assignment.ltrb)
