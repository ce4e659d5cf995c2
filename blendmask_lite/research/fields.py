"""The sample points of a crop, and the receptive field of a cell.

Chapters 02 and 07.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from blendmask_lite.masks import mask_boxes
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.inputs import batch_images
from blendmask_lite.model.layers import FrozenBatchNorm2d, evaluating

__all__ = [
    "BoxPooling",
    "ReceptiveFields",
    "cell_weights",
    "chain_fields",
    "effective_side",
    "pool_box",
    "pooled_region",
    "sample_points",
]


@dataclass(frozen=True)
class BoxPooling:
    """Settings for cutting a box out of a map.

    Attributes:
        size: R, side of the crop in cells.
        stride: stride of the map, in pixels.
        kind: "align" samples at points, "pool" takes the largest value of whole cells.
        is_aligned: used by "align"; if False, the samples lie half a cell too far to the right and
            down, as in the first implementations.
        samples: number of points along each side of a bin, used by "align"; 1 in the paper.

    Raises:
        ValueError: a number is below 1, or the kind is unknown.
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
    """The crop of one box, computed by torchvision.

    Args:
        values: (H, W) map.
        box: (4,) corners, pixels.
        how: settings for cutting it out.

    Returns:
        (R, R) crop.
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
    """(4,) corners of the region that is divided into R x R bins, in cells of the map.

    RoIPool rounds the corners to whole cells and includes both; RoIAlign keeps the box, or
    shifts it by half a cell if it is not aligned.
    """
    cells = box / how.stride
    if how.kind == "pool":
        whole = cells.sign() * (cells.abs() + 0.5).floor()  # halves away from 0, as in C++
        first, last = whole[:2], whole[2:]
        return torch.cat([first, torch.maximum(last + 1, first + 1)])
    if how.is_aligned:
        return cells
    side = (cells[2:] - cells[:2]).clamp(min=1)
    return torch.cat([cells[:2], cells[:2] + side]) + 0.5


def sample_points(box: Tensor, how: BoxPooling) -> Tensor:
    """(R, R, S * S, 2) points (x, y) that RoIAlign reads, in cells of the map; none for RoIPool."""
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
    """The weight of each cell of the map in one cell of the crop: the derivative of `pool_box`.

    Returns:
        (H, W): for RoIAlign, bilinear weights with sum 1 inside the map; for RoIPool, 1 at the
        largest value.
    """
    with torch.enable_grad():
        watched = values.detach().clone().requires_grad_()
        pool_box(watched, box, how)[row, column].backward()
    weights = watched.grad
    assert weights is not None
    return weights


NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)
NUM_SIGNS = 4  # random sums of a cell's channels whose gradients are averaged


def chain_fields(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Side of the receptive field after each convolution of a chain, in pixels.

    Args:
        kernels: sides of the kernels, starting at the picture.
        strides: stride of each convolution.

    Raises:
        ValueError: the numbers of strides and kernels differ.
    """
    if len(kernels) != len(strides):
        raise ValueError(f"{len(kernels)} kernels but {len(strides)} strides")
    side, step, sides = 1, 1, []  # `step`: pixels between two cells that the kernel reads
    for kernel, stride in zip(kernels, strides, strict=True):
        side += (kernel - 1) * step
        step *= stride
        sides.append(side)
    return tuple(sides)


def effective_side(gradient: Tensor, share: float = 0.9) -> float:
    """Side of a square with the area of the strongest pixels that hold a share of the gradient.

    Args:
        gradient: (H, W) magnitudes, at least 0.
        share: share of the sum of all magnitudes, above 0, at most 1.
    """
    held = gradient.flatten().sort(descending=True).values.cumsum(dim=0)
    num = int((held < share * held[-1]).sum()) + 1
    return num**0.5


class ReceptiveFields:
    """Receptive fields of a network's feature maps.

    Args:
        network: its backbone and pyramid are examined, not changed.
    """

    def __init__(self, network: BlendMask) -> None:
        self.network = network
        self._reach = _averaging(network.backbone), _averaging(network.fpn)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the maps with receptive fields: c2 to c5, and the pyramid's levels."""
        fpn = self.network.fpn
        pyramid = [f"p{name[1]}" for name in fpn.output] + list(fpn.top)
        return (*sorted(self.network.backbone.channels), *sorted(pyramid))

    def gradient(self, image: Tensor, name: str, cell: tuple[int, int]) -> Tensor:
        """The influence of each pixel on a cell: a gradient, averaged over random sums.

        Args:
            image: (3, H, W) uint8 or float in [0, 1], RGB.
            name: name of the map, such as "c5" or "p3".
            cell: (row, column) in the map.

        Returns:
            (h, w) over the padded image, at least 0; the sum is 1, or 0 if no pixel has influence.

        Raises:
            ValueError: there is no such map or cell.
        """
        batch, _ = batch_images([image], self.network.config, device=self.network.device)
        generator = torch.Generator().manual_seed(0)
        with evaluating(self.network), torch.enable_grad():
            batch.requires_grad_()
            values = self._values(self.network.backbone, self.network.fpn, batch, name, cell)
            total = torch.zeros(batch.shape[-2:], device=batch.device)
            for _ in range(NUM_SIGNS):
                signs = torch.randint(0, 2, values.shape, generator=generator) * 2.0 - 1
                summed = (values * signs.to(values)).sum()
                total += torch.autograd.grad(summed, batch, retain_graph=True)[0][0].abs().sum(0)
        return total / total.sum().clamp(min=torch.finfo(total.dtype).tiny)

    def box(self, size: tuple[int, int], name: str, cell: tuple[int, int]) -> Tensor:
        """(4,) corners of the region of pixels that can influence a cell, inside the image.

        Args:
            size: (height, width) of the padded image.
            name: as in `gradient`.
            cell: as in `gradient`.
        """
        backbone, fpn = self._reach
        slopes = _slopes(*size)
        if self.network.config.backbone == "small":  # it has no max pooling, so any image will do
            slopes = slopes[:1]
        batch = slopes.requires_grad_()
        with torch.enable_grad():
            values = self._values(backbone, fpn, batch, name, cell)
            acts = torch.autograd.grad(values.sum(), batch)[0] > 0
        return mask_boxes(acts.flatten(0, 1).any(dim=0, keepdim=True))[0]

    def _values(
        self, backbone: nn.Module, fpn: nn.Module, batch: Tensor, name: str, cell: tuple[int, int]
    ) -> Tensor:
        """(B, channels) of one cell."""
        if name not in self.names:
            raise ValueError(f"{name!r}: the maps are {', '.join(self.names)}")
        features = backbone(batch)
        values: Tensor = (features if name[0] == "c" else fpn(features))[name]
        row, column = cell
        if not (0 <= row < values.shape[2] and 0 <= column < values.shape[3]):
            raise ValueError(f"cell {cell}: {name} has {tuple(values.shape[2:])} cells")
        return values[:, :, row, column]


def _slopes(height: int, width: int) -> Tensor:
    """(4, 3, H, W) images, one growing towards each corner: max pooling reaches every side."""
    down = torch.linspace(0.5, 1, height, dtype=torch.float64)[:, None].expand(height, width)
    right = torch.linspace(0.5, 1, width, dtype=torch.float64).expand(height, width)
    corner = down + right
    slopes = torch.stack([corner, corner.flip(0), corner.flip(1), corner.flip(0, 1)])
    return slopes[:, None].repeat(1, 3, 1, 1)


def _averaging(module: nn.Module) -> nn.Module:
    """A copy with averaging convolutions and norms that do nothing: no path is cut or cancelled.

    It is on the CPU, because not every device has float64.
    """
    made = copy.deepcopy(module).cpu().double().eval().requires_grad_(False)
    for part in made.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.fill_(1 / part.weight[0].numel())
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, NORMS):
            for name, value in part.state_dict().items():
                value.fill_(1 if name in ("weight", "running_var") else 0)
    return made
