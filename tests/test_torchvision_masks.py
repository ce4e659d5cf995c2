"""Masks beside torchvision's detectors: their own results stay, and the masks learn."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from blendmask_lite import MaskHead
from blendmask_lite.course.torchvision_masks import (
    Call,
    FasterRCNNMasks,
    FCOSMasks,
    RetinaNetMasks,
    recorded,
)
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.masks import crop_masks, mask_boxes, mask_iou
from blendmask_lite.model.attention import TopLayer
from blendmask_lite.model.bottom import ProtoFPN
from blendmask_lite.model.merge import Assembler, Blender, crop_bases

WIDTH = 32
ANCHORS = AnchorGenerator(((24,), (48,), (96,)), ((0.7, 1.4),) * 3)
LOCATIONS = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)


class Pyramid(nn.Module):
    """Three levels of strides 8, 16 and 32."""

    out_channels = WIDTH

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, 8, 1)
        self.rest = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1) for _ in range(2))

    def forward(self, x):
        levels = [self.first(x)]
        for conv in self.rest:
            levels.append(conv(levels[-1].relu()))
        return OrderedDict(zip("abc", levels, strict=True))


def retinanet(score, number, **sizes):
    options = {"score_thresh": score, "detections_per_img": number, "anchor_generator": ANCHORS}
    return RetinaNet(Pyramid(), 8, **options | sizes)


def fcos(score, number, **sizes):
    options = {"score_thresh": score, "detections_per_img": number, "anchor_generator": LOCATIONS}
    return FCOS(Pyramid(), 8, **options | sizes)


def faster_rcnn(score, number, **sizes):
    return FasterRCNN(
        Pyramid(),
        9,  # with the background
        rpn_anchor_generator=ANCHORS,
        rpn_post_nms_top_n_train=200,
        rpn_post_nms_top_n_test=100,
        box_roi_pool=MultiScaleRoIAlign(list("abc"), 7, 2),
        box_batch_size_per_image=64,
        box_score_thresh=score,
        box_detections_per_img=number,
        **sizes,
    )


KINDS = {RetinaNetMasks: retinanet, FCOSMasks: fcos, FasterRCNNMasks: faster_rcnn}


def make_head(kind, merger=None):
    merger = merger or Blender(num_bases=4, attention_size=7)
    number = merger.attention_channels
    if number == 0:
        top = None
    elif kind is FasterRCNNMasks:
        top = nn.Linear(1024, number)
    else:
        top = TopLayer(in_channels=WIDTH, attention_channels=number)
    bottom = ProtoFPN(in_channels=WIDTH, channels=WIDTH, num_bases=merger.num_bases)
    return MaskHead(bottom, top, merger, mask_size=28)


def make(kind, *, score=0.0, number=12, merger=None, min_size=96):
    torch.manual_seed(0)
    detector = KINDS[kind](score, number, min_size=min_size, max_size=200)
    return kind(detector, make_head(kind, merger))


def cut(sample, height):
    """The upper part of a sample, and the objects that reach into it."""
    masks = sample.target.masks[:, :height]
    seen = masks.flatten(1).any(dim=1)
    target = replace(
        sample.target,
        boxes=mask_boxes(masks[seen]),
        labels=sample.target.labels[seen],
        masks=masks[seen],
    )
    return sample.image[:, :height], target


@pytest.fixture(scope="module")
def pictures():
    """Two images of different sizes, (128, 128) and (80, 128), with their targets."""
    first, second = (ShapesDataset(4, seed=7).load(number) for number in (0, 3))
    return [(first.image, first.target), cut(second, 80)]


def few(target, number):
    return replace(
        target,
        boxes=target.boxes[:number],
        labels=target.labels[:number],
        masks=target.masks[:number],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_detections_of_the_detector_are_its_own_bit_by_bit(kind, pictures):
    masked = make(kind)
    first_label = 1 if kind is FasterRCNNMasks else 0  # its 0 is the background
    images = [image / 255 for image, _ in pictures]
    targets = [
        {"boxes": target.boxes.float(), "labels": target.labels + first_label}
        for _, target in pictures
    ]
    torch.manual_seed(1)  # Faster R-CNN draws its proposals
    own = masked.detector(images, targets)
    torch.manual_seed(1)
    losses = masked.losses(*zip(*pictures, strict=True))
    assert set(losses) == {*own, "mask"}
    assert all(losses[name].equal(value) for name, value in own.items())

    found = masked.predict([image for image, _ in pictures])
    assert masked.detector.training  # as before
    masked.eval()
    for image, one, other in zip(images, masked.detector(images), found, strict=True):
        assert len(one["boxes"]) > 0
        assert one["boxes"].equal(other.boxes) and one["scores"].equal(other.scores)
        assert one["labels"].equal(other.labels + first_label)
        assert other.masks.shape == (len(one["boxes"]), *image.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_place_that_found_a_box_has_its_box_and_score(kind, pictures):
    masked = make(kind).eval()
    with torch.no_grad(), recorded(masked.detector, masked.methods) as calls:
        found = masked.detector([image / 255 for image, _ in pictures])[1]
    height, width = 96, 153  # 80 x 128 pixels with a shorter side of 96
    boxes = found["boxes"] * torch.tensor([width / 128, height / 80]).repeat(2)
    place = masked.find_places(calls, 1, boxes, found["scores"], found["labels"])
    decoded, scores = masked.candidates(calls, 1, found["labels"])
    each = torch.arange(len(place))
    own = decoded[place, each if decoded.shape[1] > 1 else 0]
    own = own.clamp(min=0).minimum(torch.tensor([width, height]).repeat(2))
    torch.testing.assert_close(own, boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(scores[place, each], found["scores"])
    predicted = masked.predict([image for image, _ in pictures])[1]
    assert predicted.location_index.equal(place)
    torch.testing.assert_close(predicted.proposal_boxes, boxes, atol=1e-3, rtol=0)


def test_places_of_equal_boxes_differ_in_their_scores_and_boxes_are_clipped_first():
    masked = make(RetinaNetMasks)
    boxes = torch.tensor([[-50.0, 0, 20, 20], [5, 0, 20, 20], [30, 30, 60, 60], [30, 30, 60, 60]])
    scores = torch.tensor([0.9, 0.9, 0.3, 0.6])[:, None].expand(-1, 3)
    masked.candidates = lambda calls, number, labels: (boxes[:, None], scores)
    calls = {"transform.forward": [Call((), (ImageList(torch.zeros(1), [(96, 96)]), None))]}
    found = torch.tensor([[0.0, 0, 20, 20], [30, 30, 60, 60], [30, 30, 60, 60]])
    labels = torch.tensor([0, 1, 2])
    place = masked.find_places(calls, 0, found, torch.tensor([0.9, 0.6, 0.3]), labels)
    assert place.tolist() == [0, 3, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_perfect_masks_over_the_true_boxes_have_no_loss(kind, pictures):
    [(image, target), _] = pictures
    masked = make(kind, min_size=128)  # so that boxes stay as they are
    perfect = 40 * crop_masks(target.masks, target.boxes.float(), 28).float() - 20
    seen = []

    def masks_at(calls, bases, number, place, boxes):
        owner = torch.cdist(boxes, target.boxes.float()).argmin(dim=1)
        assert boxes.equal(target.boxes.float()[owner])
        seen.extend(owner.tolist())
        return perfect[owner]

    masked.masks_at = masks_at
    assert masked.losses([image], [target])["mask"] < 1e-6
    assert len(set(seen)) > 1


@pytest.mark.parametrize("kind", [RetinaNetMasks, FCOSMasks])
def test_a_mask_has_the_attentions_of_its_location_on_the_box_tower(kind, pictures):
    masked = make(kind).eval()
    nn.init.normal_(masked.mask_head.top_layer.conv.weight)
    with torch.no_grad(), recorded(masked.detector, masked.methods) as calls:
        masked.detector([image / 255 for image, _ in pictures])
    tower = calls["head.regression_head.conv.forward"]
    # Without training the tower's values are all but zero, and every attention would do.
    tower[:] = [call._replace(result=torch.randn_like(call.result)) for call in tower]
    anchors = 2 if kind is RetinaNetMasks else 1
    first = tower[0].result[0, 0].numel()  # locations of the first level
    place = torch.tensor([5 * anchors, (first + 3) * anchors + anchors - 1])
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0], [20.0, 5.0, 90.0, 70.0]])
    levels = calls["backbone.forward"][0].result
    bases = masked.mask_head.bottom({"p3": levels["a"], "p4": levels["b"], "p5": levels["c"]})
    assert masked.bases(calls).equal(bases)
    crops = crop_bases(bases, boxes, torch.ones(2), size=28, stride=4)
    dense = masked.mask_head.top_layer.dense([call.result for call in tower])
    own = [dense[0][1].flatten(1)[:, 5], dense[1][1].flatten(1)[:, 3]]
    expected = masked.mask_head.merger(crops, torch.stack(own))
    torch.testing.assert_close(masked.masks_at(calls, bases, 1, place, boxes), expected)


def test_a_mask_has_the_attentions_of_its_proposal(pictures):
    masked = make(FasterRCNNMasks).eval()
    with torch.no_grad(), recorded(masked.detector, masked.methods) as calls:
        masked.detector([image / 255 for image, _ in pictures])
    levels, proposals, sizes = calls["roi_heads.box_roi_pool.forward"][0].given
    heads = masked.detector.roi_heads
    pooled = heads.box_roi_pool(levels, [proposals[0][:0], proposals[1][3:5]], sizes)
    attentions = masked.mask_head.top_layer(heads.box_head(pooled))
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0], [20.0, 5.0, 90.0, 70.0]])
    bases = masked.bases(calls)
    crops = crop_bases(bases, boxes, torch.ones(2), size=28, stride=4)
    expected = masked.mask_head.merger(crops, attentions)
    logits = masked.masks_at(calls, bases, 1, torch.tensor([3, 4]), boxes)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_the_finest_level_of_one_cell_has_the_name_of_its_stride():
    """32 pixels: strides 32 and 64 both leave one cell, and only the first is p5."""
    masked = make(RetinaNetMasks).eval()
    sides = {"a": 4, "b": 2, "c": 1, "d": 1}
    levels = {name: torch.randn(1, WIDTH, side, side) for name, side in sides.items()}
    batch = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    calls = {
        "transform.forward": [Call((), (batch, None))],
        "backbone.forward": [Call((), levels)],
    }
    expected = masked.mask_head.bases({"p3": levels["a"], "p4": levels["b"], "p5": levels["c"]})
    assert masked.bases(calls).equal(expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_forty_steps_teach_masks_of_one_picture(kind, pictures):
    [(image, target), _] = pictures
    masked = make(kind, number=20, min_size=128)
    optimizer = torch.optim.AdamW(masked.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = masked.losses([image], [target])
        optimizer.zero_grad()
        sum(loss.values()).backward()
        optimizer.step()
        losses.append(float(loss["mask"].detach()))
    share = float(crop_masks(target.masks, target.boxes.float(), 28).float().mean())
    guess = -(share * torch.tensor(share).log() + (1 - share) * torch.tensor(1 - share).log())
    assert losses[0] == pytest.approx(0.69, abs=0.05)  # ln 2: nothing is known
    assert losses[-1] < 0.6 * guess  # better than the share of cells alone

    def best_ious():
        """Of each true object with the best mask found."""
        found = masked.predict([image])[0].masks
        ious = [mask_iou(target.masks, mask.expand_as(target.masks)) for mask in found]
        return torch.stack(ious).amax(dim=0)

    learned = best_ious()
    masked.mask_head = make_head(kind)  # the same boxes, with masks that learned nothing
    control = best_ious()
    assert learned.max() > 0.75 and learned.max() > control[learned.argmax()] + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_the_mask_head_learns_from_one_object(kind, pictures):
    [_, (image, target)] = pictures
    masked = make(kind)
    masked.losses([image], [few(target, 1)])["mask"].backward()
    grads = {name: value.grad for name, value in masked.mask_head.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None or not grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_objects_have_a_mask_loss_of_zero(kind, pictures):
    [(image, target), other] = pictures
    masked = make(kind, score=0.999)
    losses = masked.losses([image], [few(target, 0)])
    assert losses["mask"].item() == 0
    sum(losses.values()).backward()
    both = masked.losses([image, other[0]], [few(target, 0), other[1]])
    assert both["mask"] > 0  # the other image's objects count
    assert [len(each) for each in masked.predict([image, other[0]])] == [0, 0]
    assert masked.predict([]) == []


def test_an_image_without_proposals_has_no_masks(pictures):
    masked = make(FasterRCNNMasks)
    masked.detector.rpn.score_thresh = 1.1
    assert masked.predict([pictures[0][0]])[0].masks.shape == (0, 128, 128)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merger_without_attentions_needs_no_top_layer(kind, pictures):
    masked = make(kind, merger=Assembler(num_bases=4))
    [(image, target), _] = pictures
    masked.losses([image], [target])["mask"].backward()
    assert len(masked.predict([image])[0]) > 0


def test_targets_without_masks_and_losses_in_evaluation_are_refused(pictures):
    [(image, target), _] = pictures
    masked = make(RetinaNetMasks)
    with pytest.raises(ValueError, match=r"targets\[1\]: no masks"):
        masked.losses([image, image], [target, replace(target, masks=None)])
    with pytest.raises(ValueError, match="evaluation mode"):
        masked.eval().losses([image], [target])


def test_a_recorded_detector_is_afterwards_as_it_was():
    layers = nn.Sequential(nn.ReLU(), nn.ReLU())
    with recorded(layers, ["0.forward"]) as outer:
        with recorded(layers, ["0.forward", "1.forward"]) as inner:
            layers(torch.tensor([-1.0, 2.0]))
        layers(torch.tensor([3.0]))
    layers(torch.tensor([4.0]))
    assert [call.result.tolist() for call in outer["0.forward"]] == [[0, 2], [3]]
    assert inner["0.forward"][0].given[0].tolist() == [-1, 2] and len(inner["1.forward"]) == 1
    assert all("forward" not in vars(layer) for layer in layers)
    with pytest.raises(RuntimeError), recorded(layers, ["0.forward"]):
        raise RuntimeError
    assert "forward" not in vars(layers[0])
