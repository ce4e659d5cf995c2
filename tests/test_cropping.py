"""The random window: what it keeps, what it recomputes, where it may lie."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from blendmask_lite import Target
from blendmask_lite.datasets.cropping import crop_sample, draw_window
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.transforms import TrainTransform
from blendmask_lite.training.presets import TRAIN_PRESETS


def sample_of(*boxes, size=(40, 60)):
    """A sample whose masks fill the given boxes (x0, y0, x1, y1)."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    target = Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        masks=masks,
        semantic=masks.any(dim=0).long() if len(boxes) else torch.zeros(size, dtype=torch.int64),
        stuff=torch.full(size, 2, dtype=torch.uint8),
    )
    image = torch.arange(size[0] * size[1]).reshape(1, *size).expand(3, -1, -1) % 251
    return Sample(image=image.to(torch.uint8), target=target, image_id=9, original_size=size)


def test_a_window_cuts_masks_maps_and_image_and_measures_boxes_again():
    sample = sample_of((5, 5, 30, 20), (50, 30, 60, 40))
    cut = crop_sample(sample, (10, 8, 38, 48))
    assert cut.image.equal(sample.image[:, 10:38, 8:48])
    assert cut.target.boxes.tolist() == [[0, 0, 22, 10]]  # the second lies outside
    assert cut.target.labels.tolist() == [0]
    assert cut.target.masks.shape == (1, 28, 40)
    assert cut.target.semantic.equal(sample.target.semantic[10:38, 8:48])
    assert cut.target.stuff.shape == (28, 40)
    assert cut.original_size == (40, 60)


def test_windows_hold_the_center_of_an_object_and_are_as_large_as_told():
    sample = sample_of((0, 0, 6, 6), (52, 30, 60, 40))
    centers = [(3, 3), (35, 56)]
    held, tops = set(), set()
    for seed in range(200):
        y0, x0, y1, x1 = draw_window(sample, 0.5, random.Random(seed))
        assert 0 <= y0 < y1 <= 40 and 0 <= x0 < x1 <= 60
        assert 20 <= y1 - y0 <= 40 and 30 <= x1 - x0 <= 60
        found = [i for i, (y, x) in enumerate(centers) if y0 <= y <= y1 and x0 <= x <= x1]
        assert found
        held |= set(found)
        tops.add(y0)
    assert held == {0, 1}
    assert len(tops) > 10


def test_a_picture_without_objects_is_cropped_anywhere():
    sample = sample_of()
    corners = {draw_window(sample, 0.9, random.Random(seed))[:2] for seed in range(50)}
    assert len(corners) > 10
    cut = crop_sample(sample, (0, 0, 36, 54))
    assert cut.target.boxes.shape == (0, 4) and cut.target.masks.shape == (0, 36, 54)


def test_the_whole_picture_is_a_window():
    sample = sample_of((5, 5, 30, 20))
    assert draw_window(sample, 1.0, random.Random(0)) == (0, 0, 40, 60)
    assert crop_sample(sample, (0, 0, 40, 60)).target.boxes.equal(sample.target.boxes)


def test_cropping_without_masks_is_refused_with_the_image():
    sample = sample_of((5, 5, 30, 20))
    blind = replace(sample, target=replace(sample.target, masks=None))
    with pytest.raises(ValueError, match="image 9"):
        crop_sample(blind, (0, 0, 10, 10))


def test_training_transform_crops_first():
    sample = sample_of((5, 5, 30, 20))
    transform = TrainTransform(train_sizes=(80,), max_size=200, flip=False, crop=0.5)
    widths = {transform(sample, random.Random(seed)).image.shape[2] for seed in range(20)}
    assert len(widths) > 5  # of windows of all shapes, each 80 pixels on its shorter side
    assert TRAIN_PRESETS["r101_dcni3"].crop == 0.9
    with pytest.raises(ValueError, match="crop = 0"):
        replace(TRAIN_PRESETS["r50"], crop=0.0)
