"""The Blender lab without a browser: states, what follows from them, events, files, errors."""

from __future__ import annotations

import datetime
import gc
import json
import weakref
from dataclasses import replace

import ipywidgets as widgets
import numpy as np
import pytest
import torch

from blendmask_lite import PRESETS, BlendMask, InferenceConfig, load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesDataset
from blendmask_lite.images import resize_for_test
from blendmask_lite.lab import BlenderLab, blender
from blendmask_lite.lab.blender import view as view
from blendmask_lite.lab.blender.controls import Rivals, method_note
from blendmask_lite.lab.blender.presets import PRESETS as SCENES
from blendmask_lite.lab.blender.scene import (
    LabObject,
    attention_cells,
    base_pixels,
    blend,
    look_at,
    mean_weights,
    nearest_location,
)
from blendmask_lite.lab.blender.state import (
    BlenderState,
    History,
    brushed,
    changed,
    own_numbers,
    painted,
    read_state,
    resized,
    write_state,
)
from blendmask_lite.lab.canvas import (
    Canvas,
    CanvasEvent,
    Group,
    Overlay,
    Panel,
    as_cells,
    layer_palette,
    palette,
)
from blendmask_lite.lab.parts import LabWidget, shows_errors
from blendmask_lite.model.merge import Blender, WeightedSum
from blendmask_lite.research.race import load_contestant, load_features
from blendmask_lite.structures import Target

STRIDE = 4


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def sample():
    return ShapesDataset(22, seed=7).load(21)


@pytest.fixture
def searching_lab(model, sample):
    made = BlenderLab(model=model, image=sample.image, target=sample.target)
    yield made
    made.close()


@pytest.fixture(scope="module")
def scene(model, sample):
    return look_at(model, sample.image, sample.target)


@pytest.fixture
def lab(monkeypatch, model, sample, scene):
    """Without what takes longest: the network, and the search for the best numbers."""

    def look(model, image, *others, **options):
        return scene if image is sample.image else look_at(model, image, *others, **options)

    monkeypatch.setattr(blender, "look_at", look)
    monkeypatch.setattr(Rivals, "plan", lambda *_: None)
    made = BlenderLab(model=model, image=sample.image, target=sample.target)
    yield made
    made.close()


def state(K=4, M=2, R=4, box=(0.0, 0.0, 16.0, 16.0), **fields):
    generator = torch.Generator().manual_seed(K * M)
    return BlenderState(
        box=box,
        attentions=torch.randn(K, M, M, generator=generator),
        coefficients=torch.linspace(-1, 1, K),
        mask_size=R,
        **fields,
    )


def send(lab, **event):
    """An event as the page sends it."""
    send.number = getattr(send, "number", 0) + 1
    lab.canvas._receive(None, event | {"id": send.number}, [])
    assert lab.canvas.done == send.number


def upload(name, content):
    """A file as the page's control hands it over."""
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return {
        "name": name,
        "type": "application/json",
        "size": len(content),
        "last_modified": when,
        "content": memoryview(content),
    }


# ------------------------------------------------------------------ what follows from a state


def test_the_networks_own_state_gives_the_masks_that_predict_gives(model, sample):
    found = model.predict([sample.image], score_threshold=0.3)[0]
    scene = look_at(model, sample.image, sample.target)

    assert scene.num_found == len(found) >= 5
    for i in range(len(found)):
        result = scene.blend(scene.objects[i].own)
        assert torch.allclose(result.logits, found.mask_logits[i], atol=1e-4)
        assert (result.mask != found.masks[i]).sum() <= 1  # a rounded half


@pytest.mark.parametrize("kind", ["weighted_sum", "assembler"])
def test_a_network_with_another_merger_begins_with_its_own_masks(kind, sample):
    torch.manual_seed(0)
    config = replace(PRESETS["nano"], merger=kind, num_bases=9)
    model = BlendMask(config, inference=InferenceConfig(score_threshold=0)).eval()
    scene = look_at(model, sample.image, sample.target, score_threshold=0)
    output = model([sample.image])
    location = int(model.detect(output, score_threshold=0)[0].location_index[0])

    own = scene.objects[0].own
    box = torch.tensor([own.box])  # a pixel wide at least: such a network finds boxes of no size
    expected = model.masks_at(output, torch.tensor([[0, location]]), box)[0]

    assert own.merger == kind
    assert torch.allclose(scene.blend(own).logits, expected, atol=1e-4)


def test_a_coarse_cell_counts_with_its_bilinear_weight():
    # Cell 1 of 4 lies at (1 + 0.5) * 2 / 4 - 0.5 = 0.25 of 2 cells: 3/4 of cell 0, 1/4 of cell 1.
    expected = torch.tensor([[0.75 * 0.25, 0.25 * 0.25], [0.75 * 0.75, 0.25 * 0.75]])

    assert torch.allclose(attention_cells(state(), x=1, y=2), expected, atol=1e-6)
    nearest = attention_cells(state(interpolation="nearest"), x=1, y=2)
    assert nearest.tolist() == [[0, 0], [1, 0]]


def test_a_cell_of_a_crop_comes_from_the_pixels_around_its_sample():
    # A box of 8 x 8 base pixels, 4 x 4 cells: cell 1 samples at (1 + 0.5) * 2 = 3, the edge between
    # the pixels 2 and 3.
    bases = torch.arange(2 * 64.0).reshape(2, 8, 8)
    small = state(K=2, box=(0.0, 0.0, 32.0, 32.0))

    weights = base_pixels(bases, small, x=1, y=0, stride=STRIDE)

    expected = torch.zeros(8, 8)
    expected[0:2, 2:4] = 0.25
    assert torch.allclose(weights, expected.expand(2, 8, 8), atol=1e-6)
    pooled = base_pixels(bases, replace(small, pooling="pool"), x=1, y=0, stride=STRIDE)
    # RoIPool takes in the pixel at the box's end: bins of 9 / 4, here rows 0-2 and columns 2-4.
    assert pooled.nonzero().tolist() == [[0, 2, 4], [1, 2, 4]]  # the largest of them


def test_the_weights_of_a_cell_add_up_to_its_logit(lab):
    x, y = 11, 17
    scene, present = lab.scene, lab.state
    weights = base_pixels(scene.bases, present, x, y, stride=scene.stride)
    crops = (weights * scene.bases).sum(dim=(1, 2))
    attentions = (attention_cells(present, x, y) * present.attentions).sum(dim=(1, 2))

    logit = (crops * attentions.softmax(dim=0)).sum()

    assert torch.allclose(logit, lab.blend.logits[y, x], atol=1e-4)


def test_one_cell_a_base_is_the_weighted_sum_of_the_mean_weights():
    coarse = state(M=1)
    as_yolact = replace(coarse, merger="weighted_sum", coefficients=mean_weights(coarse))
    bases = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
    options = {"stride": STRIDE, "image_size": (32, 32)}

    assert torch.allclose(
        blend(bases, coarse, **options).logits, blend(bases, as_yolact, **options).logits, atol=1e-5
    )


def test_the_three_mergers_use_the_same_bases():
    bases = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(1))
    options = {"stride": STRIDE, "image_size": (32, 32)}
    made = {
        kind: blend(bases, state(K=5, merger=kind), **options)
        for kind in ("blender", "weighted_sum", "assembler")
    }

    assert torch.equal(made["blender"].crops[:4], made["assembler"].crops)  # 2 x 2 tiles
    assert torch.equal(made["blender"].crops, made["weighted_sum"].crops)
    tile = made["assembler"].crops[1, 0, 3]  # top right
    assert made["assembler"].logits[0, 3] == tile
    scores = made["weighted_sum"].scores
    assert torch.equal(scores[:, 0, 0], torch.linspace(-1, 1, 5))
    assert isinstance(state().make_merger(), Blender)
    assert isinstance(state(merger="weighted_sum").make_merger(), WeightedSum)


def test_the_best_numbers_beat_the_networks_own(searching_lab):
    lab = searching_lab
    own = lab.iou
    best = lab.scene.best(lab.state, lab.state)

    assert lab.scene.iou(lab.scene.blend(best).mask, lab.scene.truth_of(best)) > own
    bars = {bar["label"]: bar["value"] for bar in lab.canvas.bars["iou"]["bars"]}
    assert bars["network"] == pytest.approx(own) and bars["best found"] > own


@pytest.mark.parametrize(("field", "told"), [("has_tanh", "hasTanh"), ("has_relu", "hasRelu")])
def test_a_state_with_tanh_or_relu_is_another_problem_for_the_page_and_the_search(field, told, lab):
    lab.apply(replace(lab.state, merger="weighted_sum"))
    lab.rivals._search(lab.state, lambda: None)
    assert lab.rivals.best(lab.state) is not None
    assert lab.canvas.lanes[0][told] is False

    lab.apply(replace(lab.state, **{field: True}))
    assert lab.canvas.lanes[0][told] is True
    assert lab.rivals.best(lab.state) is None  # not known yet


def test_a_box_over_another_object_is_compared_with_the_networks_mask_of_that_object(lab):
    scene, name = lab.scene, lab.scene.objects[lab._number].name
    others = set(range(len(scene.true_names))) - {scene.truth_of(lab.own)}
    for truth in others:
        send(lab, kind="box", panel="picture", box=scene.true_boxes[truth].tolist())
        chart = lab.canvas.bars["iou"]
        heading = chart["title"].splitlines()
        iou = scene.iou(scene.blend(scene.found_at(truth)).mask, truth)
        assert scene.true_names[truth] in heading[0] and name in heading[2]
        assert chart["bars"][1]["value"] == pytest.approx(iou) and iou > 0.5

    blind = Rivals(replace(scene, num_found=0), lab.own)
    assert blind.network(scene.truth_of(lab.own)) > 0.5
    assert [blind.network(truth) for truth in others] == [None] * len(others)
    bars = view.iou_bars("mug", 0.9, None, None)
    assert "no mask" in bars.title and bars.bars[1].text == "–"


# ------------------------------------------------------------------ changes


def test_a_brush_covers_a_square_and_stops_at_the_edge():
    assert brushed([(1, 2)], 1, 4).nonzero().tolist() == [[2, 1]]
    assert brushed([(0, 0)], 3, 4).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert brushed([(3, 3)], 2, 4).nonzero().tolist() == [[3, 3]]
    assert brushed([], 3, 4).sum() == 0


def test_painting_changes_one_grid_where_the_brush_was_and_no_older_state():
    before = state(M=3)
    kept = before.attentions.clone()

    after = painted(before, 2, [(1, 0), (2, 0)], 6.0)

    assert torch.equal(before.attentions, kept)
    assert (after.attentions != kept).nonzero().tolist() == [[2, 0, 1], [2, 0, 2]]
    assert after.attentions[2, 0, 1:].tolist() == [6, 6]


def test_painting_a_weighted_sum_sets_a_coefficient_and_fcis_refuses():
    after = painted(state(merger="weighted_sum"), 1, [(0, 0)], -2.5)

    assert after.coefficients.tolist() == pytest.approx([-1, -2.5, 1 / 3, 1])
    with pytest.raises(ValueError, match="FCIS has nothing to paint"):
        painted(state(merger="assembler"), 1, [(0, 0)], 1.0)
    with pytest.raises(ValueError, match="base 4"):
        painted(state(), 4, [(0, 0)], 1.0)


def test_fewer_bases_and_back_bring_the_networks_numbers():
    own, now = state(K=4), painted(state(K=4), 0, [(0, 0)], 9.0)

    back = changed(changed(now, own, "num_bases", 2), own, "num_bases", 4)

    assert back.attentions[0, 0, 0] == 9
    assert torch.equal(back.attentions[2:], own.attentions[2:])
    assert torch.equal(back.coefficients, own.coefficients)


def test_a_grid_shrinks_to_means_and_the_networks_numbers_follow():
    grid = torch.arange(16.0).reshape(1, 4, 4)

    assert resized(grid, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert resized(grid, 8).shape == (1, 8, 8)
    own = state(K=4, M=4)
    reset = own_numbers(own, changed(own, own, "attention_size", 2))
    assert torch.equal(reset.attentions, resized(own.attentions, 2))


@pytest.mark.parametrize(
    "fields",
    [{"box": (5.0, 0.0, 5.0, 9.0)}, {"R": 1, "M": 2}, {"coefficients": torch.zeros(3)}],
)
def test_a_state_that_cannot_be_is_refused(fields):
    sizes = {name: fields.pop(name) for name in ("R", "M") if name in fields}
    with pytest.raises(ValueError, match=r"box|mask_size|coefficients"):
        replace(state(**sizes), **fields)


def test_undo_and_redo_walk_the_same_way():
    first, second, third = state(K=1), state(K=2), state(K=3)
    history = History(first).pushed(second).replaced(third)

    assert history.present is third
    assert history.undone().present is first
    assert history.undone().redone().present is third
    assert history.undone().undone().present is first
    assert history.undone().pushed(second).redone().present is second


# ------------------------------------------------------------------ files


def test_a_state_survives_the_file():
    made = state(K=3, merger="weighted_sum", pooling="pool", interpolation="nearest")

    read, picture = read_state(write_state(made, picture="abc"))

    assert picture == "abc"
    assert torch.equal(read.attentions, made.attentions)
    assert torch.equal(read.coefficients, made.coefficients)
    for name in ("box", "merger", "mask_size", "interpolation", "pooling", "has_tanh"):
        assert getattr(read, name) == getattr(made, name), name


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("merger", "mixer", "merger = 'mixer'"),
        ("mask_size", 0, "mask_size = 0"),
        ("mask_size", 1e9, "mask_size"),
        ("box", [1, 2, 3], "box has the shape"),
        ("box", [5, 5, 5, 9], "has no area"),
        ("attentions", [[1]], "attentions has the shape"),
        ("attentions", "many", "attentions is missing"),
        ("coefficients", [float("nan")] * 4, "not finite"),
        ("blender_lab", 2, "not a state"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_field(field, value, words):
    values = json.loads(write_state(state(), picture="")) | {field: value}
    with pytest.raises(ValueError, match=words) as error:
        read_state(json.dumps(values).encode(), name="mine.json")
    assert str(error.value).startswith("mine.json: ")


def test_a_file_of_another_kind_is_refused():
    for content in (b"\x89PNG", b"", b"[1]", b"[" * 100_000):
        with pytest.raises(ValueError, match="not a state of the Blender lab"):
            read_state(content)


def test_the_lab_saves_loads_and_exports(lab, tmp_path):
    send(lab, kind="paint", panel="attention 1", cells=[[3, 3]], gesture=1, is_last=True)
    kept = lab.state
    lab.save(tmp_path / "a.json")
    lab.undo()

    lab.load(tmp_path / "a.json")

    assert torch.equal(lab.state.attentions, kept.attentions)
    lab.export(tmp_path / "a.png")
    lab.export(tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(ValueError, match=r"\.jpg"):
        lab.export(tmp_path / "a.jpg")


# ------------------------------------------------------------------ the lab under the hand


def test_dragging_moves_the_box_and_one_undo_brings_it_back(lab):
    before = lab.state.box
    for step in range(5):
        box = [30 + step, 20, 80 + step, 60]
        send(lab, kind="box", panel="picture", box=box, gesture=7, is_last=step == 4)

    assert lab.state.box == (34, 20, 84, 60)
    expected = lab.scene.blend(lab.state)
    assert lab.canvas.live["mask"] == as_cells(expected.logits.sigmoid(), 0, 1)
    assert "box from 34, 20 to 84, 60" in lab.canvas.announcement
    send(lab, kind="key", key="undo")
    assert lab.state.box == before


def test_painting_reaches_the_pixels_of_the_grid_and_of_the_mask(lab):
    before = dict(lab.canvas.live)
    lab.controls.value.value, lab.controls.brush_size.value = -9.0, 3
    send(lab, kind="paint", panel="attention 2", cells=[[3, 3]], gesture=1, is_last=True)

    assert (lab.state.attentions[1, 2:5, 2:5] == -9).all()
    changed_panels = {key for key, cells in lab.canvas.live.items() if cells != before[key]}
    assert {"attention 2", "score 1", "product 2", "mask"} <= changed_panels
    assert not {"attention 1", "crop 1"} & changed_panels
    lab.controls.brush.value = "own"
    send(lab, kind="paint", panel="attention 2", cells=[[3, 3]], gesture=2, is_last=True)
    assert torch.equal(lab.state.attentions, lab.own.attentions)
    lab.controls.brush.value = "zero"
    send(lab, kind="paint", panel="attention 2", cells=[[3, 3]], gesture=3, is_last=True)
    assert (lab.state.attentions[1, 2:5, 2:5] == 0).all()


def test_pointing_at_a_cell_shows_its_weights_and_where_they_come_from(lab):
    waiting = lab.canvas.bars["weights"]
    send(lab, kind="hover", panel="mask", cells=[[11, 17]])

    bars = lab.canvas.bars["weights"]
    scores = lab.blend.scores[:, 17, 11]
    assert [bar["value"] for bar in bars["bars"]] == pytest.approx(scores.tolist())
    assert f"{lab.blend.logits[17, 11]:+.2f}" in bars["title"]
    weights = [mark["weight"] for mark in lab.canvas.marks["attention 1"]]
    assert sum(weights) == pytest.approx(1, abs=0.01)
    x0, y0, x1, y1 = lab.state.box
    middle = [round(x0 + (x1 - x0) / 2), round(y0 + (y1 - y0) / 2)]
    send(lab, kind="hover", panel="picture", cells=[middle])
    assert abs(lab.canvas.marks["mask"][0]["x"] - 14) <= 1
    send(lab, kind="hover", panel="picture", cells=[[0, 0]])
    assert lab.canvas.marks == {} and lab.canvas.bars["weights"] == waiting
    # As high as before: what lies below does not move with the pointer.
    assert len(waiting["bars"]) == len(bars["bars"]) and waiting["lines"] == bars["lines"]
    assert len(bars["title"].splitlines()) == bars["lines"]


def test_keys_change_the_brush_value_and_walk_the_history(lab):
    send(lab, kind="key", key="-", count=3)
    assert lab.controls.value.value == 4.5
    send(lab, kind="key", key="+", count=100)
    assert lab.controls.value.value == 10
    lab.controls.merger.value = "assembler"
    send(lab, kind="key", key="undo")
    assert lab.state.merger == "blender" == lab.controls.merger.value
    send(lab, kind="key", key="redo")
    assert lab.state.merger == "assembler"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("merger", "weighted_sum"),
        ("merger", "assembler"),
        ("num_bases", 2),
        ("attention_size", 3),
        ("mask_size", 56),
        ("interpolation", "nearest"),
        ("pooling", "pool"),
    ],
)
def test_every_control_changes_the_mask_to_what_the_package_computes(lab, name, value):
    before = lab.blend.logits
    lab.controls.changes[name].value = value

    assert lab.message.text == ""
    expected = lab.scene.blend(lab.state)
    assert torch.equal(lab.blend.logits, expected.logits)
    assert before.shape != expected.logits.shape or not torch.equal(before, expected.logits)
    cells = lab.canvas.live["mask"]
    assert cells == as_cells(expected.logits.sigmoid(), 0, 1)
    assert lab.controls.changes[name].value == value
    assert lab.controls.note.value == method_note(lab.state)
    lab.controls.undo.click()
    assert torch.equal(lab.blend.logits, before)


def test_the_buttons_reset_find_the_best_and_answer(lab):
    send(lab, kind="paint", panel="attention 2", cells=[[3, 3]], gesture=1, is_last=True)
    send(lab, kind="box", panel="picture", box=[10, 10, 60, 60], gesture=2, is_last=True)
    lab.controls.reset.click()
    assert torch.equal(lab.state.attentions, lab.own.attentions)
    assert lab.state.box == (10, 10, 60, 60)
    lab.controls.reset_all.click()
    assert lab.state.box == lab.own.box
    own = lab.iou
    lab.controls.best.click()
    assert lab.iou > own
    sent = []
    lab.canvas.send = lambda content, buffers: sent.append((content, buffers))
    for button in (lab.controls.save, lab.controls.png, lab.controls.svg):
        button.click()
    assert [content["download"].split(".")[1] for content, _ in sent] == ["json", "png", "svg"]
    lab.controls.reset.click()
    lab.controls.load.value = (upload("own.json", sent[0][1][0]),)
    assert lab.iou > own and lab.message.text == ""


def test_another_object_begins_with_its_own_box(lab):
    lab.controls.object.value = 2

    assert lab.state is lab.scene.objects[2].own
    assert lab.controls.undo.disabled


def test_pointing_under_yolact_shows_no_interpolation_weight_as_a_coefficient(lab):
    lab.controls.merger.value = "weighted_sum"
    send(lab, kind="hover", panel="mask", cells=[[11, 17]])

    assert [mark["weight"] for mark in lab.canvas.marks["attention 1"]] == [None]
    assert "Attention" not in lab.canvas.bars["weights"]["title"]


def test_products_have_the_colours_of_the_sums_that_they_make(lab):
    made = {each["kind"]: each for each in lab.canvas.lanes[0]["maps"]}
    largest = float(lab.blend.logits.abs().max())

    assert made["product"]["high"] == made["sum"]["high"] == -made["sum"]["low"]
    assert 0.7 * largest <= made["sum"]["high"] <= 1.05 * largest


def test_between_the_events_of_a_gesture_the_page_draws_alone(lab):
    before = lab.canvas.live
    send(lab, kind="box", panel="picture", box=[30, 20, 80, 60], gesture=7, is_last=False)
    assert lab.canvas.live is before and lab.state.box == (30, 20, 80, 60)
    send(lab, kind="box", panel="picture", box=[31, 20, 81, 60], gesture=7, is_last=True)
    assert lab.canvas.live["mask"] != before["mask"] and lab.canvas.box == [31, 20, 81, 60]


def test_the_page_is_told_what_it_needs_to_compute_the_mask_itself(lab):
    (told,) = lab.canvas.lanes
    used = np.frombuffer(told["bases"], np.float32).reshape(told["K"], told["H"], told["W"])
    numbers = np.frombuffer(lab.canvas.numbers[""], np.float32)

    assert np.array_equal(used, lab.scene.bases.numpy())
    assert np.array_equal(numbers, lab.state.attentions.flatten().numpy())
    assert {each["panel"] for each in told["maps"]} == lab.canvas.live.keys()
    assert lab.canvas.brush["kind"] == "value" and lab.canvas.brush["value"] == 6
    lab.controls.brush.value = "zero"
    assert lab.canvas.brush["kind"] == "zero"


def test_the_first_object_is_large_and_whole(scene):
    boxes = [(1, 1, 20, 20), (0, 30, 90, 128), (30, 30, 90, 100), (2, 2, 127, 127)]
    objects = tuple(
        LabObject(str(box), replace(scene.objects[0].own, box=tuple(map(float, box))))
        for box in boxes
    )
    # The second touches the border, the last is not found but true.
    assert replace(scene, objects=objects, num_found=3).first_object == 2
    assert replace(scene, objects=objects[1:2], num_found=1).first_object == 0


@pytest.mark.slow
def test_without_an_image_the_lab_opens_presets_each_with_a_network_that_knows_it():
    lab = BlenderLab()
    assert tuple(lab.model.class_names) == SHAPE_CLASSES
    assert lab.model.config.attention_size == 14 and lab.scene.image_size == (192, 192)
    shapes = lab.model
    for name in SCENES:
        lab.controls.preset.value = name
        assert lab.message.text == "", name
        assert lab.iou > 0.5, name
        assert (lab.model is shapes) == (name != "photograph")
    assert tuple(lab.controls.preset.options) == SCENES  # no image was given
    lab.close()


@pytest.mark.slow
def test_side_by_side_stand_networks_trained_for_each_method_with_masks_of_their_own():
    lab = BlenderLab()
    lab.controls.side_by_side.value = True

    lanes = lab._present_lanes()
    assert [lane.name for lane in lanes] == ["Blender", "YOLACT", "FCIS"]
    features = load_features()
    image = resize_for_test(lab.scene.image, 128, 214)
    for lane, name in zip(lanes, ("BlendMask", "YOLACT", "FCIS"), strict=True):
        contestant = load_contestant(features, name)
        output = contestant([image])
        box = torch.tensor([lab.state.box]) * 128 / 192
        place = nearest_location(output, box[0], contestant.config)
        index = torch.stack([torch.zeros_like(place), place], dim=1)
        expected = contestant.masks_at(output, index, box)[0]
        assert torch.allclose(lane.blend().logits, expected, atol=1e-3), name
        assert lab.canvas.live[f"mask {lane.name}"] == as_cells(expected.sigmoid(), 0, 1), name
    moved = [60.0, 40.0, 120.0, 110.0]
    send(lab, kind="box", panel="picture YOLACT", box=moved, gesture=1, is_last=True)
    assert {lane.state.box for lane in lab._present_lanes()} == {tuple(moved)}
    lab.controls.preset.value = "photograph"
    assert "on the same bases" in lab.controls.note.value
    assert [lane.scene.bases is lab.scene.bases for lane in lab._present_lanes()] == [True] * 3
    lab.close()


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "box", "panel": "picture", "box": [9, 9, 9, 9]},
        {"kind": "box", "panel": "picture", "box": [float("nan")] * 4},
        {"kind": "box", "panel": "picture", "box": [1, 2]},
        {"kind": "paint", "panel": "attention 9", "cells": [[0, 0]]},
        {"kind": "paint", "panel": "mask", "cells": [[0, 0]]},
    ],
)
def test_an_event_that_fails_is_shown_and_leaves_the_state(lab, event):
    before, pixels = lab.state, dict(lab.canvas.live)
    send(lab, gesture=1, is_last=True, **event)

    assert lab.message.kind == "error" and lab.message.text
    assert lab.state is before and lab.canvas.live == pixels
    send(lab, kind="box", panel="picture", box=[10, 10, 60, 60], gesture=2, is_last=True)
    assert lab.state.box == (10, 10, 60, 60)


def test_a_bad_upload_is_shown_and_leaves_the_state(lab):
    before = lab.state
    lab.controls.load.value = (upload("cat.json", b"\x89PNG"),)

    assert lab.message.text == "cat.json: not a state of the Blender lab (no JSON)"
    assert lab.state is before


def test_a_state_of_another_picture_is_loaded_with_a_word_about_it(lab, tmp_path):
    (tmp_path / "b.json").write_bytes(write_state(lab.own, picture="another"))
    lab.load(tmp_path / "b.json")
    assert lab.message.kind == "warning" and "another image" in lab.message.text


@pytest.mark.parametrize("size", [(1, 1), (3, 40)])
def test_a_tiny_picture_without_objects_still_has_a_box(model, size):
    lab = BlenderLab(model=model, image=torch.zeros(3, *size, dtype=torch.uint8))

    assert "Nothing scores above" in lab.message.text
    assert lab.scene.objects[0].name == "1: nothing found: the middle"
    assert lab.iou is None and "no true object" in lab.canvas.bars["iou"]["title"]
    lab.close()


def test_pictures_and_targets_that_do_not_fit_are_refused(model, sample):
    with pytest.raises(ValueError, match=r"expected \(3, H, W\)"):
        BlenderLab(model=model, image=torch.zeros(4, 8, 8))
    with pytest.raises(ValueError, match="4 million"):
        BlenderLab(model=model, image=torch.zeros(3, 2100, 2000, dtype=torch.uint8))
    other = Target(boxes=torch.zeros(1, 4), labels=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="masks of 128 x 128"):
        BlenderLab(model=model, image=sample.image, target=other)


def test_a_bad_picture_leaves_the_shown_one(lab, sample):
    before = lab.state
    with pytest.raises(ValueError, match="image"):
        lab.show(torch.zeros(1, 8, 8))
    assert lab.state is before
    lab.show(sample.image.flip(2))
    assert lab.iou is None and lab.state is not before


# ------------------------------------------------------------------ frame and canvas


class Counter(LabWidget):
    def __init__(self):
        super().__init__(title="counter")
        self.count = 0
        self.arrange()

    @shows_errors
    def divide(self, number):
        self.count += 6 // number

    @shows_errors
    def refuse(self):
        raise ValueError("number = 0: must be above it")


def test_strokes_from_code_can_be_undone_one_by_one(lab):
    """They belong to no gesture of the page."""
    lab.canvas.act(CanvasEvent("paint", "attention 2", cells=((3, 3),)))
    lab.canvas.act(CanvasEvent("paint", "attention 2", cells=((4, 3),)))
    assert lab.state.attentions[1, 3, 3:5].tolist() == [6, 6]
    lab.controls.undo.click()
    assert lab.state.attentions[1, 3, 3] == 6 != lab.state.attentions[1, 3, 4]
    lab.controls.undo.click()
    assert torch.equal(lab.state.attentions, lab.own.attentions)


def test_errors_of_callbacks_stand_in_the_message_line_until_a_control_succeeds():
    counter = Counter()
    counter.divide(0)
    assert counter.message.text.startswith("ZeroDivisionError") and counter.count == 0
    assert "in divide" in counter.message.details  # where it happened
    counter.refuse()
    assert counter.message.text == "number = 0: must be above it" and not counter.message.details
    counter.divide(3)  # called from elsewhere, such as the canvas, it leaves the message
    assert counter.count == 2 and counter.message.text

    bad, good = widgets.Button(), widgets.Button()
    counter.when(bad, do=lambda: counter.divide(0))
    counter.when(good, do=lambda: counter.divide(3))
    bad.click()
    assert counter.message.text.startswith("ZeroDivisionError")
    good.click()
    assert counter.count == 4 and counter.message.text == ""
    counter.close()
    good.click()
    assert counter.divide(3) is None and counter.count == 4


def test_closing_frees_model_bases_and_pixels(sample):
    model = load_model(shipped_checkpoint())
    lab = BlenderLab(model=model, image=sample.image, target=sample.target)
    held = [weakref.ref(model), weakref.ref(lab.scene.bases), weakref.ref(lab.controls.object)]
    canvas = lab.canvas
    del model

    lab.close()
    lab.close()  # twice does no harm

    del lab
    gc.collect()
    assert [each() for each in held] == [None] * len(held)
    assert canvas.still == canvas.live == canvas.overlays == {}


def test_the_canvas_refuses_what_does_not_fit():
    canvas = Canvas()
    panel = Panel("a", "a map", 3, 2, palette="grey")
    canvas.arrange([[Group("", (panel,))]], {"grey": palette("Greys")})
    canvas.draw({"a": bytes(6)})

    with pytest.raises(ValueError, match="panel 'a': 5 bytes, expected 6"):
        canvas.draw({"a": bytes(5)})
    with pytest.raises(ValueError, match="panel 'b'"):
        canvas.draw({"b": bytes(6)})
    with pytest.raises(ValueError, match="a key occurs twice"):
        canvas.arrange([[Group("", (panel, panel))]])
    with pytest.raises(ValueError, match="palette 'short'"):
        canvas.arrange([[Group("", (panel,))]], {"short": b"abc"})
    assert canvas.still == {"a": bytes(6)}


def test_an_event_without_a_listener_is_answered_all_the_same():
    canvas = Canvas()
    canvas._receive(None, {"id": 3, "kind": "hover", "cells": []}, [])
    assert canvas.done == 3
    seen = []
    canvas.on_event(seen.append)
    canvas._receive(None, {"id": 4, "kind": "hover", "panel": "a", "cells": [[1, 2]]}, [])
    assert seen == [CanvasEvent("hover", "a", cells=((1, 2),))]


def test_numbers_become_cells_of_the_palette():
    values = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 5.0]])

    assert list(as_cells(values, -1, 1)) == [0, 0, 128, 255, 255]
    assert list(layer_palette(("#ff0080", 7))[:8]) == [0, 0, 0, 0, 255, 0, 128, 7]
    assert list(palette("Greys")[:4]) == [255, 255, 255, 255]


def test_the_layer_shows_mask_border_and_true_outline():
    mask, truth = torch.zeros(6, 6, dtype=torch.bool), torch.zeros(6, 6, dtype=torch.bool)
    mask[1:4, 1:4] = True
    truth[4, 4] = True

    layer = view.mask_overlay(mask, truth)

    expected = [2, 2, 2, 0, 2, 1, 2, 0, 2, 2, 2, 0, 0, 0, 0, 3]
    assert layer == Overlay(1, 1, 4, 4, bytes(expected))
    assert view.mask_overlay(torch.zeros(2, 2, dtype=torch.bool), None).pixels == b""
