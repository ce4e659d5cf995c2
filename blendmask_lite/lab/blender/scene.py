"""The Blender lab's computations: an object's crops, scores and masks, from model and image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from blendmask_lite.boxes import clip_boxes
from blendmask_lite.config import ModelConfig
from blendmask_lite.lab.blender.state import BlenderState
from blendmask_lite.masks import crop_masks, mask_iou, paste_masks
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import crop_bases
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.oracles import best_attention
from blendmask_lite.structures import Target

__all__ = [
    "Blend",
    "LabObject",
    "Scene",
    "attention_cells",
    "base_pixels",
    "blend",
    "crops_of",
    "look_at",
    "mean_weights",
    "nearest_location",
    "own_state",
]


@dataclass(frozen=True)
class Blend:
    """The package's results for a state with K bases in use."""

    crops: Tensor  # (K, R, R) after equation 1, as they enter the product
    scores: Tensor  # (K, R, R) after equations 2 and 3
    products: Tensor  # (K, R, R)
    logits: Tensor  # (R, R) the mask after equation 4
    mask: Tensor  # (H, W) bool, pasted into the image


@torch.no_grad()
def blend(
    bases: Tensor,
    state: BlenderState,
    *,
    stride: float,
    image_size: tuple[int, int],
    mask_threshold: float = 0.5,
) -> Blend:
    """Equations 1 to 4 for one box.

    Args:
        bases: (K or more, h, w) of the image; the state uses the first K.
        state: box, numbers and merger.
        stride: stride of the bases, pixels.
        image_size: (height, width).
        mask_threshold: smallest probability of the mask's pixels.
    """
    crops = crops_of(bases, state, stride)
    merger, numbers = state.make_merger(), state.numbers
    logits = merger(crops, numbers)
    # As in detections, the bases are cropped along the whole box, while the mask fills the box
    # clipped to the image.
    box = clip_boxes(torch.tensor([state.box]), image_size)
    mask = paste_masks(logits, box, image_size, mask_threshold)[0]
    scores = merger.scores(numbers, state.mask_size)[0]
    shown = crops[0].relu() if state.merger == "weighted_sum" and state.has_relu else crops[0]
    return Blend(shown, scores, shown * scores, logits[0], mask)


def attention_cells(state: BlenderState, x: int, y: int) -> Tensor:
    """(M, M) weights of the attention's cells at cell (x, y) of the mask, before the softmax.

    These are the derivatives of the package's equation 2, which is linear.
    """
    if state.merger != "blender":
        return torch.ones(1, 1)
    maps = state.attentions[:1].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        enlarged = interpolate_attentions(maps[None], state.mask_size, state.interpolation)
        (weights,) = torch.autograd.grad(enlarged[0, 0, y, x], maps)
    return weights[0]


def base_pixels(bases: Tensor, state: BlenderState, x: int, y: int, *, stride: float) -> Tensor:
    """(K, h, w) weights of the bases' pixels in cell (x, y) of the crops.

    These are the derivatives of the package's equation 1: the weights of the sample point for
    RoIAlign, 1 at each base's largest pixel for RoIPool. All are 0 if the cell is outside the
    image.
    """
    source = bases.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        crops = crops_of(source, state, stride)
        (weights,) = torch.autograd.grad(crops[0, :, y, x].sum(), source)
    return weights[: state.num_used]


def mean_weights(state: BlenderState) -> Tensor:
    """(K,) means of the blender's score maps over the box: initial coefficients for YOLACT.

    At M = 1 their weighted sum is the blender itself (BlendMask, section 4.1).
    """
    attentions = state.attentions.flatten()[None]
    scores = state.make_blender().scores(attentions, state.attention_size)
    return scores[0].mean(dim=(1, 2))


def crops_of(bases: Tensor, state: BlenderState, stride: float) -> Tensor:
    """(1, K, R, R) crops of the bases in use (BlendMask, equation 1)."""
    if len(bases) < state.num_bases:
        raise ValueError(f"{len(bases)} bases, but the state has attentions for {state.num_bases}")
    return crop_bases(
        bases[None, : state.num_used],
        torch.tensor([state.box]),
        torch.zeros(1, dtype=torch.int64),
        size=state.mask_size,
        stride=stride,
        pooling=state.pooling,
    )


MOST_OBJECTS = 20  # length of the list
MOST_PIXELS = 4_000_000  # pixels of an image; more would fit neither on a page nor into 100 ms


@dataclass(frozen=True)
class LabObject:
    """An object to start from."""

    name: str  # class and score, or another origin
    own: BlenderState  # the network's box, numbers and merger


@dataclass(frozen=True)
class Scene:
    """An image as the network sees it; the same for all states."""

    image: Tensor  # (3, H, W)
    bases: Tensor  # (K, h, w) on the CPU
    stride: float  # stride of the bases, pixels
    objects: tuple[LabObject, ...]  # at least one; detected objects first, then the true ones
    num_found: int  # number of detected objects among them
    true_names: tuple[str, ...]  # names of the T true objects
    true_boxes: Tensor  # (T, 4) pixels
    true_masks: Tensor  # (T, H, W) bool
    mask_threshold: float  # smallest probability of a mask's pixels

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.image.shape[-2], self.image.shape[-1]

    @property
    def first_object(self) -> int:
        """Index of the first object to show: the largest detection wholly inside the image.

        If there is none, the largest object of all.
        """
        height, width = self.image_size

        def rank(number: int) -> tuple[bool, bool, float]:
            x0, y0, x1, y1 = self.objects[number].own.box
            is_whole = x0 >= 1 and y0 >= 1 and x1 <= width - 1 and y1 <= height - 1
            is_found = number < self.num_found
            return is_whole and is_found, is_found, (x1 - x0) * (y1 - y0)

        return max(range(len(self.objects)), key=rank)

    def blend(self, state: BlenderState) -> Blend:
        """The result of a state."""
        return blend(
            self.bases,
            state,
            stride=self.stride,
            image_size=self.image_size,
            mask_threshold=self.mask_threshold,
        )

    def truth_of(self, state: BlenderState) -> int | None:
        """The true object whose box overlaps the state's box most; None if none does."""
        if len(self.true_boxes) == 0:
            return None
        overlap = box_iou(torch.tensor([state.box]), self.true_boxes)[0]
        return int(overlap.argmax()) if float(overlap.max()) > 0 else None

    def found_at(self, truth: int) -> BlenderState | None:
        """The network's state for the detection whose box overlaps a true object most.

        None if no box overlaps it with an IoU of 0.5 or more.
        """
        found = [thing.own for thing in self.objects[: self.num_found]]
        if not found:
            return None
        boxes = torch.tensor([own.box for own in found])
        overlap = box_iou(boxes, self.true_boxes[truth : truth + 1])[:, 0]
        return found[int(overlap.argmax())] if float(overlap.max()) >= 0.5 else None

    def iou(self, mask: Tensor, truth: int | None) -> float | None:
        """IoU of an (H, W) mask with the mask of a true object; None if `truth` is None."""
        if truth is None:
            return None
        return float(mask_iou(mask[None], self.true_masks[truth : truth + 1])[0])

    def best(self, state: BlenderState, start: BlenderState) -> BlenderState | None:
        """The state with the best numbers found for its box and bases; None if no object is there.

        Args:
            state: the state whose box, sizes and merger are kept.
            start: a state of the same sizes, from whose numbers the search starts.
        """
        truth = self.truth_of(state)
        if truth is None:
            return None
        box = torch.tensor([state.box])
        true_mask = crop_masks(self.true_masks[truth : truth + 1], box, state.mask_size)
        crops = crops_of(self.bases, state, self.stride)
        found = best_attention(state.make_merger(), crops, true_mask, start=start.numbers)
        return state.with_numbers(found.values)


@torch.no_grad()
def look_at(
    model: BlendMask, image: Tensor, target: Target | None = None, *, score_threshold: float = 0.3
) -> Scene:
    """Run a model on one image, which is not resized.

    Args:
        model: the model, in evaluation mode.
        image: (3, H, W), RGB, float in [0, 1] or uint8.
        target: the true objects, with masks; None if they are unknown.
        score_threshold: smallest score of the objects in the list, as in `BlendMask.predict`.

    Raises:
        ValueError: the image has the wrong shape or is too large, the target does not fit it, or
            the model's merger is not one of the package's.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image {tuple(image.shape)}: expected (3, H, W), RGB")
    height, width = image.shape[-2:]
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"image of {height} x {width} pixels: the lab shows at most {MOST_PIXELS / 1e6:.0f} "
            "million; make it smaller first"
        )
    if "merger" in model.own_parts:
        raise ValueError(f"merger {model.own_parts['merger']}: the Blender lab cannot show it")
    if target is None:
        target = Target(
            boxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.int64),
            masks=torch.zeros(0, height, width, dtype=torch.bool),
        )
    if target.masks is None or target.masks.shape[-2:] != (height, width):
        raise ValueError(f"target: needs masks of {height} x {width} pixels, like the image")
    output = model([image])
    limits: Any = {"score_threshold": score_threshold, "max_detections": MOST_OBJECTS}
    proposals = model.detect(output, **limits)[0]
    names = [
        f"{model.class_names[label]} {score:.2f}"
        for label, score in zip(proposals.labels.tolist(), proposals.scores.tolist(), strict=True)
    ]
    true_names = tuple(model.class_names[label] for label in target.labels.tolist())
    names += [f"true box: {name}" for name in true_names]
    added = target.boxes.to(model.device)  # boxes that no location found
    if len(names) == 0:
        names = ["nothing found: the middle"]
        added = torch.tensor([[width, height, 3 * width, 3 * height]], device=model.device) / 4
    nearest = [nearest_location(output, box, model.config) for box in added]
    index = torch.cat([proposals.location_index, *nearest])
    index = torch.stack([torch.zeros_like(index), index], dim=1)
    numbers = model.attentions_at(output, index).float().cpu()
    corners = torch.cat([proposals.boxes, added]).float().cpu()
    objects = [
        LabObject(f"{number}: {name}", own_state(model.config, *own))
        for number, (name, *own) in enumerate(zip(names, corners, numbers, strict=True), start=1)
    ]
    return Scene(
        image=image.detach().cpu(),
        bases=output.bases[0].float().cpu(),
        stride=model.bottom.stride,
        objects=tuple(objects),
        num_found=len(proposals),
        true_names=true_names,
        true_boxes=target.boxes.float().cpu(),
        true_masks=target.masks.cpu(),
        mask_threshold=model.inference.mask_threshold,
    )


def nearest_location(output: BlendMaskOutput, box: Tensor, config: ModelConfig) -> Tensor:
    """(1,) the location that should find a box: the one nearest to its middle on the box's level.

    The level is the one whose range contains half of the longer side (FCOS, section 3.2).
    """
    reach = float((box[2:] - box[:2]).max()) / 2
    level = next(i for i, (_, high) in enumerate(config.size_ranges) if reach <= high)
    first = sum(output.level_sizes[:level])
    locations = output.locations[first : first + output.level_sizes[level]]
    middle = (box[:2] + box[2:]) / 2
    return (locations - middle).square().sum(dim=1).argmin()[None] + first


def own_state(config: ModelConfig, box: Tensor, numbers: Tensor) -> BlenderState:
    """The network's own state for one object, with initial numbers for the other mergers.

    Args:
        config: the config of the network.
        box: (4,) corners, pixels.
        numbers: (A,) raw numbers of the object.
    """
    K, M = config.num_bases, config.attention_size
    x0, y0, x1, y1 = box.tolist()
    attentions, coefficients = torch.zeros(K, M, M), torch.full((K,), 1 / K)
    if config.merger == "weighted_sum":
        coefficients = numbers
        attentions = numbers[:, None, None].expand(K, M, M).clone()
    elif config.merger == "blender":
        attentions = numbers.unflatten(0, (K, M, M))
    is_yolact = config.merger == "weighted_sum"
    state = BlenderState(
        box=(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)),
        attentions=attentions,
        coefficients=coefficients,
        merger=config.merger,
        mask_size=config.mask_size,
        interpolation=config.attention_interpolation,
        pooling=config.bases_pooling,
        has_tanh=is_yolact,
        has_relu=is_yolact,
    )
    return replace(state, coefficients=mean_weights(state)) if config.merger == "blender" else state
