"""Upper limits of masks: the best attentions for given bases, the best bases, and oracles.

Chapter 15. Box, attention and bases are replaced by the best possible ones, in every order, and by
parts that know nothing of the object: only a gain over such parts has been learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.boxes import ltrb_to_xyxy
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.masks import crop_masks, mask_iou, paste_masks, there_and_back
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import Merger, crop_bases
from blendmask_lite.research.basis_scores import untrained_model
from blendmask_lite.research.objects import TrueObjects, mean_over_images, true_objects

__all__ = [
    "PARTS",
    "Improved",
    "OracleResults",
    "attention_limit",
    "best_attention",
    "best_bases",
    "constant_bases",
    "oracle_swaps",
    "predicted_boxes",
    "score_controls",
    "score_oracles",
    "swap_name",
]

LEARNING_RATE = 0.5  # Adam's: largest change of a value in a step, approximately


@dataclass(frozen=True)
class Improved:
    """The result of an optimisation for N objects.

    Attributes:
        values: (N, A) raw attentions, or (K, h, w) bases of one image.
        iou: (N,) IoU of the masks with the true masks, computed on R x R cells; 0 to 1.
        start_iou: (N,) this IoU before the optimisation.
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

    Our choice: Adam minimises the training's binary cross entropy for each object separately,
    beginning at `start`. The step with the highest IoU counts, so no object ends worse than it
    began. The result is a lower bound on the best IoU: the loss is not the IoU, and Adam may not
    reach the loss's minimum.

    Args:
        merger: any merger; the assembler has no attentions to improve.
        crops: (N, K, R, R) bases, cut out along the boxes.
        true_masks: (N, R, R) bool over the same boxes.
        start: (N, A) raw attentions to begin with; by default zeros, which weight all bases the
            same.
        steps: number of Adam steps, at least 0.

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
    right only if some base is at least 0 there, and a cell of the background only if some base is
    below 0 there.

    Args:
        crops: (N, K, R, R) bases, cut out along the boxes.
        true_masks: (N, R, R) bool over the same boxes.

    Returns:
        (N,) IoU on R x R cells, 0 to 1.
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

    The counterpart of `best_attention`: attentions stay fixed, and bases are optimised in the same
    way. Overlapping objects share the bases, so one may gain at the other's expense; the result is
    from the step with the highest mean IoU.

    Args:
        merger: any merger.
        bases: (K, h, w) bases of one image, to begin with.
        attentions: (N, A) raw attentions.
        boxes: (N, 4) corners, pixels of the padded input.
        true_masks: (N, R, R) bool over the boxes.
        stride: stride of the bases, in pixels.
        pooling: as in `crop_bases`.
        steps: number of Adam steps, at least 0.

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
    """Adam on `masks(values)`. If joint, all objects share the values; if not, each has a row."""
    best = start.detach().clone().float()
    with torch.no_grad():
        start_iou = mask_iou(masks(best) >= 0, true_masks)
    best_iou = start_iou.clone()
    if best.numel() == 0 or len(true_masks) == 0:
        return Improved(best, best_iou, start_iou)
    target = true_masks.float()
    values = best.clone().requires_grad_()
    adam = torch.optim.Adam([values], lr=LEARNING_RATE, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(steps + 1):
        with torch.enable_grad():
            logits = masks(values)
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
            (values.grad,) = torch.autograd.grad(loss / target[0].numel(), values)
        iou = mask_iou(logits.detach() >= 0, true_masks)
        is_better = (iou.mean() > best_iou.mean()).expand(1) if is_joint else iou > best_iou
        best[is_better] = values.detach()[is_better]
        best_iou = torch.where(is_better, iou, best_iou)
        adam.step()
    return Improved(best, best_iou, start_iou)


def _require_masks(true_masks: Tensor, crops: Tensor) -> None:
    expected = (len(crops), *crops.shape[-2:])
    if true_masks.shape != expected:
        raise ValueError(f"true_masks {tuple(true_masks.shape)}: the crops need {expected}")


PARTS = ("box", "attention", "bases")


@dataclass(frozen=True)
class OracleResults:
    """IoU of N objects' masks with the true masks, on image pixels, with parts swapped.

    A swapped part is the best one for the other parts: the true box, the attention that
    `best_attention` finds, or the bases that `best_bases` finds for all objects of the image
    together. Every object has the location that learns it, so no IoU is lost to missing detections.

    A gain depends on what was swapped before: two parts that can stand in for each other gain much
    if they come first and little if they come last. A single order says nothing about the parts.

    Attributes:
        iou: set of swapped parts -> (N,) IoU, 0 to 1, for all eight sets. The first set is empty:
            the network's own masks.
        resolution: (N,) IoU of the true mask after cropping to R x R cells and pasting back. With
            everything swapped, masks come near it.
        image: (N,) int64, the image of each object.
    """

    iou: Mapping[frozenset[str], Tensor]
    resolution: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def gains(self, order: Sequence[str]) -> dict[str, Tensor]:
        """(N,) gain in IoU from each of the `PARTS`, if they are swapped in the given order.

        The gains add up to the IoU with everything swapped minus the network's IoU. A gain may be
        below 0, if two mistakes cancel each other.
        """
        gains, swapped = {}, frozenset[str]()
        for part in order:
            gains[part] = self.iou[swapped | {part}] - self.iou[swapped]
            swapped |= {part}
        return gains

    def shares(self) -> dict[str, Tensor]:
        """(N,) mean gain of each part over all orders, which is its Shapley value (1953)."""
        orders = [self.gains(order) for order in permutations(PARTS)]
        return {part: torch.stack([one[part] for one in orders]).mean(dim=0) for part in PARTS}

    def summary(self) -> dict[str, dict[str, dict[str, Tensor]]]:
        """Means over objects with their intervals, see `mean_over_images`, for `dots_figure`.

        The first panel has the eight sets. The second panel has the smallest and the largest mean
        gain of each part in any order, and its share.
        """
        sets = {
            swap_name(parts): {"IoU": mean_over_images(values, self.image)}
            for parts, values in self.iou.items()
        }
        orders = [self.gains(order) for order in permutations(PARTS)]
        shares, gains = self.shares(), {}
        for part in PARTS:
            every = sorted((one[part] for one in orders), key=lambda gain: float(gain.mean()))
            kinds = {"least, in any order": every[0], "most": every[-1], "share": shares[part]}
            gains[part] = {
                name: mean_over_images(values, self.image) for name, values in kinds.items()
            }
        return {"mean IoU, these parts replaced": sets, "gain of mean IoU": gains}


def swap_name(parts: frozenset[str]) -> str:
    """The name of a set of parts, such as "box + bases", or "nothing" for the empty set."""
    return " + ".join(part for part in PARTS if part in parts) or "nothing"


@torch.no_grad()
def oracle_swaps(model: BlendMask, objects: TrueObjects, *, steps: int = 60) -> OracleResults:
    """The results for one image's objects, with every set of parts swapped.

    Args:
        model: the model that made `objects`, in evaluation mode.
        objects: the N objects; N = 0 gives empty tensors.
        steps: number of Adam steps per optimisation.
    """
    output, index = objects.output, objects.index
    own = model.attentions_at(output, index)
    iou: dict[frozenset[str], Tensor] = {}
    for boxes, before in ((predicted_boxes(objects), ()), (objects.boxes, ("box",))):
        attentions = _attention_for(model, objects, boxes, output.bases, own, steps)
        tried = {
            (): (own, output.bases),
            ("attention",): (attentions, output.bases),
            ("bases",): (own, _bases_for(model, objects, boxes, own, steps)),
            PARTS[1:]: (attentions, _bases_for(model, objects, boxes, attentions, steps)),
        }
        for parts, (attention, bases) in tried.items():
            logits = model.masks_at(output, index, boxes, attentions=attention, bases=bases)
            iou[frozenset((*before, *parts))] = _pasted_iou(model, objects, logits, boxes)
    resolution = mask_iou(
        there_and_back(objects.masks, objects.boxes, model.config.mask_size), objects.masks
    )
    return OracleResults(iou, resolution.cpu(), torch.zeros(len(objects), dtype=torch.int64))


def score_oracles(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    steps: int = 60,
    progress: Callable[[int, int], None] | None = None,
) -> OracleResults:
    """`oracle_swaps` for all objects of a data set that some location learns."""
    iou: dict[frozenset[str], list[Tensor]] = {}
    resolution, image = [], []
    images = true_objects(model, dataset, max_images=max_images, progress=progress)
    for number, objects in enumerate(images):
        is_learned = objects.is_learned.cpu()
        results = oracle_swaps(model, objects, steps=steps)
        for parts, values in results.iou.items():
            iou.setdefault(parts, []).append(values[is_learned])
        resolution.append(results.resolution[is_learned])
        image.append(torch.full((int(is_learned.sum()),), number))
    joined = {parts: torch.cat(values) for parts, values in iou.items()}
    return OracleResults(joined, torch.cat(resolution), torch.cat(image))


@torch.no_grad()
def score_controls(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    steps: int = 60,
) -> dict[str, Tensor]:
    """IoU to compare with `score_oracles`: masks from parts that know nothing of the object.

    First come predicted masks with one part borrowed from an object of another image; they show
    what the network's own part is worth. Then come oracles without anything learned, which show
    what an oracle reaches by itself.

    Args:
        model: a model in evaluation mode.
        dataset: data set with masks.
        max_images: as in `score_oracles`; the objects are the same, in the same order.
        steps: number of Adam steps per optimisation.

    Returns:
        Name -> (N,) IoU on image pixels. Over the predicted box: "another object's box" (its
        size around the object's own center), "another object's attention", "the mean attention" (of
        all objects), "another object's bases" (cropped at its box). Over the true box: "best
        attention, constant bases" (half of them above 0, half below), "best attention, untrained
        bases" and "best bases, another object's attention".

    Raises:
        ValueError: fewer than two images have an object.
    """
    images = [each for each in true_objects(model, dataset, max_images=max_images) if len(each)]
    if len(images) < 2:
        raise ValueError(f"{len(images)} images with objects: two are needed to borrow")
    untrained = untrained_model(model, seed=0)
    raw = [model.attentions_at(each.output, each.index) for each in images]
    mean = torch.cat(raw).mean(dim=0)
    scores: dict[str, list[Tensor]] = {}
    for number, objects in enumerate(images):
        lender, place = images[number - 1], torch.arange(len(objects)) % len(images[number - 1])
        lent, own, bases = raw[number - 1][place], raw[number], objects.output.bases
        boxes, true_boxes, image = predicted_boxes(objects), objects.boxes, objects.index[:, 0]
        size = (lender.boxes[:, 2:] - lender.boxes[:, :2])[place]
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        resized = torch.cat([center - size / 2, center + size / 2], dim=1)
        constant = constant_bases(bases)
        random = untrained([objects.image.to(model.device)]).bases
        lent_bases = model.crops_at(lender.output, image, lender.boxes[place])
        crops = {
            "another object's box": (resized, own, bases),
            "another object's attention": (boxes, lent, bases),
            "the mean attention": (boxes, mean.expand_as(own), bases),
            "best attention, constant bases": (
                true_boxes,
                _attention_for(model, objects, true_boxes, constant, own, steps),
                constant,
            ),
            "best attention, untrained bases": (
                true_boxes,
                _attention_for(model, objects, true_boxes, random, own, steps),
                random,
            ),
            "best bases, another object's attention": (
                true_boxes,
                lent,
                _bases_for(model, objects, true_boxes, lent, steps),
            ),
        }
        is_learned = objects.is_learned.cpu()
        for name, (box, attention, used) in crops.items():
            logits = model.masks_at(
                objects.output, objects.index, box, attentions=attention, bases=used
            )
            iou = _pasted_iou(model, objects, logits, box)
            scores.setdefault(name, []).append(iou[is_learned])
        iou = _pasted_iou(model, objects, model.merger(lent_bases, own), boxes)
        scores.setdefault("another object's bases", []).append(iou[is_learned])
    return {name: torch.cat(values) for name, values in scores.items()}


def constant_bases(bases: Tensor) -> Tensor:
    """(N, K, h, w) bases or crops that show nothing: the first half above 0, the rest below.

    Their magnitude is the mean magnitude of the given bases, so attentions have as much effect.
    """
    num_bases = bases.shape[1]
    place = torch.arange(num_bases, device=bases.device)
    signs = torch.where(place < num_bases / 2, 1.0, -1.0)[:, None, None]
    return bases.abs().mean() * signs.expand_as(bases)


def predicted_boxes(objects: TrueObjects) -> Tensor:
    """(N, 4) corners that the objects' locations predict, pixels."""
    output, location = objects.output, objects.index[:, 1]
    return ltrb_to_xyxy(output.locations[location], output.ltrb[0, location].float())


def _attention_for(
    model: BlendMask,
    objects: TrueObjects,
    boxes: Tensor,
    bases: Tensor,
    start: Tensor,
    steps: int,
) -> Tensor:
    """The best attentions over some boxes, for some bases of the image."""
    crops = model.crops_at(objects.output, objects.index[:, 0], boxes, bases=bases)
    truth = crop_masks(objects.masks, boxes, model.config.mask_size)
    return best_attention(model.merger, crops, truth, start=start, steps=steps).values


def _bases_for(
    model: BlendMask, objects: TrueObjects, boxes: Tensor, attentions: Tensor, steps: int
) -> Tensor:
    """(1, K, h, w) best bases over some boxes, for some attentions; start: the network's."""
    truth = crop_masks(objects.masks, boxes, model.config.mask_size)
    stride, pooling = model.bottom.stride, model.config.bases_pooling
    bases, merger = objects.output.bases[0], model.merger
    options: Any = {"stride": stride, "pooling": pooling, "steps": steps}
    return best_bases(merger, bases, attentions, boxes, truth, **options).values[None]


def _pasted_iou(
    model: BlendMask, objects: TrueObjects, mask_logits: Tensor, boxes: Tensor
) -> Tensor:
    """(N,) IoU of masks over boxes with the true masks, on image pixels, on the CPU."""
    height, width = objects.masks.shape[-2:]
    masks = paste_masks(mask_logits, boxes, (height, width), model.inference.mask_threshold)
    return mask_iou(masks, objects.masks).cpu()
