"""Mask geometry: from the image to R x R crops and back, and the semantic map.

A mask of R x R cells covers its box exactly: cell i spans [i / R, (i + 1) / R) of it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

if TYPE_CHECKING:
    from blendmask_lite.structures import Target

__all__ = [
    "Region",
    "boundary_iou",
    "crop_masks",
    "lazy_zeros",
    "mask_boxes",
    "mask_iou",
    "mask_parts",
    "paste_masks",
    "paste_parts",
    "semantic_cells",
    "semantic_map",
    "there_and_back",
]

Region = tuple[slice, slice]  # rows and columns of an image, within it

GPU_PASTE_PIXELS = 64_000_000  # mask pixels pasted at once, to limit memory
SURE = 20.0  # a logit that is practically certain
PASTE_WEIGHTS = 4_000_000  # weights of all objects pasted at once on the CPU, likewise
SEMANTIC_STRIDE = 8  # stride of the semantic head's map, pixels
CROP_PIXELS = 8_000_000  # mask pixels turned into floats at once, likewise


def crop_masks(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop every mask to its box and resize it, to make the mask targets of training.

    This follows AdelaiDet's rule for bitmaps: RoIAlign with as many samples in a cell as it has
    pixels, then a threshold of one half.

    Args:
        masks: (N, H, W) bool.
        boxes: (N, 4) corners, pixels, one for each mask.
        size: R, in cells.

    Returns:
        (N, R, R) bool.
    """
    if len(masks) == 0:
        return masks.new_zeros((0, size, size), dtype=torch.bool)
    step = max(CROP_PIXELS // max(masks[0].numel(), 1), 1)
    pairs = zip(masks.split(step), boxes.split(step), strict=True)
    return torch.cat([_crop_at_once(part, own, size) for part, own in pairs])


def _crop_at_once(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    index = torch.arange(len(masks), device=masks.device, dtype=boxes.dtype)
    regions = torch.cat([index[:, None], boxes], dim=1)
    maps = masks[:, None].to(boxes.dtype)
    shares = roi_align(maps, regions, size, spatial_scale=1.0, sampling_ratio=0, aligned=True)
    return shares[:, 0] >= 0.5


def mask_boxes(masks: Tensor) -> Tensor:
    """The tight boxes of (N, H, W) bool masks: (N, 4) float, pixels; zeros for an empty mask."""
    num, height, width = masks.shape
    if masks.numel() == 0:
        return torch.zeros((num, 4), dtype=torch.float32, device=masks.device)
    # The largest byte tells whether any is set, on the CPU in a tenth of the time of `any`.
    rows, columns = (masks.view(torch.uint8).amax(dim=dim) for dim in (2, 1))
    last_row = height - rows.flip(1).argmax(dim=1)
    last_column = width - columns.flip(1).argmax(dim=1)
    corners = [columns.argmax(dim=1), rows.argmax(dim=1), last_column, last_row]
    return torch.stack(corners, dim=1) * rows.amax(dim=1, keepdim=True).float()


def mask_parts(masks: Tensor) -> Iterator[tuple[Region, Tensor]]:
    """For each of the (N, H, W) bool masks, its tight region and the (h, w) pixels in it."""
    boxes = mask_boxes(masks).int().tolist()
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        region = (slice(y0, y1), slice(x0, x1))
        yield region, mask[region]


def mask_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """(N, H, W) and (N, H, W) bool -> (N,) IoU of each pair, 0 to 1; 0 if both are empty."""
    shared = (masks & truth).flatten(1).sum(dim=1)
    total = (masks | truth).flatten(1).sum(dim=1)
    return shared / total.clamp(min=1)


def boundary_iou(masks: Tensor, truth: Tensor, *, distance: int) -> Tensor:
    """IoU of the parts of two masks that lie near their own outlines (Cheng et al., 2021, eq. 2).

    A mask may be wrong by many pixels inside without losing IoU; here only its rim counts.

    Args:
        masks: (N, H, W) bool.
        truth: (N, H, W) bool, the masks to compare them with.
        distance: how far from the outline a pixel of the rim may be, pixels, at least 1. The
            paper takes 2 % of the image's diagonal. The image's border counts as outline.

    Returns:
        (N,) from 0 to 1; 0 if both masks are empty.
    """
    if distance < 1:
        raise ValueError(f"distance = {distance}: must be at least 1 pixel")
    return mask_iou(_rim(masks, distance), _rim(truth, distance))


def _rim(masks: Tensor, distance: int) -> Tensor:
    """The pixels of (N, H, W) masks with a pixel outside the mask within `distance` in x and y."""
    outside = F.pad(~masks, (1, 1, 1, 1), value=True).float()
    near = F.max_pool2d(outside[:, None], 2 * distance + 1, stride=1, padding=distance)
    return masks & (near[:, 0, 1:-1, 1:-1] > 0)


def semantic_map(masks: Tensor, labels: Tensor) -> Tensor:
    """(N, H, W) bool masks and (N,) labels -> (H, W) int64: 0 is background, class c is c + 1.

    Later instances cover earlier ones.
    """
    _, height, width = masks.shape
    drawn = torch.zeros((height, width), dtype=torch.int64, device=masks.device)
    for mask, value in zip(masks, labels + 1, strict=True):
        torch.where(mask, value, drawn, out=drawn)  # the value stays on its device
    return drawn


def semantic_cells(target: Target) -> Tensor:
    """The target of the semantic loss: the semantic map at every eighth pixel.

    The released code resizes the padded map by nearest neighbour, which reads the same pixels.

    Args:
        target: a target with `semantic_cells`, `semantic` or `masks`, in this order of preference.

    Returns:
        (ceil(H / 8), ceil(W / 8)) integers: 0 is background, class c is c + 1.
    """
    if target.semantic_cells is not None:
        return target.semantic_cells
    step = SEMANTIC_STRIDE
    if target.semantic is not None:
        return target.semantic[::step, ::step]
    if target.masks is not None:
        return semantic_map(target.masks[:, ::step, ::step], target.labels)
    raise ValueError("the semantic loss needs masks or a semantic map in every target")


def paste_masks(
    mask_logits: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Resize every mask to its box and put it into an empty image (Mask R-CNN, section 3.1).

    Each pixel's center is looked up bilinearly in the R x R probabilities, with zeros outside. This
    is what `grid_sample` does, written as two matrix products with tent weights, because x and y
    are separable.

    Args:
        mask_logits: (N, R, R) before the sigmoid.
        boxes: (N, 4) corners, pixels of the image.
        size: (height, width) of the image.
        threshold: probability from which a pixel belongs to the mask.

    Returns:
        (N, height, width) bool.
    """
    if mask_logits.device.type != "cpu":
        return _paste_whole(mask_logits.float().sigmoid(), boxes.float(), size, threshold)
    pasted = lazy_zeros(len(boxes), *size)
    for mask, (region, part) in zip(
        pasted, paste_parts(mask_logits, boxes, size, threshold), strict=True
    ):
        mask[region] = part
    return pasted


def paste_parts(
    mask_logits: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Iterator[tuple[Region, Tensor]]:
    """The masks of `paste_masks`, one object at a time, each only inside its box, on the CPU.

    A hundred masks of a photograph take a gigabyte; one at a time, they take at most the memory of
    one mask. `paste_masks` explains the arguments.

    Yields:
        For each object, the region of its box with a one-pixel margin, clipped to the image, and
        the (h, w) bool mask in the region; h or w is 0 for a box outside the image.
    """
    height, width = size
    resolution = mask_logits.shape[-1]
    probabilities, boxes = mask_logits.float().sigmoid(), boxes.float()
    step = max(PASTE_WEIGHTS // max((height + width) * resolution, 1), 1)
    limits = torch.tensor([width, height, width, height])
    margin = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    edges = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1) + margin
    regions = torch.minimum(edges.clamp(min=0), limits).long()
    for start in range(0, len(boxes), step):
        own, inside = boxes[start : start + step], regions[start : start + step]
        across = _region_weights(inside[:, 0], inside[:, 2], own[:, 0], own[:, 2], resolution)
        down = _region_weights(inside[:, 1], inside[:, 3], own[:, 1], own[:, 3], resolution)
        for i, (x0, y0, x1, y1) in enumerate(inside.tolist()):
            soft = (down[i] @ probabilities[start + i]) @ across[i].T
            yield (slice(y0, max(y0, y1)), slice(x0, max(x0, x1))), soft >= threshold


def there_and_back(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """(N, H, W) bool masks cropped to R x R cells and pasted back.

    This is the best that a head trained on such crops can do. `size` is R.
    """
    logits = SURE * (2 * crop_masks(masks, boxes, size).float() - 1)
    height, width = masks.shape[-2:]
    return paste_masks(logits, boxes, (height, width))


def lazy_zeros(num: int, height: int, width: int) -> Tensor:
    """(num, height, width) False, in memory that the system provides only when it is written to.

    Most bytes of a hundred objects' masks are never written. Fresh pages are already zero;
    `torch.zeros` would write all of them, and NumPy asks for huge pages, which can take longer.
    """
    size = num * height * width
    if size == 0:
        return torch.zeros((num, height, width), dtype=torch.bool)
    is_unix = hasattr(mmap, "MAP_PRIVATE")
    options = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if is_unix else {}
    memory = mmap.mmap(-1, size, **options)
    return torch.frombuffer(memory, dtype=torch.bool).view(num, height, width)


def _region_weights(
    first: Tensor, last: Tensor, low: Tensor, high: Tensor, resolution: int
) -> tuple[Tensor, ...]:
    """`_tent_weights` of N regions at once: (pixels of the region, R) for each region.

    Region n covers the pixels [first, last), and its box spans `low` to `high`; all four are (N,).
    """
    lengths = (last - first).clamp(min=0)
    region = torch.repeat_interleave(lengths)  # index of each pixel's region
    pixel = torch.arange(len(region)) - (lengths.cumsum(0) - lengths - first)[region]
    weights = _tent_weights(pixel[:, None], low[region, None], high[region, None], resolution)
    return weights.split(lengths.tolist())


def _paste_whole(
    probabilities: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    """Paste many objects at once over the whole image, which suits a GPU."""
    height, width = size
    num, resolution, _ = probabilities.shape
    pasted = torch.zeros((num, height, width), dtype=torch.bool, device=boxes.device)
    columns = torch.arange(width, device=boxes.device)[:, None]
    rows = torch.arange(height, device=boxes.device)[:, None]
    step = max(GPU_PASTE_PIXELS // max(height * width, 1), 1)
    for start in range(0, num, step):
        x0, y0, x1, y1 = boxes[start : start + step, :, None, None].unbind(dim=1)
        across = _tent_weights(columns, x0, x1, resolution)  # (n, W, R)
        down = _tent_weights(rows, y0, y1, resolution)  # (n, H, R)
        soft = down @ probabilities[start : start + step] @ across.transpose(1, 2)
        pasted[start : start + step] = soft >= threshold
    return pasted


def _tent_weights(pixel: Tensor, low: Tensor, high: Tensor, resolution: int) -> Tensor:
    """Bilinear weights of R cells for pixels along one axis.

    The box spans `low` to `high`, pixels, which broadcast against `pixel`: (..., 1) -> (..., R).
    """
    cells = torch.arange(resolution, device=low.device, dtype=torch.float32)
    position = (pixel + 0.5 - low) / (high - low) * resolution - 0.5
    weights = (1 - (position - cells).abs()).clamp(min=0)
    return weights.nan_to_num(nan=0.0)  # a box without width
