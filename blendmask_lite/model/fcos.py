"""FCOS: at every location a class, the distances to four sides, and a centerness; then boxes.

Chapters 03 to 05. The head predicts, `select_candidates` and `suppress` turn its predictions into
boxes. It knows nothing of masks, but keeps for every box the location that found it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from blendmask_lite.boxes import ltrb_to_xyxy
from blendmask_lite.model.layers import (
    BatchNorm2d,
    at_least_float32,
    group_norm,
    is_autocast_on,
    without_autocast,
)

__all__ = [
    "FCOSHead",
    "HeadOutput",
    "Proposals",
    "flatten_levels",
    "level_values",
    "pyramid_locations",
    "select_candidates",
    "suppress",
]

PRIOR_PROBABILITY = 0.01  # each class's, when training starts (focal loss, section 4.1)


@dataclass(frozen=True)
class HeadOutput:
    """Predictions of the head, one entry per level.

    Attributes:
        class_logits: (B, C, h, w) per level.
        ltrb: (B, 4, h, w) per level, in strides of the level, >= 0; at least float32.
        centerness_logits: (B, 1, h, w) per level, at least float32.
        box_features: (B, channels, h, w) per level: the box tower's last map, for the top layer.
    """

    class_logits: list[Tensor]
    ltrb: list[Tensor]
    centerness_logits: list[Tensor]
    box_features: list[Tensor]


class FCOSHead(nn.Module):
    """Towers of 3x3 convolutions and three predictors, shared by all levels.

    Args:
        in_channels: channels of the pyramid.
        num_classes: C.
        num_shared_convs: length of a tower that feeds the other two; 0 leaves it out.
        num_class_convs, num_box_convs: lengths of the two towers; 0 leaves a tower out.
        norm: norm in the towers; "gn" is shared by all levels, "bn_per_level" is not.
        num_levels: number of pyramid levels, for "bn_per_level".
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_shared_convs: int = 0,
        num_class_convs: int = 4,
        num_box_convs: int = 4,
        norm: str = "gn",
        num_levels: int = 5,
    ) -> None:
        super().__init__()
        levels = num_levels if norm == "bn_per_level" else None
        self.shared_tower = Tower(in_channels, num_shared_convs, num_levels=levels)
        self.class_tower = Tower(in_channels, num_class_convs, num_levels=levels)
        self.box_tower = Tower(in_channels, num_box_convs, num_levels=levels)
        self.class_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.ltrb = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(in_channels, 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        prior = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
        nn.init.constant_(self.class_logits.bias, prior)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        """Predict on every level of the pyramid; (B, in_channels, h, w) each."""
        shared = [self.shared_tower(level, i) for i, level in enumerate(levels)]
        class_features = [self.class_tower(level, i) for i, level in enumerate(shared)]
        box_features = [self.box_tower(level, i) for i, level in enumerate(shared)]
        class_logits, ltrb, centerness = self._predict(class_features, box_features)
        return HeadOutput(
            class_logits=class_logits,
            ltrb=[level.relu() for level in ltrb],
            centerness_logits=centerness,
            box_features=box_features,
        )

    def _predict(
        self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]
    ) -> list[list[Tensor]]:
        """Class logits, distances and centerness logits of every level.

        The last two are at least float32: bfloat16 knows a distance of 500 pixels only to within 2.
        """
        device, dtype = box_features[0].device, box_features[0].dtype
        wide = [at_least_float32(level) for level in box_features]
        is_reduced = is_autocast_on(device) or dtype != wide[0].dtype
        has_one_tower = len(self.class_tower) == len(self.box_tower) == 0
        if has_one_tower and not is_reduced:
            return side_by_side(wide, (self.class_logits, self.ltrb, self.centerness))
        class_logits = [self.class_logits(level) for level in class_features]
        with without_autocast(device):
            return [class_logits, *side_by_side(wide, (self.ltrb, self.centerness))]


class Tower(nn.Sequential):
    """3x3 convolutions, each with a norm and a ReLU; a tower of length 0 passes its input on.

    The levels of a pyramid have different statistics. GroupNorm works for all of them; batch
    normalisation needs separate layers for every level.

    Args:
        channels: channels of the input, of every convolution and of the output.
        num_convs: length of the tower.
        num_levels: if given, every level has its own BatchNorm; None: one GroupNorm for all.
    """

    def __init__(self, channels: int, num_convs: int, *, num_levels: int | None = None) -> None:
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            if num_levels is None:
                norm: nn.Module = group_norm(channels)
            else:
                norm = nn.ModuleList(BatchNorm2d(channels) for _ in range(num_levels))
            layers += [nn.Conv2d(channels, channels, 3, padding=1), norm, nn.ReLU()]
        super().__init__(*layers)

    def forward(self, x: Tensor, level: int) -> Tensor:  # type: ignore[override]
        """(B, channels, h, w) of the pyramid level with this index, counted from 0."""
        for layer in self:
            x = layer[level](x) if isinstance(layer, nn.ModuleList) else layer(x)
        return x


def side_by_side(levels: Sequence[Tensor], convs: Sequence[nn.Conv2d]) -> list[list[Tensor]]:
    """Several 3x3 convolutions of the same maps, computed as one convolution.

    Their kernels are concatenated. This way every map is read only once, and a kernel with one,
    four or eight output channels takes as long as one with sixteen.

    Args:
        levels: (B, C, h, w) each.
        convs: 3x3 convolutions with a bias, stride 1 and padding 1.

    Returns:
        The maps of every convolution, one per level.
    """
    weight = torch.cat([conv.weight for conv in convs]).to(levels[0].dtype)
    bias = torch.cat([conv.bias for conv in convs if conv.bias is not None]).to(levels[0].dtype)
    widths = [conv.out_channels for conv in convs]
    parts = [F.conv2d(level, weight, bias, padding=1).split(widths, dim=1) for level in levels]
    return [list(maps) for maps in zip(*parts, strict=True)]


def pyramid_locations(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Centers of all cells of the pyramid, level after level, row by row (FCOS, section 3.1).

    Args:
        shapes: (h, w) of every level, in cells.
        strides: stride of every level, in pixels.
        device: device of the result.

    Returns:
        (L, 2) as (x, y), pixels of the padded input; the first cell of stride 8 lies at (4, 4).
    """
    levels = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y = torch.arange(height, device=device, dtype=torch.float32) * stride + stride // 2
        x = torch.arange(width, device=device, dtype=torch.float32) * stride + stride // 2
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        levels.append(torch.stack([columns.flatten(), rows.flatten()], dim=1))
    return torch.cat(levels)


def level_values(
    values: Sequence[float], level_sizes: Sequence[int], *, device: torch.device
) -> Tensor:
    """One value per level, repeated for every location of the level: (L,), int64 or float32.

    They are filled in on the device, because copying a list there would make the CPU wait.
    """
    # Named, because torch 2.11 would export whole numbers as floats.
    has_floats = any(isinstance(value, float) for value in values)
    dtype = torch.get_default_dtype() if has_floats else torch.int64
    pairs = zip(values, level_sizes, strict=True)
    full = [torch.full((size,), value, dtype=dtype, device=device) for value, size in pairs]
    return torch.cat(full)


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, h, w) of all levels -> (B, L, C), in the order of `pyramid_locations`."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


@dataclass(frozen=True)
class Proposals:
    """Boxes of one image, N of them, best first.

    Attributes:
        boxes: (N, 4) corners, pixels of the padded input, not clipped to it.
        scores: (N,) sqrt(class probability x centerness).
        labels: (N,) int64.
        location_index: (N,) int64, position in the flattened pyramid.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    location_index: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice) -> Proposals:
        return Proposals(
            self.boxes[index], self.scores[index], self.labels[index], self.location_index[index]
        )


def select_candidates(
    class_logits: Tensor,
    ltrb: Tensor,
    centerness_logits: Tensor,
    locations: Tensor,
    level_sizes: Sequence[int],
    *,
    score_threshold: float,
    max_per_level: int,
) -> Proposals:
    """The (location, class) pairs of one image that are worth a box.

    Args:
        class_logits: (L, C).
        ltrb: (L, 4) pixels.
        centerness_logits: (L,).
        locations: (L, 2) pixels.
        level_sizes: number of locations of every level; they add up to L.
        score_threshold: kept pairs have a class probability x centerness above it.
        max_per_level: largest number of pairs kept per level; these are the best ones.

    Returns:
        Boxes before suppression, best first. A location may appear with several classes.
    """
    num_classes = class_logits.shape[1]
    class_logits = at_least_float32(class_logits)
    centerness_logits = at_least_float32(centerness_logits)
    products = (class_logits.sigmoid() * centerness_logits.sigmoid()[:, None]).flatten()
    pairs = (products > score_threshold).nonzero()[:, 0]
    pairs = pairs[products[pairs].argsort(descending=True)]
    levels = level_values(range(len(level_sizes)), level_sizes, device=pairs.device)
    level = levels[pairs // num_classes]
    is_of_level = level[:, None] == torch.arange(len(level_sizes), device=pairs.device)
    rank = is_of_level.cumsum(dim=0).gather(1, level[:, None])[:, 0]  # 1-based rank in its level
    pairs = pairs[(rank <= max_per_level).nonzero()[:, 0]]
    index = pairs // num_classes
    return Proposals(
        boxes=ltrb_to_xyxy(locations[index], at_least_float32(ltrb[index])),
        scores=products[pairs].sqrt(),
        labels=pairs % num_classes,
        location_index=index,
    )


def suppress(candidates: Proposals, *, nms_iou: float, max_detections: int) -> Proposals:
    """Drop boxes that overlap a better one of their class, and keep the best of the rest.

    Differs from AdelaiDet: never more than `max_detections` are kept, even if scores tie exactly,
    and boxes that reach outside the image do not suppress any of another class.
    """
    # Boxes of different classes are moved apart, so one suppression is enough for all. Unclipped
    # boxes may begin below 0, so shifting by the largest coordinate, as torchvision's `batched_nms`
    # does, is not far enough. The appended zero keeps the extremes defined if there are no boxes.
    corners = torch.cat([candidates.boxes.flatten(), candidates.boxes.new_zeros(1)])
    shift = candidates.labels * (corners.max() - corners.min() + 1)
    kept = nms(candidates.boxes + shift[:, None], candidates.scores, nms_iou)
    return candidates[kept[:max_detections]]
