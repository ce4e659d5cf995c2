"""The vocabulary: what an image contains (`Target`) and what the model finds in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from blendmask_lite.masks import Region, mask_parts, paste_masks, paste_parts

__all__ = [
    "UNLABELLED",
    "Detections",
    "FoundObjects",
    "PanopticResult",
    "Segment",
    "Target",
    "UnpastedDetections",
]

UNLABELLED = 255  # in a stuff map: the annotation does not say what the pixel is

T = TypeVar("T", bound="Target | _Objects")


@dataclass(frozen=True)
class Target:
    """The true objects of one image, N of them; N = 0 is an image without objects.

    Crowd regions do not count as objects: they appear in `semantic` only.

    Attributes:
        boxes: (N, 4) corners (x0, y0, x1, y1), pixels of the image.
        labels: (N,) int64, 0 to C-1.
        masks: (N, H, W) bool; H and W are the image's, before padding. None if `mask_crops`
            replace them, or if no masks are learned.
        mask_crops: (N, R, R) bool, each mask cropped to its box and resized; takes precedence over
            `masks`.
        semantic: (H, W) integers, 0 is background and class c is c + 1. If None, it is drawn from
            `masks`.
        stuff: (H, W) uint8, 0 is things, 1 to S the kinds of stuff and 255 unlabelled; for models
            with a panoptic branch.
        semantic_cells: (ceil(H / 8), ceil(W / 8)) integers, `semantic` at every eighth pixel, which
            is all that the semantic loss reads; takes precedence over `semantic` and `masks`.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    mask_crops: Tensor | None = None
    semantic: Tensor | None = None
    stuff: Tensor | None = None
    semantic_cells: Tensor | None = None

    def __post_init__(self) -> None:
        num = len(self.labels)
        if self.boxes.shape != (num, 4):
            raise ValueError(f"boxes {tuple(self.boxes.shape)}: {num} labels need ({num}, 4)")
        for name in ("masks", "mask_crops"):
            value = getattr(self, name)
            if value is not None and (value.dim() != 3 or len(value) != num):
                raise ValueError(f"{name} {tuple(value.shape)}: {num} labels need ({num}, ., .)")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Target:
        """The same target on another device; `non_blocking` as in `Tensor.to`."""
        return _changed(self, lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Target:
        """The same target in pinned memory, from which a GPU copies while the CPU goes on."""
        return _changed(self, Tensor.pin_memory)


class FoundObjects(Protocol):
    """What an evaluation needs to know about the objects that any detector found in one image."""

    @property
    def boxes(self) -> Tensor:
        """(N, 4) corners, pixels of the stored picture."""
        ...

    @property
    def scores(self) -> Tensor:
        """(N,) from 0 to 1."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0 to C-1."""
        ...

    @property
    def masks(self) -> Tensor:
        """(N, H, W) bool at the size of the stored picture."""
        ...


@dataclass(frozen=True)
class _Objects:
    """What `Detections` and `UnpastedDetections` share."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor
    location_index: Tensor
    proposal_boxes: Tensor
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> Self:
        """Some of the detections, selected by a slice, a list of positions, or a boolean mask."""
        return _changed(self, lambda value: value[index])

    def to(self, device: torch.device | str) -> Self:
        """The same detections on another device."""
        return _changed(self, lambda value: value.to(device))


@dataclass(frozen=True)
class Detections(_Objects):
    """The objects found in one image, N of them, best first.

    Attributes:
        boxes: (N, 4) corners, pixels of the output image, clipped to it.
        scores: (N,) sqrt(class probability x centerness), 0 to 1.
        labels: (N,) int64, 0 to C-1.
        mask_logits: (N, R, R) float, over `proposal_boxes`.
        location_index: (N,) int64, the location on the flattened pyramid that found the object.
        proposal_boxes: (N, 4) the boxes that the bases were cropped with, pixels of the padded
            input; they may reach outside it.
        image_size: (H, W) of the output.
        masks: (N, H, W) bool at the output size.
    """

    masks: Tensor

    def mask_parts(self, *, is_reversed: bool = False) -> Iterator[tuple[Region, Tensor]]:
        """For each mask, a region that contains it, and the (h, w) bool pixels in that region."""
        for place in range(len(self))[:: -1 if is_reversed else 1]:
            yield from mask_parts(self.masks[place, None])


@dataclass(frozen=True)
class UnpastedDetections(_Objects):
    """Detections whose masks are still R x R cells over their boxes.

    The masks of a hundred objects in a 12-megapixel photograph take more than a gigabyte. Here
    they are made one at a time, each only inside its box. All other fields are those of
    `Detections`.

    Attributes:
        mask_threshold: probability from which a pixel belongs to the mask.
    """

    mask_threshold: float

    @property
    def masks(self) -> Tensor:
        """(N, H, W) bool at the output size, pasted at every call."""
        return paste_masks(self.mask_logits, self.boxes, self.image_size, self.mask_threshold)

    def mask_parts(self, *, is_reversed: bool = False) -> Iterator[tuple[Region, Tensor]]:
        """For each mask, a region that contains it, and the (h, w) bool pixels in that region.

        They are on the CPU, whatever device the detections are on.
        """
        order = list(range(len(self)))[:: -1 if is_reversed else 1]
        logits, boxes = (values.cpu()[order] for values in (self.mask_logits, self.boxes))
        return paste_parts(logits, boxes, self.image_size, self.mask_threshold)

    def pasted(self) -> Detections:
        """The same detections with whole-image masks."""
        values = dict(vars(self))
        del values["mask_threshold"]
        return Detections(**values, masks=self.masks)


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic result: an instance, or all pixels of one kind of stuff.

    Attributes:
        id: its number in `PanopticResult.ids`, from 1.
        label: 0 to C-1 for an instance; 1 to S for stuff, as in `Target.stuff`.
        area: pixels.
        score: the instance's score, 0 to 1; None for stuff.
        instance_index: its position in the `Detections` that were merged; None for stuff.
    """

    id: int
    label: int
    area: int
    score: float | None = None
    instance_index: int | None = None

    @property
    def is_thing(self) -> bool:
        """Whether it is an instance."""
        return self.instance_index is not None


@dataclass(frozen=True)
class PanopticResult:
    """Instances and stuff of one image, without overlaps.

    Attributes:
        ids: (H, W) int32 at the output size: the segment that a pixel belongs to, 0 for none.
        segments: first the instances, best first, then stuff by label.
    """

    ids: Tensor
    segments: list[Segment]

    def to(self, device: torch.device | str) -> PanopticResult:
        """The same result on another device."""
        return replace(self, ids=self.ids.to(device))


def _changed(record: T, change: Callable[[Tensor], Tensor]) -> T:
    """The record with all of its tensors changed."""
    tensors = {name: value for name, value in vars(record).items() if isinstance(value, Tensor)}
    changed: dict[str, Any] = {name: change(value) for name, value in tensors.items()}
    return replace(record, **changed)
