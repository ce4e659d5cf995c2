"""Semantic heads: the panoptic branch, the merge of things and stuff, and the auxiliary head.

Chapters 11 and 14. BlendMask, section 4.4 and table 7; Kirillov et al., "Panoptic Feature Pyramid
Networks", section 3, and "Panoptic Segmentation", section 6.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.layers import BatchNorm2d, group_norm
from blendmask_lite.structures import Detections, PanopticResult, Segment

__all__ = [
    "PanopticHead",
    "SemanticHead",
    "enlarge_logits",
    "merge_things_and_stuff",
    "semantic_labels",
]

STRIDE = 4  # stride of the branch's map, pixels
# Convolutions from each level to stride 4: one for every doubling, at least one.
NUM_STEPS = {"p2": 1, "p3": 1, "p4": 2, "p5": 3}


class PanopticHead(nn.Module):
    """Logits at stride 4: all things as one class, and each stuff class.

    P2 to P5 are each brought to stride 4 in steps of a 3x3 convolution, GroupNorm, ReLU and a
    doubling; the results are summed, and a 1x1 convolution classifies the sum (Panoptic FPN, figure
    3).

    Args:
        in_channels: channels of the pyramid.
        channels: channels of its own convolutions.
        num_stuff_classes: S; channel 0 is "things".
    """

    def __init__(self, *, in_channels: int, channels: int, num_stuff_classes: int) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(
            {name: _tower(name, in_channels, channels) for name in NUM_STEPS}
        )
        self.predictor = nn.Conv2d(channels, 1 + num_stuff_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Caffe2's "MSRA" fill, as in the released code.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, 1+S, H/4, W/4) from the maps p2 to p5, (B, in_channels, h, w) each."""
        total = sum(tower(features[name]) for name, tower in self.towers.items())
        return self.predictor(total)


def enlarge_logits(logits: Tensor) -> Tensor:
    """(B, 1+S, h, w) logits of the branch, upsampled bilinearly to pixels: (B, 1+S, 4h, 4w)."""
    return F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)


def semantic_labels(
    logits: Tensor, image_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """The most likely class of every pixel of one image.

    Args:
        logits: (1+S, h, w) logits of the branch, over the padded input.
        image_size: (height, width) before padding.
        output_size: (height, width) that the user wants.

    Returns:
        (height, width) int64: 0 things, 1 to S stuff.
    """
    height, width = image_size
    pixels = enlarge_logits(logits[None].float())[..., :height, :width]
    wanted = F.interpolate(pixels, size=output_size, mode="bilinear", align_corners=False)
    return wanted[0].argmax(dim=0)


def _tower(name: str, in_channels: int, channels: int) -> nn.Sequential:
    """The steps of one level; a level already at stride 4 is not upsampled."""
    layers: list[nn.Module] = []
    for step in range(NUM_STEPS[name]):
        conv = nn.Conv2d(channels if step else in_channels, channels, 3, padding=1, bias=False)
        layers.append(
            nn.Sequential(OrderedDict(conv=conv, norm=group_norm(channels), relu=nn.ReLU()))
        )
        if name != "p2":
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


def merge_things_and_stuff(
    detections: Detections,
    labels: Tensor,
    *,
    score_threshold: float,
    overlap: float,
    stuff_area: int,
) -> PanopticResult:
    """Decide for every pixel which instance or which stuff class it belongs to.

    Instances come first, the most confident ones before the others. An instance that is already
    covered too much is left out; otherwise its unassigned pixels become a segment. Then each stuff
    class takes its pixels among the unassigned ones. Pixels that the branch calls things but that
    no instance covers stay unlabelled.

    Args:
        detections: N instances with masks (N, H, W).
        labels: (H, W) integers: 0 things, 1 to S stuff.
        score_threshold: lowest score of an instance.
        overlap: largest share of a mask that may already be covered.
        stuff_area: fewest unassigned pixels that make a segment of a stuff class.

    Raises:
        ValueError: masks and labels differ in size.
    """
    if detections.masks.shape[1:] != labels.shape:
        raise ValueError(
            f"masks of {tuple(detections.masks.shape[1:])} pixels, labels of {tuple(labels.shape)}"
        )
    ids = torch.zeros_like(labels, dtype=torch.int32)
    segments: list[Segment] = []
    scores = detections.scores.tolist()
    for index in detections.scores.argsort(descending=True, stable=True).tolist():
        if scores[index] < score_threshold:
            break
        mask = detections.masks[index]
        free = mask & (ids == 0)
        area, free_area = int(mask.count_nonzero()), int(free.count_nonzero())
        # A free area of 0 gets this far only with `overlap` = 1.
        if free_area == 0 or (area - free_area) / area > overlap:
            continue
        number, label = len(segments) + 1, int(detections.labels[index])
        ids[free] = number
        segments.append(Segment(number, label, free_area, scores[index], index))
    for label in labels.unique().tolist():
        free = (labels == label) & (ids == 0)
        area = int(free.count_nonzero())
        if label > 0 and area > 0 and area >= stuff_area:
            number = len(segments) + 1
            ids[free] = number
            segments.append(Segment(number, label, area))
    return PanopticResult(ids=ids, segments=segments)


class SemanticHead(nn.Module):
    """Class logits at stride 8 from P3, as in the released code.

    Args:
        in_channels: channels of the pyramid.
        channels: channels of its own convolutions.
        num_classes: C; channel 0 is the background, class c is channel c + 1.
    """

    def __init__(self, *, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, num_classes + 1, 1),
        )

    def forward(self, p3: Tensor) -> Tensor:
        """(B, in_channels, H/8, W/8) -> (B, C+1, H/8, W/8) logits."""
        return self.layers(p3)
