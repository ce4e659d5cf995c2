"""Suppression by hand, AP against pycocotools, and the NMS stepper without a browser."""

from __future__ import annotations

import contextlib
import gc
import io
import weakref

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import batched_nms

from blendmask_lite.evaluation.one_class import COCO_RECALLS, average_precision, precision_recall
from blendmask_lite.figures.detections import paint_boxes, proposals_figure
from blendmask_lite.figures.evaluation import precision_steps_figure
from blendmask_lite.figures.style import PALETTE, rgb255
from blendmask_lite.lab.nms_stepper import NmsStepper
from blendmask_lite.research.detector import fast_nms, greedy_nms

# Boxes of 10 x 10 pixels in a row, each moved by 2: neighbours share 8 x 10 pixels, so their IoU is
# 80 / 120 = 2/3, and every second one 60 / 140 = 3/7. By falling score.
CHAIN = torch.tensor([[float(x), 0, x + 10, 10] for x in (0, 2, 4)])
SCORES = torch.tensor([0.9, 0.8, 0.7])
ALONE = torch.zeros(3, dtype=torch.int64)


@pytest.fixture(scope="module")
def stepper():
    made = NmsStepper()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def begin_again(request):
    if "stepper" in request.fixturenames:
        made = request.getfixturevalue("stepper")
        made.threshold.value, made.class_wise.value = 0.6, True
        made.show(0)


def random_boxes(seed, num=200):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num, 2, generator=generator) * 60
    size = 10 + 30 * torch.rand(num, 2, generator=generator)
    labels = torch.randint(0, 3, (num,), generator=generator)
    return torch.cat([corner, corner + size], dim=1), torch.rand(num, generator=generator), labels


def test_a_removed_box_removes_others_in_fast_nms_alone():
    greedy = greedy_nms(CHAIN, SCORES, ALONE, iou_threshold=0.5)
    fast = fast_nms(CHAIN, SCORES, ALONE, iou_threshold=0.5)
    # The first removes the second. The third overlaps the second alone.
    assert greedy.is_kept.tolist() == [True, False, True]
    assert greedy.remover.tolist() == [-1, 0, -1]
    assert fast.is_kept.tolist() == [True, False, False]
    assert fast.remover.tolist() == [-1, 0, 1]
    assert fast.iou.tolist() == pytest.approx([0, 2 / 3, 2 / 3])
    assert greedy.removed_by(0).tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_keeps_what_torchvision_keeps_and_fast_keeps_no_other(seed):
    boxes, scores, labels = random_boxes(seed)
    greedy = greedy_nms(boxes, scores, labels, iou_threshold=0.4)
    assert greedy.kept.tolist() == batched_nms(boxes, scores, labels, 0.4).tolist()
    fast = fast_nms(boxes, scores, labels, iou_threshold=0.4)
    assert not (fast.is_kept & ~greedy.is_kept).any()
    assert fast.is_kept.sum() < greedy.is_kept.sum()
    # Each removed box went with a better one of its class, that greedy NMS kept.
    gone = ~greedy.is_kept
    by = greedy.remover[gone]
    assert greedy.is_kept[by].all() and (labels[by] == labels[gone]).all()
    assert (scores[by] > scores[gone]).all() and (greedy.iou[gone] > 0.4).all()
    assert (greedy.remover[greedy.is_kept] == -1).all()


def test_classes_leave_each_other_alone_unless_told_otherwise():
    labels = torch.tensor([0, 1, 0])
    apart = greedy_nms(CHAIN, SCORES, labels, iou_threshold=0.5)
    assert apart.is_kept.all()
    together = greedy_nms(CHAIN, SCORES, labels, iou_threshold=0.5, class_wise=False)
    assert together.is_kept.tolist() == [True, False, True]


@pytest.mark.parametrize("method", [greedy_nms, fast_nms])
def test_no_box_is_no_suppression(method):
    labels = torch.zeros(0, dtype=torch.int64)
    found = method(torch.zeros(0, 4), torch.zeros(0), labels, iou_threshold=0.5)
    assert found.kept.tolist() == [] and found.remover.shape == (0,)


def test_average_precision_is_the_one_worked_out_by_hand():
    # Right, wrong, right of 4 objects: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 2/4.
    is_right = torch.tensor([True, False, True])
    precision, recall = precision_recall(is_right, 4)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert recall.tolist() == [0.25, 0.25, 0.5]
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    assert float(average_precision(is_right, 4, levels)) == pytest.approx((1 + 1 + 2 / 3) / 5)
    nothing = torch.zeros(0, dtype=torch.bool)
    assert float(average_precision(nothing, 4, levels)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_pycocotools(seed):
    """Objects far apart, so that a detection is right if it is a true box for the first time."""
    generator = torch.Generator().manual_seed(seed)
    num_objects, num_found = (7, 30) if seed else (100, 80)
    boxes = [[20.0 * n, 0.0, 10.0, 10.0] for n in range(2 * num_objects)]
    which = torch.randint(0, 2 * num_objects, (num_found,), generator=generator).tolist()
    is_right = torch.tensor([n < num_objects and n not in which[:i] for i, n in enumerate(which)])
    one = {"image_id": 1, "category_id": 1}
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = {
            "info": {},
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [
                {**one, "id": n + 1, "bbox": boxes[n], "area": 100.0, "iscrowd": 0}
                for n in range(num_objects)
            ],
        }
        true.createIndex()
        results = [{**one, "bbox": boxes[n], "score": 1 - i / 100} for i, n in enumerate(which)]
        evaluation = COCOeval(true, true.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    expected = evaluation.eval["precision"][0, :, 0, 0, -1].mean()
    assert float(average_precision(is_right, num_objects, COCO_RECALLS)) == pytest.approx(expected)


def test_figures_say_what_they_show():
    image = torch.full((3, 40, 60), 100, dtype=torch.uint8)
    figure = proposals_figure(image, {"all": CHAIN, "none": torch.zeros(0, 4)})
    assert "all 3, none 0" in figure.get_label()
    assert len(figure.axes[0].collections[0].get_segments()) == 3
    # Of COCO's 101 levels 26 lie at or below recall 1/4, and 25 more up to 1/2: 26 / 101, and
    # (26 + 25 * 2/3) / 101.
    is_right = torch.tensor([True, False, True])
    figure = precision_steps_figure(is_right, 4, steps=(1, 99))
    assert [ax.get_title() for ax in figure.axes] == ["best 1: AP 25.7 %", "best 3: AP 42.2 %"]
    with pytest.raises(ValueError, match="at least one"):
        proposals_figure(image, {})
    with pytest.raises(ValueError, match="at least one"):
        precision_steps_figure(is_right, 4, steps=())
    painted = paint_boxes(image, [(torch.tensor([10.0, 10, 30, 30]), PALETTE[0], 2)], scale=2)
    assert painted.shape == (3, 80, 120)
    assert tuple(painted[:, 20, 20].tolist()) == rgb255(PALETTE[0])


def test_every_step_keeps_one_box_and_tells_what_it_removes(stepper):
    found = stepper.found
    assert found.num_steps == int(found.greedy.is_kept.sum()) > 5
    assert "candidates wait" in stepper.canvas.bars["greedy"]["title"]
    before = stepper.canvas.still["greedy"]
    stepper.forward.click()
    assert stepper.step.value == 1 and stepper.canvas.still["greedy"] != before
    first = int(found.greedy.order[0])
    chart = stepper.canvas.bars["greedy"]
    assert found.names[first] in chart["title"] and found.names[first].startswith("#1 ")
    removed = found.greedy.removed_by(first)
    assert f"removes {len(removed)}" in chart["title"]
    values = [bar["value"] for bar in chart["bars"]]
    assert values == pytest.approx(found.greedy.iou[removed][: len(values)].tolist())
    assert all(value > found.threshold for value in values)
    stepper.step.value = found.num_steps
    assert stepper.forward.disabled and not stepper.back.disabled
    stepper.back.click()
    assert stepper.step.value == found.num_steps - 1
    assert stepper.message.text == ""


def test_the_chain_behind_a_box_that_fast_nms_loses_is_told(stepper):
    found = stepper.found
    kept = found.greedy.kept.tolist()
    lost = next(step for step, box in enumerate(kept, start=1) if not found.fast.is_kept[box])
    stepper.go_to(lost)
    chart = stepper.canvas.bars["fast"]
    remover = int(found.fast.remover[kept[lost - 1]])
    assert "Fast NMS removes" in chart["title"] and not found.greedy.is_kept[remover]
    assert found.names[int(found.greedy.remover[remover])] in chart["title"]
    assert [bar["label"] for bar in chart["bars"]] == [found.names[remover].split()[0]]
    stepper.go_to(1)
    assert "keeps" in stepper.canvas.bars["fast"]["title"]


def test_rules_change_what_is_kept(stepper):
    def counts():
        return [bar["value"] for bar in stepper.canvas.bars["counts"]["bars"]]

    usual = counts()
    assert usual[0] - usual[1] == usual[2] > 0
    stepper.threshold.value = 0.3
    assert counts()[0] < usual[0] and stepper.found.threshold == 0.3
    stepper.threshold.value = 0.6
    stepper.class_wise.value = False
    assert counts()[0] < usual[0]
    stepper.class_wise.value = True
    assert counts() == usual


def test_a_step_that_is_gone_becomes_the_last(stepper):
    stepper.go_to(stepper.found.num_steps)
    stepper.threshold.value = 0.3
    assert stepper.step.value == stepper.found.num_steps == stepper.step.max


def test_another_picture_begins_at_its_beginning(stepper):
    stepper.go_to(2)
    before = stepper.found
    stepper.picture.value = 1
    assert stepper.found is not before and stepper.step.value == 0
    with pytest.raises(ValueError, match="image 9"):
        stepper.show(9)
    with pytest.raises(ValueError, match="step 999"):
        stepper.go_to(999)
    assert stepper.step.value == 0
    stepper.picture.value = 0


def test_no_picture_is_refused_and_closing_frees_the_model():
    with pytest.raises(ValueError, match="samples: at least one"):
        NmsStepper(samples=[])
    made = NmsStepper()
    model = weakref.ref(made.model)
    made.close()
    gc.collect()
    assert model() is None and made.canvas.still == {}
