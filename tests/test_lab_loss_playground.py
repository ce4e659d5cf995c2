"""Losses of two boxes by hand, the curves of the training's losses, and the playground."""

from __future__ import annotations

import gc
import io
import math
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import generalized_box_iou

from blendmask_lite.boxes import ltrb_giou
from blendmask_lite.figures.losses import PREDICTED, TRUE, paint_pull
from blendmask_lite.figures.style import PALETTE, rgb255
from blendmask_lite.lab.canvas import CanvasEvent
from blendmask_lite.lab.loss_playground import LossPlayground
from blendmask_lite.research.loss_shapes import (
    BOX_LOSSES,
    box_loss_of,
    centerness_curve,
    entropy,
    focal_curve,
    follow_gradient,
)

TRUTH = (40.0, 40.0, 80.0, 80.0)
ACROSS, APART = (50.0, 50.0, 90.0, 90.0), (90.0, 50.0, 120.0, 90.0)


@pytest.fixture
def playground():
    made = LossPlayground()
    yield made
    made.close()


# Two boxes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # They share 30 x 30 of 1600 + 1600 - 900 = 2300; the hull is 50 x 50.
        ("L1", 40),
        ("-log IoU", -math.log(900 / 2300)),
        ("1 - IoU", 1 - 900 / 2300),
        ("1 - GIoU", 1 - 900 / 2300 + 200 / 2500),
    ],
)
def test_losses_of_overlapping_boxes_by_hand(name, expected):
    assert box_loss_of(name, ACROSS, TRUTH).value == pytest.approx(expected)


@pytest.mark.parametrize("name", BOX_LOSSES)
@pytest.mark.parametrize("box", [ACROSS, (45.0, 35.0, 70.0, 95.0)])
def test_gradient_is_the_slope_of_the_loss(name, box):
    gradient = box_loss_of(name, box, TRUTH).gradient
    for side in range(4):
        there, back = list(box), list(box)
        there[side] += 1e-4
        back[side] -= 1e-4
        rise = box_loss_of(name, there, TRUTH).value - box_loss_of(name, back, TRUTH).value
        assert gradient[side] == pytest.approx(rise / 2e-4, abs=1e-6)


def test_boxes_that_do_not_touch_have_a_gradient_under_giou_only():
    assert box_loss_of("-log IoU", APART, TRUTH).value == math.inf
    assert not box_loss_of("-log IoU", APART, TRUTH).has_direction
    assert box_loss_of("1 - IoU", APART, TRUTH).value == 1
    assert not box_loss_of("1 - IoU", APART, TRUTH).has_direction
    giou = box_loss_of("1 - GIoU", APART, TRUTH)
    # Areas 1200 and 1600 in a hull of 80 x 50.
    assert giou.value == pytest.approx(1 + (4000 - 2800) / 4000)
    assert giou.gradient[0] > 0  # descent moves the left side to the left, towards the true box


def test_giou_is_torchvisions_and_without_smoothing_the_trainings():
    two = torch.tensor([ACROSS, APART])
    expected = generalized_box_iou(two, torch.tensor([TRUTH]))[:, 0]
    mine = [1 - box_loss_of("1 - GIoU", box, TRUTH).value for box in (ACROSS, APART)]
    assert mine == pytest.approx(expected.tolist(), abs=1e-6)
    # Distances from the location (60, 60), which both boxes contain.
    ours, truth = torch.tensor([[10.0, 10.0, 30.0, 30.0]]), torch.tensor([[20.0, 20.0, 20.0, 20.0]])
    assert float(ltrb_giou(ours, truth, torch.zeros(1))) == pytest.approx(mine[0], abs=1e-6)


@pytest.mark.parametrize("name", ["L1", "1 - GIoU"])
@pytest.mark.parametrize("box", [ACROSS, APART, (10.0, 10.0, 30.0, 30.0)])
def test_following_the_gradient_ends_at_the_true_box(name, box):
    way = follow_gradient(name, box, TRUTH, num_steps=300)
    assert way[0] == box and way[-1] == pytest.approx(TRUTH)
    losses = [box_loss_of(name, each, TRUTH).value for each in way]
    assert losses == sorted(losses, reverse=True)


def test_following_the_gradient_of_iou_does_not_leave_a_box_apart():
    assert follow_gradient("-log IoU", APART, TRUTH, num_steps=5) == [APART]
    assert follow_gradient("1 - IoU", APART, TRUTH, num_steps=5) == [APART]
    assert follow_gradient("L1", TRUTH, TRUTH, num_steps=5) == [TRUTH]


def test_wrong_names_and_boxes_without_area_are_refused():
    with pytest.raises(ValueError, match=r"loss 'L2': there are L1"):
        box_loss_of("L2", ACROSS, TRUTH)
    with pytest.raises(ValueError, match="predicted box"):
        box_loss_of("L1", (5.0, 0.0, 5.0, 9.0), TRUTH)


# Curves


def test_focal_curve_is_the_formula_of_the_paper():
    p = torch.tensor([0.01, 0.3, 0.9])
    loss, gradient = focal_curve(torch.logit(p), is_object=True, alpha=0.25, gamma=2)
    assert torch.allclose(loss, -0.25 * (1 - p) ** 2 * p.log(), atol=1e-5)
    plain, slope = focal_curve(torch.logit(p), is_object=False, alpha=0.5, gamma=0)
    assert torch.allclose(2 * plain, -(1 - p).log(), atol=1e-5)
    assert torch.allclose(2 * slope, p, atol=1e-5)  # the gradient of cross entropy is p - target
    assert (gradient < 0).all()


def test_centerness_curve_is_least_at_the_target_and_there_its_entropy():
    p = torch.linspace(0.05, 0.95, 19)
    loss, gradient = centerness_curve(torch.logit(p), 0.6)
    assert p[loss.argmin()] == pytest.approx(0.6)
    assert loss.min() == pytest.approx(float(entropy(torch.tensor(0.6))), abs=1e-5)
    assert torch.allclose(gradient, p - 0.6, atol=1e-5)


def test_entropy_by_hand():
    found = entropy(torch.tensor([0.0, 0.5, 1.0]))
    assert found.tolist() == pytest.approx([0, math.log(2), 0])


# The picture


def test_boxes_arrows_and_hull_are_painted():
    image = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    boxes = {"predicted": (30.0, 20.0, 50.0, 40.0), "true": (10.0, 20.0, 26.0, 40.0)}
    still = paint_pull(image, **boxes, gradient=(0.0, 0.0, 0.0, 0.0), scale=4)
    assert still.shape == (3, 256, 256)
    assert tuple(still[:, 100, 120].tolist()) == rgb255(PREDICTED)  # on its left side, x 30
    assert tuple(still[:, 100, 40].tolist()) == rgb255(TRUE)
    pulled = paint_pull(image, **boxes, gradient=(1.0, 0.0, 0.5, 0.0), has_hull=True, scale=4)
    arrow = rgb255(PALETTE[0])
    # To the left of both vertical sides, in the middle of their height, y 30.
    assert tuple(pulled[:, 120, 110].tolist()) == tuple(pulled[:, 120, 190].tolist()) == arrow
    assert tuple(pulled[:, 120, 210].tolist()) != arrow
    assert not torch.equal(pulled[:, 80, 110], still[:, 80, 110])  # the hull's upper side


# The playground


def pixels(playground):
    content = playground.canvas.live["boxes"]
    return np.array(Image.open(io.BytesIO(content)))


def drag(playground, box, is_last=True):
    playground.canvas._callback(CanvasEvent("box", panel="boxes", box=box, is_last=is_last))


def test_dragging_the_box_changes_losses_gradient_and_picture(playground):
    before = pixels(playground)
    drag(playground, (45.0, 45.0, 85.0, 80.0))
    name = playground.controls.loss.value
    loss = box_loss_of(name, (45.0, 45.0, 85.0, 80.0), playground.true_box)
    bars = playground.canvas.bars
    assert [bar["value"] for bar in bars["sides"]["bars"]] == pytest.approx(loss.gradient)
    told = {bar["label"]: bar["text"] for bar in bars["losses"]["bars"]}
    assert told[name] == f"{loss.value:.3g}" and set(told) == set(BOX_LOSSES)
    assert not np.array_equal(pixels(playground), before)
    assert playground.canvas.box == [45, 45, 85, 80]
    assert "Box 45, 45 to 85, 80. 1 - GIoU is" in playground.canvas.announcement


@pytest.mark.slow
def test_apart_the_loss_decides_whether_the_box_can_be_pulled(playground):
    playground.controls.apart.click()
    box = playground.box
    playground.controls.loss.value = "-log IoU"
    assert "0 on every side" in playground.canvas.bars["sides"]["title"]
    assert "infinite" in [bar["text"] for bar in playground.canvas.bars["losses"]["bars"]]
    playground.controls.step.click()
    assert playground.box == box and "The gradient is 0" in playground.message.text
    playground.controls.loss.value = "1 - GIoU"
    assert playground.message.text == ""
    playground.controls.step.click()
    assert playground.box != box
    for _ in range(40):
        playground.controls.step.click()
    assert playground.box == pytest.approx(playground.true_box)
    assert "equal" in playground.message.text
    playground.controls.reset.click()
    assert playground.losses["1 - IoU"].value < 1


@pytest.mark.slow
def test_the_sliders_draw_the_curves_anew(playground):
    controls = playground.controls
    for page, sliders in (
        ("focal", (controls.alpha, controls.gamma, controls.chance)),
        ("centerness", (controls.across, controls.down, controls.predicted)),
    ):
        for slider in sliders:
            before = playground.figures[page].png, controls.note[page].value
            slider.value = slider.value + slider.step * 5
            after = playground.figures[page].png, controls.note[page].value
            assert after[0] != before[0] and after[1] != before[1], slider.description
    assert playground.message.text == ""


@pytest.mark.slow
def test_numbers_of_the_curves_pages_by_hand(playground):
    # -ln 0.99 = 0.01005 for background at p = 0.01; focal 0.75 * 0.01 ** 2 times as much.
    assert "At background: cross entropy 0.0101, focal 7.54e-07" in (
        playground.controls.note["focal"].value
    )
    playground.controls.across.value = playground.controls.down.value = 0.5
    assert "Target 1.00" in playground.controls.note["centerness"].value
    assert "below 0.000" in playground.controls.note["centerness"].value


def test_a_box_without_area_is_told_and_the_old_one_stays(playground):
    before = playground.box
    drag(playground, (10.0, 10.0, 10.0, 20.0))
    assert "wider and higher" in playground.message.text
    assert playground.box == before
    with pytest.raises(ValueError, match="wider and higher"):
        playground.set_box((10, 10, 10, 20))


def test_an_own_picture_needs_its_box():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    made = LossPlayground(image=image, true_box=(5, 5, 30, 20))
    assert pixels(made).shape[:2] == (320, 480)
    made.close()
    with pytest.raises(ValueError, match="true_box: needed"):
        LossPlayground(image=image)
    with pytest.raises(ValueError, match="not inside the image of 60 x 40"):
        LossPlayground(image=image, true_box=(5, 5, 30, 50))


@pytest.mark.slow
def test_saving_a_page_sends_a_file(playground, monkeypatch):
    sent = []
    figure = playground.figures["focal"]
    monkeypatch.setattr(figure, "send", lambda content, buffers: sent.append((content, buffers)))
    figure._receive(figure, {"save": "svg"}, [])
    ((content, (file,)),) = sent
    assert content["kind"] == "image/svg+xml" and b"<svg" in file


def test_closing_frees_the_picture():
    playground = LossPlayground()
    image = weakref.ref(playground.image)
    playground.close()
    gc.collect()
    assert image() is None and playground.canvas.live == {}
