"""Data sets of images and torchvision's target dicts, for training and evaluation.

Chapter 12 of the course. torchvision's guide "TorchVision Object Detection Finetuning" describes
these dicts; `TorchvisionDataset` refuses one that does not fit, naming the item and the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from blendmask_lite.datasets.coco_format import instances_content
from blendmask_lite.datasets.sample import Sample, with_images
from blendmask_lite.masks import mask_boxes, semantic_map
from blendmask_lite.structures import Target

__all__ = ["ImagesWithTargets", "TorchvisionDataset"]


class ImagesWithTargets(Protocol):
    """A `torch.utils.data.Dataset` whose items are pairs of an image and a target dict."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, index: int, /) -> Any:
        """(image, target) at a 0-based position."""


class TorchvisionDataset:
    """A data set of images and target dicts, of the kind that torchvision's detectors train on.

    An image is a tensor or tv_tensor (3, H, W), uint8 or float in [0, 1], or a PIL image. For N
    objects (N may be 0), its dict has:

    - "boxes": (N, 4) corners (x0, y0, x1, y1), pixels, x0 < x1 and y0 < y1;
    - "labels": (N,) integers, starting at `first_label`;
    - "masks": (N, H, W) bool, or uint8 of 0 and 1;
    - "iscrowd" (optional): (N,) 0 or 1. Crowds are not learned, and detections on them do not count
      as wrong;
    - "area" (optional): (N,) pixels, by which evaluation tells small objects from large ones; by
      default the number of pixels in the mask.

    Other entries are ignored, including "image_id": an image's id is its position. If a dict has no
    boxes, labels and masks, its image has no objects. Objects whose masks have no pixels are left
    out.

    Items are read again at every use. Random augmentation belongs in the training's settings: if
    items changed from use to use, a continued run would differ from an uninterrupted one, and an
    evaluation would compare detections with objects of an image that the model has not seen.

    Args:
        dataset: data set of pairs (image, dict).
        class_names: C names, in the order of the labels, without background.
        first_label: the label of `class_names[0]` in the dicts: 0, or 1 as in torchvision's models,
            for which 0 is background.

    Attributes:
        category_ids: C category ids for results: the labels in the dicts.
        image_ids: positions in `dataset`.

    Raises:
        ValueError: there are no classes, a name is repeated, or the first label is neither 0 nor 1.
            `load`, `load_image` and `ground_truth` raise it for an item that does not fit.
    """

    stuff_names: tuple[str, ...] = ()

    def __init__(
        self, dataset: ImagesWithTargets, *, class_names: Sequence[str], first_label: int
    ) -> None:
        self.class_names = tuple(class_names)
        if isinstance(class_names, str) or not 0 < len(set(self.class_names)) == len(class_names):
            raise ValueError(f"class_names = {class_names!r}: must be different names, at least 1")
        if first_label not in (0, 1):
            raise ValueError(
                f"first_label = {first_label!r}: must be 1 if label 0 is background, as in "
                "torchvision's models, or 0 if it is the first class"
            )
        self.dataset = dataset
        self.first_label = first_label
        self.category_ids = tuple(range(first_label, first_label + len(self.class_names)))
        self.image_ids = tuple(range(len(dataset)))

    def __len__(self) -> int:
        return len(self.image_ids)

    def load(self, index: int) -> Sample:
        """The image at a position of `image_ids`, not resized, and its objects."""
        image, target, is_crowd, _ = self._item(index)
        assert target.masks is not None
        is_object = target.masks.flatten(1).any(dim=1) & ~is_crowd
        height, width = image.shape[-2:]
        return Sample(
            image=image,
            target=Target(
                boxes=target.boxes[is_object],
                labels=target.labels[is_object],
                masks=target.masks[is_object],
                semantic=semantic_map(target.masks, target.labels),
            ),
            image_id=self.image_ids[index],
            original_size=(height, width),
        )

    def load_image(self, index: int) -> Tensor:
        """(3, H, W) uint8, RGB: the image of `load`."""
        return self._item(index)[0]

    def select(self, image_ids: Sequence[int]) -> Self:
        """The same data set with these images only, in this order."""
        return with_images(self, image_ids, source=type(self.dataset).__name__)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of `image_ids` in COCO's format; reads all items."""
        more: list[tuple[bool, float | None]] = []

        def samples() -> Iterator[Sample]:
            for index, image_id in enumerate(self.image_ids):
                image, target, is_crowd, areas = self._item(index)
                own = [None] * len(target) if areas is None else areas.tolist()
                more.extend(zip(is_crowd.tolist(), own, strict=True))
                height, width = image.shape[-2:]
                yield Sample(image, target, image_id, (height, width))

        content = instances_content(samples(), self.class_names, self.category_ids)
        for record, (crowd, area) in zip(content["annotations"], more, strict=True):
            record["iscrowd"] = int(crowd)
            if area is not None:
                record["area"] = area
        return content

    def _item(self, index: int) -> tuple[Tensor, Target, Tensor, Tensor | None]:
        """The image, all its objects, (N,) bool: whether each is a crowd, and areas if given."""
        item = _Item(self.image_ids[index], self.dataset)
        labels = item.labels(self.first_label, len(self.class_names))
        masks = item.masks(len(labels))
        target = Target(boxes=item.boxes(masks), labels=labels, masks=masks)
        return item.image, target, item.crowds(len(labels)), item.areas(len(labels))


INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
NUMBERS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, *INTEGERS)


class _Item:
    """One pair (image, dict); each part is checked when it is read."""

    def __init__(self, place: int, dataset: ImagesWithTargets) -> None:
        self.place = place
        item = dataset[place]
        if not (isinstance(item, tuple | list) and len(item) == 2):
            self._refuse(f"is {_described(item)}, expected a pair (image, target)")
        image, target = item
        if not isinstance(target, Mapping):
            self._refuse(f"its target is {_described(target)}, expected a dict")
        self.image = self._read_image(image)
        self.target: Mapping[str, Any] = target
        if not target.keys() & {"boxes", "labels", "masks"}:
            masks = torch.zeros((0, *self.image.shape[-2:]), dtype=torch.bool)
            labels = torch.zeros(0, dtype=torch.int64)
            self.target = {"boxes": torch.zeros(0, 4), "labels": labels, "masks": masks}

    def labels(self, first: int, num_classes: int) -> Tensor:
        """(N,) int64, 0 to C-1."""
        labels = self._field("labels", (None,), INTEGERS, "(N,) integers").long() - first
        if len(wrong := labels[(labels < 0) | (labels >= num_classes)]):
            self._refuse(
                f"target['labels'] holds {int(wrong[0]) + first}, expected {first} to "
                f"{first + num_classes - 1} ({num_classes} class names, first_label = {first})"
            )
        return labels

    def masks(self, num: int) -> Tensor:
        """(N, H, W) bool."""
        height, width = self.image.shape[-2:]
        words = f"({num}, {height}, {width}) bool, or uint8 of 0 and 1, by its labels and image"
        masks = self._field("masks", (num, height, width), (torch.bool, torch.uint8), words)
        if masks.dtype == torch.uint8 and masks.numel() and (most := int(masks.max())) > 1:
            self._refuse(f"target['masks'] holds {most}, expected {words}")
        return masks.bool()

    def boxes(self, masks: Tensor) -> Tensor:
        """(N, 4) float32 corners, pixels."""
        given = self.target.get("boxes")
        if isinstance(given, BoundingBoxes) and given.format != BoundingBoxFormat.XYXY:
            self._refuse(f"target['boxes'] is in the format {given.format.name}, expected XYXY")
        words = f"({len(masks)}, 4) numbers, by its labels"
        boxes = self._field("boxes", (len(masks), 4), NUMBERS, words).float()
        tight = mask_boxes(masks)
        shared = torch.minimum(boxes, tight)[:, 2:] - torch.maximum(boxes, tight)[:, :2]
        is_apart = (shared <= 0).any(dim=1) & (tight[:, 2] > 0)
        format_of = "expected x0, y0, x1, y1 with x0 < x1 and y0 < y1, not x, y, width, height"
        for is_wrong, reason in (
            (~boxes.isfinite().all(dim=1), "which is not finite"),
            ((boxes[:, 2:] <= boxes[:, :2]).any(dim=1), format_of),
            (is_apart, f"which its mask does not meet; {format_of}"),
        ):
            for place in is_wrong.nonzero().flatten().tolist():
                numbers = ", ".join(f"{side:g}" for side in boxes[place].tolist())
                self._refuse(f"target['boxes'] holds ({numbers}) for object {place}, {reason}")
        return boxes

    def crowds(self, num: int) -> Tensor:
        """(N,) bool."""
        if "iscrowd" not in self.target:
            return torch.zeros(num, dtype=torch.bool)
        words = f"({num},) of 0 and 1, by its labels"
        crowds = self._field("iscrowd", (num,), (torch.bool, *NUMBERS), words)
        if not ((crowds == 0) | (crowds == 1)).all():
            self._refuse(f"target['iscrowd'] holds {crowds.tolist()}, expected {words}")
        return crowds.bool()

    def areas(self, num: int) -> Tensor | None:
        """(N,) pixels; None if not given."""
        if "area" not in self.target:
            return None
        words = f"({num},) numbers of at least 0, by its labels"
        areas = self._field("area", (num,), NUMBERS, words)
        if not (areas.isfinite() & (areas >= 0)).all():
            self._refuse(f"target['area'] holds {areas.tolist()}, expected {words}")
        return areas

    def _read_image(self, image: object) -> Tensor:
        """(3, H, W) uint8, RGB."""
        if isinstance(image, Image.Image):
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
        words = "(3, H, W) uint8, or float in [0, 1], or a PIL image"
        if not isinstance(image, Tensor) or image.dim() != 3 or len(image) != 3:
            self._refuse(f"its image is {_described(image)}, expected {words}")
        pixels = image.detach().cpu().as_subclass(Tensor)
        if pixels.dtype == torch.uint8:
            return pixels
        least, most = pixels.min().item(), pixels.max().item()
        if not (pixels.is_floating_point() and 0 <= least <= most <= 1):
            self._refuse(
                f"its image is {_described(pixels)} from {least:.3g} to {most:.3g}, expected "
                f"{words}; the model normalizes"
            )
        return (pixels * 255).round().to(torch.uint8)

    def _field(
        self, name: str, shape: tuple[int | None, ...], dtypes: Sequence[torch.dtype], words: str
    ) -> Tensor:
        if name not in self.target:
            self._refuse(f"target[{name!r}] is missing, expected {words}")
        value = self.target[name]
        fits = isinstance(value, Tensor) and value.dtype in dtypes and value.dim() == len(shape)
        if not fits or any(s not in (None, own) for s, own in zip(shape, value.shape, strict=True)):
            self._refuse(f"target[{name!r}] is {_described(value)}, expected {words}")
        return value.detach().cpu().as_subclass(Tensor)

    def _refuse(self, text: str) -> NoReturn:
        raise ValueError(f"item {self.place}: {text}")


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"of type {type(value).__name__}"
