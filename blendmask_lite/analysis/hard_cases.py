"""Objects that are hard to segment, found by number: complex, separated and overlapping ones.

BlendMask, figures 6 and 7, shows such objects; what makes one hard is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from blendmask_lite.analysis.objects import true_objects
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["KINDS", "HardCase", "complexity", "find_hard_cases", "separation"]

KINDS = ("complex", "separated", "overlapping")
LEAST_SIDE = 16.0  # pixels; smaller boxes show nothing
ONE_PART = 0.05  # `separation` below which a mask counts as one part


@dataclass(frozen=True)
class HardCase:
    """One object of a picture.

    Attributes:
        kind: one of `KINDS`.
        measure: how hard, by the rule of its kind.
        image_id: of the data set.
        image: (3, H, W).
        box: (4,) true corners, pixels.
        true_mask: (H, W) bool.
        mask: (H, W) bool, the network's over the true box.
        iou: of both, 0 to 1.
    """

    kind: str
    measure: float
    image_id: int
    image: Tensor
    box: Tensor
    true_mask: Tensor
    mask: Tensor
    iou: float


@torch.no_grad()
def find_hard_cases(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    number: int = 3,
    max_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[HardCase]]:
    """The hardest objects of each kind, hardest first, one a picture and kind.

    Hard is measured on the true masks, not on the network's: success may be among them.

    - complex: `complexity`, the length of the outline for the area, of masks in one part.
    - separated: `separation`, the share of the mask outside its largest connected part.
    - overlapping: the largest IoU of the box with the box of an object of the same class.

    Args:
        model: whose masks are shown.
        dataset: with masks.
        number: of each kind, at most.
        max_images: to look at.
        progress: called with (done, total).

    Returns:
        By kind; objects that are not hard at all (separation or overlap 0) are left out.
    """
    best: dict[str, list[HardCase]] = {kind: [] for kind in KINDS}
    for objects in true_objects(model, dataset, max_images=max_images, progress=progress):
        sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).amin(dim=1)
        allowed = objects.is_learned & (sides >= LEAST_SIDE)
        if not allowed.any():
            continue
        height, width = objects.image.shape[-2:]
        logits = model.masks_at(objects.output, objects.index, objects.boxes)
        threshold = model.inference.mask_threshold
        masks = paste_masks(logits, objects.boxes, (height, width), threshold)
        iou = mask_iou(masks, objects.masks)
        same_class = objects.labels[:, None] == objects.labels
        between = (box_iou(objects.boxes, objects.boxes) * same_class).fill_diagonal_(0)
        parts = separation(objects.masks)
        outline = complexity(objects.masks) * (parts < ONE_PART)
        measures = (outline, parts, between.amax(dim=1))
        for kind, measure in zip(KINDS, measures, strict=True):
            place = int(torch.where(allowed, measure, -1.0).argmax())
            if float(measure[place]) <= 0:
                continue
            case = HardCase(
                kind=kind,
                measure=float(measure[place]),
                image_id=objects.image_id,
                image=objects.image,
                box=objects.boxes[place].cpu(),
                true_mask=objects.masks[place].cpu(),
                mask=masks[place].cpu(),
                iou=float(iou[place]),
            )
            best[kind] = sorted([*best[kind], case], key=lambda each: -each.measure)[:number]
    return best


def complexity(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N,) outline squared over 4 pi area; 1.27 for a square, more for stars.

    The outline is counted in sides of pixels. An empty mask gives 0.
    """
    padded = F.pad(masks, (1, 1, 1, 1)).int()
    down = padded.diff(dim=1).abs().sum(dim=(1, 2))
    across = padded.diff(dim=2).abs().sum(dim=(1, 2))
    area = masks.flatten(1).sum(dim=1)
    outline = (down + across).float()
    return torch.where(area > 0, outline.square() / (4 * torch.pi * area.clamp(min=1)), 0.0)


def separation(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N,) share of each mask outside its largest connected part, 0 to 1.

    Pixels that touch at a side or a corner are connected.
    """
    shares = [1 - _largest_part(mask) / max(int(mask.sum()), 1) for mask in masks]
    return torch.tensor(
        [share if bool(mask.any()) else 0.0 for share, mask in zip(shares, masks, strict=True)],
        device=masks.device,
    )


def _largest_part(mask: Tensor) -> int:
    """Pixels of the largest connected part; the largest number in each spreads until all rest."""
    count = mask.numel()
    if not mask.any():
        return 0
    numbers = torch.arange(1, count + 1, device=mask.device, dtype=torch.float64).view(mask.shape)
    numbers = numbers * mask
    while True:
        spread = F.max_pool2d(numbers[None], kernel_size=3, stride=1, padding=1)[0] * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    return int(torch.bincount(numbers[mask].long()).max())
