"""What a model makes of a few images at one moment of its training, object by object.

Detections come and go while the model learns. So every true object is followed at one fixed
location, with its true box: its attentions and its mask exist from the first step on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.boxes import ltrb_to_xyxy
from blendmask_lite.config import InferenceConfig
from blendmask_lite.datasets.sample import Sample, TrainingDataset
from blendmask_lite.datasets.transforms import resize_sample, resized_size
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import evaluating
from blendmask_lite.structures import Detections, Target
from blendmask_lite.training.targets import object_locations

__all__ = ["PictureSnapshot", "Snapshot", "choose_pictures", "snapshot_iterations", "take_snapshot"]

MOST_OBJECTS = 12  # followed in an image, the largest ones
MOST_DETECTIONS = 12  # kept of an image, the best ones


@dataclass(frozen=True)
class PictureSnapshot:
    """One image at one moment: N true objects that are followed, and what was found.

    Attributes:
        bases: (K, H/s, W/s) of the padded input.
        location_index: (N,) int64, the location on the flattened pyramid that stands for each
            object, the same at all times.
        attentions: (N, k, m, m) raw attentions of these locations: K maps of M x M; single
            cells if the merger has one number a base.
        mask_probabilities: (N, R, R) over the true boxes.
        mask_iou: (N,) of these masks with the true ones, in pixels of the picture; 0 to 1.
        scores: (N,) sqrt(probability of the true class x centerness) at the locations.
        predicted_boxes: (N, 4) what the locations say, corners, pixels.
        detections: the best ones found, as `BlendMask.predict` gives them.
    """

    bases: Tensor
    location_index: Tensor
    attentions: Tensor
    mask_probabilities: Tensor
    mask_iou: Tensor
    scores: Tensor
    predicted_boxes: Tensor
    detections: Detections


@dataclass(frozen=True)
class Snapshot:
    """All pictures at one moment.

    Attributes:
        iteration: optimizer steps done; 0 is the model before training.
        pictures: one entry a picture.
    """

    iteration: int
    pictures: tuple[PictureSnapshot, ...]


def snapshot_iterations(number: int, iterations: int) -> tuple[int, ...]:
    """When to take snapshots: at 0, at the end, and in between more often early, when more changes.

    Our choice: cubes of even steps. Even steps themselves would miss the beginning, and powers the
    end.

    Args:
        number: how many, at least 2; a run of fewer iterations has fewer.
        iterations: of the run.

    Raises:
        ValueError: fewer than 2.
    """
    if number < 2:
        raise ValueError(f"{number} snapshots: at least 2, of the beginning and of the end")
    chosen = [-1]
    for place in range(number):
        cube = (place / (number - 1)) ** 3
        chosen.append(max(chosen[-1] + 1, round(cube * iterations)))
    return tuple(sorted({min(iteration, iterations) for iteration in chosen[1:]}))


def choose_pictures(
    dataset: TrainingDataset, inference: InferenceConfig, number: int
) -> tuple[Sample, ...]:
    """The first images with objects, at the model's test size.

    Args:
        dataset: to choose from.
        inference: `test_size` and `max_size` are read.
        number: how many at most.

    Returns:
        Samples with masks; of each image the 12 largest objects, largest first.
    """
    chosen: list[Sample] = []
    for index in range(len(dataset)):
        if len(chosen) == number:
            break
        sample = dataset.load(index)
        height, width = sample.image.shape[-2:]
        size = resized_size((height, width), inference.test_size, inference.max_size)
        sample = resize_sample(sample, size)
        masks = sample.target.masks
        if masks is None:
            continue
        areas = masks.flatten(1).sum(dim=1)
        largest = areas.argsort(descending=True, stable=True)[:MOST_OBJECTS]
        largest = largest[areas[largest] > 0]
        if len(largest):
            target = Target(
                boxes=sample.target.boxes[largest],
                labels=sample.target.labels[largest],
                masks=masks[largest],
            )
            chosen.append(replace(sample, target=target))
    return tuple(chosen)


@torch.no_grad()
def take_snapshot(model: BlendMask, samples: Sequence[Sample]) -> tuple[PictureSnapshot, ...]:
    """Run the model on every image, in evaluation mode; its mode is afterwards what it was.

    Args:
        model: to look at.
        samples: with masks, at the size that the model is to see.

    Returns:
        One entry a sample, on the CPU.
    """
    with evaluating(model):
        return tuple(_look_at(model, sample) for sample in samples)


def _look_at(model: BlendMask, sample: Sample) -> PictureSnapshot:
    target = sample.target.to(model.device)
    assert target.masks is not None
    output = model([sample.image.to(model.device)])
    location, _ = object_locations(output, target, model.config)
    index = F.pad(location[:, None], (1, 0))  # (N, 2), image 0
    boxes = target.boxes.float()
    logits = model.masks_at(output, index, boxes).float()
    attentions = model.attentions_at(output, index).float()
    size = getattr(model.merger, "attention_size", 1)
    num_maps = attentions.shape[1] // size**2
    class_logits = output.class_logits[0, location, target.labels].float()
    centerness = output.centerness_logits[0, location].float().sigmoid()
    threshold = model.inference.mask_threshold
    height, width = sample.image.shape[-2:]
    pasted = paste_masks(logits, boxes, (height, width), threshold)
    predicted = ltrb_to_xyxy(output.locations[location], output.ltrb[0, location])
    found = model.find_objects(output, max_detections=MOST_DETECTIONS)[0]
    return PictureSnapshot(
        bases=output.bases[0].float().cpu(),
        location_index=location.cpu(),
        attentions=attentions.unflatten(1, (num_maps, size, size)).cpu(),
        mask_probabilities=logits.sigmoid().cpu(),
        mask_iou=mask_iou(pasted, target.masks).cpu(),
        scores=(class_logits.sigmoid() * centerness).sqrt().cpu(),
        predicted_boxes=predicted.cpu(),
        detections=found.to("cpu"),
    )
