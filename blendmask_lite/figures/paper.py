"""The paper's figures 1 and 4 for any image, and the way from an image to a mask in four steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.evaluation.pictures import picture_for
from blendmask_lite.figures.bases import draw_base_over, paint_weights
from blendmask_lite.figures.blending import crop_picture, object_blending_figure, strongest_bases
from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.style import (
    INK,
    DescribedFigure,
    described_figure,
    draw_base,
    draw_box,
    draw_outline,
    draw_picture,
    object_color,
    panels,
    say_nothing_found,
    usual_magnitude,
)
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import score_maps
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.structures import Detections

__all__ = ["figure_1", "figure_4", "overview_figure"]

MOST_BASES = 4  # bases drawn, two by two
SCORE = 0.3  # lowest score of the objects that are drawn


@torch.no_grad()
def figure_1(
    model: BlendMask, image: Tensor, *, chosen: int = 0, score_threshold: float = SCORE
) -> DescribedFigure:
    """BlendMask, figure 1: bases times one object's attentions, added up to its mask.

    Args:
        model: the model, in evaluation mode.
        image: (3, H, W), RGB, float in [0, 1] or uint8; resized to the model's test size.
        chosen: index of the detection; 0 is the best one.
        score_threshold: as in `BlendMask.predict`.

    Raises:
        ValueError: there is no detection `chosen`, but there are others.
    """
    image, output, found = _look_at(model, image, score_threshold)
    if len(found) == 0:
        figure, axes = panels(1, 1, description="No object was found in the picture.")
        say_nothing_found(axes[0, 0])
        return figure
    if not 0 <= chosen < len(found):
        raise ValueError(f"chosen = {chosen}: {len(found)} objects were found, from 0")
    box = found.proposal_boxes[chosen]
    name = model.class_names[int(found.labels[chosen])]
    return object_blending_figure(
        model,
        output,
        F.pad(found.location_index[chosen][None], (1, 0)),
        box,
        picture=crop_picture(image, box),
        title=f"{name}, score {float(found.scores[chosen]):.2f}",
    )


@torch.no_grad()
def figure_4(model: BlendMask, image: Tensor, *, score_threshold: float = SCORE) -> DescribedFigure:
    """BlendMask, figure 4: the bases of a picture, and where each object takes its mask from.

    The bases are on the left, the masks on the right; in the middle each object has, at every
    place, the colour of the bases that its score maps select there. If there are more than four
    bases, those that contribute most to the objects are drawn.

    Args:
        model: the model, in evaluation mode.
        image: (3, H, W), RGB, float in [0, 1] or uint8; resized to the model's test size.
        score_threshold: as in `BlendMask.predict`.
    """
    image, output, found = _look_at(model, image, score_threshold)
    index = F.pad(found.location_index[:, None], (1, 0))
    crops = model.crops_at(output, index[:, 0], found.proposal_boxes)
    scores = score_maps(model.merger, model.attentions_at(output, index), model.config.mask_size)
    shown = strongest_bases((crops * scores).abs().sum(dim=0), MOST_BASES)
    height, width = image.shape[-2:]
    names = ", ".join(model.class_names[label] for label in found.labels.tolist())
    figure = described_figure(
        (9.2, 3.05 * (height / width) + 0.5),
        f"{len(shown)} bases of a picture; where each object takes its mask from, in the colours "
        f"of the bases; the masks of {len(found)} objects: {names or 'none'}.",
    )
    left, middle, right = np.asarray(figure.subfigures(1, 3))
    stride = model.bottom.stride
    bases = output.bases[0, shown, : -(-height // stride), : -(-width // stride)]
    limit = usual_magnitude(bases)
    for ax, base, place in zip(_two_by_two(left), bases, shown, strict=False):
        draw_base_over(ax, image, base, place, stride=stride, limit=limit)
    left.suptitle(f"bases, logits ±{limit:.3g} or more", fontsize=9)
    middle.suptitle("scores, in the colours of the bases", fontsize=9)
    right.suptitle("masks", fontsize=9)
    weights = paint_weights(image, scores, found.boxes, found.masks)
    for part, picture in ((middle, weights), (right, paint_masks(image, found.masks))):
        ax = part.subplots()
        draw_picture(ax, picture, has_units=False)
        for box in found.boxes.tolist() if part is middle else ():
            draw_box(ax, box, color=INK, width=0.7)
    return figure


def _look_at(
    model: BlendMask, image: Tensor, score_threshold: float
) -> tuple[Tensor, BlendMaskOutput, Detections]:
    image = picture_for(model, image)
    output = model([image])
    found = model.find_objects(output, score_threshold=score_threshold)[0]
    return image, output, found


def overview_figure(
    image: Tensor,
    detections: Detections,
    class_names: Sequence[str],
    *,
    bases: Tensor,
    attentions: Tensor,
    stride: int,
    chosen: int = 0,
) -> DescribedFigure:
    """The whole method on one picture.

    Bases lie over the grey picture; the chosen object's mask is outlined on its attentions.

    Args:
        image: (3, H, W) uint8 or float in [0, 1].
        detections: the N detections of that image, at its size.
        class_names: C names.
        bases: (K, H/s, W/s); the first four are drawn.
        attentions: (N, K, M, M) raw, one set per detection.
        stride: s of the bases, pixels.
        chosen: index of the detection whose attentions are drawn.
    """
    figure = described_figure(
        (12.8, 3.7),
        "A picture with boxes, four bases of the whole picture, the attentions of one object, "
        f"and the masks of {len(detections)} objects.",
    )
    parts = np.asarray(figure.subfigures(1, 4)).ravel()
    titles = (
        "1  detector: boxes",
        "2  bottom module: bases, shared by all",
        "3  top layer: attentions of one object",
        "4  blender: masks",
    )
    for part, title in zip(parts, titles, strict=True):
        part.suptitle(title, fontsize=11)
    boxes_axes, masks_axes = parts[0].subplots(), parts[3].subplots()
    draw_picture(boxes_axes, image)
    draw_picture(masks_axes, paint_masks(image, detections.masks))
    for index in range(len(detections)):
        is_chosen = index == chosen
        box, color = detections.boxes[index].tolist(), object_color(index)
        for ax in (boxes_axes, masks_axes):
            draw_box(ax, box, color=color, width=3.2 if is_chosen else 1.3)
    shown = bases[:MOST_BASES]
    limit = usual_magnitude(shown)
    for index, (ax, base) in enumerate(zip(_two_by_two(parts[1]), shown, strict=False)):
        draw_base_over(ax, image, base, index, stride=stride, limit=limit)
    if len(detections) == 0:
        say_nothing_found(parts[2].subplots())
        return figure
    own = attentions[chosen, :MOST_BASES]
    limit, outline = usual_magnitude(own), detections.mask_logits[chosen] >= 0
    cell = len(outline) / own.shape[-1]  # side of an attention cell, in cells of the mask
    for index, (ax, values) in enumerate(zip(_two_by_two(parts[2]), own, strict=False)):
        ax.set_axis_on()
        draw_base(ax, values, index, name="attention", limits=limit, stride=cell)
        draw_outline(ax, outline, INK, is_closed=True)
    name, score = class_names[int(detections.labels[chosen])], float(detections.scores[chosen])
    boxes_axes.set_xlabel(f"x, pixels\nthick: {name}, score {score:.2f}", fontsize=8)
    masks_axes.set_xlabel(f"x, pixels\n{len(detections)} masks", fontsize=8)
    return figure


def _two_by_two(part: SubFigure) -> list[Axes]:
    """Four panels; those that stay empty show nothing."""
    axes = list(part.subplots(2, 2, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    return axes
