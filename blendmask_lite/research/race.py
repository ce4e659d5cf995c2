"""A race of ways of merging: new last layers, trained on the same fixed features.

Chapters 10 and 13. The features come from a network that learned boxes alone. Every contestant
starts with a new bottom module and, if it needs one, a new top layer, and learns only these; so all
contestants have the same features and boxes, and a race takes seconds instead of hours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_lite.boxes import centerness
from blendmask_lite.config import ModelConfig
from blendmask_lite.files import shipped_race
from blendmask_lite.masks import mask_iou
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.ablations.merging import METHODS
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import Criterion
from blendmask_lite.training.losses import mask_loss
from blendmask_lite.weights.checkpoint import load_model
from blendmask_lite.weights.tensors import read_safetensors

__all__ = [
    "CONTESTANTS",
    "ON_THE_WALL",
    "Lesson",
    "NoBases",
    "learn",
    "load_contestant",
    "load_features",
    "make_contestant",
    "mean_crop_iou",
    "new_parts",
    "prepare_lessons",
    "read_race",
]

# The rows of the paper's table 1, YOLACT as in its own paper, and tiles with as few bases as the
# blender; R = 28 for all.
CONTESTANTS: MappingProxyType[str, ModelConfig] = MappingProxyType(
    {
        name: METHODS[row].model
        for name, row in {
            "BlendMask": "attentions 4 x 4",
            "M = 1": "attentions 1 x 1",
            "YOLACT": "YOLACT, 32 bases",
            "FCIS": "tiles 4 x 4",
            "2 x 2 tiles": "tiles 2 x 2",
        }.items()
    }
)
ON_THE_WALL = ("BlendMask", "YOLACT", "FCIS")  # contestants whose weights come with the package
LEARNING_RATE = 3e-3  # our choice: AdamW with a linear decay to 0


class NoBases(nn.Module):
    """A bottom module whose single basis is 0 everywhere, so the network learns boxes alone."""

    inputs = ("p3",)
    stride = 8

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """-> (B, 1, H/8, W/8) zeros."""
        return torch.zeros_like(features["p3"][:, :1])


@dataclass(frozen=True)
class Lesson:
    """The output of the fixed part of the network for a few images, with their targets."""

    output: BlendMaskOutput
    targets: tuple[Target, ...]  # one per image


def load_features() -> BlendMask:
    """The network that learned boxes alone and comes with the package, in evaluation mode."""
    return load_model(shipped_race("features"), bottom=NoBases())


def read_race() -> dict[str, Any]:
    """The finished race that comes with the package.

    Returns:
        "scores": mean IoU over true boxes of held-out images, percent, one number per seed, by
        number of steps, contestant and group of objects (see `ObjectScores.groups`). "seeds",
        "num_images" and "num_held_out": seeds and numbers of images of the race. "features": the
        training of the features.
    """
    return json.loads(shipped_race("scores").read_text("utf-8"))


def make_contestant(features: BlendMask, config: ModelConfig, *, seed: int = 0) -> BlendMask:
    """A model on the features of another, with a new bottom module and a new top layer.

    Args:
        features: a trained model; it is not changed.
        config: config of the new model; backbone, pyramid and detector have to be the same as in
            `features`.
        seed: seed of the new layers' weights.

    Returns:
        A model in evaluation mode on the device of `features`; only its bottom module and its top
        layer are trainable.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        contestant = BlendMask(
            config, inference=features.inference, class_names=features.class_names
        )
    kept = {n: value for n, value in features.state_dict().items() if not _is_new(n)}
    contestant.load_state_dict(contestant.state_dict() | kept)
    for name, parameter in contestant.named_parameters():
        parameter.requires_grad_(_is_new(name))
    return contestant.eval().to(features.device)


def load_contestant(features: BlendMask, name: str) -> BlendMask:
    """One of the `ON_THE_WALL`, trained with the first seed of the longest shipped race.

    Raises:
        ValueError: its weights are not shipped.
    """
    if name not in ON_THE_WALL:
        raise ValueError(f"name = {name!r}: weights are shipped for {', '.join(ON_THE_WALL)}")
    contestant = make_contestant(features, CONTESTANTS[name]).requires_grad_(False)
    values, _ = read_safetensors(shipped_race("weights"))
    own = {part: values[f"{name}/{part}"].float() for part in new_parts(contestant)}
    contestant.load_state_dict(contestant.state_dict() | own)
    return contestant


def _is_new(name: str) -> bool:
    return name.startswith(("bottom.", "top_layer."))


def new_parts(contestant: BlendMask) -> dict[str, Tensor]:
    """Parameters and buffers of the bottom module and the top layer, by name."""
    return {name: value for name, value in contestant.state_dict().items() if _is_new(name)}


@torch.no_grad()
def prepare_lessons(
    features: BlendMask, images: Sequence[Tensor], targets: Sequence[Target], *, batch_size: int = 8
) -> list[Lesson]:
    """Run the fixed part of the network once on all images.

    Args:
        features: a trained model in evaluation mode.
        images: images (3, H, W), all of the same size.
        targets: one per image, with masks.
        batch_size: number of images in one lesson.
    """
    targets = [target.to(features.device) for target in targets]
    return [
        Lesson(features(images[i : i + batch_size]), tuple(targets[i : i + batch_size]))
        for i in range(0, len(images), batch_size)
    ]


def learn(contestant: BlendMask, lessons: Sequence[Lesson], *, num_steps: int) -> Iterator[float]:
    """Train the new layers on the mask loss, one lesson per step, yielding each step's loss.

    Between the steps the contestant is in evaluation mode.
    """
    parameters = [part for part in contestant.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.01, total_iters=num_steps
    )
    for step in range(num_steps):
        contestant.bottom.train()
        logits, targets, weight = _masks(contestant, lessons[step % len(lessons)])
        loss = mask_loss(logits, targets, weight, weight.sum().clamp(min=1e-6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        contestant.bottom.eval()
        yield float(loss.detach())


@torch.no_grad()
def mean_crop_iou(contestant: BlendMask, lessons: Sequence[Lesson]) -> float:
    """Mean IoU, 0 to 1, of the masks of all positive locations, measured in the true boxes."""
    shares = []
    for lesson in lessons:
        logits, targets, _ = _masks(contestant, lesson)
        shares.append(mask_iou(logits > 0, targets.bool()))
    return float(torch.cat(shares).mean())


def _masks(contestant: BlendMask, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (P, R, R), true masks and centerness of positive locations, over the true boxes."""
    output = replace(lesson.output, bases=contestant.bottom(lesson.output.features))
    criterion = Criterion(contestant.config)
    assignment = criterion.assign(output, lesson.targets)
    logits = criterion.masks(contestant, output, lesson.targets, assignment)
    targets = criterion.mask_targets(lesson.targets)[assignment.object_index]
    return logits, targets, centerness(assignment.ltrb)
