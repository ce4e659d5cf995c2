"""Torchvision's Mask R-CNN on the nano backbone, to compare BlendMask with (paper, table 8).

Both have the backbone and its pyramid of P2 to P4. Mask R-CNN's heads keep torchvision's structure;
their widths are cut from 256 and 1024 to the pyramid's and four times of it, as BlendMask's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from blendmask_lite.config import ModelConfig
from blendmask_lite.model.build import make_backbone, make_fpn
from blendmask_lite.structures import Target

__all__ = ["FoundByMaskRCNN", "NanoMaskRCNN"]

# That the heads learn from and choose among in training. Torchvision's 512 and 2000 are meant for
# large pictures full of objects; here there are at most six.
BOXES_PER_IMAGE, PROPOSALS = 32, 300
SMALLEST_ANCHOR = 16.0  # side at P2, pixels; doubles from level to level


class NanoMaskRCNN(nn.Module):
    """Torchvision's Mask R-CNN on the backbone and pyramid of a small `ModelConfig`.

    Args:
        config: of the BlendMask to compare with; backbone, pyramid, levels and input are read.
        size: shorter side of the pictures, pixels; they are not resized otherwise.
    """

    def __init__(self, config: ModelConfig, *, size: int) -> None:
        super().__init__()
        width, levels = config.pyramid_channels, list(config.levels)
        sides = tuple((SMALLEST_ANCHOR * 2**i,) for i in range(len(levels)))
        self.network = MaskRCNN(
            _BackboneWithPyramid(config),
            min_size=size,
            max_size=2 * size,
            image_mean=[value / 255 for value in config.pixel_mean],
            image_std=[value / 255 for value in config.pixel_std],
            rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(levels)),
            box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(width * 7**2, 4 * width),
            box_predictor=_BoxPredictor(4 * width, config.num_classes + 1),
            rpn_pre_nms_top_n_train=PROPOSALS,
            rpn_post_nms_top_n_train=PROPOSALS,
            box_batch_size_per_image=BOXES_PER_IMAGE,
            mask_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, config.num_classes + 1),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Losses of a batch, to be added up; in training mode."""
        records = [
            {"boxes": each.boxes.float(), "labels": each.labels + 1, "masks": _masks(each).byte()}
            for each in targets
        ]
        losses: dict[str, Tensor] = self.network([_as_float(each) for each in images], records)
        return losses

    @torch.no_grad()
    def predict(self, image: Tensor) -> FoundByMaskRCNN:
        """The objects of one picture (3, H, W); in evaluation mode."""
        [found] = self.network([_as_float(image)])
        return FoundByMaskRCNN(
            boxes=found["boxes"],
            labels=found["labels"] - 1,
            scores=found["scores"],
            masks=found["masks"][:, 0] >= 0.5,
        )


@dataclass(frozen=True)
class FoundByMaskRCNN:
    """The objects of one picture; see `structures.FoundObjects`."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.scores)


class _BackboneWithPyramid(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = make_backbone(config)
        self.fpn = make_fpn(config, self.backbone.channels)
        self.levels = config.levels
        self.out_channels = config.pyramid_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        levels: dict[str, Tensor] = self.fpn(self.backbone(x))
        return {name: levels[name] for name in self.levels}


class _BoxPredictor(nn.Module):
    """Classes and boxes from one vector an object (Fast R-CNN, section 2.1)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(in_channels, num_classes)
        self.boxes = nn.Linear(in_channels, 4 * num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x), self.boxes(x)


def _as_float(image: Tensor) -> Tensor:
    return image if image.is_floating_point() else image.float() / 255


def _masks(target: Target) -> Tensor:
    if target.masks is None:
        raise ValueError("Mask R-CNN learns from masks; this target has none")
    return target.masks
