"""Chapter 01's figures and its data browser, without a browser."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
import torch

from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.shapes import ShapesDataset, write_shapes
from blendmask_lite.figures import (
    figure_pixels,
    instances_figure,
    mask_resolution_figure,
    pixel_masks_figure,
    round_trip_figure,
    run_lengths_figure,
)
from blendmask_lite.lab.data_browser import DataBrowser, stored_objects
from blendmask_lite.masks import mask_iou, there_and_back

SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]


@pytest.fixture
def browser():
    made = DataBrowser(ShapesDataset(3, seed=7))
    yield made
    made.close()


@pytest.fixture
def coco(tmp_path):
    """One picture with a square as a polygon, an empty object, and a crowd of 8 pixels."""
    write_shapes(tmp_path, num_images=1, seed=7)
    path = next(tmp_path.rglob("instances_*.json"))
    content = json.loads(path.read_text())
    size = [content["images"][0]["height"], content["images"][0]["width"]]
    total = size[0] * size[1]
    base = {"image_id": content["images"][0]["id"], "category_id": 1, "iscrowd": 0}
    runs = {"size": size, "counts": [3, 8, total - 11]}
    content["annotations"] = [
        base | {"id": 1, "segmentation": [SQUARE]},
        base | {"id": 2, "segmentation": []},
        base | {"id": 3, "segmentation": runs, "iscrowd": 1, "area": 1024},
    ]
    path.write_text(json.dumps(content))
    return CocoDataset(tmp_path)


def test_every_form_of_a_stored_mask_is_told(coco):
    square, empty, crowd = stored_objects(coco, 0)
    # 4 x 4 pixels in four columns: four runs of ones, four of zeros before and one after.
    assert (square.area, square.num_runs, square.groups) == (16, 9, "small")
    assert square.form == "a polygon with 4 corners"
    assert square.box.tolist() == [2, 1, 6, 5]
    assert (empty.area, empty.num_runs, empty.form) == (0, 1, "0 polygons with 0 corners")
    assert crowd.is_crowd and crowd.name.endswith("(crowd)")
    assert (crowd.form, crowd.num_runs) == ("a list of 3 run lengths", 3)
    assert crowd.area == 1024  # the file's own number, on the border of two groups
    assert crowd.groups == "small and medium"


def test_browser_shows_crowds_and_annotations_without_pixels(coco):
    browser = DataBrowser(coco)
    assert "3 annotations, 1 of them crowds" in browser.facts.value
    browser.object.value = 1
    assert "no pixels" in browser.close_up.text
    browser.object.value = 2
    assert browser.close_up.png
    assert browser.message.text == ""
    browser.close()


def test_browser_opens_all_pictures_and_follows_its_controls(browser):
    first = browser.whole.png
    browser.after.click()
    assert (browser.index, browser.picture.value) == (1, 2)
    assert browser.whole.png != first
    browser.before.click()
    browser.before.click()
    assert browser.index == 2  # around the end
    browser.picture.value = 1
    assert browser.whole.png == first
    browser.object.value = 0
    told, close_up = browser.facts.value, browser.close_up.png
    assert "IoU" in told
    browser.mask_size.value = 7
    assert browser.close_up.png != close_up
    assert browser.facts.value != told
    browser.after.click()  # another picture has other objects
    assert browser.chosen is None
    assert browser.close_up.png == b""


def test_browser_tells_the_iou_that_masks_have(browser):
    browser.object.value = 1
    one = browser.objects[1]
    back = there_and_back(one.mask[None], one.box[None], 28)
    assert f"IoU {float(mask_iou(back, one.mask[None])[0]):.3f} after" in browser.facts.value
    assert f"area {int(one.mask.sum())} px" in browser.facts.value


def test_a_picture_that_cannot_be_read_is_told_and_the_old_one_stays(coco):
    browser = DataBrowser(coco)
    shown = browser.whole.png
    coco.image_path(coco.image_ids[0]).unlink()
    browser.after.click()
    assert browser.message.kind == "error"
    assert "is missing" in browser.message.text
    assert browser.whole.png == shown
    browser.close()


def test_wrong_arguments_are_refused(browser):
    with pytest.raises(ValueError, match="image 3: there are 3"):
        browser.show(3)
    with pytest.raises(ValueError, match="at least one mask size"):
        DataBrowser(mask_sizes=())
    with pytest.raises(ValueError, match="a data set with images"):
        DataBrowser(ShapesDataset(0))


def test_a_closed_browser_keeps_no_picture():
    browser = DataBrowser(ShapesDataset(2, seed=7))
    held = weakref.ref(browser.image)
    browser.close()
    gc.collect()
    assert held() is None


def test_there_and_back_of_masks_that_fit_the_grid_is_exact():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[0, 4:18, 2:9] = True  # half of a box of 14 x 14 pixels
    box = torch.tensor([[2.0, 4.0, 16.0, 18.0]])
    assert there_and_back(mask, box, 14).equal(mask)
    assert there_and_back(mask[:0], box[:0], 14).shape == (0, 20, 20)


def test_pictures_of_small_masks_say_what_differs():
    first = torch.zeros(4, 5, dtype=torch.bool)
    second = first.clone()
    second[1, 1:3] = True
    figure = pixel_masks_figure({"one": first, "two": second}, corners=torch.rand(3, 2))
    assert "one: 0 pixels, two: 2 pixels" in figure.get_label()
    assert "2 differ" in figure.axes[1].get_title()
    red = figure_pixels(figure)[:, :, 320:].float() - torch.tensor([213, 94, 0])[:, None, None]
    assert (red.abs().sum(dim=0) < 3).any()


def test_run_lengths_go_down_the_columns_and_begin_with_zeros():
    mask = torch.zeros(3, 2, dtype=torch.bool)
    mask[0] = True  # both columns begin with a pixel: runs 0, 1, 2, 1, 2
    assert "5 run lengths: 0, 1, 2, 1, 2" in run_lengths_figure(mask).get_label()


def test_round_trip_counts_what_was_lost_and_added():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[2:6, 2:6] = True
    back = mask.clone()
    back[2, 2:4], back[7, 7] = False, True
    label = round_trip_figure(mask, {"R = 2": back}, [2, 2, 6, 6]).get_label()
    assert "R = 2: 2 pixels lost, 1 added" in label


def test_objects_are_drawn_alone_or_together_or_not_at_all():
    sample = ShapesDataset(1, seed=7).load(0)
    target, names = sample.target, [str(i) for i in range(len(sample.target))]
    every = instances_figure(sample.image, target.masks, target.boxes, names, crowd=[0])
    alone = instances_figure(sample.image, target.masks, target.boxes, names, chosen=0)
    assert len(every.axes[0].patches) == len(names)
    assert len(alone.axes[0].patches) == 1
    none = instances_figure(sample.image, target.masks[:0], target.boxes[:0], [])
    assert "0 annotated objects: none" in none.get_label()


def test_resolution_figure_takes_a_single_object():
    figure = mask_resolution_figure(torch.tensor([20.0]), {"R = 14": torch.tensor([0.25])})
    assert "R = 14 0.25" in figure.get_label()
    assert figure.axes[0].get_ylim()[0] <= 0.25
