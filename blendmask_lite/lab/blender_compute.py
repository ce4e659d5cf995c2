"""What follows from a state of the Blender lab: equations 1 to 4, computed by the package.

Chapters 09 and 10. Where a cell of a mask comes from is the derivative of these equations, so that
no interpolation is written down a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_lite.boxes import clip_boxes
from blendmask_lite.lab.blender_state import BlenderState
from blendmask_lite.masks import paste_masks
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.merge import crop_bases

__all__ = ["Blend", "attention_cells", "base_pixels", "blend", "crops_of", "mean_weights"]


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
