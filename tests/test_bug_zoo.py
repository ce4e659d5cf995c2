"""Each bug of chapter 15's zoo changes the masks, does what its name says, and goes away again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchvision.ops import roi_align

from blendmask_lite import PRESETS, BlendMask, load_model, shipped_checkpoint
from blendmask_lite.course.bug_zoo import BUGS, infected, observe
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import specimens_figure
from blendmask_lite.research import look_at_objects

NUMBER = 39  # a picture with objects at the border and on several levels


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def sample():
    return ShapesDataset(NUMBER + 1, seed=7).load(NUMBER)


@pytest.fixture(scope="module")
def healthy(model, sample):
    return observe(model, sample)


@pytest.fixture(scope="module")
def objects(model, sample):
    return look_at_objects(model, sample)


@pytest.mark.parametrize("name", BUGS)
def test_bug_changes_masks_and_is_undone(model, sample, healthy, name):
    with infected(model, name) as same:
        assert same is model
        ill = observe(model, sample)
    assert ill.masks.shape == healthy.masks.shape
    assert not ill.masks.equal(healthy.masks)
    again = observe(model, sample)
    assert again.masks.equal(healthy.masks)
    assert again.iou.equal(healthy.iou)


@pytest.mark.parametrize("name", BUGS)
def test_model_is_as_before_after_an_error(model, name):
    own, inner = dict(vars(model)), dict(vars(model.merger))
    with pytest.raises(RuntimeError, match="in the block"), infected(model, name):
        raise RuntimeError("in the block")
    assert vars(model) == own
    assert vars(model.merger) == inner


def test_healthy_masks_are_those_that_predict_finds_at_the_same_locations(
    model, sample, healthy, objects
):
    found = model.predict([sample.image])[0]
    learned = objects.index[objects.is_learned][:, 1]
    object_index, found_index = (learned[:, None] == found.location_index).nonzero(as_tuple=True)
    assert len(object_index) > 0
    assert healthy.masks[object_index].equal(found.masks[found_index])


def test_half_pixel_is_what_torchvision_calls_not_aligned(model, objects):
    boxes, image = objects.boxes, objects.index[:, 0]
    regions = torch.cat([image[:, None].float(), boxes], dim=1)
    stride, size = model.bottom.stride, model.config.mask_size
    expected = roi_align(
        objects.output.bases, regions, size, 1 / stride, sampling_ratio=1, aligned=False
    )
    with infected(model, "half pixel"):
        crops = model.crops_at(objects.output, image, boxes)
    torch.testing.assert_close(crops, expected, atol=1e-4, rtol=1e-4)


def test_clipped_crop_leaves_boxes_inside_the_picture_alone(model, objects):
    boxes = torch.tensor([[10.0, 20.0, 60.0, 70.0], [-20.0, 20.0, 60.0, 70.0]])
    image = torch.zeros(2, dtype=torch.int64)
    before = model.crops_at(objects.output, image, boxes)
    with infected(model, "clipped crop"):
        after = model.crops_at(objects.output, image, boxes)
        none = model.crops_at(objects.output, image[:0], boxes[:0])
    assert after[0].equal(before[0])
    assert not after[1].equal(before[1])
    assert len(none) == 0


def test_level_index_is_right_on_the_first_level_only(model, objects):
    first, second = objects.output.level_sizes[:2]
    places = torch.tensor([[0, 5], [0, first - 1], [0, first + 5], [0, first + second + 5]])
    right = model.attentions_at(objects.output, places)
    with infected(model, "level index"):
        ill = model.attentions_at(objects.output, places)
    torch.testing.assert_close(ill[:2], right[:2])
    torch.testing.assert_close(ill[2:], right[[0, 0]])


def test_channel_order_keeps_the_numbers_and_exchanges_their_places(model, objects):
    right = model.attentions_at(objects.output, objects.index)
    with infected(model, "channel order"):
        ill = model.attentions_at(objects.output, objects.index)
    K, M = model.config.num_bases, model.config.attention_size
    base, row, column = 2, 3, 5
    assert ill[:, (base * M + row) * M + column].equal(right[:, (row * M + column) * K + base])
    assert ill.sort(dim=1).values.equal(right.sort(dim=1).values)


def test_loud_bugs_cost_much_and_silent_ones_nearly_nothing(model):
    samples = [ShapesDataset(8, seed=7).load(number) for number in range(8)]

    def mean():
        return float(torch.cat([observe(model, each).iou for each in samples]).mean())

    healthy, iou = mean(), {}
    for name in BUGS:
        with infected(model, name):
            iou[name] = mean()
    assert all(iou[name] < healthy - 0.03 for name in ("half pixel", "channel order"))
    assert all(
        abs(iou[name] - healthy) < 0.03
        for name in ("softmax first", "swapped colours", "clipped crop")
    )


def test_what_cannot_be_infected_is_refused(model):
    with pytest.raises(ValueError, match="zoo has half pixel"), infected(model, "flu"):
        pass
    single = BlendMask(replace(PRESETS["nano"], num_bases=1))
    with pytest.raises(ValueError, match="more than one base"), infected(single, "half pixel"):
        pass


def test_specimens_are_drawn_with_what_they_lost_and_gained(sample, healthy):
    ill = healthy.masks.roll(1, dims=2)
    lost, gained = int((healthy.masks & ~ill).sum()), int((ill & ~healthy.masks).sum())
    figure = specimens_figure(sample.image, {"A": ill}, healthy=healthy.masks)
    assert f"A: lost {lost}, gained {gained} pixels" in figure.get_label()
    assert f"A: -{lost} +{gained} pixels" in figure.axes[0].get_title()
    plain = specimens_figure(sample.image, dict.fromkeys("ABCDE", healthy.masks))
    assert [ax.get_title() for ax in plain.axes[:5]] == list("ABCDE")
    with pytest.raises(ValueError, match="an empty dict"):
        specimens_figure(sample.image, {})
    with pytest.raises(ValueError, match="right"):
        specimens_figure(sample.image, {"A": ill[:1]}, healthy=healthy.masks)
