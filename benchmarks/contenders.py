"""The two models of the benchmark, with random weights that find exactly 100 objects.

Chapter 14. Untrained networks find nothing or everything. Both are given biases or thresholds so
that about as many candidates reach the suppression as in a real picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from blendmask_lite import PRESETS, BlendMask

__all__ = ["NUM_DETECTIONS", "coco_like_boxes", "make_blendmask", "make_mask_rcnn"]

NUM_DETECTIONS = 100
NUM_CANDIDATES = 2000  # (location, class) or (proposal, class) pairs above the threshold
HALF_BOX = 4.0  # side distances of the random detector, strides of the level


@torch.no_grad()
def make_blendmask(image: Tensor) -> BlendMask:
    """Preset r50 whose class biases let `NUM_CANDIDATES` pairs pass on this image.

    Args:
        image: (3, H, W) float in [0, 1].
    """
    torch.manual_seed(0)
    model = BlendMask(PRESETS["r50"]).eval()
    nn.init.constant_(model.head.ltrb.bias, HALF_BOX)
    # Class logits are spread so that scores differ; centerness is one half everywhere.
    nn.init.zeros_(model.head.centerness.weight)
    logits = model([image]).class_logits
    threshold = model.inference.score_threshold / 0.5
    passing = math.log(threshold / (1 - threshold))
    last = logits.flatten().topk(NUM_CANDIDATES).values[-1]
    model.head.class_logits.bias += passing - last
    [found] = model.predict([image])
    _require(len(found), "r50")
    return model


@torch.no_grad()
def make_mask_rcnn(image: Tensor) -> nn.Module:
    """Torchvision's model, its score threshold such that `NUM_CANDIDATES` pairs pass."""
    torch.manual_seed(0)
    model: nn.Module = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=min(image.shape[-2:]),  # the image is not resized
        max_size=max(image.shape[-2:]),
        box_detections_per_img=NUM_DETECTIONS,
    ).eval()
    heads = model.roi_heads
    images, _ = model.transform([image])
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
    class_logits, _ = heads.box_predictor(heads.box_head(pooled))
    scores = class_logits.softmax(dim=1)[:, 1:]
    heads.score_thresh = scores.flatten().topk(NUM_CANDIDATES).values[-1].item()
    [found] = model([image])
    _require(len(found["scores"]), "Mask R-CNN")
    return model


def coco_like_boxes(num: int, size: tuple[int, int]) -> Tensor:
    """(num, 4) boxes inside an image, sides log-uniform between 16 px and the shorter side.

    A third is small (below 32 px), a third medium, a third large, roughly as in COCO.
    """
    generator = torch.Generator().manual_seed(0)
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)
    longest = math.log(min(size) / 16)
    sides = 16 * torch.exp(torch.rand(num, 2, generator=generator) * longest)
    corner = torch.rand(num, 2, generator=generator) * (limits - sides)
    return torch.cat([corner, corner + sides], dim=1)


def _require(num_found: int, name: str) -> None:
    if num_found != NUM_DETECTIONS:
        raise ValueError(f"{name} found {num_found} objects, {NUM_DETECTIONS} are needed")
