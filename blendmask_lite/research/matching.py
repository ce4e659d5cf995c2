"""Matching the bases of two checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.evaluation.pictures import picture_for
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["BaseMatching", "assign_exactly", "bases_of", "compare_checkpoints", "match_bases"]


@dataclass(frozen=True)
class BaseMatching:
    """K bases of one model, and their partners in another.

    Attributes:
        order: (K,) int64; base k of the first model matches base `order[k]` of the second.
        correlations: (K,) correlation of each base with its partner, -1 to 1.
        all_correlations: (K, K) correlations; rows are the first model's bases.
    """

    order: Tensor
    correlations: Tensor
    all_correlations: Tensor


def compare_checkpoints(
    first: BlendMask, second: BlendMask, images: Sequence[Tensor]
) -> BaseMatching:
    """Match the bases of two models by their values on some images.

    Args:
        first: a model in evaluation mode.
        second: another model in evaluation mode, with the same number of bases.
        images: at least one image (3, H, W); each model gets them at its own test size.

    Raises:
        ValueError: there are no images, or the numbers of bases differ.
    """
    if not images:
        raise ValueError("images: at least one picture is needed to compare bases")
    pairs = (_at_one_size(bases_of(first, image), bases_of(second, image)) for image in images)
    return match_bases(*zip(*pairs, strict=True))


def match_bases(first: Sequence[Tensor], second: Sequence[Tensor]) -> BaseMatching:
    """Pair the bases so that the sum of their correlations is as large as possible.

    The correlation over all cells of all images ignores scale and offset. Its sign counts: the
    blender's weights are positive, so a base and its negative have different effects. If a network
    is trained twice, the order of the bases differs. The best pairs are found exactly, for every K.

    Args:
        first: bases (K, h, w) of each image.
        second: bases of the other model, likewise.

    Raises:
        ValueError: the shapes differ.
    """
    for one, other in zip(first, second, strict=True):
        if one.shape != other.shape:
            raise ValueError(f"bases {tuple(one.shape)} and {tuple(other.shape)} must agree")
    ours, theirs = (
        _standardized(torch.cat([bases.flatten(1) for bases in side], dim=1).double())
        for side in (first, second)
    )
    correlations = (ours @ theirs.T).float()
    order = assign_exactly(correlations)
    chosen = correlations.gather(1, order[:, None])[:, 0]
    return BaseMatching(order, chosen, correlations)


@torch.no_grad()
def bases_of(model: BlendMask, image: Tensor) -> Tensor:
    """(K, h, w) bases of an image at the model's test size, without the padding."""
    image = picture_for(model, image)
    stride = model.bottom.stride
    height, width = (-(-side // stride) for side in image.shape[-2:])
    return model([image]).bases[0, :, :height, :width].float().cpu()


def assign_exactly(gains: Tensor) -> Tensor:
    """Give every row its own column so that the sum of gains is largest.

    One row after another takes a column; rows that already have one may change to another.

    Args:
        gains: (K, K), finite.

    Returns:
        (K,) int64, the column of each row.
    """
    costs = -gains.double()
    owner = torch.full((len(costs),), -1)  # row of each column
    for row, own in enumerate(costs):
        reach, came_from = own.clone(), torch.full_like(owner, -1)
        taken = (owner >= 0).nonzero()[:, 0]
        moves = costs[owner[taken]] - costs[owner[taken], taken][:, None]
        for _ in range(row):  # shortest paths over taken columns (Bellman and Ford)
            through, place = (reach[taken, None] + moves).min(dim=0)
            is_shorter = through < reach - 1e-12
            if not is_shorter.any():
                break
            reach = torch.where(is_shorter, through, reach)
            came_from = torch.where(is_shorter, taken[place], came_from)
        column = int(reach.where(owner < 0, torch.inf).argmin())
        while column >= 0:
            before = int(came_from[column])
            owner[column] = owner[before] if before >= 0 else row
            column = before
    return owner.argsort()


def _standardized(values: Tensor) -> Tensor:
    """(K, n) -> rows of mean 0 and length 1; a constant row becomes 0."""
    centered = values - values.mean(dim=1, keepdim=True)
    return centered / centered.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _at_one_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the size of the coarser map."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} bases: both models need the same number")
    size = [min(pair) for pair in zip(first.shape[-2:], second.shape[-2:], strict=True)]
    one, other = (F.interpolate(maps[None], size=size, mode="area")[0] for maps in (first, second))
    return one, other
