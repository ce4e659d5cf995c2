"""The paper's figures 1 and 4 for any picture, with one call each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.evaluation.pictures import picture_for
from blendmask_lite.figures.attentions import crop_picture
from blendmask_lite.figures.blending import object_blending_figure, strongest_bases
from blendmask_lite.figures.detections import paint_masks
from blendmask_lite.figures.layout import (
    DescribedFigure,
    draw_box,
    draw_map,
    draw_picture,
    panels,
    say_nothing_found,
    usual_magnitude,
)
from blendmask_lite.figures.overlays import paint_weights
from blendmask_lite.figures.palette import INK, SIGNED, base_color
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.structures import Detections

__all__ = ["figure_1", "figure_4"]

MOST_BASES = 4  # two by two
SCORE = 0.3  # least score of what is drawn


@torch.no_grad()
def figure_1(
    model: BlendMask, image: Tensor, *, chosen: int = 0, score_threshold: float = SCORE
) -> DescribedFigure:
    """BlendMask, figure 1: bases, times one object's attentions, added up to its mask.

    Args:
        model: in evaluation mode.
        image: (3, H, W), RGB, float in [0, 1] or uint8; resized to the model's test size.
        chosen: which detection, 0 is the best one.
        score_threshold: as in `BlendMask.predict`.

    Raises:
        ValueError: there is no such detection, though there are others.
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

    On the left the bases, on the right the masks; in the middle each object has, at every place,
    the colour of the bases that its score maps ask for there. With more than four bases those that
    say most about the objects are drawn.

    Args:
        model: in evaluation mode.
        image: (3, H, W), RGB, float in [0, 1] or uint8; resized to the model's test size.
        score_threshold: as in `BlendMask.predict`.
    """
    image, output, found = _look_at(model, image, score_threshold)
    index = F.pad(found.location_index[:, None], (1, 0))
    crops = model.crops_at(output, index[:, 0], found.proposal_boxes)
    scores = model.merger.scores(model.attentions_at(output, index), model.config.mask_size)
    shown = strongest_bases((crops * scores).abs().sum(dim=0), MOST_BASES)
    height, width = image.shape[-2:]
    ratio = height / width
    names = ", ".join(model.class_names[label] for label in found.labels.tolist())
    figure = DescribedFigure(figsize=(9.2, 3.05 * ratio + 0.5), dpi=100, layout="constrained")
    figure.set_label(
        f"{len(shown)} bases of a picture; where each object takes its mask from, in the colours "
        f"of the bases; the masks of {len(found)} objects: {names or 'none'}."
    )
    left, middle, right = np.asarray(figure.subfigures(1, 3))
    grid = left.subplots(2, 2, squeeze=False)
    stride = model.bottom.stride
    bases = output.bases[0, shown, : -(-height // stride), : -(-width // stride)]
    limit = usual_magnitude(bases)
    for ax in grid.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, base, place in zip(grid.flat, bases, shown, strict=False):
        name = f"base {place + 1}"
        draw_map(ax, base, colors=SIGNED, limits=(-limit, limit), stride=stride, title=name)
        ax.title.set_color(base_color(place))
    left.suptitle(f"bases, logits ±{limit:.3g} or more", fontsize=9)
    middle.suptitle("weights, in the colours of the bases", fontsize=9)
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
