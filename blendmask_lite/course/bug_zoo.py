"""Famous bugs, put into a working model one at a time and taken out again.

Chapter 15. None of them crashes or changes a shape; some ruin every mask, others hardly any.
A bug replaces an attribute of one model inside a `with` block; the weights do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from blendmask_lite.boxes import clip_boxes
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.attention import interpolate_attentions
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import Blender
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.objects import look_at_objects
from blendmask_lite.research.oracles import predicted_boxes

__all__ = ["BUGS", "Bug", "Specimen", "infected", "observe"]


@dataclass(frozen=True)
class Bug:
    """A mistake, and the attribute of a model that it replaces."""

    mistake: str  # description for the student
    clue: str  # what the masks look like
    # model -> the object whose attribute changes, the attribute's name, and its new value.
    change: Callable[[BlendMask], tuple[Any, str, Any]]


@dataclass(frozen=True)
class Specimen:
    """Masks of the N true objects that some location learns, which are the same for every bug."""

    masks: Tensor  # (N, H, W) bool, over the boxes that the network predicts
    iou: Tensor  # (N,) IoU with the true masks, 0 to 1


@contextmanager
def infected(model: BlendMask, name: str) -> Iterator[BlendMask]:
    """The model with one bug, which is removed at the end, even after an error.

    Args:
        model: a model with a blender and more than one base; changed in place.
        name: name of a bug, a key of `BUGS`.

    Raises:
        ValueError: there is no such bug, or the model cannot have it.
    """
    if name not in BUGS:
        raise ValueError(f"bug {name!r}: the zoo has {', '.join(BUGS)}")
    if not isinstance(model.merger, Blender) or model.merger.num_bases == 1:
        raise ValueError("the bugs live in a blender with more than one base")
    with patch.object(*BUGS[name].change(model)):
        yield model


@torch.no_grad()
def observe(model: BlendMask, sample: Sample) -> Specimen:
    """The masks of an image's true objects, each at the location that learns it.

    Args:
        model: the model, with or without a bug.
        sample: an image with true masks.
    """
    objects = look_at_objects(model, sample)
    is_learned = objects.is_learned
    boxes = predicted_boxes(objects)[is_learned]
    logits = model.masks_at(objects.output, objects.index[is_learned], boxes)
    height, width = objects.masks.shape[-2:]
    # As in `place_detections`, masks fill the part of the box that is inside the image.
    pasted = paste_masks(logits, clip_boxes(boxes, (height, width)), (height, width))
    return Specimen(pasted, mask_iou(pasted, objects.masks[is_learned]))


def _half_pixel(model: BlendMask) -> tuple[Any, str, Any]:
    right, shift = model.crops_at, model.bottom.stride / 2

    def crops_at(output: BlendMaskOutput, image: Tensor, boxes: Tensor, **bases: Any) -> Tensor:
        return right(output, image, boxes + shift, **bases)

    return model, "crops_at", crops_at


def _clipped_crop(model: BlendMask) -> tuple[Any, str, Any]:
    right = model.crops_at

    def crops_at(output: BlendMaskOutput, image: Tensor, boxes: Tensor, **bases: Any) -> Tensor:
        sizes = [output.image_sizes[place] for place in image.tolist()]
        clipped = [clip_boxes(box[None], size) for box, size in zip(boxes, sizes, strict=True)]
        return right(output, image, torch.cat([boxes[:0], *clipped]), **bases)

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
    """The model's K and M."""
    return model.config.num_bases, model.config.attention_size


BUGS = {
    "half pixel": Bug(
        "RoIAlign takes a cell's corner for its center (aligned=False)",
        "every mask has lost a rim on one side and gained one on the other",
        _half_pixel,
    ),
    "channel order": Bug(
        "the K*M*M attention numbers are read as (M, M, K)",
        "stripes: each grid has numbers of all bases",
        _channels_last,
    ),
    "softmax first": Bug(
        "the softmax comes before the interpolation",
        "almost nothing: a few pixels change where one base takes over from another",
        _softmax_first,
    ),
    "swapped colours": Bug(
        "the image has red, green and blue in the wrong order",
        "almost nothing here: this network was trained with shuffled colours",
        _swapped_colors,
    ),
    "level index": Bug(
        "the location is counted from the start of its own level, not over all levels",
        "small objects are right, larger ones have the attentions of another place",
        _level_index,
    ),
    "next object": Bug(
        "attentions and boxes are sorted differently, so objects have each other's attentions",
        "masks fit if both objects have a similar shape, otherwise they are wrong",
        _next_object,
    ),
    "clipped crop": Bug(
        "boxes are clipped to the image before the bases are cropped, not after",
        "only objects at the border change, and they get no worse",
        _clipped_crop,
    ),
}
