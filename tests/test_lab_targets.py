"""FCOS' assignment taken apart: reasons by hand, the figure, and the explorer without a browser."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace

import pytest
import torch

from blendmask_lite import PRESETS, load_model, shipped_checkpoint
from blendmask_lite.boxes import centerness
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import object_color, rgb255
from blendmask_lite.figures.targets import paint_locations, targets_figure
from blendmask_lite.lab.canvas import CanvasEvent
from blendmask_lite.lab.targets_explorer import TargetsExplorer, limits_of, parse_limits
from blendmask_lite.lab.targets_view import by_level
from blendmask_lite.research.detector import REASONS, explain_assignment, pyramid_shapes
from blendmask_lite.training.targets import assign_locations

# Two levels on a picture of 32 x 32 pixels: 4 x 4 locations of stride 8, 2 x 2 of stride 16.
SHAPES, STRIDES = ((4, 4), (2, 2)), (8, 16)
LARGE, SMALL = [0.0, 0.0, 32.0, 32.0], [14.0, 14.0, 26.0, 26.0]
RANGES = ((-1.0, 22.0), (22.0, math.inf))


def explained(boxes=(LARGE, SMALL), radius=1.0, ranges=RANGES):
    return explain_assignment(
        torch.tensor(boxes).reshape(-1, 4),
        SHAPES,
        STRIDES,
        size_ranges=ranges,
        center_radius=radius,
    )


@pytest.fixture
def explorer():
    made = TargetsExplorer()
    yield made
    made.close()


def reason(found, level, column, row, index):
    return REASONS[int(found.reasons[found.place(level, column, row), index])]


def test_reasons_are_those_worked_out_by_hand():
    found = explained()
    # p3's location (20, 20): both boxes are central there, 4 and 0 pixels off, and its farthest
    # sides are 20 and 6 pixels. The small one is smaller.
    assert reason(found, 0, 2, 2, 1) == "learns it"
    assert reason(found, 0, 2, 2, 0) == "a smaller object took it"
    # (12, 12): the same distances for the large one, outside of the small one.
    assert reason(found, 0, 1, 1, 0) == "learns it"
    assert reason(found, 0, 1, 1, 1) == "outside the box"
    # (28, 12): 12 pixels from the large one's center, more than a stride of 8.
    assert reason(found, 0, 3, 1, 0) == "not central"
    # The other level, (8, 8): 8 pixels off is less than 16; farthest side 24, at least 22.
    assert reason(found, 1, 0, 0, 0) == "learns it"
    # Its (24, 24): 4 pixels off the small one's center, whose farthest side is 10.
    assert reason(found, 1, 1, 1, 1) == "size out of range"


def test_counts_and_claims_are_those_worked_out_by_hand():
    found = explained()
    assert found.counts.tolist() == [[3, 1], [4, 0]]
    assert found.is_ambiguous.nonzero()[:, 0].tolist() == [found.place(0, 2, 2)]


def test_the_owner_is_the_trainings_own_on_a_real_picture():
    sample = ShapesDataset(22, seed=7).load(21)
    config = PRESETS["nano"]
    model = load_model(shipped_checkpoint())
    with torch.no_grad():
        output = model([sample.image])
    shapes = pyramid_shapes((128, 128), config.level_strides, size_divisor=config.size_divisor)
    rules = {"size_ranges": config.size_ranges, "center_radius": config.center_radius}
    found = explain_assignment(sample.target.boxes, shapes, config.level_strides, **rules)
    assert torch.equal(found.locations, output.locations)
    assert found.level_sizes == list(output.level_sizes)
    owner = assign_locations(
        output.locations,
        sample.target.boxes.float(),
        output.level_sizes,
        output.level_strides,
        **rules,
    )
    assert torch.equal(found.owner, owner) and (owner >= 0).any()
    learned = found.owner[:, None] == torch.arange(len(sample.target))
    assert torch.equal(found.reasons == 4, learned)


def test_padded_levels_have_as_many_cells_as_the_network_makes():
    # 100 x 130 is padded to 128 x 160; p6 and p7 halve p5's 4 x 5 and round up.
    expected = ((16, 20), (8, 10), (4, 5), (2, 3), (1, 2))
    assert pyramid_shapes((100, 130), (8, 16, 32, 64, 128), size_divisor=32) == expected


def test_a_picture_without_objects_is_background():
    found = explained(boxes=())
    assert (found.owner == -1).all() and found.counts.shape == (2, 0)
    assert not found.is_ambiguous.any()


def test_the_figure_has_a_dot_for_every_location_in_its_objects_colour():
    found = explained()
    owners, several = by_level(found.owner, found), by_level(found.is_ambiguous, found)
    image = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    figure = targets_figure(
        image,
        boxes=found.boxes,
        names=["1: disk", "2: star"],
        owners=owners,
        ambiguous=several,
        strides=STRIDES,
        level_names=["p3", "p4"],
    )
    free, taken = figure.axes[0].collections
    assert len(free.get_offsets()) == 12 and len(taken.get_offsets()) == 4
    assert [tuple(each) for each in taken.get_offsets()] == [(12, 12), (20, 12), (12, 20), (20, 20)]
    colors = [tuple(round(255 * part) for part in each[:3]) for each in taken.get_facecolors()]
    assert colors == [rgb255(object_color(0))] * 3 + [rgb255(object_color(1))]
    assert "p3 4, p4 4" in figure.get_label()

    painted = paint_locations(
        image, boxes=found.boxes, owner=owners[0], ambiguous=several[0], stride=8, scale=2
    )
    assert painted.shape == (3, 64, 64)
    at = (painted[:, 40, 40] * 255).round().int().tolist()  # the location (20, 20), twice as fine
    assert tuple(at) == rgb255(object_color(1))


def test_pointing_at_a_location_tells_its_object_or_why_not(explorer):
    found = explorer.found
    location = int((found.owner >= 0).nonzero()[0])
    level = found.level_of(location)
    x, y = (found.locations[location] // found.strides[level]).int().tolist()
    explorer.canvas._callback(
        CanvasEvent("hover", panel=explorer.config.levels[level], cells=((x, y),))
    )
    chart = explorer.canvas.bars["location"]
    owner = int(found.owner[location])
    ltrb = found.ltrb[location, owner]
    assert f"Learns object {explorer.names[owner]}" in chart["title"]
    assert f"centerness {float(centerness(ltrb)):.2f}" in chart["title"]
    assert [bar["value"] for bar in chart["bars"]] == pytest.approx(ltrb.tolist())
    marks = explorer.canvas.marks[explorer.config.levels[level]]
    x0, _, x1, _ = (found.boxes[owner] / found.strides[level]).tolist()
    assert marks[0]["x"] == pytest.approx(x0) and marks[0]["width"] == pytest.approx(x1 - x0)
    assert {"x": x, "y": y, "width": 1, "height": 1, "weight": None} in marks

    background = int((found.reasons == 1).any(dim=1).logical_and(found.owner < 0).nonzero()[0])
    level = found.level_of(background)
    x, y = (found.locations[background] // found.strides[level]).int().tolist()
    panel = explorer.config.levels[level]
    explorer.canvas._callback(CanvasEvent("hover", panel=panel, cells=((x, y),)))
    title = explorer.canvas.bars["location"]["title"]
    assert "Background" in title and "not central" in title and "px from its center" in title
    explorer.canvas._callback(CanvasEvent("hover", panel=panel))
    assert explorer.canvas.marks == {}


def test_pointing_from_code_tells_the_same(explorer):
    location = int((explorer.found.owner >= 0).nonzero()[0])
    explorer.point(location)
    owner = explorer.names[int(explorer.found.owner[location])]
    assert f"Learns object {owner}" in explorer.canvas.bars["location"]["title"]
    explorer.point(None)
    assert explorer.canvas.marks == {}
    with pytest.raises(ValueError, match="location -1: there are 1344"):
        explorer.point(-1)


def test_the_rules_change_the_assignment_as_the_package_says(explorer):
    before = dict(explorer.canvas.still)
    explorer.controls.radius.value = 0.5
    rules = replace(PRESETS["nano"], center_radius=0.5)
    assert explorer.config == rules
    found = explorer.found
    owner = assign_locations(
        found.locations,
        found.boxes,
        found.level_sizes,
        found.strides,
        size_ranges=rules.size_ranges,
        center_radius=0.5,
    )
    assert torch.equal(found.owner, owner)
    assert explorer.canvas.still != before
    told = explorer.canvas.bars["levels"]
    assert sum(bar["value"] for bar in told["bars"]) == int((owner >= 0).sum())
    explorer.controls.is_whole.value = True
    assert explorer.config.center_radius == math.inf
    assert int((explorer.found.owner >= 0).sum()) > int((owner >= 0).sum())
    explorer.controls.limits.value = "16, 48"
    assert explorer.config.size_limits == (16, 48)
    explorer.controls.reset.click()
    assert explorer.config == explorer.own and explorer.controls.radius.value == 1.5


def test_other_levels_come_with_their_limits(explorer):
    explorer.controls.levels.value = ("p3", "p4", "p5", "p6")
    assert explorer.config.size_limits == (64, 128, 256)
    assert explorer.found.shapes == ((16, 16), (8, 8), (4, 4), (2, 2))
    assert list(explorer.canvas.still) == ["p3", "p4", "p5", "p6"]
    assert explorer.controls.level.label == "all levels"
    explorer.controls.level.value = 1
    assert list(explorer.canvas.still) == ["p4"]
    explorer.controls.levels.value = explorer.own.levels
    assert explorer.config.size_limits == explorer.own.size_limits


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("64, many", "'many' is not a number"),
        ("64", "need 2"),
        ("64, 32", "ascend"),
        ("0 1", "above 0"),
    ],
)
def test_wrong_limits_are_told_and_the_picture_stays(explorer, text, words):
    before, config = dict(explorer.canvas.still), explorer.config
    explorer.controls.limits.value = text
    assert words in explorer.message.text and explorer.message.kind == "error"
    assert explorer.config == config and explorer.canvas.still == before
    explorer.controls.limits.value = "16, 48"
    assert explorer.message.text == "" and explorer.config.size_limits == (16, 48)


def test_an_object_that_no_location_learns_is_named(explorer):
    explorer.controls.radius.value = 0.25
    lost = explorer.found.counts.sum(dim=0) == 0
    title = explorer.canvas.bars["objects"]["title"]
    for name, is_lost in zip(explorer.names, lost.tolist(), strict=True):
        assert (f" {name}" in title) == is_lost


def test_another_picture_is_shown_and_a_picture_without_objects_says_so(explorer):
    explorer.controls.picture.value = 3
    assert torch.equal(explorer.found.boxes, explorer.samples[3].target.boxes.float())
    sample = explorer.samples[0]
    empty = replace(sample, target=type(sample.target)(
        boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64)
    ))  # fmt: skip
    other = TargetsExplorer(samples=[empty])
    assert "no objects" in other.canvas.bars["objects"]["title"]
    assert other.figure().axes
    other.close()
    with pytest.raises(ValueError, match="samples: at least one"):
        TargetsExplorer(samples=[])


def test_closing_frees_the_assignment():
    explorer = TargetsExplorer()
    found = weakref.ref(explorer.found)
    explorer.close()
    gc.collect()
    assert found() is None and explorer.canvas.still == {}


def test_limits_are_read_from_text_and_follow_from_the_levels():
    assert parse_limits(" 64,128  256 ") == (64.0, 128.0, 256.0)
    assert limits_of(("p3", "p4", "p5", "p6", "p7")) == (64, 128, 256, 512)  # FCOS, section 3.2
