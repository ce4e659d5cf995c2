"""Scores of what each base encodes: objects or background, borders, left or right, up or down.

Chapter 15. BlendMask, section 3.4 and figure 4, describes this from images; here it is measured.
All scores are our choice. Compare them with the scores of untrained networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research.objects import TrueObjects, true_objects

__all__ = [
    "BasisScores",
    "area_under_curve",
    "correlations",
    "crop_moments",
    "score_bases",
    "untrained_model",
    "untrained_scores",
]

MOST_CELLS = 4096  # cells of a picture that `object_auc` uses at most


@dataclass(frozen=True)
class BasisScores:
    """Four scores for each of K bases over a data set.

    `object_auc` is the probability that the base is larger at a cell of an object than at a cell
    of the background, over the cells of all images together. 0.5 means that it tells nothing, 1 is
    perfect, 0 is perfect with the opposite sign. Untrained networks can be far from 0.5, just
    because of colour and texture.

    The other three are correlations, over all cells of all objects' true masks, of the base's
    values with

    - `depth`: the distance from the mask's border, 1 at the object's deepest cell. It is positive
      for a base that marks the inside, negative for a base that marks the border.
    - `x`, `y`: the position in the true box, from -1 at the left or top to 1 at the right or
      bottom.

    The values come from the crops r of equation 1: every object has R x R cells. No mean per object
    is subtracted: a base follows x only if it has about the same value at the same position in all
    objects, which is what a merger needs. An untrained network is not exactly at 0: its random
    filters shift their maps to one side, and because light comes from above, bases that follow
    brightness follow y. `untrained_scores` measures how far it is from 0.

    Attributes:
        object_auc: (K,) 0 to 1.
        depth: (K,) -1 to 1.
        x: (K,) -1 to 1.
        y: (K,) -1 to 1.
        mean_crops: (K, R, R) mean of the base at each cell of the box, over the masks that cover
            the cell; 0 if no mask covers it.
        num_objects: N.
        num_images: number of images, with or without objects.
    """

    object_auc: Tensor
    depth: Tensor
    x: Tensor
    y: Tensor
    mean_crops: Tensor
    num_objects: int
    num_images: int

    @property
    def strongest_position(self) -> float:
        """The largest magnitude in `x` and `y` over all bases."""
        return float(torch.stack([self.x, self.y]).abs().max())

    @property
    def typical_position(self) -> float:
        """The mean magnitude in `x` and `y`, over all bases."""
        return float(torch.stack([self.x, self.y]).abs().mean())

    def table(self) -> str:
        """One row for each base."""
        lines = ["base  object AUC  depth r    x r    y r"]
        rows = zip(self.object_auc, self.depth, self.x, self.y, strict=True)
        for base, (auc, depth, x, y) in enumerate(rows, start=1):
            lines.append(f"{base:>4}  {auc:>10.2f}  {depth:>+7.2f}  {x:>+5.2f}  {y:>+5.2f}")
        return "\n".join(lines)


def score_bases(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BasisScores:
    """Score the bases of a model over true objects; see `BasisScores`.

    Args:
        model: a model with any merger.
        dataset: data set with masks.
        max_images: number of images to take from the start of the data set; by default all.
        progress: called with (done, total).

    Raises:
        ValueError: there are no images, or no image has an object.
    """
    size, num_bases = model.config.mask_size, model.config.num_bases
    moments = torch.zeros(num_bases, 3, 6, dtype=torch.float64)
    sums = torch.zeros(num_bases, size, size, dtype=torch.float64)
    counts = torch.zeros(size, size, dtype=torch.float64)
    values, on_object = [], []
    num_objects = num_images = 0
    for objects in true_objects(model, dataset, max_images=max_images, progress=progress):
        cells, is_on = _cells(objects, model.bottom.stride)
        values.append(cells)
        on_object.append(is_on)
        num_images, num_objects = num_images + 1, num_objects + len(objects)
        crops = model.crops_at(objects.output, objects.index[:, 0], objects.boxes).cpu()
        inside = objects.mask_crops.cpu()
        moments += crop_moments(crops, inside)
        sums += (crops * inside[:, None]).sum(dim=0)
        counts += inside.sum(dim=0)
    if num_objects == 0:
        raise ValueError(f"{num_images} images without a single object: nothing to score")
    depth, x, y = correlations(moments).float().unbind(dim=1)
    is_on = torch.cat(on_object)
    auc = [area_under_curve(row, is_on) for row in torch.cat(values, dim=1)]
    return BasisScores(
        object_auc=torch.tensor(auc),
        depth=depth,
        x=x,
        y=y,
        mean_crops=(sums / counts.clamp(min=1)).float(),
        num_objects=num_objects,
        num_images=num_images,
    )


def untrained_scores(
    like: BlendMask,
    dataset: InstanceDataset,
    *,
    seeds: Sequence[int] = range(5),
    max_images: int | None = None,
) -> list[BasisScores]:
    """Scores of networks with the same config and random initial weights, for comparison.

    Args:
        like: see `untrained_model`.
        dataset: as in `score_bases`.
        seeds: one seed per network.
        max_images: as in `score_bases`.
    """
    networks = (untrained_model(like, seed) for seed in seeds)
    return [score_bases(each, dataset, max_images=max_images) for each in networks]


def untrained_model(like: BlendMask, seed: int) -> BlendMask:
    """A network with random initial weights, for comparison, in evaluation mode.

    Args:
        like: its config, device and test size are used.
        seed: seed of the weights; the caller's random state does not change.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BlendMask(like.config, inference=like.inference)
    return model.eval().to(like.device)


def area_under_curve(values: Tensor, is_positive: Tensor) -> float:
    """Probability that a positive has the larger value: Mann-Whitney's U over all pairs, ties half.

    Args:
        values: (n,).
        is_positive: (n,) bool.

    Returns:
        0 to 1; NaN if there are only positives or only negatives.
    """
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    rank = (last - (count - 1) / 2)[place]  # 1-based mean rank of equal values
    num = is_positive.sum().double()
    pairs = num * (len(values) - num)
    return float((rank[is_positive].sum() - num * (num + 1) / 2) / pairs)


def crop_moments(crops: Tensor, inside: Tensor) -> Tensor:
    """Moments of some objects for `correlations`; moments of several images can be added.

    Args:
        crops: (N, K, R, R) cropped bases.
        inside: (N, R, R) bool, the objects' own cells.

    Returns:
        (K, 3, 6) float64 sums, for `mask_depths`, x and y of the cells; 0 if there are no objects.
    """
    size = crops.shape[-1]
    ramp = ((torch.arange(size) + 0.5) / size * 2 - 1).expand(size, size)
    places = (mask_depths(inside), ramp.expand(inside.shape), ramp.T.expand(inside.shape))
    own = crops.transpose(0, 1)[:, inside].double()  # (K, cells)
    return torch.stack([_moments(own, place[inside].double()) for place in places], dim=1)


def correlations(moments: Tensor) -> Tensor:
    """(..., 6) sums of `crop_moments` -> (...) Pearson's r; 0 if either variable is constant."""
    n, v, p, vv, pp, vp = moments.unbind(dim=-1)
    spread = (n * vv - v * v).clamp(min=0) * (n * pp - p * p).clamp(min=0)
    r = (n * vp - v * p) / spread.sqrt()
    return torch.where(spread > 0, r, 0.0)


def mask_depths(masks: Tensor) -> Tensor:
    """Distance from the border in (N, R, R) bool masks, in king's moves, relative to the largest.

    Returns:
        (N, R, R), above 0 at the border, 1 at the deepest cells, 0 outside. The sides of the box
        count as border.
    """
    left = masks[:, None].float()
    depth = torch.zeros_like(left)
    while left.any():
        depth += left
        padded = F.pad(1 - left, (1, 1, 1, 1), value=1.0)
        left = 1 - F.max_pool2d(padded, kernel_size=3, stride=1)
    return (depth / depth.amax(dim=(2, 3), keepdim=True).clamp(min=1))[:, 0]


def _cells(objects: TrueObjects, stride: int) -> tuple[Tensor, Tensor]:
    """The bases' values at some cells of the image, (K, n), and whether an object is there."""
    any_object = objects.masks.any(dim=0).cpu()
    on_object = any_object[stride // 2 :: stride, stride // 2 :: stride]
    bases = objects.output.bases[0, :, : on_object.shape[0], : on_object.shape[1]].cpu().float()
    step = -(-on_object.numel() // MOST_CELLS)
    return bases.flatten(1)[:, ::step], on_object.flatten()[::step]


def _moments(values: Tensor, place: Tensor) -> Tensor:
    """(K, n) and (n,) -> (K, 6): n and the sums of v, p, v v, p p, v p."""
    parts = (
        torch.full((len(values),), float(len(place)), dtype=values.dtype),
        values.sum(dim=1),
        place.sum().expand(len(values)),
        values.square().sum(dim=1),
        place.square().sum().expand(len(values)),
        values @ place,
    )
    return torch.stack(parts, dim=1)
