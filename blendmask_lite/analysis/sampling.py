"""Where a crop's numbers come from: sample points, and the map's cells behind one cell of a crop.

Chapter 07. torchvision.ops.roi_align (Mask R-CNN, section 3) and roi_pool (Fast R-CNN, section
2.1). Places on a map are in cells from its edge: cell i covers [i, i + 1), its center is i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

__all__ = ["BoxPooling", "cell_weights", "pool_box", "pooled_region", "sample_points"]


@dataclass(frozen=True)
class BoxPooling:
    """How a box is cut out of a map.

    Attributes:
        size: R, cells of the crop.
        stride: of the map, pixels.
        kind: "align" samples at points, "pool" takes the largest of whole cells.
        is_aligned: for "align": False looks half a cell too far to the right and below, as the
            first implementations did.
        samples: for "align": points along each side of a bin; the paper's choice is 1.

    Raises:
        ValueError: a number below 1, or another kind.
    """

    size: int
    stride: float
    kind: Literal["align", "pool"] = "align"
    is_aligned: bool = True
    samples: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("align", "pool"):
            raise ValueError(f'kind = {self.kind!r}: must be "align" or "pool"')
        for name in ("size", "stride", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be at least 1")


def pool_box(values: Tensor, box: Tensor, how: BoxPooling) -> Tensor:
    """The crop of one box, by torchvision.

    Args:
        values: (H, W) map.
        box: (4,) corners, pixels.
        how: to cut it out.

    Returns:
        (R, R).
    """
    region = torch.cat([box.new_zeros(1), box])[None].to(values.dtype)
    maps, scale = values[None, None], 1 / how.stride
    if how.kind == "pool":
        return roi_pool(maps, region, how.size, spatial_scale=scale)[0, 0]
    return roi_align(
        maps,
        region,
        how.size,
        spatial_scale=scale,
        sampling_ratio=how.samples,
        aligned=how.is_aligned,
    )[0, 0]


def pooled_region(box: Tensor, how: BoxPooling) -> Tensor:
    """(4,) the part of the map that is divided into R x R bins, cells from the map's edge.

    RoIPool rounds the corners to whole cells and takes both of them in; RoIAlign keeps the box, or
    misplaces it by half a cell.
    """
    cells = box / how.stride
    if how.kind == "pool":
        whole = cells.sign() * (cells.abs() + 0.5).floor()  # halves away from 0, as C++ has it
        first, last = whole[:2], whole[2:]
        return torch.cat([first, torch.maximum(last + 1, first + 1)])
    if how.is_aligned:
        return cells
    side = (cells[2:] - cells[:2]).clamp(min=1)
    return torch.cat([cells[:2], cells[:2] + side]) + 0.5


def sample_points(box: Tensor, how: BoxPooling) -> Tensor:
    """(R, R, S * S, 2) places (x, y) that RoIAlign reads, S a side, cells; none for RoIPool."""
    R, S = how.size, how.samples
    if how.kind == "pool":
        return box.new_zeros(R, R, 0, 2)
    x0, y0, x1, y1 = pooled_region(box, how)
    steps = (torch.arange(R * S, dtype=box.dtype, device=box.device) + 0.5) / (R * S)
    x, y = x0 + steps * (x1 - x0), y0 + steps * (y1 - y0)
    grid = torch.stack([x.expand(R * S, -1), y[:, None].expand(-1, R * S)], dim=-1)
    bins = grid.unflatten(1, (R, S)).unflatten(0, (R, S))  # (R, S, R, S, 2)
    return bins.transpose(1, 2).flatten(2, 3)


def cell_weights(values: Tensor, box: Tensor, how: BoxPooling, row: int, column: int) -> Tensor:
    """How much each cell of the map counts in one cell of the crop.

    It is the derivative of `pool_box`, and so it is right for every kind.

    Returns:
        (H, W): of RoIAlign the bilinear weights, sum 1 inside the map; of RoIPool 1 at the largest.
    """
    with torch.enable_grad():
        watched = values.detach().clone().requires_grad_()
        pool_box(watched, box, how)[row, column].backward()
    weights = watched.grad
    assert weights is not None
    return weights
