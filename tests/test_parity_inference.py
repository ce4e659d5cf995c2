"""Inference equals the released code's, intermediates and results.

Expected numbers were written by the released code with the same weights; the tolerances are its
own spread between thread counts and precisions, with a margin.
"""

from __future__ import annotations

import pytest
import torch
from parity import make_model, read_case, rgb, unpack

from blendmask_lite.boxes import clip_boxes, scale_boxes
from blendmask_lite.masks import paste_masks
from blendmask_lite.model.fcos import flatten_levels
from blendmask_lite.model.merge import Blender, crop_bases

CASES = ["tiny", "R_50_1x"]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(expected, model, its output for the case's image)."""
    content = read_case(f"{request.param}.infer")
    model = make_model(request.param)
    with torch.no_grad():
        return content["infer"], model, model([rgb(content["infer"]["image"])])


def assert_near(got, expected, atol):
    torch.testing.assert_close(got, expected.to(got.dtype), atol=atol, rtol=0)


def test_features_equal_the_released_codes(case):
    expected, _, output = case
    assert_near(output.features["c5"], expected["c5"], 2e-4)
    for name, level in expected["fpn"].items():
        assert_near(output.features[name], level, 2e-4)


def test_head_equals_the_released_codes(case):
    expected, _, output = case
    assert_near(output.class_logits, flatten_levels(expected["logits"]), 2e-4)
    assert_near(output.centerness_logits, flatten_levels(expected["ctrness"])[..., 0], 2e-4)
    strides = output.location_strides[:, None]
    assert_near(output.ltrb / strides, flatten_levels(expected["reg"]), 2e-4)


def test_bases_equal_the_released_codes(case):
    expected, _, output = case
    assert_near(output.bases, expected["bases"], 2e-4)


def test_dense_attentions_equal_the_released_codes(case):
    expected, model, output = case
    step = expected.get("top_feats_stride", 1)
    with torch.no_grad():
        dense = model.top_layer.dense(output.box_features)
    for got, level in zip(dense, expected["top_feats"], strict=True):
        assert_near(got[:, :, ::step, ::step], level, 2e-4)


def test_proposals_equal_the_released_codes_in_their_order(case):
    expected, model, output = case
    proposals = model.detect(output)[0]
    wanted = expected["proposals"]
    assert_near(proposals.boxes, wanted["boxes"], 2e-3)
    assert_near(proposals.scores, wanted["scores"], 1e-5)
    assert proposals.labels.equal(wanted["classes"].long())
    assert output.locations[proposals.location_index].equal(wanted["locations"])


def test_sparse_attentions_crops_and_masks_equal_the_released_codes(case):
    expected, model, output = case
    proposals = model.detect(output)[0]
    index = torch.stack([torch.zeros_like(proposals.labels), proposals.location_index], dim=1)
    with torch.no_grad():
        attentions = model.attentions_at(output, index)
        crops = model.crops_at(output, index[:, 0], proposals.boxes)
        logits = model.masks_at(output, index, proposals.boxes)
    num = len(expected["proposals"]["top_feat"])
    assert_near(attentions[:num], expected["proposals"]["top_feat"], 2e-4)
    assert_near(crops[:8], expected["rois_first8"], 2e-4)
    num = len(expected["mask_logits"])
    assert_near(logits[:num].flatten(1), expected["mask_logits"], 2e-4)


def assert_result(got, expected, image_size):
    assert_near(got.boxes, expected["boxes"], 2e-3 * max(1, got.image_size[0] / image_size[0]))
    assert_near(got.scores, expected["scores"], 1e-5)
    assert got.labels.equal(expected["classes"].long())
    assert_masks_equal(got.mask_logits, got.boxes, expected["masks"])


def assert_masks_equal(mask_logits, boxes, expected):
    """Where the soft mask lies within 1e-4 of one half, rounding decides; elsewhere nothing may."""
    masks = unpack(expected)
    got, low, high = (
        paste_masks(mask_logits, boxes, tuple(masks.shape[1:]), 0.5 + margin)
        for margin in (0, -1e-4, 1e-4)
    )
    is_certain = low == high
    assert is_certain.float().mean() > 0.9
    assert got[is_certain].equal(masks[is_certain])


def test_detections_equal_the_released_codes(case):
    expected, model, _ = case
    image = rgb(expected["image"])
    assert_result(model.predict([image])[0], expected["result"], image.shape[1:])


def test_detections_at_another_output_size_equal_the_released_codes(case):
    expected, model, _ = case
    image = rgb(expected["image"])
    size = tuple(expected["result_resized"]["image_size"])
    got = model.predict([image], output_sizes=[size])[0]
    assert_result(got, expected["result_resized"], image.shape[1:])


def test_a_batch_of_two_sizes_equals_the_released_codes(case):
    expected, model, _ = case
    images = [rgb(expected["image"]), rgb(expected["batch2"]["image2"])]
    for image, got, wanted in zip(
        images, model.predict(images, batch_size=2), expected["batch2"]["result"], strict=True
    ):
        assert_result(got, wanted, image.shape[1:])


def test_nothing_above_the_threshold_is_an_empty_result_of_the_same_shapes(case):
    expected, model, _ = case
    got = model.predict([rgb(expected["image"])], score_threshold=1.0)[0]
    assert got.boxes.shape == expected["empty_result"]["boxes"][0]
    assert got.masks.shape == expected["empty_result"]["masks"][0]
    assert got.masks.dtype == torch.bool


UNITS = {
    "default_56_14_4": {},
    "28_14_4": {},
    "28_7_4_nearest": {"mode": "nearest"},
    "56_28_8": {},
    "28_1_4_yolact_like": {},
    "56_14_4_roipool": {"pooling": "pool"},
}


@pytest.mark.parametrize("tag", UNITS)
def test_blender_alone_equals_the_released_codes(tag):
    unit = read_case("blender_units")[tag]
    num_bases = unit["bases"].shape[1]
    size = unit["rois"].shape[-1]
    attention_size = round((unit["attn"].shape[1] / num_bases) ** 0.5)
    options = UNITS[tag]
    blender = Blender(
        num_bases=num_bases, attention_size=attention_size, mode=options.get("mode", "bilinear")
    )
    crops = crop_bases(
        unit["bases"],
        unit["boxes"],
        torch.zeros(len(unit["boxes"]), dtype=torch.int64),
        size=size,
        stride=4,
        pooling=options.get("pooling", "align"),
    )
    assert_near(crops, unit["rois"], 1e-5)
    logits = blender(crops, unit["attn"])
    assert_near(logits.flatten(1), unit["logits"], 1e-5)
    # The image is 128 x 160; as the released code does, scale, clip, drop empty boxes, paste.
    boxes = clip_boxes(scale_boxes(unit["boxes"], (128, 160), unit["post_size"]), unit["post_size"])
    is_kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    assert_near(boxes[is_kept], unit["post_boxes"], 1e-4)
    assert_masks_equal(logits[is_kept], boxes[is_kept], unit["post_masks"])


def test_pasting_alone_equals_the_released_codes():
    paste = read_case("blender_units")["paste"]
    logits = paste["masks"].logit()
    size = tuple(paste["shape"])
    got = paste_masks(logits, paste["boxes"], size, paste["threshold"])
    assert got.equal(unpack(paste["out"]))
