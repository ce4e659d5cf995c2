"""Masks beside torchvision's RetinaNet: its own results stay, and the masks learn."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from blendmask_lite.course.retinanet_masks import RetinaNetMasks, listening
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.masks import crop_masks
from blendmask_lite.model.merge import crop_bases

ASPECTS = 2


class Pyramid(nn.Module):
    """Three levels of strides 8, 16 and 32 with 16 channels."""

    out_channels = 16

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 16, 3, 8, 1), nn.Conv2d(16, 16, 3, 2, 1)])

    def forward(self, x):
        first = self.convs[0](x)
        second = self.convs[1](first)
        return OrderedDict(a=first, b=second, c=self.convs[1](second))


def make_detector(**settings):
    torch.manual_seed(0)
    anchors = AnchorGenerator(((24,), (48,), (96,)), ((0.7, 1.4),) * 3)
    options = {"min_size": 96, "max_size": 200, "score_thresh": 0.0, "detections_per_img": 12}
    return RetinaNet(Pyramid(), 8, anchor_generator=anchors, **options | settings)


@pytest.fixture
def samples():
    return [ShapesDataset(4, seed=7).load(number) for number in (0, 3)]


def test_the_detector_s_losses_and_detections_are_its_own(samples):
    detector = make_detector()
    masked = RetinaNetMasks(detector)
    images = [each.image / 255 for each in samples]
    targets = [
        {"boxes": each.target.boxes.float(), "labels": each.target.labels} for each in samples
    ]
    own = detector(images, targets)
    losses = masked.losses([each.image for each in samples], [each.target for each in samples])
    assert set(losses) == {*own, "mask"}
    for name, value in own.items():
        torch.testing.assert_close(losses[name], value)

    found = masked.predict([each.image for each in samples])
    assert detector.training  # as before
    detector.eval()
    for one, other in zip(detector(images), found, strict=True):
        assert one["boxes"].equal(other.boxes)
        assert one["scores"].equal(other.scores)
        assert other.masks.shape == (len(one["boxes"]), 128, 128)


def test_the_anchor_of_every_box_is_found(samples):
    detector = make_detector().eval()
    masked = RetinaNetMasks(detector)
    with torch.no_grad(), listening(detector) as heard:
        found = detector([samples[0].image / 255])[0]
    boxes = found["boxes"] * 96 / 128  # pictures of 128 pixels are resized to 96
    anchor = masked.find_anchors(heard, 0, boxes, found["scores"], found["labels"])
    decoded = detector.box_coder.decode_single(heard.offsets[0], heard.anchors[0])[anchor]
    torch.testing.assert_close(decoded.clamp(0, 96), boxes, atol=1e-3, rtol=0)
    scores = heard.class_logits[0].sigmoid()[anchor, found["labels"]]
    torch.testing.assert_close(scores, found["scores"])
    assert heard.offsets.shape[1] == ASPECTS * sum(each[0, 0].numel() for each in heard.tower)


def test_a_mask_is_bases_cropped_and_attentions_of_the_anchor_s_location(samples):
    masked = RetinaNetMasks(make_detector()).eval()
    with torch.no_grad(), listening(masked.detector) as heard:
        masked.detector([each.image / 255 for each in samples])
    # Without training the tower's values are all but zero, and every attention would do.
    heard.tower = [torch.randn_like(level) for level in heard.tower]
    nn.init.normal_(masked.top_layer.conv.weight)
    first = heard.tower[0][0, 0].numel()  # locations of the first level
    image, anchor = torch.tensor([0, 1]), torch.tensor([5, first * ASPECTS + 3])
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0], [20.0, 5.0, 90.0, 70.0]])
    bases = masked.bottom(dict(zip(("p3", "p4", "p5"), heard.levels, strict=True)))
    crops = crop_bases(bases, boxes, image, size=28, stride=4)
    dense = masked.top_layer.dense(heard.tower)
    own = [dense[0][0].flatten(1)[:, 5 // ASPECTS], dense[1][1].flatten(1)[:, 3 // ASPECTS]]
    expected = masked.merger(crops, torch.stack(own))
    torch.testing.assert_close(masked.masks_at(heard, image, anchor, boxes), expected)


def test_a_few_steps_teach_masks_of_one_picture(samples):
    masked = RetinaNetMasks(make_detector(min_size=128))
    optimizer = torch.optim.AdamW(masked.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = masked.losses([samples[0].image], [samples[0].target])
        optimizer.zero_grad()
        sum(loss.values()).backward()
        optimizer.step()
        losses.append(float(loss["mask"].detach()))
    truth = crop_masks(samples[0].target.masks, samples[0].target.boxes.float(), 28).float()
    share = float(truth.mean())
    guess = -(share * torch.tensor(share).log() + (1 - share) * torch.tensor(1 - share).log())
    assert losses[0] == pytest.approx(0.69, abs=0.05)  # ln 2: nothing is known
    assert losses[-1] < 0.8 * guess  # better than the share of cells alone


def test_pictures_without_objects_and_targets_without_masks(samples):
    masked = RetinaNetMasks(make_detector())
    target = samples[0].target
    empty = replace(
        target, boxes=target.boxes[:0], labels=target.labels[:0], masks=target.masks[:0]
    )
    losses = masked.losses([samples[0].image], [empty])
    assert losses["mask"].item() == 0
    sum(losses.values()).backward()
    with pytest.raises(ValueError, match=r"targets\[0\]: no masks"):
        masked.losses([samples[0].image], [replace(target, masks=None)])
    masked.detector.score_thresh = 1.0
    assert len(masked.predict([samples[0].image])[0]) == 0
    with pytest.raises(ValueError, match="evaluation mode"):
        masked.eval().losses([samples[0].image], [target])
