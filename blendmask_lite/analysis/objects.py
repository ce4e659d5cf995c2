"""What all analyses look at: the true objects of pictures, each at the location that learns it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.datasets.sample import InstanceDataset, Sample
from blendmask_lite.datasets.transforms import resize_sample, resized_size
from blendmask_lite.masks import crop_masks
from blendmask_lite.model.blendmask import BlendMask, evaluating
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.training.targets import object_locations

__all__ = ["TrueObjects", "look_at_objects", "true_objects"]


@dataclass(frozen=True)
class TrueObjects:
    """One picture, its N true objects and what a model computed for it.

    Attributes:
        image: (3, H, W) at the size that the model saw.
        output: of the model for this picture alone.
        index: (N, 2) int64 pairs (0, location): the location that stands for each object.
        is_learned: (N,) bool, whether that location learns the object; smaller ones may have taken
            all of a large one's.
        boxes: (N, 4) true corners, pixels.
        labels: (N,) int64.
        masks: (N, H, W) bool.
        mask_crops: (N, R, R) bool, the masks over the boxes.
        image_id: of the data set.
    """

    image: Tensor
    output: BlendMaskOutput
    index: Tensor
    is_learned: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    mask_crops: Tensor
    image_id: int

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def look_at_objects(model: BlendMask, sample: Sample) -> TrueObjects:
    """Run a model on a picture at its test size. The model's mode is afterwards what it was.

    Raises:
        ValueError: a sample without masks.
    """
    if sample.target.masks is None:
        raise ValueError(f"image {sample.image_id}: its objects have no masks")
    height, width = sample.image.shape[-2:]
    settings = model.inference
    size = resized_size((height, width), settings.test_size, settings.max_size)
    sample = resize_sample(sample, size)
    target = sample.target.to(model.device)
    assert target.masks is not None
    with evaluating(model):
        output = model([sample.image.to(model.device)])
    location, is_learned = object_locations(output, target, model.config)
    boxes = target.boxes.float()
    return TrueObjects(
        image=sample.image,
        output=output,
        index=F.pad(location[:, None], (1, 0)),
        is_learned=is_learned,
        boxes=boxes,
        labels=target.labels,
        masks=target.masks,
        mask_crops=crop_masks(target.masks, boxes, model.config.mask_size),
        image_id=sample.image_id,
    )


def true_objects(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    max_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[TrueObjects]:
    """Picture after picture; see `look_at_objects`. Pictures without objects come, too.

    Args:
        model: to look at.
        dataset: with masks.
        max_images: the first so many only.
        progress: called with (done, total).

    Raises:
        ValueError: no pictures.
    """
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    if total < 1:
        raise ValueError(f"a data set of {len(dataset)} images, {max_images} wanted: at least 1")
    for index in range(total):
        yield look_at_objects(model, dataset.load(index))
        if progress is not None:
            progress(index + 1, total)
