"""Receptive fields by hand, by gradients, and in the explorer, without a browser."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from pretended_gpu import pretended_gpu, to_gpu

from blendmask_lite import PRESETS, BlendMask, load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import CellField, paint_gradient, receptive_field_figure
from blendmask_lite.lab import CanvasEvent, ReceptiveFieldExplorer
from blendmask_lite.research.fields import ReceptiveFields, chain_fields, effective_side


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def fields(model):
    return ReceptiveFields(model)


@pytest.fixture(scope="module")
def image():
    return ShapesDataset(1, seed=7).load(0).image


@pytest.fixture
def explorer(model, image):
    made = ReceptiveFieldExplorer(model, images=[image, image.flip(2)])
    yield made
    made.close()


def test_fields_of_a_network_on_a_gpu_are_those_on_the_cpu(fields, image):
    with pretended_gpu():
        moved = ReceptiveFields(to_gpu(load_model(shipped_checkpoint())))
        box = moved.box((128, 128), "p3", (4, 5))
        gradient = moved.gradient(image, "p3", (4, 5)).cpu()
    assert box.equal(fields.box((128, 128), "p3", (4, 5)))
    torch.testing.assert_close(gradient, fields.gradient(image, "p3", (4, 5)))


def test_fields_of_a_chain_are_those_worked_out_by_hand():
    # 3 pixels; its cells are 2 apart: 3 + 2 * 2 = 7; then 4 apart: 7 + 2 * 4 = 15.
    assert chain_fields([3, 3, 3], [2, 2, 1]) == (3, 7, 15)
    # ResNet-50's C5 with Caffe's strides: 7, 11, then 3, 4, 6, 3 kernels of 3 at 4, 8, 16, 32.
    stages = [(4, 3, 1), (8, 4, 2), (16, 6, 2), (32, 3, 2)]
    assert 11 + sum(2 * step * num for step, num, _ in stages) == 483
    chain = [(7, 2), (3, 2)]
    for _, num, stride in stages:
        chain += [pair for i in range(num) for pair in ((1, stride if i == 0 else 1), (3, 1))]
    assert chain_fields(*zip(*chain, strict=True))[-1] == 483
    assert chain_fields([], []) == ()
    with pytest.raises(ValueError, match="1 kernels but 0 strides"):
        chain_fields([3], [])


@pytest.mark.parametrize(("name", "side"), [("c2", 15), ("c3", 39), ("c4", 87)])
def test_boxes_of_the_backbone_are_those_of_the_chain(fields, name, side):
    stride = {"c2": 4, "c3": 8, "c4": 16}[name]
    x0, y0, x1, y1 = fields.box((128, 128), name, (64 // stride, 64 // stride)).tolist()
    assert (x1 - x0, y1 - y0) == (side, side)
    # Kernels of 3 with padding 1 and stride 2 lie around pixel 2 i, whose center is 2 i + 0.5.
    assert (x0 + x1) / 2 == 64.5


def test_boxes_end_at_the_picture_and_follow_the_pyramid(fields):
    assert fields.box((128, 128), "c2", (0, 0)).tolist() == [0, 0, 8, 8]
    # P5's kernel of 3 reads C5 at 32 pixels: 183 + 64 around pixel 128.
    x0, _, x1, _ = fields.box((256, 256), "p5", (4, 4)).tolist()
    assert (x0, x1) == (128.5 - 123.5, 128.5 + 123.5)


@pytest.mark.parametrize("name", ["c2", "c4", "p2", "p4"])
def test_no_pixel_outside_of_the_box_acts(fields, image, name):
    gradient = fields.gradient(image, name, (3, 2))
    x0, y0, x1, y1 = (int(side) for side in fields.box((128, 128), name, (3, 2)))
    assert gradient.sum().item() == pytest.approx(1, abs=1e-4)
    assert gradient[y0:y1, x0:x1].sum().item() == pytest.approx(1, abs=1e-4)
    assert gradient.min() >= 0


def test_fields_leave_the_network_as_it_was(image):
    model = BlendMask(PRESETS["nano"]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fields = ReceptiveFields(model)
    fields.gradient(image, "c3", (1, 1))
    fields.box((128, 128), "p3", (1, 1))
    assert model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_a_frozen_backbone_with_more_levels_has_fields():
    config = PRESETS["r50"]
    fields = ReceptiveFields(BlendMask(config))
    assert fields.names == ("c2", "c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7")
    x0, _, x1, _ = fields.box((128, 128), "c2", (16, 16)).tolist()
    assert x1 - x0 == 35  # 7 + 4 for the pooling + 3 kernels at 4 pixels


def test_wrong_maps_and_cells_are_named(fields, image):
    with pytest.raises(ValueError, match="'p9': the maps are c2"):
        fields.gradient(image, "p9", (0, 0))
    with pytest.raises(ValueError, match=r"cell \(4, 0\): c5 has \(4, 4\) cells"):
        fields.box((128, 128), "c5", (4, 0))


def test_effective_side_counts_the_strongest_pixels():
    gradient = torch.zeros(10, 10)
    gradient[2:4, 2:4] = 1.0  # four pixels hold 80 %
    gradient[9, :4] = 0.25
    assert effective_side(gradient, 0.8) == pytest.approx(2)
    assert effective_side(gradient, 0.5) == pytest.approx(3**0.5)
    assert effective_side(gradient, 1.0) == pytest.approx(8**0.5)


def test_heat_lies_where_pixels_act_and_padding_is_white():
    gradient = torch.zeros(8, 8)
    gradient[1, 1] = 1.0
    painted = paint_gradient(torch.zeros(3, 4, 8), gradient)
    assert painted.shape == (3, 8, 8)
    assert (painted[:, 4:] == 1).all()
    assert painted[0, 1, 1] > painted[2, 1, 1]  # orange
    assert painted[:, 0, 0].unique().numel() == 1  # grey
    assert paint_gradient(torch.zeros(3, 4, 8), torch.zeros(8, 8)).isfinite().all()


def test_figure_says_how_large_the_fields_are(image):
    field = CellField(torch.rand(128, 128), torch.tensor([0.0, 4.0, 15.0, 24.0]), (8.0, 8.0))
    figure = receptive_field_figure(image, {"c2": field, "c3": field})
    assert "c2: theory 15 x 20 pixels; c3" in figure.get_label()
    assert figure.get_size_inches()[0] <= 9


def test_pointing_at_a_cell_shows_its_field(explorer):
    shown = dict(explorer.canvas.still)
    explorer.canvas.act(CanvasEvent("hover", "map", cells=((5, 2),)))
    assert explorer.cell == (2, 5)
    assert dict(explorer.canvas.still) != shown
    first = explorer.canvas.marks["map"][0]
    assert (first["x"], first["y"]) == (5, 2)
    assert "row 2, column 5" in explorer.canvas.announcement
    explorer.canvas.act(CanvasEvent("hover", "map"))  # the hand left the panel
    assert explorer.cell == (2, 5)


def test_controls_change_map_picture_and_share(explorer):
    assert (explorer.name, explorer.cell) == ("c4", (4, 4))
    explorer.map.value = "p2"
    assert (explorer.name, explorer.cell) == ("p2", (16, 16))
    assert explorer.canvas.columns[0][0]["panels"][0]["width"] == 32
    shown = dict(explorer.canvas.still)
    explorer.picture.value = 1
    assert dict(explorer.canvas.still) != shown
    before = explorer.canvas.bars["field"]["bars"][1]
    explorer.share.value = 0.5
    after = explorer.canvas.bars["field"]["bars"][1]
    assert after["value"] < before["value"]
    assert after["label"] == "50 %"
    assert explorer.message.text == ""
    assert "p2" in explorer.figure().get_label()


def test_a_cell_that_is_not_there_is_told_and_the_old_one_stays(explorer):
    explorer.canvas.act(CanvasEvent("hover", "map", cells=((99, 0),)))
    assert explorer.message.kind == "error"
    assert "c4 has (8, 8) cells" in explorer.message.text
    assert explorer.cell == (4, 4)


def test_a_picture_that_is_no_multiple_of_32_is_padded(model):
    explorer = ReceptiveFieldExplorer(model, images=[torch.rand(3, 70, 40)])
    assert explorer.field.gradient.shape == (96, 64)
    panel = explorer.canvas.columns[0][0]["panels"][0]
    assert (panel["width"], panel["height"]) == (4, 6)
    explorer.close()


def test_explorer_refuses_no_pictures_and_frees_its_own(model):
    with pytest.raises(ValueError, match="images: at least one"):
        ReceptiveFieldExplorer(model, images=[])
    explorer = ReceptiveFieldExplorer(model)
    held = weakref.ref(explorer.fields)
    explorer.close()
    gc.collect()
    assert held() is None
