"""Box and mask geometry; expected numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou

from blendmask_lite import masks as mask_geometry
from blendmask_lite.boxes import (
    centerness,
    clip_boxes,
    ltrb_giou,
    ltrb_to_xyxy,
    scale_boxes,
    xyxy_to_ltrb,
)
from blendmask_lite.masks import (
    _paste_whole,
    boundary_iou,
    crop_masks,
    mask_boxes,
    mask_parts,
    paste_masks,
    paste_parts,
    semantic_map,
)


def test_ltrb_and_corners_are_inverse():
    locations = torch.tensor([[4.0, 4.0], [12.0, 20.0]])
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    ltrb = xyxy_to_ltrb(locations, boxes)[:, 0]
    assert ltrb.tolist() == [[3, 2, 26, 36], [11, 18, 18, 20]]
    assert ltrb_to_xyxy(locations, ltrb).equal(boxes.expand(2, 4))


def test_ltrb_refuses_another_number_of_locations():
    with pytest.raises(ValueError, match="2 locations but 3 distances"):
        ltrb_to_xyxy(torch.zeros(2, 2), torch.zeros(3, 4))


def test_centerness_is_one_in_the_middle_and_falls_to_the_side():
    ltrb = torch.tensor([[5.0, 5, 5, 5], [2, 4, 8, 4], [0, 1, 2, 1]])
    assert centerness(ltrb).tolist() == pytest.approx([1, math.sqrt(1 / 4), 0])


def test_clip_and_scale():
    boxes = torch.tensor([[-3.0, -1, 50, 90]])
    assert clip_boxes(boxes, (80, 40)).tolist() == [[0, 0, 40, 80]]
    assert scale_boxes(boxes, (10, 20), (20, 20)).tolist() == [[-3, -2, 50, 180]]


def test_giou_equals_torchvisions_where_the_smoothing_vanishes():
    predicted = torch.tensor([[30.0, 20, 10, 40], [5, 5, 50, 5]])
    target = torch.tensor([[10.0, 20, 30, 40], [40, 30, 5, 5]])
    origin = torch.zeros(2, 2)
    expected = generalized_box_iou(ltrb_to_xyxy(origin, predicted), ltrb_to_xyxy(origin, target))
    got = ltrb_giou(predicted, target, torch.full((2,), 1e-4))
    assert torch.allclose(got, expected.diagonal(), atol=1e-5)


def test_giou_in_pixels_equals_the_released_codes_in_strides():
    predicted, target = torch.tensor([[3.0, 2, 1, 4]]), torch.tensor([[1.0, 2, 3, 4]])
    # in strides: inner 1,2,1,4 -> 12, areas 24 and 24, union 36, hull 3,2,3,4 -> 36
    expected = (12 + 1) / (36 + 1) - (36 - 36) / 36
    got = ltrb_giou(predicted * 8, target * 8, torch.tensor([8.0]))
    assert got.item() == pytest.approx(expected)


def random_paste_case():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, 7, 7, generator=generator)
    boxes = torch.tensor(
        [
            [2.3, 4.1, 20.7, 30.2],
            [-8, -6, 12.5, 9],
            [30, 10, 60, 70],
            [5, 5, 5.5, 5.5],
            [0, 0, 40, 48],
        ]
    )
    return logits, boxes, (48, 40)


def test_pasting_equals_grid_sampling():
    logits, boxes, size = random_paste_case()
    masks = paste_masks(logits, boxes, size)
    ys, xs = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    for logit, box, mask in zip(logits, boxes, masks, strict=True):
        x = (xs - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (ys - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
        soft = F.grid_sample(logit.sigmoid()[None, None], grid, align_corners=False)[0, 0]
        is_certain = (soft - 0.5).abs() > 1e-4
        assert mask[is_certain].equal((soft >= 0.5)[is_certain])


def test_both_ways_of_pasting_agree():
    logits, boxes, size = random_paste_case()
    whole = _paste_whole(logits.sigmoid(), boxes, size, 0.5)
    assert paste_masks(logits, boxes, size).equal(whole)


def test_a_full_mask_fills_its_box_and_an_empty_box_nothing():
    logits = torch.full((2, 4, 4), 20.0)
    boxes = torch.tensor([[2.0, 1, 6, 5], [3, 3, 3, 3]])
    masks = paste_masks(logits, boxes, (8, 8))
    assert mask_boxes(masks).tolist() == [[2, 1, 6, 5], [0, 0, 0, 0]]
    assert masks[0].sum() == 16


def test_pasting_nothing_gives_nothing():
    assert paste_masks(torch.zeros(0, 7, 7), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


def test_mask_boxes_are_tight_and_exclusive_to_the_right():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2, 3] = True
    masks[1, 1:4, 0:8] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 4, 3], [0, 1, 8, 4]]


def test_crop_of_a_mask_over_its_own_box_is_full():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[0, 4:12, 6:16] = True
    box = mask_boxes(mask)
    assert crop_masks(mask, box, 7).all()
    # Twice as wide a box: the right half of the crop is empty.
    box[0, 2] = 26
    crop = crop_masks(mask, box, 8)[0]
    assert crop[:, :4].all()
    assert not crop[:, 4:].any()


def test_later_instances_lie_over_earlier_ones_in_the_semantic_map():
    masks = torch.tensor([[[1, 1, 0]], [[0, 1, 0]]], dtype=torch.bool)
    assert semantic_map(masks, torch.tensor([4, 1])).tolist() == [[5, 2, 0]]


@pytest.mark.parametrize("num_at_once", [1, 3, 100])
def test_masks_pasted_part_by_part_are_those_pasted_into_whole_images(monkeypatch, num_at_once):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 14, 14, generator=generator)
    corners = torch.rand(7, 4, generator=generator) * torch.tensor([20.0, 20, 40, 40])
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 0.5], dim=1)
    boxes[0] = torch.tensor([0.0, 0.0, 37.0, 29.0])  # all of the image
    boxes[1] = torch.tensor([5.0, 5.0, 5.0, 20.0])  # without width
    boxes[2] = torch.tensor([50.0, 5.0, 60.0, 20.0])  # beyond the image
    monkeypatch.setattr(mask_geometry, "PASTE_WEIGHTS", num_at_once * (29 + 37) * 14)
    expected = _paste_whole(logits.sigmoid(), boxes, (29, 37), 0.5)
    assert paste_masks(logits, boxes, (29, 37)).equal(expected)
    parts = list(paste_parts(logits, boxes, (29, 37)))
    assert len(parts) == 7
    for (region, part), whole in zip(parts, expected, strict=True):
        assert part.equal(whole[region])
        assert part.sum() == whole.sum()
    assert list(paste_parts(logits[:0], boxes[:0], (29, 37))) == []


def test_parts_of_masks_are_tight():
    masks = torch.zeros(2, 6, 5, dtype=torch.bool)
    masks[0, 2:4, 1] = True
    (region, part), (_, empty) = mask_parts(masks)
    assert region == (slice(2, 4), slice(1, 2))
    assert part.shape == (2, 1) and part.all()
    assert empty.numel() == 0


def test_boundary_iou_compares_the_rims_alone():
    square = torch.zeros(1, 12, 12, dtype=torch.bool)
    square[0, 2:10, 2:10] = True  # 8 x 8, so a rim of one pixel has 28, of two 48
    holed, wider = square.clone(), torch.zeros_like(square)
    holed[0, 5:7, 5:7] = False  # far inside, but with a rim of its own: 12 pixels around it
    wider[0, 1:11, 1:11] = True  # 10 x 10, its rims of one pixel (36) and the square's do not meet
    assert boundary_iou(square, square, distance=1) == 1
    assert boundary_iou(holed, square, distance=1) == pytest.approx(28 / (28 + 12))
    assert boundary_iou(wider, square, distance=1) == 0
    # Of two pixels: wider's 100 - 36 and the square's 64 - 16 share the square's outer ring.
    assert boundary_iou(wider, square, distance=2) == pytest.approx(28 / (64 + 48 - 28))
    assert boundary_iou(square, square, distance=9) == boundary_iou(square, square, distance=1)


def test_the_border_of_the_image_is_an_outline_and_empty_masks_have_none():
    whole = torch.ones(1, 5, 7, dtype=torch.bool)
    inner = torch.zeros_like(whole)
    inner[0, 1:4, 1:6] = True
    assert boundary_iou(whole, inner, distance=1) == 0
    assert boundary_iou(~whole, ~whole, distance=1) == 0
    assert boundary_iou(whole[:0], whole[:0], distance=1).shape == (0,)
    with pytest.raises(ValueError, match="distance = 0: must be at least 1 pixel"):
        boundary_iou(whole, whole, distance=0)
