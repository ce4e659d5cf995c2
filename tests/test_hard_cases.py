"""Hard cases of the shapes: named scenes with what makes them hard."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from blendmask_lite.datasets.shapes.hard_cases import HARD_CASES, draw_hard_case
from blendmask_lite.datasets.shapes.scene import scene_sample


@pytest.mark.parametrize("name", HARD_CASES)
def test_every_object_of_a_hard_case_is_seen_and_none_is_cut_off(name):
    for seed in range(5):
        scene = draw_hard_case(name, seed=seed)
        assert len(scene.masks) == len(HARD_CASES[name])
        assert scene.masks.sum(axis=(1, 2)).min() >= 100
        assert not scene.masks[:, [0, -1]].any()
        assert not scene.masks[:, :, [0, -1]].any()
        assert np.array_equal(scene.image, draw_hard_case(name, seed=seed).image)


def boxes_of(name, seed=0):
    return scene_sample(draw_hard_case(name, seed=seed), 0).target.boxes.float()


@pytest.mark.parametrize("name", ["star in ring", "three with one center"])
def test_objects_with_one_center_lie_in_each_others_boxes(name):
    boxes = boxes_of(name)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert torch.cdist(centers, centers).max() < 4
    assert (boxes[:-1, :2] > boxes[1:, :2]).all()
    assert (boxes[:-1, 2:] < boxes[1:, 2:]).all()


@pytest.mark.parametrize("name", ["touching twins", "overhang", "crossing worms"])
def test_neighbours_of_a_hard_case_overlap(name):
    for seed in range(5):
        boxes = boxes_of(name, seed)
        assert (box_iou(boxes[:-1], boxes[1:]).diagonal() > 0).all()


def test_larger_hard_case_shows_the_same_scene():
    small, large = draw_hard_case("overhang"), draw_hard_case("overhang", size=256)
    halves = large.masks.reshape(3, 128, 2, 128, 2).mean(axis=(2, 4))
    assert ((halves > 0.5) == small.masks).mean() > 0.99


def test_unknown_hard_case_is_refused():
    with pytest.raises(ValueError, match="touching twins"):
        draw_hard_case("easy")
