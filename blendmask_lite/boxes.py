"""Box geometry: corners, side distances, overlap.

Boxes are (x0, y0, x1, y1) in pixels and not inclusive: the width is x1 - x0.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "box_areas",
    "centerness",
    "clip_boxes",
    "has_sides",
    "ltrb_giou",
    "ltrb_to_xyxy",
    "scale_boxes",
    "xyxy_to_ltrb",
]


def ltrb_to_xyxy(locations: Tensor, ltrb: Tensor) -> Tensor:
    """Turn side distances into boxes: the inverse of FCOS, equation 1.

    Args:
        locations: (L, 2) cell centers as (x, y), pixels.
        ltrb: (..., L, 4) distances to the left, top, right and bottom side, pixels, >= 0.

    Returns:
        (..., L, 4) boxes as (x0, y0, x1, y1), pixels. They may reach outside the image.

    Raises:
        ValueError: `locations` and `ltrb` disagree on L.
    """
    if locations.shape[0] != ltrb.shape[-2]:
        raise ValueError(f"{locations.shape[0]} locations but {ltrb.shape[-2]} distances")
    return torch.cat([locations - ltrb[..., :2], locations + ltrb[..., 2:]], dim=-1)


def xyxy_to_ltrb(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances from every location to the sides of every box (FCOS, equation 1).

    Args:
        locations: (L, 2) cell centers as (x, y), pixels.
        boxes: (N, 4) corners, pixels.

    Returns:
        (L, N, 4) left, top, right, bottom, pixels; negative where the location lies outside.
    """
    top_left = locations[:, None] - boxes[None, :, :2]
    bottom_right = boxes[None, :, 2:] - locations[:, None]
    return torch.cat([top_left, bottom_right], dim=-1)


def box_areas(boxes: Tensor) -> Tensor:
    """(..., 4) corners -> (...) areas, square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 4) boxes clipped to an image of `size` (height, width)."""
    height, width = size
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x, y], dim=2).flatten(1)


def has_sides(boxes: Tensor) -> Tensor:
    """(N, 4) boxes -> (N,) bool: whether width and height are positive."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def scale_boxes(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """(N, 4) boxes, scaled from an image of `from_size` (height, width) to one of `to_size`."""
    scale_y, scale_x = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])


def centerness(ltrb: Tensor) -> Tensor:
    """Centerness: how close a location is to the center of its box (FCOS, equation 3).

    Args:
        ltrb: (..., 4) side distances of locations inside their box, any unit, >= 0.

    Returns:
        (...) 1 at the center, 0 on a side.
    """
    left, top, right, bottom = ltrb.unbind(dim=-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()


def ltrb_giou(predicted: Tensor, target: Tensor, unit: Tensor) -> Tensor:
    """Generalised IoU of boxes that share a location (Rezatofighi et al., 2019, algorithm 1).

    The square of `unit` is added to intersection and union as smoothing, as in the released code,
    which measures everything in strides of the level and adds 1.

    Args:
        predicted: (N, 4) side distances, pixels, >= 0.
        target: (N, 4) side distances, pixels, > 0.
        unit: (N,) stride of each location, pixels.

    Returns:
        (N,) values between -1 and 1.
    """
    inner = torch.minimum(predicted, target)
    outer = torch.maximum(predicted, target)
    intersection = _ltrb_area(inner)
    union = _ltrb_area(predicted) + _ltrb_area(target) - intersection
    hull = _ltrb_area(outer)
    smoothing = unit * unit
    iou = (intersection + smoothing) / (union + smoothing)
    return iou - (hull - union) / hull


def _ltrb_area(ltrb: Tensor) -> Tensor:
    left, top, right, bottom = ltrb.unbind(dim=-1)
    return (left + right) * (top + bottom)
