"""Masks for torchvision's RetinaNet, FCOS and Faster R-CNN: `MaskHead` on third-party detectors.

The appendix "The blender on another detector". BlendMask's abstract says that it "can be easily
incorporated with the state-of-the-art one-stage detection frameworks", and section 4.3 that it can
"refine two-stage instance predictions". The detectors' code and results stay unchanged; `recorded`
captures what they compute but do not return.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from blendmask_lite.boxes import scale_boxes
from blendmask_lite.masks import crop_masks, paste_masks
from blendmask_lite.model.layers import evaluating
from blendmask_lite.model.mask_head import MaskHead
from blendmask_lite.structures import Detections, Target
from blendmask_lite.training.losses import mask_loss

__all__ = ["DetectorMasks", "FCOSMasks", "FasterRCNNMasks", "RetinaNetMasks", "recorded"]


class Call(NamedTuple):
    """One call of a method: its positional arguments and its result."""

    given: tuple[Any, ...]
    result: Any


Calls = dict[str, list[Call]]  # calls by name of the method


@contextmanager
def recorded(detector: nn.Module, names: Sequence[str]) -> Iterator[Calls]:
    """Record the calls of methods such as "backbone.forward" during the `with` block."""
    calls: Calls = {name: [] for name in names}
    with ExitStack() as stack:
        for name in names:
            path, _, method = name.rpartition(".")
            owner = detector.get_submodule(path)
            recording = _recording(getattr(owner, method), calls[name])
            stack.enter_context(patch.object(owner, method, recording))
        yield calls


def _recording(method: Any, calls: list[Call]) -> Any:
    def call(*given: Any, **named: Any) -> Any:
        calls.append(Call(given, method(*given, **named)))
        return calls[-1].result

    return call


class DetectorMasks(nn.Module):
    """A detector with the paper's mask branch; there is a subclass for each kind of detector.

    A "place" of an image, an anchor or a proposal, finds or learns at most one object. Places are
    numbered from 0 to P-1 over all levels.

    Args:
        detector: a detector of torchvision with a feature pyramid.
        mask_head: a mask head whose bottom module reads levels of that pyramid, p2 to p7, named by
            stride.
    """

    methods: ClassVar[tuple[str, ...]] = ("transform.forward", "backbone.forward")
    first_label: ClassVar[int] = 0  # the detector's own number for label 0

    def __init__(self, detector: nn.Module, mask_head: MaskHead) -> None:
        super().__init__()
        self.detector: Any = detector
        self.mask_head = mask_head

    def attentions(self, calls: Calls, number: int, place: Tensor) -> Tensor:
        """(N, A) raw attentions for the (N,) places of image `number`."""
        raise NotImplementedError

    def owners(self, calls: Calls, number: int) -> Tensor:
        """(P,) the object that each place learns by the detector's rule; negative for none."""
        raise NotImplementedError

    def candidates(self, calls: Calls, number: int, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions of the P places for N labels: (P, N or 1, 4) boxes and (P, N) scores."""
        raise NotImplementedError

    def bases(self, calls: Calls) -> Tensor:
        """(B, K, H/s, W/s) bases, made from the pyramid; its level of stride 8 is p3."""
        width = calls["transform.forward"][0].result[0].tensors.shape[-1]
        levels = calls["backbone.forward"][0].result.values()
        # On a small image, several levels may be one cell wide; the finest of them gets the name.
        named = {f"p{round(math.log2(width / x.shape[-1]))}": x for x in reversed(levels)}
        return self.mask_head.bases(named)

    def masks_at(
        self, calls: Calls, bases: Tensor, number: int, place: Tensor, boxes: Tensor
    ) -> Tensor:
        """(N, R, R) mask logits for the (N,) places of image `number`, over (N, 4) boxes."""
        image_index = torch.full_like(place, number)
        attentions = self.attentions(calls, number, place)
        return self.mask_head(bases, attentions, image_index, boxes)

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The detector's own losses by name, and "mask".

        Every place that learns an object learns its mask over the true box, with equal weight. This
        is our choice, because only FCOS has a centerness to weight with.

        Args:
            images: (3, H, W) each, RGB, uint8 or float in [0, 1].
            targets: one per image, with masks.

        Raises:
            ValueError: the model is in evaluation mode, or a target has no masks.
        """
        if not self.detector.training:
            raise ValueError("the detector is in evaluation mode; call train() first")
        wanted = [self._as_dict(number, target) for number, target in enumerate(targets)]
        with recorded(self.detector, self.methods) as calls:
            losses: dict[str, Tensor] = dict(self.detector(_floats(images), wanted))
        bases = self.bases(calls)
        logits, truth = [], []
        for number, target in enumerate(calls["transform.forward"][0].result[1]):
            owner = self.owners(calls, number)
            place = (owner >= 0).nonzero()[:, 0]
            boxes, learned = target["boxes"], owner[place]
            crops = crop_masks(target["masks"].bool(), boxes, self.mask_head.mask_size)
            logits.append(self.masks_at(calls, bases, number, place, boxes[learned]))
            truth.append(crops[learned])
        weight = torch.ones(sum(map(len, truth)), device=bases.device)
        total = weight.sum().clamp(min=1)
        return losses | {"mask": mask_loss(torch.cat(logits), torch.cat(truth), weight, total)}

    def _as_dict(self, number: int, target: Target) -> dict[str, Tensor]:
        if target.masks is None:
            raise ValueError(f"targets[{number}]: no masks")
        labels, masks = target.labels + self.first_label, target.masks.byte()
        return {"boxes": target.boxes.float(), "labels": labels, "masks": masks}

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """The detector's detections, in its order, with masks; the training mode is restored.

        Args:
            images: (3, H, W) each, RGB, uint8 or float in [0, 1].

        Returns:
            One per image; `location_index` is the index of the place.
        """
        if len(images) == 0:
            return []
        detections = []
        with evaluating(self), recorded(self.detector, self.methods) as calls:
            found = self.detector(_floats(images))
            bases = self.bases(calls)
            inside = calls["transform.forward"][0].result[0].image_sizes
            for number, (image, each) in enumerate(zip(images, found, strict=True)):
                size = (image.shape[-2], image.shape[-1])
                boxes = scale_boxes(each["boxes"], size, inside[number])
                place = self.find_places(calls, number, boxes, each["scores"], each["labels"])
                logits = self.masks_at(calls, bases, number, place, boxes)
                detections.append(
                    Detections(
                        boxes=each["boxes"],
                        scores=each["scores"],
                        labels=each["labels"] - self.first_label,
                        masks=paste_masks(logits, each["boxes"], size),
                        mask_logits=logits,
                        location_index=place,
                        proposal_boxes=boxes,
                        image_size=size,
                    )
                )
        return detections

    def find_places(
        self, calls: Calls, number: int, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> Tensor:
        """(N,) index of the place that found each box, which torchvision does not return.

        All places are decoded again; the right one has the same box (in pixels of the batch) and
        the same score for the detector's own label.
        """
        if len(labels) == 0:
            return labels  # without boxes, there may be no places
        decoded, probabilities = self.candidates(calls, number, labels)
        inside = calls["transform.forward"][0].result[0].image_sizes[number]
        decoded = clip_boxes_to_image(decoded, inside)
        distance = (probabilities - scores).abs()
        for side in range(4):
            distance += (decoded[..., side] - boxes[:, side]).abs()
        return distance.argmin(dim=0)


class RetinaNetMasks(DetectorMasks):
    """Masks for `torchvision.models.detection.RetinaNet`, with a `TopLayer` on its box tower.

    The anchors of a location share its attention, because an attention for each anchor would
    multiply the size of the top layer (BlendMask, section 2).
    """

    methods = (
        *DetectorMasks.methods,
        "head.regression_head.conv.forward",  # called once per level
        "head.compute_loss",
        "postprocess_detections",
    )

    def attentions(self, calls: Calls, number: int, place: Tensor) -> Tensor:
        """The raw attentions at the anchors' locations."""
        num_anchors = self.detector.anchor_generator.num_anchors_per_location()[0]
        index = torch.stack([torch.full_like(place, number), place // num_anchors], dim=1)
        tower = [call.result for call in calls["head.regression_head.conv.forward"]]
        return self.mask_head.attentions(tower, index)

    def owners(self, calls: Calls, number: int) -> Tensor:
        """The objects that the anchors learn."""
        owners: list[Tensor] = calls["head.compute_loss"][0].given[3]
        return owners[number]

    def candidates(self, calls: Calls, number: int, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The predictions of all levels' anchors; their boxes are the same for all labels."""
        levels, anchors, _sizes = calls["postprocess_detections"][0].given
        outputs = {name: torch.cat([m[number] for m in maps]) for name, maps in levels.items()}
        boxes = self.decode(outputs["bbox_regression"], torch.cat(anchors[number]))
        return boxes[:, None], self.scores(outputs)[:, labels]

    def decode(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        """(P, 4) boxes of one image."""
        return self.detector.box_coder.decode_single(offsets, anchors)

    def scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """(P, C) of one image."""
        return outputs["cls_logits"].sigmoid()


class FCOSMasks(RetinaNetMasks):
    """Masks for `torchvision.models.detection.FCOS`, the paper's own detector.

    torchvision builds it like its RetinaNet with one anchor per location, but computes boxes and
    scores differently.
    """

    def decode(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        """(P, 4) boxes of one image."""
        return self.detector.box_coder.decode(offsets, anchors)

    def scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """(P, C) of one image, with centerness."""
        return (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()


class FasterRCNNMasks(DetectorMasks):
    """Masks for `torchvision.models.detection.FasterRCNN`, with `nn.Linear` as top layer.

    The paper says that attentions can "refine two-stage instance predictions" (section 4.3), but
    not how. Our choice: one linear layer predicts them from a proposal's features in the box head.
    A mask then needs neither a second pooling nor Mask R-CNN's convolutional head.
    """

    methods = (
        *DetectorMasks.methods,
        "roi_heads.select_training_samples",
        "roi_heads.box_roi_pool.forward",
        "roi_heads.box_head.forward",
        "roi_heads.postprocess_detections",
    )
    first_label = 1  # 0 is background

    def attentions(self, calls: Calls, number: int, place: Tensor) -> Tensor:
        """The raw attentions of proposals; in training, of those drawn for the losses."""
        _levels, proposals, _sizes = calls["roi_heads.box_roi_pool.forward"][0].given
        features = calls["roi_heads.box_head.forward"][0].result
        by_image = features.split([len(boxes) for boxes in proposals])
        return self.mask_head.attentions(by_image[number][place])

    def owners(self, calls: Calls, number: int) -> Tensor:
        """The objects that the proposals drawn for the losses learn."""
        _, owners, labels, _ = calls["roi_heads.select_training_samples"][0].result
        return owners[number].where(labels[number] > 0, -1)

    def candidates(self, calls: Calls, number: int, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The predictions of the proposals, whose boxes differ from label to label."""
        logits, offsets, proposals, _ = calls["roi_heads.postprocess_detections"][0].given
        counts = [len(boxes) for boxes in proposals]
        coder, own = self.detector.roi_heads.box_coder, [proposals[number]]
        boxes = coder.decode(offsets.split(counts)[number], own)
        return boxes[:, labels], logits.split(counts)[number].softmax(dim=1)[:, labels]


def _floats(images: Sequence[Tensor]) -> list[Tensor]:
    return [image if image.is_floating_point() else image.float() / 255 for image in images]
