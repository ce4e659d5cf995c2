"""What the Blender lab computes: an object's crops, scores and masks, from a model and an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
]


@dataclass(frozen=True)
class Blend:
    """What the package computes for a state, with its K bases in use.

    Attributes:
        crops: (K, R, R) after equation 1, as the merger multiplies them.
        scores: (K, R, R) after equations 2 and 3.
        products: (K, R, R).
        logits: (R, R) the mask after equation 4.
        mask: (H, W) bool, pasted into the picture.
    """

    crops: Tensor
    scores: Tensor
    products: Tensor
    logits: Tensor
    mask: Tensor


@torch.no_grad()
def blend(
    bases: Tensor,
    state: BlenderState,
    *,
    stride: int,
    image_size: tuple[int, int],
    mask_threshold: float = 0.5,
) -> Blend:
    """Equations 1 to 4 for one box.

    Args:
        bases: (K or more, h, w) of the picture.
        state: the first of the bases are used.
        stride: of the bases, pixels.
        image_size: (height, width) of the picture.
        mask_threshold: probability from which a pixel belongs to the mask.
    """
    crops = crops_of(bases, state, stride)
    merger, numbers = state.make_merger(), state.numbers
    logits = merger(crops, numbers)
    # As for detections: the bases are cut along the whole box, the mask fills its clipped part.
    box = clip_boxes(torch.tensor([state.box]), image_size)
    mask = paste_masks(logits, box, image_size, mask_threshold)[0]
    scores = merger.scores(numbers, state.mask_size)[0]
    shown = crops[0].relu() if state.merger == "weighted_sum" and state.has_relu else crops[0]
    return Blend(shown, scores, shown * scores, logits[0], mask)


def attention_cells(state: BlenderState, x: int, y: int) -> Tensor:
    """(M, M) how much each attention cell counts at cell (x, y) of the mask, before the softmax.

    The derivative of the package's equation 2, which is linear: the interpolation's weights.
    """
    if state.merger != "blender":
        return torch.ones(1, 1)
    maps = state.attentions[:1].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        enlarged = interpolate_attentions(maps[None], state.mask_size, state.interpolation)
        (weights,) = torch.autograd.grad(enlarged[0, 0, y, x], maps)
    return weights[0]


def base_pixels(bases: Tensor, state: BlenderState, x: int, y: int, *, stride: int) -> Tensor:
    """(K, h, w) how much each pixel of the bases counts in the crops' cell (x, y).

    The derivative of the package's equation 1: for RoIAlign the weights of the sample point, for
    RoIPool one at each base's largest pixel. Zero where the cell lies outside the picture.
    """
    source = bases.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        crops = crops_of(source, state, stride)
        (weights,) = torch.autograd.grad(crops[0, :, y, x].sum(), source)
    return weights[: state.num_used]


def mean_weights(state: BlenderState) -> Tensor:
    """(K,) the mean of the blender's score maps over the box: coefficients to begin with.

    At M = 1 the weighted sum of these is the blender itself (BlendMask, section 4.1).
    """
    attentions = state.attentions.flatten()[None]
    scores = state.make_blender().scores(attentions, state.attention_size)
    return scores[0].mean(dim=(1, 2))


def crops_of(bases: Tensor, state: BlenderState, stride: int) -> Tensor:
    """(1, K, R, R) the bases in use, cut out along the box: equation 1."""
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


MOST_OBJECTS = 20  # in the list: the best
MOST_PIXELS = 4_000_000  # of a picture: more would not fit a page, nor 100 ms


@dataclass(frozen=True)
class LabObject:
    """An object to begin with.

    Attributes:
        name: class and score, or where else it comes from.
        own: the network's box and numbers, and its own way to a mask.
    """

    name: str
    own: BlenderState


@dataclass(frozen=True)
class Scene:
    """A picture as the network sees it; the same for all states.

    Attributes:
        image: (3, H, W).
        bases: (K, h, w) on the CPU.
        stride: of the bases, pixels.
        objects: at least one; found ones first, then the true ones.
        num_found: of the objects.
        true_names: of the true objects, T of them.
        true_boxes: (T, 4) pixels.
        true_masks: (T, H, W) bool.
        mask_threshold: probability from which a pixel belongs to a mask.
    """

    image: Tensor
    bases: Tensor
    stride: int
    objects: tuple[LabObject, ...]
    num_found: int
    true_names: tuple[str, ...]
    true_boxes: Tensor
    true_masks: Tensor
    mask_threshold: float

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.image.shape[-2], self.image.shape[-1]

    def blend(self, state: BlenderState) -> Blend:
        """What follows from a state."""
        return blend(
            self.bases,
            state,
            stride=self.stride,
            image_size=self.image_size,
            mask_threshold=self.mask_threshold,
        )

    def truth_of(self, state: BlenderState) -> int | None:
        """The true object whose box overlaps the state's most; None where none does."""
        if len(self.true_boxes) == 0:
            return None
        overlap = box_iou(torch.tensor([state.box]), self.true_boxes)[0]
        return int(overlap.argmax()) if float(overlap.max()) > 0 else None

    def iou(self, mask: Tensor, truth: int | None) -> float | None:
        """IoU of an (H, W) mask with a true one, in pixels of the picture."""
        if truth is None:
            return None
        return float(mask_iou(mask[None], self.true_masks[truth : truth + 1])[0])

    def best(self, state: BlenderState, start: BlenderState) -> BlenderState | None:
        """The state with the best numbers found for its box and bases; None without a truth.

        Args:
            state: box, sizes and merger are kept.
            start: of the same sizes: where the search begins.
        """
        truth = self.truth_of(state)
        if truth is None:
            return None
        box = torch.tensor([state.box])
        true_mask = crop_masks(self.true_masks[truth : truth + 1], box, state.mask_size)
        crops = crops_of(self.bases, state, self.stride)
        found = best_attention(state.make_merger(), crops, true_mask, start=start.numbers)
        return state.with_numbers(found.attentions)


@torch.no_grad()
def look_at(
    model: BlendMask, image: Tensor, target: Target | None = None, *, score_threshold: float = 0.3
) -> Scene:
    """Run a model on one picture, which is not resized.

    Args:
        model: in evaluation mode.
        image: (3, H, W), RGB, float in [0, 1] or uint8.
        target: the true objects, with masks; None where nobody knows them.
        score_threshold: of the objects in the list, as in `BlendMask.predict`.

    Raises:
        ValueError: a picture of another shape or too large, or a target that does not fit it.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image {tuple(image.shape)}: expected (3, H, W), RGB")
    height, width = image.shape[-2:]
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"image of {height} x {width} pixels: the lab shows {MOST_PIXELS / 1e6:.0f} million "
            "at most; make it smaller first"
        )
    if target is not None and (target.masks is None or target.masks.shape[-2:] != (height, width)):
        raise ValueError(f"target: needs masks of {height} x {width} pixels, like the picture")
    output = model([image])
    proposals = model.detect(output, score_threshold=score_threshold, max_detections=MOST_OBJECTS)[
        0
    ]
    names = [
        f"{model.class_names[label]} {score:.2f}"
        for label, score in zip(proposals.labels.tolist(), proposals.scores.tolist(), strict=True)
    ]
    true_names: tuple[str, ...] = ()
    added = proposals.boxes[:0]  # boxes that no location found
    if target is not None and len(target):
        true_names = tuple(model.class_names[label] for label in target.labels.tolist())
        names += [f"true box: {name}" for name in true_names]
        added = target.boxes.to(model.device)
    elif len(proposals) == 0:
        names.append("nothing found: the middle")
        added = torch.tensor([[width, height, 3 * width, 3 * height]], device=model.device) / 4
    nearest = [nearest_location(output, box, model.config) for box in added]
    index = torch.cat([proposals.location_index, *nearest])
    index = torch.stack([torch.zeros_like(index), index], dim=1)
    if "merger" in model.own_parts:
        raise ValueError(f"merger {model.own_parts['merger']}: the Blender lab has no page for it")
    numbers = model.attentions_at(output, index).float().cpu()
    corners = torch.cat([proposals.boxes, added]).float().cpu()
    owns = [_own_state(model.config, *each) for each in zip(corners, numbers, strict=True)]
    found = zip(names, owns, strict=True)
    no_masks = torch.zeros((0, height, width), dtype=torch.bool)
    has_truth = target is not None and target.masks is not None
    return Scene(
        image=image.detach().cpu(),
        bases=output.bases[0].float().cpu(),
        stride=model.bottom.stride,
        objects=tuple(LabObject(f"{i + 1}: {name}", own) for i, (name, own) in enumerate(found)),
        num_found=len(proposals),
        true_names=true_names,
        true_boxes=target.boxes.float().cpu() if target is not None else torch.zeros(0, 4),
        true_masks=target.masks.cpu() if has_truth else no_masks,  # type: ignore[union-attr]
        mask_threshold=model.inference.mask_threshold,
    )


def nearest_location(output: BlendMaskOutput, box: Tensor, config: ModelConfig) -> Tensor:
    """(1,) the location that would have to find a box: the nearest to its middle, on its level.

    The level is that whose range holds half of the longer side (FCOS, section 3.2).
    """
    reach = float((box[2:] - box[:2]).max()) / 2
    level = next(i for i, (_, high) in enumerate(config.size_ranges) if reach <= high)
    first = sum(output.level_sizes[:level])
    locations = output.locations[first : first + output.level_sizes[level]]
    middle = (box[:2] + box[2:]) / 2
    return (locations - middle).square().sum(dim=1).argmin()[None] + first


def _own_state(config: ModelConfig, box: Tensor, numbers: Tensor) -> BlenderState:
    """The network's own way to the mask of one object, and a beginning for the other two."""
    K, M = config.num_bases, config.attention_size
    x0, y0, x1, y1 = box.tolist()
    attentions, coefficients = torch.zeros(K, M, M), torch.full((K,), 1 / K)
    if config.merger == "weighted_sum":
        coefficients = numbers
        attentions = numbers[:, None, None].expand(K, M, M).clone()
    elif config.merger == "blender":
        attentions = numbers.unflatten(0, (K, M, M))
    state = BlenderState(
        box=(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)),
        attentions=attentions,
        coefficients=coefficients,
        merger=config.merger,
        mask_size=config.mask_size,
        interpolation=config.attention_interpolation,
        pooling=config.bases_pooling,
        has_tanh=config.merger == "weighted_sum",
        has_relu=config.merger == "weighted_sum",
    )
    return replace(state, coefficients=mean_weights(state)) if config.merger == "blender" else state
