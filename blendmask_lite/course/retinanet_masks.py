"""Masks for torchvision's RetinaNet: bases, attentions and a blender beside a strange detector.

The appendix "The blender on another detector". BlendMask's abstract says that it "can be easily
incorporated with the state-of-the-art one-stage detection frameworks"; here it is, with anchors.
RetinaNet stays as it is, code and results: its forward pass runs unchanged, and is listened to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.ops import box_iou, clip_boxes_to_image

from blendmask_lite.boxes import scale_boxes
from blendmask_lite.masks import crop_masks, paste_masks
from blendmask_lite.model.attention import TopLayer
from blendmask_lite.model.bottom import ProtoFPN
from blendmask_lite.model.layers import evaluating
from blendmask_lite.model.merge import Blender, crop_bases
from blendmask_lite.structures import Detections, Target
from blendmask_lite.training.losses import mask_loss

__all__ = ["Heard", "RetinaNetMasks", "listening"]


class Heard:
    """What passed by during one forward pass of a RetinaNet with A anchors at each location.

    Attributes:
        sizes: (height, width) of every picture in the batch, pixels.
        targets: at that size; None in evaluation.
        levels: the pyramid, (B, channels, h, w) a level.
        tower: the box tower's last map of every level, of the same sizes.
        class_logits: (B, L * A, C).
        offsets: (B, L * A, 4) of the boxes from their anchors, as RetinaNet encodes them.
        anchors: (L * A, 4) corners for every picture, pixels; the A of a location stand together.
    """

    sizes: list[tuple[int, int]]
    targets: Sequence[dict[str, Tensor]] | None
    levels: list[Tensor]
    tower: list[Tensor]
    class_logits: Tensor
    offsets: Tensor
    anchors: list[Tensor]


@contextmanager
def listening(detector: RetinaNet) -> Iterator[Heard]:
    """Write down what passes by while `detector` runs in the block; one run a block."""
    heard = Heard()
    heard.tower = []

    def transform(_module: nn.Module, _inputs: Any, result: Any) -> None:
        images, heard.targets = result
        heard.sizes = images.image_sizes

    def backbone(_module: nn.Module, _inputs: Any, result: dict[str, Tensor]) -> None:
        heard.levels = list(result.values())

    def tower(_module: nn.Module, _inputs: Any, result: Tensor) -> None:
        heard.tower.append(result)

    def head(_module: nn.Module, _inputs: Any, result: dict[str, Tensor]) -> None:
        heard.class_logits, heard.offsets = result["cls_logits"], result["bbox_regression"]

    def anchors(_module: nn.Module, _inputs: Any, result: list[Tensor]) -> None:
        heard.anchors = result

    handles = [
        detector.transform.register_forward_hook(transform),
        detector.backbone.register_forward_hook(backbone),
        detector.head.regression_head.conv.register_forward_hook(tower),
        detector.head.register_forward_hook(head),
        detector.anchor_generator.register_forward_hook(anchors),
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


class RetinaNetMasks(nn.Module):
    """A RetinaNet, and beside it BlendMask's bottom module, top layer and blender.

    One attention for each location, shared by its anchors: one for each anchor would make the top
    layer A times as large (BlendMask, section 2).

    Args:
        detector: with a pyramid whose first three levels have strides 8, 16 and 32.
        num_bases: K.
        attention_size: M, cells.
        mask_size: R, cells.
        channels: inside the bottom module.
    """

    def __init__(
        self,
        detector: RetinaNet,
        *,
        num_bases: int = 4,
        attention_size: int = 7,
        mask_size: int = 28,
        channels: int = 64,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.mask_size = mask_size
        in_channels = detector.backbone.out_channels
        self.bottom = ProtoFPN(in_channels=in_channels, channels=channels, num_bases=num_bases)
        self.top_layer = TopLayer(
            in_channels=in_channels, attention_channels=num_bases * attention_size**2
        )
        self.merger = Blender(num_bases=num_bases, attention_size=attention_size)

    @property
    def num_anchors(self) -> int:
        """A, of every location."""
        count: int = self.detector.anchor_generator.num_anchors_per_location()[0]
        return count

    def masks_at(self, heard: Heard, image: Tensor, anchor: Tensor, boxes: Tensor) -> Tensor:
        """Masks of some anchors over some boxes (BlendMask, equations 1 to 4).

        Args:
            heard: of a forward pass.
            image: (N,) int64, place in the batch.
            anchor: (N,) int64, counted over all levels.
            boxes: (N, 4) corners, pixels of the batch.

        Returns:
            (N, R, R) mask logits.
        """
        index = torch.stack([image, anchor // self.num_anchors], dim=1)
        bases = self.bottom(dict(zip(self.bottom.inputs, heard.levels, strict=False)))
        crops = crop_bases(bases, boxes, image, size=self.mask_size, stride=self.bottom.stride)
        logits: Tensor = self.merger(crops, self.top_layer(heard.tower, index))
        return logits

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """RetinaNet's own losses by their names, and "mask".

        Args:
            images: (3, H, W) each, RGB, uint8 or float in [0, 1].
            targets: one an image, with masks.

        Raises:
            ValueError: in evaluation mode, or a target without masks.
        """
        if not self.detector.training:
            raise ValueError("the detector is in evaluation mode; call train() first")
        wanted = [_as_dict(each, place) for place, each in enumerate(targets)]
        with listening(self.detector) as heard:
            losses: dict[str, Tensor] = dict(self.detector(_floats(images), wanted))
        assert heard.targets is not None
        image, anchor, boxes, truth = [], [], [], []
        for place, (target, anchors) in enumerate(zip(heard.targets, heard.anchors, strict=True)):
            owner = self._owners(target["boxes"], anchors)
            positive = (owner >= 0).nonzero()[:, 0]
            crops = crop_masks(target["masks"].bool(), target["boxes"], self.mask_size)
            image.append(torch.full_like(positive, place))
            anchor.append(positive)
            boxes.append(target["boxes"][owner[positive]])
            truth.append(crops[owner[positive]])
        logits = self.masks_at(heard, torch.cat(image), torch.cat(anchor), torch.cat(boxes))
        # Anchors have no centerness: all positive ones count the same.
        weight = logits.new_ones(len(logits))
        total = weight.sum().clamp(min=1)
        return losses | {"mask": mask_loss(logits, torch.cat(truth), weight, total)}

    def _owners(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """(L * A,) the object that each anchor learns by RetinaNet's own rule; below 0 for none."""
        if len(boxes) == 0:
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        owners: Tensor = self.detector.proposal_matcher(box_iou(boxes, anchors))
        return owners

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """RetinaNet's detections, in its order, with masks. The mode is afterwards what it was.

        Args:
            images: (3, H, W) each, RGB, uint8 or float in [0, 1].

        Returns:
            One an image; `location_index` counts anchors.
        """
        floats = _floats(images)
        sizes = [(each.shape[-2], each.shape[-1]) for each in floats]
        with evaluating(self), listening(self.detector) as heard:
            found = self.detector(floats)
            boxes = [
                scale_boxes(each["boxes"], size, inside)
                for each, size, inside in zip(found, sizes, heard.sizes, strict=True)
            ]
            anchor = [
                self.find_anchors(heard, place, boxes[place], each["scores"], each["labels"])
                for place, each in enumerate(found)
            ]
            image = torch.cat([torch.full_like(each, place) for place, each in enumerate(anchor)])
            logits = self.masks_at(heard, image, torch.cat(anchor), torch.cat(boxes))
        parts = logits.split([len(each) for each in anchor])
        return [
            Detections(
                boxes=each["boxes"],
                scores=each["scores"],
                labels=each["labels"],
                masks=paste_masks(parts[place], each["boxes"], sizes[place]),
                mask_logits=parts[place],
                location_index=anchor[place],
                proposal_boxes=boxes[place],
                image_size=sizes[place],
            )
            for place, each in enumerate(found)
        ]

    def find_anchors(
        self, heard: Heard, place: int, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> Tensor:
        """Which anchor found each box: what RetinaNet knows, and does not tell.

        All anchors are decoded as RetinaNet does it; the one with the same box and score is it.

        Returns:
            (N,) int64, counted over all levels.
        """
        decoded = self.detector.box_coder.decode_single(heard.offsets[place], heard.anchors[place])
        decoded = clip_boxes_to_image(decoded, heard.sizes[place])
        probabilities = heard.class_logits[place][:, labels].sigmoid().T  # (N, L * A)
        distance = torch.cdist(boxes, decoded, p=1) + (probabilities - scores[:, None]).abs()
        return distance.argmin(dim=1)


def _floats(images: Sequence[Tensor]) -> list[Tensor]:
    return [each if each.is_floating_point() else each.float() / 255 for each in images]


def _as_dict(target: Target, place: int) -> dict[str, Tensor]:
    if target.masks is None:
        raise ValueError(f"targets[{place}]: no masks")
    boxes, masks = target.boxes.float(), target.masks.byte()
    return {"boxes": boxes, "labels": target.labels, "masks": masks}
