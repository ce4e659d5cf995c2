"""Famous bugs, put into a working model one at a time and taken out again.

Chapter 15. None of them crashes, none changes a shape; some ruin every mask, and some nearly none.
A bug lives on one model's attributes for the length of a `with` block: weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.boxes import clip_boxes, ltrb_to_xyxy
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import Blender
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.objects import look_at_objects

__all__ = ["BUGS", "Bug", "Specimen", "infected", "observe"]


@dataclass(frozen=True)
class Bug:
    """A mistake, and what it replaces in a model.

    Attributes:
        mistake: what was done, for the student.
        clue: how it can be told from its masks.
        change: model -> the object whose attribute changes, the attribute, and its new value.
    """

    mistake: str
    clue: str
    change: Callable[[BlendMask], tuple[Any, str, Any]]


@dataclass(frozen=True)
class Specimen:
    """The masks of N true objects that some location learns; the same N with every bug.

    Attributes:
        masks: (N, H, W) bool, over the boxes that the network predicts.
        iou: (N,) with the true masks, 0 to 1.
    """

    masks: Tensor
    iou: Tensor


@contextmanager
def infected(model: BlendMask, name: str) -> Iterator[BlendMask]:
    """The model with one bug; afterwards it is as before, also after an error.

    Args:
        model: with a blender and more than one base. It is changed in place.
        name: key of `BUGS`.

    Raises:
        ValueError: no such bug, or a model that cannot have it.
    """
    if name not in BUGS:
        raise ValueError(f"bug {name!r}: the zoo has {', '.join(BUGS)}")
    if not isinstance(model.merger, Blender) or model.merger.num_bases == 1:
        raise ValueError("the bugs live in a blender with more than one base")
    owner, attribute, value = BUGS[name].change(model)
    own = vars(owner)
    is_own, before = attribute in own, own.get(attribute)
    setattr(owner, attribute, value)
    try:
        yield model
    finally:
        if is_own:
            setattr(owner, attribute, before)
        else:
            delattr(owner, attribute)  # the class's own is found again


@torch.no_grad()
def observe(model: BlendMask, sample: Sample) -> Specimen:
    """The masks of a picture's true objects, each at the location that learns it.

    Args:
        model: with or without a bug.
        sample: with masks.
    """
    objects = look_at_objects(model, sample)
    index = objects.index[objects.is_learned]
    location, output = index[:, 1], objects.output
    boxes = ltrb_to_xyxy(output.locations[location], output.ltrb[0, location].float())
    logits = model.masks_at(output, index, boxes)
    height, width = objects.masks.shape[-2:]
    # As `place_detections` does it: masks go into the part of the box inside the picture.
    pasted = paste_masks(logits, clip_boxes(boxes, (height, width)), (height, width))
    return Specimen(pasted, mask_iou(pasted, objects.masks[objects.is_learned]))


def _half_pixel(model: BlendMask) -> tuple[Any, str, Any]:
    right, shift = model.crops_at, model.bottom.stride / 2
    return (
        model,
        "crops_at",
        lambda output, image, boxes, **bases: right(output, image, boxes + shift, **bases),
    )


def _clipped_crop(model: BlendMask) -> tuple[Any, str, Any]:
    right = model.crops_at

    def crops_at(
        output: BlendMaskOutput, image: Tensor, boxes: Tensor, *, bases: Tensor | None = None
    ) -> Tensor:
        sizes = [output.image_sizes[place] for place in image.tolist()]
        clipped = [clip_boxes(box[None], size) for box, size in zip(boxes, sizes, strict=True)]
        return right(output, image, torch.cat([boxes[:0], *clipped]), bases=bases)

    return model, "crops_at", crops_at


def _channels_last(model: BlendMask) -> tuple[Any, str, Any]:
    right, num_bases, size = model.attentions_at, *_grid(model)

    def attentions_at(output: BlendMaskOutput, index: Tensor) -> Tensor:
        numbers = right(output, index).unflatten(1, (size, size, num_bases))
        return numbers.permute(0, 3, 1, 2).flatten(1)

    return model, "attentions_at", attentions_at


def _level_index(model: BlendMask) -> tuple[Any, str, Any]:
    right = model.attentions_at

    def attentions_at(output: BlendMaskOutput, index: Tensor) -> Tensor:
        image, location = index.unbind(dim=1)
        ends = torch.tensor(output.level_sizes, device=index.device).cumsum(dim=0)
        first = torch.cat([ends.new_zeros(1), ends])
        level = torch.bucketize(location.contiguous(), ends, right=True)
        return right(output, torch.stack([image, location - first[level]], dim=1))

    return model, "attentions_at", attentions_at


def _next_object(model: BlendMask) -> tuple[Any, str, Any]:
    right = model.attentions_at
    return model, "attentions_at", lambda output, index: right(output, index).roll(1, dims=0)


def _softmax_first(model: BlendMask) -> tuple[Any, str, Any]:
    num_bases, size = _grid(model)

    def scores(attentions: Tensor, resolution: int) -> Tensor:
        maps = attentions.unflatten(1, (num_bases, size, size))
        return interpolate_attentions(maps.softmax(dim=1), resolution)

    return model.merger, "scores", scores


def _swapped_colors(model: BlendMask) -> tuple[Any, str, Any]:
    is_bgr = model.config.channel_order == "bgr"
    return model, "config", replace(model.config, channel_order="rgb" if is_bgr else "bgr")


def _grid(model: BlendMask) -> tuple[int, int]:
    """K and M."""
    return model.config.num_bases, model.config.attention_size


BUGS = {
    "half pixel": Bug(
        "RoIAlign takes a cell's corner for its center (aligned=False)",
        "every mask lost a rim on one side and gained one on the other",
        _half_pixel,
    ),
    "channel order": Bug(
        "the K*M*M attention numbers are read as (M, M, K)",
        "stripes: each grid holds numbers of all bases",
        _channels_last,
    ),
    "softmax first": Bug(
        "the softmax comes before the interpolation",
        "next to nothing, a few pixels where one base hands over to another",
        _softmax_first,
    ),
    "swapped colours": Bug(
        "the picture comes in the wrong order of red, green and blue",
        "here next to nothing: this network was trained with shuffled colours",
        _swapped_colors,
    ),
    "level index": Bug(
        "the location is counted from the start of its own level, not over all levels",
        "small objects are right, larger ones have another place's attentions",
        _level_index,
    ),
    "next object": Bug(
        "attentions and boxes are sorted differently: each object has its neighbour's",
        "masks fit where both objects have a like shape, and are wrong elsewhere",
        _next_object,
    ),
    "clipped crop": Bug(
        "boxes are clipped to the picture before the bases are cropped, not after",
        "only objects at the border change, and not for the worse",
        _clipped_crop,
    ),
}
