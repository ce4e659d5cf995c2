"""The few lines of `my_blendmask.py` that no exercise asks for: they join the parts into a model.

Backbone, model, losses and detection, written with the model answers; the source of the classes
below is copied into the student's file, where the same names are the student's own functions. It is
for the presets of the course, "nano" and "small".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.course.exercises.ch02 import Pyramid, ResidualBlock
from blendmask_lite.course.exercises.ch03 import assign, level_locations, side_distances
from blendmask_lite.course.exercises.ch05 import find_boxes
from blendmask_lite.course.exercises.ch06 import Decoder
from blendmask_lite.course.exercises.ch08 import attentions_at
from blendmask_lite.course.exercises.ch10 import make_masks
from blendmask_lite.course.exercises.ch11 import batch_losses, masks_to_learn
from blendmask_lite.course.exercises.ch12 import pad_batch
from blendmask_lite.course.exercises.fcos_head import Head
from blendmask_lite.masks import crop_masks, semantic_cells
from blendmask_lite.model.blendmask import place_detections
from blendmask_lite.model.fcos import Proposals
from blendmask_lite.structures import Detections, Target

__all__ = ["Backbone", "MyBlendMask", "Predictions"]


class Backbone(nn.Module):
    """A small residual network: a convolution, and four stages of one block each."""

    def __init__(self, stem_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem_channels, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        before = [stem_channels, *channels]
        self.layer1 = nn.Sequential(ResidualBlock(before[0], channels[0], 2))
        self.layer2 = nn.Sequential(ResidualBlock(before[1], channels[1], 2))
        self.layer3 = nn.Sequential(ResidualBlock(before[2], channels[2], 2))
        self.layer4 = nn.Sequential(ResidualBlock(before[3], channels[3], 2))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised -> {"c2": (B, channels, H/4, W/4), ..., "c5": ...}."""
        x = F.relu(self.bn1(self.conv1(images)))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": self.layer4(c4)}


@dataclass(frozen=True)
class Predictions:
    """The network's predictions for a batch at every location."""

    class_logits: Tensor  # (B, L, C)
    ltrb: Tensor  # (B, L, 4) distances to the sides, pixels
    centerness_logits: Tensor  # (B, L)
    features: list[Tensor]  # the head's maps of every level, which the top layer reads
    bases: Tensor  # (B, K, H/s, W/s)
    p3: Tensor  # (B, channels, H/8, W/8), for the semantic loss
    locations: Tensor  # (L, 2) as (x, y), pixels
    level: Tensor  # (L,) number of the level of each location


class MyBlendMask(nn.Module):
    """BlendMask, for a config such as `PRESETS["nano"]`, made of the parts above."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.inference = config, InferenceConfig()
        self.class_names: tuple[str, ...] = ()
        width, inner = config.stage_width, config.pyramid_channels
        channels = {f"c{i + 2}": width * times for i, times in enumerate((1, 2, 4, 6))}
        self.backbone = Backbone(config.stem_channels, list(channels.values()))
        lowest = min(config.levels[0], config.bottom_inputs[0])  # such as "p2"
        self.fpn = Pyramid({name: n for name, n in channels.items() if name[1] >= lowest[1]}, inner)
        self.head = Head(inner, config.num_classes, config.num_shared_convs)
        self.bottom = Decoder(inner, inner, config.bottom_channels, config.num_bases)
        num_attentions = config.num_bases * config.attention_size**2
        self.top_layer = nn.Conv2d(inner, num_attentions, 3, padding=1)
        self.semantic_head = nn.Sequential(
            nn.Conv2d(inner, config.semantic_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.semantic_channels),
            nn.ReLU(),
            nn.Conv2d(config.semantic_channels, config.semantic_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.semantic_channels),
            nn.ReLU(),
            nn.Conv2d(config.semantic_channels, config.num_classes + 1, 1),
        )

    def predict(self, images: Sequence[Tensor]) -> Predictions:
        """Predictions at all locations for RGB images (3, H, W), bytes or floats in [0, 1]."""
        mean = torch.tensor(self.config.pixel_mean)[:, None, None]
        std = torch.tensor(self.config.pixel_std)[:, None, None]
        here = [image.to(mean.device) for image in images]
        scaled = [image if image.dtype == torch.uint8 else image * 255 for image in here]
        batch = pad_batch(self.config.size_divisor, *((image - mean) / std for image in scaled))
        maps = self.fpn(self.backbone(batch.contiguous(memory_format=torch.channels_last)))
        levels = [maps[name] for name in self.config.levels]
        strides = list(self.config.level_strides)
        class_logits, ltrb, centerness_logits, features = self.head(levels, strides)
        return Predictions(
            class_logits=class_logits,
            ltrb=ltrb,
            centerness_logits=centerness_logits,
            features=features,
            bases=self.bottom(*(maps[name] for name in self.config.bottom_inputs)),
            p3=maps["p3"],
            locations=torch.cat(list(map(level_locations, levels, strides))),
            level=torch.cat([torch.full((m[0, 0].numel(),), i) for i, m in enumerate(levels)]),
        )

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses of a batch by name."""
        device = self.top_layer.weight.device
        with device:  # whatever a part makes, such as zeros, is made where the weights are
            return self.losses(self.predict(images), [target.to(device) for target in targets])

    def losses(self, found: Predictions, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses of a batch from its predictions."""
        strides = torch.tensor(self.config.level_strides, dtype=torch.float32)[found.level]
        # Which location learns which object
        ranges = torch.tensor(self.config.size_ranges)[found.level]
        radius, places = self.config.center_radius, found.locations
        owner = torch.stack([assign(places, t.boxes, strides, ranges, radius) for t in targets])
        labels = torch.stack(
            [F.pad(t.labels, (0, 1), value=-1)[own] for t, own in zip(targets, owner, strict=True)]
        )
        true = [side_distances(places, F.pad(t.boxes, (0, 0, 0, 1))) for t in targets]
        pairs = zip(true, owner, strict=True)
        true_ltrb = torch.cat([all_sides[own >= 0, own[own >= 0]] for all_sides, own in pairs])
        # Their masks, predicted and true
        index = (owner >= 0).nonzero()
        num_objects = torch.tensor([len(target) for target in targets])
        first = num_objects.cumsum(dim=0) - num_objects
        boxes = torch.cat([target.boxes for target in targets])
        image = torch.arange(len(targets)).repeat_interleave(num_objects)
        of_object = (owner + first[:, None])[owner >= 0]
        mask_logits = self.masks(found, index, boxes, image, of_object)
        crops = torch.cat([mask_targets(target, self.config.mask_size) for target in targets])
        losses = batch_losses(
            found.class_logits,
            found.ltrb,
            found.centerness_logits,
            mask_logits,
            labels,
            true_ltrb,
            strides,
            masks_to_learn(owner, num_objects, crops),
        )
        named = dict(zip(("class", "box", "centerness", "mask"), losses, strict=True))
        return named | {"semantic": self.semantic_loss(found.p3, targets)}

    def masks(
        self, found: Predictions, index: Tensor, boxes: Tensor, image: Tensor, owner: Tensor
    ) -> Tensor:
        """Mask logits (P, R, R) at P pairs (image, location), each over its box owner[p]."""
        weight, bias = self.top_layer.parameters()
        attentions = attentions_at(index, weight, bias, *found.features)
        stride = 4 if self.config.bottom_inputs[0] == "p2" else 8
        return make_masks(
            found.bases, boxes, image, attentions, owner, self.config.mask_size, stride
        )

    def semantic_loss(self, p3: Tensor, targets: Sequence[Target]) -> Tensor:
        """The cross entropy of background and classes at stride 8 (section 5, "+semantic")."""
        logits = self.semantic_head(p3)
        cells = torch.zeros_like(logits[:, 0], dtype=torch.int64)  # 0 is the background
        for own, target in zip(cells, targets, strict=True):
            drawn = semantic_cells(target)
            own[: drawn.shape[0], : drawn.shape[1]] = drawn
        return self.config.semantic_weight * F.cross_entropy(logits, cells)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """The objects of every image, best first; the model has to be in evaluation mode."""
        with self.top_layer.weight.device:
            found = self.predict(images)
            return [self.find(found, place, image) for place, image in enumerate(images)]

    def find(self, found: Predictions, place: int, image: Tensor) -> Detections:
        """The objects of one image of a batch."""
        settings = self.inference
        boxes, scores, labels, location = find_boxes(
            found.locations,
            found.ltrb[place],
            found.class_logits[place],
            found.centerness_logits[place],
            settings.score_threshold,
            settings.nms_iou,
            settings.max_detections,
        )
        index = torch.stack([torch.full_like(location, place), location], dim=1)
        logits = self.masks(found, index, boxes, index[:, 0], torch.arange(len(boxes)))
        size = (image.shape[1], image.shape[2])
        placed = place_detections(
            Proposals(boxes, scores, labels, location),
            logits,
            size,
            size,
            mask_threshold=settings.mask_threshold,
        )
        return replace(placed.pasted(), image=image, class_names=self.class_names)


def mask_targets(target: Target, size: int) -> Tensor:
    """The true masks of an image, (N, R, R) bool, cropped to their boxes."""
    if target.mask_crops is not None:
        return target.mask_crops
    assert target.masks is not None
    return crop_masks(target.masks, target.boxes, size)
