"""The time machine without a browser: what is shown equals the snapshots, errors keep the state."""

from __future__ import annotations

import gc
import io
import resource
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import object_color
from blendmask_lite.figures.training import margin_cells, mask_progress_figure
from blendmask_lite.lab.canvas import CanvasEvent, as_cells
from blendmask_lite.lab.time import TimeMachine
from blendmask_lite.lab.time.moments import TimeReel
from blendmask_lite.masks import mask_iou
from blendmask_lite.training.snapshots import (
    Snapshot,
    choose_pictures,
    read_snapshots,
    take_snapshot,
    write_pictures,
    write_snapshot,
)

SMALL = {"stage_width": 8, "stem_channels": 8, "pyramid_channels": 16, "bottom_channels": 16}
MOMENTS = (0, 3, 20, 90)


def make_model(**changes):
    torch.manual_seed(1)
    config = replace(PRESETS["nano"], **{**SMALL, **changes})
    inference = replace(PRESET_INFERENCE["nano"], test_size=90, max_size=150, score_threshold=0.001)
    return BlendMask(config, inference=inference, class_names=ShapesDataset.class_names)


def write_moments(folder, iterations=MOMENTS, **changes):
    """Snapshots of a model whose weights are shaken between the moments."""
    model = make_model(**changes)
    samples = choose_pictures(ShapesDataset(3, seed=4), model.inference, 2)
    write_pictures(folder, model, samples)
    for iteration in iterations:
        pictures = take_snapshot(model, samples)
        write_snapshot(folder, Snapshot(iteration=iteration, pictures=pictures))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter) * parameter.std(correction=0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("time") / "snapshots"
    folder.mkdir()
    write_moments(folder)
    return folder


@pytest.fixture
def folder(tmp_path, written):
    """A copy that a test may damage."""
    for file in written.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def machine(folder):
    made = TimeMachine(snapshots=folder)
    yield made
    made.close()


def shows(machine, index, picture, object_index):
    """The canvas has the pixels of what the package's reader gives for this moment."""
    shot = read_snapshots(machine.reel.snapshots.path)[index].pictures[picture]
    live, limits = machine.canvas.live, machine.limits
    assert live["mask"] == as_cells(shot.mask_probabilities[object_index], 0, 1)
    for k in range(4):
        assert live[f"base {k + 1}"] == as_cells(shot.bases[k], -limits[0], limits[0])
        attention = shot.attentions[object_index, k]
        assert live[f"attention {k + 1}"] == as_cells(attention, -limits[1], limits[1])
    return True


def test_it_begins_with_the_last_moment_of_the_largest_object(machine):
    assert (machine.picture, machine.object_index, machine.index) == (0, 0, 3)
    assert shows(machine, 3, 0, 0)
    assert machine.controls.moment.value == 3
    assert "after 90 of 90 iterations" in machine.controls.words.value


def test_the_slider_shows_the_moments_of_the_snapshots(machine):
    seen = set()
    for index in (0, 2, 1):
        machine.controls.moment.value = index
        assert shows(machine, index, 0, 0)
        seen.add(machine.canvas.live["mask"])
        bars = {each["label"]: each["value"] for each in machine.canvas.bars["moment"]["bars"]}
        shot = read_snapshots(machine.reel.snapshots.path)[index].pictures[0]
        assert bars["IoU now"] == pytest.approx(float(shot.mask_iou[0]))
        assert bars["score"] == pytest.approx(float(shot.scores[0]))
        (mark,) = machine.canvas.marks["curve"]
        assert mark["x"] == margin_cells(len(MOMENTS)) + index
    assert len(seen) == 3  # the moments differ


def test_another_picture_and_object_are_followed_at_the_same_moment(machine):
    machine.controls.moment.value = 1
    machine.controls.picture.value = 1
    assert (machine.picture, machine.object_index, machine.index) == (1, 0, 1)
    machine.controls.object.value = 1
    assert shows(machine, 1, 1, 1)
    sample = machine.reel.snapshots.samples[1]
    assert machine.canvas.box == pytest.approx(sample.target.boxes[1].tolist())
    picture = np.array(Image.open(io.BytesIO(machine.canvas.still["picture"])))
    assert np.array_equal(picture, sample.image.permute(1, 2, 0).numpy())


def test_the_mask_on_the_picture_is_the_one_whose_iou_is_told(machine):
    moment = machine.moment
    truth = machine.reel.snapshots.samples[0].target.masks[:1]
    # Probabilities lie in the files as bytes: a pixel at one half may fall to the other side.
    assert float(mask_iou(moment.mask[None], truth)) == pytest.approx(moment.mask_iou, abs=0.02)
    machine.controls.layer.value = "found"
    found = read_snapshots(machine.reel.snapshots.path)[3].pictures[0].detections
    assert len(found) > 0 and torch.equal(machine.moment.found, found.masks.any(dim=0))
    assert machine.moment.num_found == len(found)


def test_pointing_at_the_curve_goes_to_that_moment(machine):
    margin = margin_cells(len(MOMENTS))
    for column, index in ((margin + 2, 2), (0, 0), (margin + 1, 1)):
        machine.canvas._callback(CanvasEvent("hover", panel="curve", cells=((column, 0),)))
        assert machine.index == machine.controls.moment.value == index
    machine.canvas._callback(CanvasEvent("hover", panel="curve"))
    assert machine.index == 1


def test_colours_are_one_scale_for_all_moments_or_each_its_own(machine):
    every = [each.pictures[0] for each in map(machine.reel.snapshots.__getitem__, range(4))]
    largest = max(float(each.bases.abs().max()) for each in every)
    assert machine.limits[0] == pytest.approx(largest)
    machine.controls.scale.value = "own"
    machine.go_to(0)
    assert machine.limits[0] == pytest.approx(float(every[0].bases.abs().max()))
    assert shows(machine, 0, 0, 0)


def test_a_damaged_moment_is_named_and_the_one_before_stays(folder):
    (folder / "step-00000003.npz").write_bytes(b"half of a file")
    machine = TimeMachine(snapshots=folder)
    assert "step-00000003.npz" in machine.message.text and machine.message.kind == "warning"
    assert torch.isnan(machine.reel.curves(0)[1]).all()
    before = machine.canvas.live["mask"]

    machine.controls.moment.value = 1

    assert machine.index == machine.controls.moment.value == 3
    assert "step-00000003.npz" in machine.message.text and machine.message.kind == "error"
    assert machine.canvas.live["mask"] == before
    machine.controls.moment.value = 0
    assert shows(machine, 0, 0, 0)
    assert len(machine.film().axes) > 0
    machine.close()


def test_what_cannot_be_opened_leaves_everything_as_it_was(machine, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, words in ((empty, "no snapshots here"), (tmp_path / "none", "no such folder")):
        machine.controls.path.value = str(path)
        machine.controls.open.click()
        assert words in machine.message.text and machine.message.kind == "error"
        assert shows(machine, 3, 0, 0)


def test_moments_that_were_lost_after_opening_are_told(machine, folder):
    machine.reel._moments.clear()
    (folder / "step-00000000.npz").unlink()
    machine.controls.moment.value = 0
    assert machine.message.kind == "error" and machine.index == 3


def test_new_moments_of_a_run_are_shown_to_whoever_looks_at_the_newest(folder):
    machine = TimeMachine(snapshots=folder)
    content = (folder / "step-00000020.npz").read_bytes()
    (folder / "step-00000200.npz").write_bytes(content)
    machine.controls.again.click()
    assert machine.index == 4 and machine.reel.iterations[-1] == 200
    machine.go_to(1)
    (folder / "step-00000300.npz").write_bytes(content)
    assert machine.reload() and machine.index == 1
    machine.controls.again.click()
    assert "No new moments" in machine.message.text
    machine.close()


def test_one_moment_alone_can_be_looked_at(tmp_path):
    write_moments(tmp_path, iterations=(0,))
    machine = TimeMachine(snapshots=tmp_path)
    assert machine.controls.moment.disabled and len(machine.reel) == 1
    assert shows(machine, 0, 0, 0)
    machine.close()


@pytest.mark.parametrize("merger", ["weighted_sum", "assembler"])
def test_a_run_with_another_merger_has_coefficients_or_none(tmp_path, merger):
    write_moments(tmp_path, iterations=(0, 5), merger=merger, num_bases=4)
    machine = TimeMachine(snapshots=tmp_path)
    num = sum(key.startswith("attention") for key in machine.canvas.live)
    assert num == {"weighted_sum": 4, "assembler": 0}[merger]
    machine.go_to(0)
    assert machine.index == 0
    machine.close()


@pytest.mark.slow
def test_figures_of_the_moment_and_of_the_film_are_downloaded(machine):
    sent = []
    machine.canvas.send = lambda content, buffers: sent.append((content["download"], buffers[0]))
    for button in machine.controls.exports.values():
        button.click()
    assert [name for name, _ in sent] == [
        "time_moment.png", "time_moment.svg", "time_film.png", "time_film.svg"
    ]  # fmt: skip
    assert sent[0][1].startswith(b"\x89PNG") and b"<svg" in sent[3][1]
    titles = [ax.get_title().split("\n")[0] for ax in machine.film().axes]
    assert [each for each in titles if each.isdigit()] == [str(each) for each in MOMENTS]


def test_closing_frees_the_snapshots(folder):
    machine = TimeMachine(snapshots=folder)
    reel = weakref.ref(machine.reel)
    machine.close()
    gc.collect()
    assert reel() is None
    assert machine.canvas.live == {} and machine.canvas.still == {}
    machine.controls.moment.value = 0  # an event that was on its way
    assert machine.message.kind != "error"


def most_memory():
    """Bytes that this process ever had at once."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_scrubbing_keeps_the_memory_flat(machine):
    for index in range(40):
        machine.controls.moment.value = index % 4
    before = most_memory()
    for index in range(200):
        machine.controls.moment.value = index % 4
    assert most_memory() - before < 5e6


def test_few_moments_are_kept_where_they_are_large(folder, monkeypatch):
    monkeypatch.setattr("blendmask_lite.lab.time.moments.MOST_NUMBERS", 1)
    reel = TimeReel(folder)
    assert len(reel._moments) == 2
    assert reel.curves(0).isfinite().all()


def test_the_curve_of_the_chosen_object_is_the_strong_one():
    iou = torch.tensor([[0.0, 0.1], [0.5, 0.2], [0.9, float("nan")]])
    figure = mask_progress_figure((0, 10, 200), iou, names=["1: disk", "2: star"])
    pale, strong = figure.axes[0].lines
    assert strong.get_ydata() == pytest.approx([0.0, 0.5, 0.9])
    assert strong.get_color() == object_color(0) and strong.get_linewidth() > pale.get_linewidth()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "10", "200"]
    # A moment is one cell of the panel wide, beside the margin.
    left = figure.axes[0].get_position().x0
    assert left == pytest.approx(margin_cells(3) / (3 + margin_cells(3)))
    with pytest.raises(ValueError, match="expected 2 moments"):
        mask_progress_figure((0, 10), iou, names=["1: disk", "2: star"])
