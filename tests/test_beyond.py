"""Chapter 14's helpers: costs, stages, outlines, owners and their figures."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blendmask_lite import PRESETS, load_model, shipped_checkpoint
from blendmask_lite.course.outlines import (
    best_masks,
    clicked_mask,
    clicked_truth,
    mask_ap,
    mean_offset,
    owners_as_result,
    true_owners,
    worst_window,
)
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, STUFF_CLASSES, ShapesDataset
from blendmask_lite.figures import (
    edges_figure,
    growth_figure,
    panoptic_figure,
    panoptic_steps_figure,
    stages_figure,
)
from blendmask_lite.research.costs import (
    count_parameters,
    mask_head_cost,
    object_cost,
    picture_cost,
    stage_times,
)
from blendmask_lite.structures import Target


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def sample():
    return ShapesDataset(4, seed=1_000_000).load(3)


def square(side: int, first: int, last: int) -> torch.Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[first:last, first:last] = True
    return mask


def test_a_mask_head_costs_what_its_layers_multiply():
    # By hand, one channel and one convolution on 2 x 2 cells: 4 cells x 9, then 16 cells x 1 for
    # the doubling, then 16 x 3 classes.
    assert mask_head_cost(1, channels=1, num_convs=1, size=2, classes=3) == 36 + 16 + 48
    assert mask_head_cost(5, channels=1, num_convs=1, size=2, classes=3) == 500
    assert mask_head_cost(0) == 0


def test_an_object_costs_its_attentions_and_nine_products_a_cell():
    # r50: 4 x 14 x 14 numbers of 256 x 3 x 3 products; 4 x 56 x 56 cells.
    assert object_cost(PRESETS["r50"]) == {"attentions": 784 * 2304, "blender": 12544 * 9}


def test_a_pictures_cost_grows_with_its_pixels_and_is_the_networks(model):
    with torch.no_grad():
        features = model([torch.zeros(3, 128, 128)]).features
    small = picture_cost(PRESETS["nano"], (64, 64))
    large = picture_cost(PRESETS["nano"], (128, 128))
    assert list(small) == ["backbone", "pyramid", "detector", "bottom module"]
    # Only the bottom module has a part that does not grow: its image pooling.
    assert all(large[name] == 4 * small[name] for name in list(small)[:3])
    assert 3.9 * small["bottom module"] < large["bottom module"] <= 4 * small["bottom module"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.bottom(features)
    assert large["bottom module"] == counter.get_total_flops() // 2
    assert count_parameters(PRESETS["nano"]) == sum(each.numel() for each in model.parameters())


def test_all_stages_of_all_counts_are_timed(model, sample):
    times = stage_times(model, sample.image, (1, 5), rounds=1)
    assert list(times) == [1, 5]
    assert all(list(each) == ["picture", "boxes", "masks", "paste"] for each in times.values())
    assert all(value > 0 for each in times.values() for value in each.values())
    with pytest.raises(ValueError, match="count = 100000"):
        stage_times(model, sample.image, (100_000,), rounds=1)


def test_an_outline_one_pixel_off_is_one_pixel_off():
    # A square of 4 x 4 grown to 6 x 6: 20 wrong pixels by 16 sides.
    target = Target(torch.tensor([[3.0, 3, 7, 7]]), torch.tensor([0]), square(10, 3, 7)[None])
    assert mean_offset([square(10, 2, 8)[None]], [target]) == pytest.approx(20 / 16)
    assert mean_offset([square(10, 3, 7)[None]], [target]) == 0


def test_the_worst_window_has_the_wrong_pixels():
    wrong = square(20, 4, 16).clone()
    wrong[4:7, 4:7] = False
    assert worst_window(wrong, square(20, 4, 16), 3) == (4, 4, 7, 7)


def test_clicks_at_the_corners_give_a_square_back_and_holes_are_filled():
    ring = square(40, 8, 32) & ~square(40, 16, 24)
    clicked = clicked_mask(ring, 400)
    assert (clicked ^ square(40, 8, 32)).sum() <= 8  # corners, at most
    few = clicked_mask(square(40, 0, 40), 12)  # a full picture has an outline, too
    assert few.float().mean() > 0.8


def test_finer_masks_are_better_by_the_exact_truth(sample):
    target = sample.target
    best = {size: [best_masks(target, size)] for size in (7, 56)}
    assert mean_offset(best[56], [target]) < mean_offset(best[7], [target])
    assert mask_ap([target], [target.masks], 8) == pytest.approx(100)
    assert mask_ap([target], best[7], 8) < mask_ap([target], best[56], 8)
    assert mask_ap([clicked_truth(target, 12)], [target.masks], 8) < 100


def test_owners_are_told_as_figures_want_them(sample):
    # By hand: N = 2 objects of classes 3 and 1, S = 2 kinds of stuff; object 1 has no pixel.
    owners = torch.tensor([[2, 2, 0], [4, 4, 3]])
    labels = torch.tensor([3, 1])
    result = owners_as_result(owners, labels, [0.5, 0.9])
    assert [(each.label, each.area, each.score) for each in result.segments] == [
        (1, 2, 0.9),
        (1, 1, None),
        (2, 2, None),
    ]

    true = true_owners(sample.target)
    assert (true > 0).all()
    assert torch.equal(true <= len(sample.target), sample.target.stuff == 0)
    with pytest.raises(ValueError, match="without stuff"):
        true_owners(Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))


def test_figures_tell_their_numbers_and_refuse_what_they_cannot_draw(sample):
    stages = stages_figure({"one": {"a": 1.0, "b": 2.0}, "two": {"a": 3.0, "b": 0.1}}, unit="ms")
    assert "one 3, of it a 1, b 2" in stages.get_label()
    assert [each.get_width() for each in stages.axes[0].patches] == pytest.approx([1, 3, 2, 0.1])
    with pytest.raises(ValueError, match="row 'two'"):
        stages_figure({"one": {"a": 1.0}, "two": {"b": 1.0}}, unit="ms")
    with pytest.raises(ValueError, match="no rows"):
        stages_figure({}, unit="ms")

    growth = growth_figure({"flat": {1: 5.0, 100: 5.0}, "steep": {1: 5.0, 100: 9.0}}, label="ms")
    assert "steep from 5 to 9" in growth.get_label()
    assert growth.axes[0].get_ylim()[0] == 0

    mask = sample.target.masks[0]
    edges = edges_figure(sample.image, mask, {"itself": mask}, window=(10, 20, 40, 50))
    assert edges.axes[1].get_xlim() == (10, 40) and edges.axes[1].get_ylim() == (50, 20)
    with pytest.raises(ValueError, match="no part of a picture"):
        edges_figure(sample.image, mask, {}, window=(10, 20, 400, 50))

    owners = true_owners(sample.target)
    result = owners_as_result(owners, sample.target.labels)
    names = panoptic_figure(sample.image, result, SHAPE_CLASSES, STUFF_CLASSES).get_label()
    assert SHAPE_CLASSES[int(sample.target.labels[0])] in names and "%" not in names
    steps = panoptic_steps_figure(sample.image, {"truth": result})
    assert f"truth: {len(result.segments)} segments" in steps.get_label()
    assert len(steps.axes) == 2
