"""How good a mask could be: the best attentions for given bases, the best bases, and oracles.

Box, attention and bases are replaced in turn by the best ones, to see how much IoU each costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.boxes import ltrb_to_xyxy
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import Merger, crop_bases
from blendmask_lite.research.objects import TrueObjects, true_objects

__all__ = [
    "Improved",
    "OracleResults",
    "attention_limit",
    "best_attention",
    "best_bases",
    "oracle_swaps",
    "score_oracles",
]

LEARNING_RATE = 0.5  # of Adam: a value changes by about this much in a step at most


@dataclass(frozen=True)
class Improved:
    """What an optimisation found for N objects.

    Attributes:
        values: (N, A) raw attentions, or (K, h, w) bases of one image.
        iou: (N,) of the masks with the true ones, in cells of R x R; 0 to 1.
        start_iou: (N,) the same before the optimisation.
    """

    values: Tensor
    iou: Tensor
    start_iou: Tensor


def best_attention(
    merger: Merger,
    crops: Tensor,
    true_masks: Tensor,
    *,
    start: Tensor | None = None,
    steps: int = 60,
) -> Improved:
    """The attentions that make each object's mask as good as its bases allow.

    Our choice: Adam on the binary cross entropy of training, from `start`, for every object on its
    own; the step with the highest IoU counts, so no object ends worse than it began. It is a lower
    bound on what is possible: the loss is not the IoU, and Adam may not end at its minimum.

    Args:
        merger: of any kind; the assembler has no attentions to improve.
        crops: (N, K, R, R) bases, cut out along the boxes.
        true_masks: (N, R, R) bool over the same boxes.
        start: (N, A) raw attentions to begin with; None: zeros, so that all bases weigh the same.
        steps: of the optimiser, at least 0.

    Raises:
        ValueError: the shapes do not fit together.
    """
    num, channels = len(crops), merger.attention_channels
    _require_masks(true_masks, crops)
    if start is None:
        start = crops.new_zeros(num, channels)
    if start.shape != (num, channels):
        raise ValueError(f"start {tuple(start.shape)}: the merger wants ({num}, {channels})")
    fixed = crops.detach().float()
    return _improve(lambda tried: merger(fixed, tried), start, true_masks, steps)


def attention_limit(crops: Tensor, true_masks: Tensor) -> Tensor:
    """The IoU that no attention can beat, however fine: the counterpart of `best_attention`.

    The blender's weights are positive and sum to one, so a mask logit lies between the smallest
    and the largest of the K crops at its cell (equations 3 and 4). A cell of the object can be
    right only if some base is at least 0 there, one of the background only if some base is below.

    Args:
        crops: (N, K, R, R) bases, cut out along the boxes.
        true_masks: (N, R, R) bool over the same boxes.

    Returns:
        (N,) IoU in cells of R x R, 0 to 1.
    """
    _require_masks(true_masks, crops)
    highest, lowest = crops.amax(dim=1), crops.amin(dim=1)
    return mask_iou(torch.where(true_masks, highest >= 0, lowest >= 0), true_masks)


def best_bases(
    merger: Merger,
    bases: Tensor,
    attentions: Tensor,
    boxes: Tensor,
    true_masks: Tensor,
    *,
    stride: int,
    pooling: str = "align",
    steps: int = 60,
) -> Improved:
    """The bases of an image that together make the masks of its objects as good as possible.

    The counterpart of `best_attention`: attentions stay fixed and bases move, by the same rule.
    Overlapping objects share the bases, so one may gain at the other's expense; the step with the
    highest mean IoU counts.

    Args:
        merger: of any kind.
        bases: (K, h, w) of one image, to begin with.
        attentions: (N, A) raw.
        boxes: (N, 4) corners, pixels of the padded input.
        true_masks: (N, R, R) bool over the boxes.
        stride: of the bases, pixels.
        pooling: as in `crop_bases`.
        steps: of the optimiser, at least 0.

    Raises:
        ValueError: the shapes do not fit together.
    """
    size = true_masks.shape[-1]
    image_index = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    fixed = attentions.detach().float()

    def masks(tried: Tensor) -> Tensor:
        crops = crop_bases(tried, boxes, image_index, size=size, stride=stride, pooling=pooling)
        return merger(crops, fixed)

    if len(boxes) != len(true_masks) or len(boxes) != len(attentions):
        raise ValueError(
            f"{len(boxes)} boxes, {len(attentions)} attentions and {len(true_masks)} true masks"
        )
    found = _improve(masks, bases[None], true_masks, steps, is_joint=True)
    return replace(found, values=found.values[0])


def _improve(
    masks: Callable[[Tensor], Tensor],
    start: Tensor,
    true_masks: Tensor,
    steps: int,
    *,
    is_joint: bool = False,
) -> Improved:
    """Adam on `masks(values)`. Joint: all objects share the values; else each has its own row."""
    values = start.detach().clone().float()
    with torch.no_grad():
        start_iou = mask_iou(masks(values) >= 0, true_masks)
    best, best_iou = values.clone(), start_iou.clone()
    if values.numel() == 0 or len(true_masks) == 0:
        return Improved(best, best_iou, start_iou)
    target = true_masks.float()
    mean, square = torch.zeros_like(values), torch.zeros_like(values)
    for step in range(steps + 1):
        with torch.enable_grad():
            values.requires_grad_(True)
            logits = masks(values)
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
            (gradient,) = torch.autograd.grad(loss / target[0].numel(), values)
        values = values.detach()
        iou = mask_iou(logits.detach() >= 0, true_masks)
        is_better = (iou.mean() > best_iou.mean()).expand(1) if is_joint else iou > best_iou
        best[is_better] = values[is_better]
        best_iou = torch.where(is_better, iou, best_iou)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient.square()
        bias = (1 - 0.9 ** (step + 1)), (1 - 0.99 ** (step + 1))
        values = values - LEARNING_RATE * (mean / bias[0]) / ((square / bias[1]).sqrt() + 1e-12)
    return Improved(best, best_iou, start_iou)


def _require_masks(true_masks: Tensor, crops: Tensor) -> None:
    expected = (len(crops), *crops.shape[-2:])
    if true_masks.shape != expected:
        raise ValueError(f"true_masks {tuple(true_masks.shape)}: the crops need {expected}")


@dataclass(frozen=True)
class OracleResults:
    """IoU of N objects' masks with the true ones, in pixels of the image; 0 to 1.

    Every object is taken at the location that learns it, so no loss is due to a missing detection.

    Attributes:
        predicted: (N,) over the box that the location predicts.
        true_box: (N,) over the true box.
        best_attention: (N,) over the true box, with the best attention that the network's bases
            allow.
        best_bases: (N,) over the true box, with the network's attention and the best bases for all
            objects of the image together.
        resolution: (N,) of the true mask itself at R x R cells: nothing can be much better.
    """

    predicted: Tensor
    true_box: Tensor
    best_attention: Tensor
    best_bases: Tensor
    resolution: Tensor

    def __len__(self) -> int:
        return len(self.predicted)

    def means(self) -> dict[str, float]:
        """The mean IoU of every stage, worst stage first; NaN without objects."""
        return {name: float(iou.mean()) for name, iou in vars(self).items()}

    def losses(self) -> dict[str, Tensor]:
        """What each part costs every object, (N,) each; they add up to 1 - `predicted`.

        resolution: no mask of R x R cells is exact. bases: what is still lost with the best
        attention. attention: what the network's attention loses compared with the best one. box:
        what the predicted box loses. A part may be below 0 for an object, if two mistakes cancel.
        """
        return {
            "resolution": 1 - self.resolution,
            "bases": self.resolution - self.best_attention,
            "attention": self.best_attention - self.true_box,
            "box": self.true_box - self.predicted,
        }


@torch.no_grad()
def oracle_swaps(model: BlendMask, objects: TrueObjects, *, steps: int = 60) -> OracleResults:
    """The stages for one image's objects.

    Args:
        model: in evaluation mode; the one that `objects` were made with.
        objects: N of them; N = 0 gives empty tensors.
        steps: of both optimisations.
    """
    output, index, boxes = objects.output, objects.index, objects.boxes
    threshold, size = model.inference.mask_threshold, objects.masks.shape[-2:]

    def score(logits: Tensor, own: Tensor) -> Tensor:
        pasted = paste_masks(logits, own, (size[0], size[1]), threshold)
        return mask_iou(pasted, objects.masks).cpu()

    location = index[:, 1]
    predicted = ltrb_to_xyxy(output.locations[location], output.ltrb[0, location].float())
    attentions = model.attentions_at(output, index)
    crops = model.crops_at(output, index[:, 0], boxes)
    best = best_attention(model.merger, crops, objects.mask_crops, start=attentions, steps=steps)
    better = best_bases(
        model.merger,
        output.bases[0],
        attentions,
        boxes,
        objects.mask_crops,
        stride=model.bottom.stride,
        pooling=model.config.bases_pooling,
        steps=steps,
    )
    exact = (objects.mask_crops.float() * 2 - 1) * 20  # logits of probabilities 0 and 1
    return OracleResults(
        predicted=score(model.masks_at(output, index, predicted), predicted),
        true_box=score(model.masks_at(output, index, boxes), boxes),
        best_attention=score(model.masks_at(output, index, boxes, attentions=best.values), boxes),
        best_bases=score(model.masks_at(output, index, boxes, bases=better.values[None]), boxes),
        resolution=score(exact, boxes),
    )


def score_oracles(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    steps: int = 60,
    progress: Callable[[int, int], None] | None = None,
) -> OracleResults:
    """For all objects of a data set that some location learns; arguments as in `oracle_swaps`."""
    stages: dict[str, list[Tensor]] = {}
    for objects in true_objects(model, dataset, max_images=max_images, progress=progress):
        is_learned = objects.is_learned.cpu()
        for name, iou in vars(oracle_swaps(model, objects, steps=steps)).items():
            stages.setdefault(name, []).append(iou[is_learned])
    return OracleResults(**{name: torch.cat(ious) for name, ious in stages.items()})
