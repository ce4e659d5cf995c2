"""Detections drawn into an image, and how thousands of boxes become a handful.

Chapter 05.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.figures.style import (
    PALETTE,
    DescribedFigure,
    as_float,
    as_picture,
    as_pixels,
    color_tensor,
    draw_box,
    draw_box_name,
    draw_picture,
    first_free,
    object_color,
    one_panel,
    pale,
    panel_grid,
    picture_cell,
    pixel_corners,
    rgb255,
    text_on,
)
from blendmask_lite.masks import Region, mask_parts
from blendmask_lite.structures import AnyDetections
from blendmask_lite.terminal import counted, printable

__all__ = [
    "detections_figure",
    "draw_detections",
    "paint_boxes",
    "paint_changes",
    "paint_masks",
    "proposals_figure",
]

OPACITY = 0.45  # opacity of a mask over the picture


def draw_detections(
    image: Tensor, detections: AnyDetections, class_names: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """A copy of the picture with everything found drawn into it, best object on top.

    Where names would cover one another, for example if an object was found twice, the best one
    stays at its box and the others move down.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        detections: the detections of that image, at its size.
        class_names: C names; by default those that the detections know.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the detections belong to an image of another size.
    """
    painted, captions = _painted(image, detections), _captions(detections, class_names)
    # Some rows at a time: another float copy of a whole photograph would take a lot of memory.
    picture = Image.fromarray(np.concatenate([as_picture(rows) for rows in painted.split(256, 1)]))
    short_side = min(picture.size)
    line = max(1, round(short_side / 250))
    font = ImageFont.load_default(size=max(9, round(short_side / 35)))
    draw = ImageDraw.Draw(picture)
    boxes, colors = detections.boxes.tolist(), list(map(object_color, range(len(detections))))
    for (x0, y0, x1, y1), color in reversed(list(zip(boxes, colors, strict=True))):
        corners = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
        draw.rectangle(corners, outline=rgb255(color), width=line)
    taken: list[tuple[float, float, float, float]] = []
    for (x0, y0, _, _), color, text in zip(boxes, colors, captions, strict=True):
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 4, bottom - top + 4
        x = min(max(0, x0), max(0, picture.width - width))
        y = y0 - height if y0 >= height else y0
        free = first_free(taken, x, y, width, height)
        y = free if free + height < picture.height else y
        taken.append((x, y, x + width, y + height))
        draw.rectangle(taken[-1], fill=rgb255(color))
        draw.text((x + 2 - left, y + 2 - top), text, fill=text_on(color), font=font)
    return np.asarray(picture)


def detections_figure(
    image: Tensor,
    detections: AnyDetections,
    class_names: Sequence[str] | None = None,
    *,
    title: str = "",
) -> DescribedFigure:
    """The picture with masks, boxes, class names and scores; sharp at any size of the picture.

    Names that would cover one another move down, as in `draw_detections`.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        detections: the detections of that image, at its size; if empty, only the picture is drawn.
        class_names: C names; by default those that the detections know.
        title: text above the picture.
    """
    captions = _captions(detections, class_names)
    figure, ax = one_panel(
        cell=picture_cell(image, 5.0, title=0.4),
        description=f"A picture with {counted(len(captions), 'object')}: "
        f"{', '.join(captions) or 'none'}.",
    )
    draw_picture(ax, _painted(image, detections), title=title)
    boxes = detections.boxes.tolist()
    for index in reversed(range(len(boxes))):
        draw_box(ax, boxes[index], color=object_color(index))
    taken: list[tuple[float, float, float, float]] = []
    for index, (box, name) in enumerate(zip(boxes, captions, strict=True)):
        draw_box_name(ax, box, name, color=object_color(index), taken=taken)
    return figure


def paint_masks(image: Tensor, masks: Tensor, colors: Sequence[str] | None = None) -> Tensor:
    """Tint the pixels of every mask in the object's colour, with a line around it.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        masks: (N, H, W) bool; earlier ones lie on top.
        colors: N of them; None: each object has its own.

    Returns:
        (3, H, W) float in [0, 1], a copy on the CPU.

    Raises:
        ValueError: masks and image differ in size.
    """
    height, width = masks.shape[-2:]
    _require_size((height, width), image)
    image, masks = image.cpu(), masks.cpu()
    names = list(map(object_color, range(len(masks)))) if colors is None else colors
    painted = as_float(image)
    _paint_parts(painted, reversed(list(mask_parts(masks))), names[: len(masks)][::-1])
    return painted


def paint_changes(image: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The pixels that masks lose (red) and gain (blue), on a faded image.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        before: (N, H, W) bool.
        after: (N, H, W) bool.
    """
    lost, gained = before & ~after, after & ~before
    painted = paint_masks(as_float(image) * 0.35 + 0.65, lost, [PALETTE[0]] * len(lost))
    return paint_masks(painted, gained, [PALETTE[1]] * len(gained))


def _paint_parts(
    painted: Tensor, parts: Iterable[tuple[Region, Tensor]], colors: Sequence[str]
) -> None:
    """Paint masks, given by regions, over (3, H, W) floats; later ones lie on top."""
    height, width = painted.shape[-2:]
    for (region, part), name in zip(parts, colors, strict=True):
        color = color_tensor(name).to(painted.device)
        under = painted[:, *region]
        tinted = (1 - OPACITY) * under + OPACITY * color
        line = part & ~_eroded(part, region, (height, width))
        under.copy_(torch.where(line, color, torch.where(part, tinted, under)))


def _eroded(part: Tensor, region: Region, size: tuple[int, int]) -> Tensor:
    """Pixels whose neighbours are all in the mask; everything outside the picture counts as in."""
    rows, columns = region
    around = F.pad(part, (1, 1, 1, 1))
    if rows.start == 0:
        around[0] = True
    if rows.stop == size[0]:
        around[-1] = True
    if columns.start == 0:
        around[:, 0] = True
    if columns.stop == size[1]:
        around[:, -1] = True
    beside = around[:, :-2] & around[:, 1:-1] & around[:, 2:]
    return beside[:-2] & beside[1:-1] & beside[2:]


def _require_size(size: tuple[int, int], image: Tensor) -> None:
    if size != image.shape[-2:]:
        raise ValueError(f"masks of {size} pixels on an image of {tuple(image.shape[-2:])}")


def _painted(image: Tensor, detections: AnyDetections) -> Tensor:
    """(3, H, W) float in [0, 1]: the picture with all masks, without whole-image copies of them."""
    _require_size(detections.image_size, image)
    painted = as_float(image.cpu())
    colors = [object_color(index) for index in reversed(range(len(detections)))]
    _paint_parts(painted, detections.to("cpu").mask_parts(is_reversed=True), colors)
    return painted


def _captions(detections: AnyDetections, class_names: Sequence[str] | None) -> list[str]:
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    names = detections.names if class_names is None else [class_names[label] for label in labels]
    pairs = zip(names, scores, strict=True)
    return [f"{printable(name)} {100 * score:.0f} %" for name, score in pairs]


COLUMNS = 4
MOST_INK = 40  # up to this many boxes are drawn at full strength; with more, each is paler


def proposals_figure(image: Tensor, stages: Mapping[str, Tensor]) -> DescribedFigure:
    """One panel per stage with all its boxes.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        stages: (N, 4) corners in pixels by name; N may be 0.

    Raises:
        ValueError: no stages.
    """
    if not stages:
        raise ValueError("stages: an empty dict; at least one stage is needed")
    height, width = image.shape[-2:]
    told = ", ".join(f"{name} {len(boxes)}" for name, boxes in stages.items())
    figure, axes = panel_grid(
        len(stages),
        COLUMNS,
        cell=picture_cell(image, 2.2, title=0.35),
        description=f"Boxes after every stage: {told}.",
    )
    for ax, (name, boxes) in zip(axes, stages.items(), strict=True):
        draw_picture(ax, pale(image), title=f"{name}: {len(boxes)}")
        x0, y0, x1, y1 = boxes.detach().cpu().unbind(dim=1)
        outlines = torch.stack([x0, y0, x1, y0, x1, y1, x0, y1, x0, y0], dim=1)
        strength = max(0.05, min(1.0, MOST_INK / max(len(boxes), 1)))
        lines = LineCollection(
            outlines.unflatten(1, (5, 2)).numpy(), colors=PALETTE[1], linewidths=1.1, alpha=strength
        )
        ax.add_collection(lines)
        ax.axis((0, width, height, 0))
    return figure


def paint_boxes(
    image: Tensor, boxes: Sequence[tuple[Tensor, str, int]], *, scale: int = 1
) -> Tensor:
    """Outlines on a pale picture.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        boxes: (4,) corners in pixels, colour, and width of the line in pixels of the result; later
            ones lie on top.
        scale: pixels of the result per pixel of the picture.

    Returns:
        (3, scale * H, scale * W) uint8.
    """
    picture = Image.fromarray(as_picture(pale(image)))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    for box, color, width in boxes:
        corners = pixel_corners((scale * box).tolist())
        draw.rectangle(corners, outline=rgb255(color), width=width)
    return as_pixels(picture)
