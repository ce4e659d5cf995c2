"""What TensorBoard shows of a run: curves without doubles, masks beside the truth, bases."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from event_files import events_of
from PIL import Image

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import paint_masks
from blendmask_lite.training.engine import StepRecord
from blendmask_lite.training.observers import TensorBoardLog, Watching, masks_beside_truth
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.run_folder import RunFolder
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale
from blendmask_lite.training.snapshots import choose_pictures, take_snapshot

SMALL = {"stage_width": 8, "stem_channels": 8, "pyramid_channels": 16, "bottom_channels": 16}
MODEL = replace(PRESETS["nano"], **SMALL)
INFERENCE = replace(PRESET_INFERENCE["nano"], test_size=64, max_size=107)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return BlendMask(MODEL, inference=INFERENCE, class_names=ShapesDataset.class_names)


@pytest.fixture(scope="module")
def samples():
    return choose_pictures(ShapesDataset(3, seed=4), INFERENCE, 2)


def record(iteration: int, mask: float) -> StepRecord:
    return StepRecord(
        iteration=iteration,
        learning_rate=0.5 / iteration,
        losses={"mask": mask, "class": 0.25},
        total=mask + 0.25,
        gradient_norm=3.0,
        num_images=8,
        seconds=2.0,
        data_seconds=0.1,
    )


def log_steps(log: TensorBoardLog, state: SimpleNamespace, last: int, mask: float) -> None:
    log.on_start(state)
    for iteration in range(state.iteration + 1, last + 1):
        state.iteration = iteration
        log.on_step(state, record(iteration, mask))


def test_a_run_that_continues_leaves_no_double_points_and_no_gaps(tmp_path, model):
    run = RunFolder(tmp_path)
    state = SimpleNamespace(iteration=0, evaluated_model=model)
    first = TensorBoardLog(run, [], scalars_every=5)
    log_steps(first, state, 38, 1.0)
    first.on_evaluate(state, {"mask AP": 7.0, "box AP50": 8.0})
    first.writer.flush()  # and then it is killed; its last checkpoint is that of iteration 20
    state.iteration = 20
    second = TensorBoardLog(run, [], scalars_every=5)
    log_steps(second, state, 40, 2.0)
    second.on_evaluate(state, {"mask AP": 9.0, "box AP50": 10.0})
    second.close()
    events = events_of(tmp_path)
    steps = [1, 5, 10, 15, 20, 25, 30, 35, 40]
    for tag in ("loss/mask", "loss/total", "training/learning rate", "training/images a second"):
        assert [event.step for event in events.Scalars(tag)] == steps, tag
    values = [event.value for event in events.Scalars("loss/mask")]
    assert values == [1.0] * 5 + [2.0] * 4
    assert events.Scalars("loss/total")[-1].value == 2.25
    assert events.Scalars("training/learning rate")[1].value == pytest.approx(0.1)
    assert events.Scalars("training/images a second")[0].value == 4.0
    assert [(event.step, event.value) for event in events.Scalars("mask/AP")] == [(40, 9.0)]
    assert [event.value for event in events.Scalars("box/AP50")] == [10.0]
    first.close()


def test_a_run_that_begins_anew_forgets_the_old_one(tmp_path, model):
    for value in (1.0, 2.0):  # killed before its first checkpoint, and begun again
        state = SimpleNamespace(iteration=0, evaluated_model=model)
        log = TensorBoardLog(RunFolder(tmp_path), [], scalars_every=5)
        log_steps(log, state, 7, value)
        log.close()
    points = [(event.step, event.value) for event in events_of(tmp_path).Scalars("loss/mask")]
    assert points == [(1, 2.0), (5, 2.0)]


def test_what_was_logged_before_a_checkpoint_is_on_the_disk_with_it(tmp_path, model):
    state = SimpleNamespace(iteration=0, evaluated_model=model)
    log = TensorBoardLog(RunFolder(tmp_path), [], scalars_every=1)
    log_steps(log, state, 3, 1.0)
    log.on_checkpoint(state)
    assert [event.step for event in events_of(tmp_path).Scalars("loss/mask")] == [1, 2, 3]
    log.close()


def test_masks_stand_beside_the_truth_and_bases_have_a_picture(tmp_path, model, samples):
    state = SimpleNamespace(iteration=0, evaluated_model=model)
    log = TensorBoardLog(RunFolder(tmp_path), samples, pictures_every=2)
    log_steps(log, state, 3, 1.0)
    log.close()
    events = events_of(tmp_path)
    tags = events.Tags()["images"]
    assert len(tags) == 4  # two pictures, masks and bases
    masks = "masks, truth on the left/picture 2"
    assert [event.step for event in events.Images(masks)] == [0, 2]
    shown = np.asarray(Image.open(io.BytesIO(events.Images(masks)[1].encoded_image_string)))
    height, width = samples[1].image.shape[-2:]
    assert shown.shape == (height, 2 * width + 4, 3)
    truth = paint_masks(samples[1].image, samples[1].target.masks).permute(1, 2, 0) * 255
    assert np.abs(shown[:, :width].astype(float) - truth.numpy()).max() <= 1
    bases = Image.open(io.BytesIO(events.Images("bases/picture 1")[0].encoded_image_string))
    assert bases.width > 600  # four maps side by side


def test_unsure_detections_are_not_painted(model, samples):
    seen = take_snapshot(model, samples[:1])[0]
    masks = torch.ones(2, *samples[0].image.shape[-2:], dtype=torch.bool)
    masks[1] = False
    masks[1, 10:20, 10:20] = True
    found = replace(
        seen.detections,
        boxes=torch.zeros(2, 4),
        mask_logits=torch.zeros(2, 28, 28),
        location_index=torch.zeros(2, dtype=torch.int64),
        proposal_boxes=torch.zeros(2, 4),
        scores=torch.tensor([0.29, 0.31]),
        labels=torch.zeros(2, dtype=torch.int64),
        masks=masks,
    )
    both = masks_beside_truth(samples[0], replace(seen, detections=found))
    width = samples[0].image.shape[-1]
    expected = paint_masks(samples[0].image, masks[1:])
    assert torch.allclose(both[:, :, width + 4 :], expected)


def test_a_whole_run_logs_its_losses_and_scores(tmp_path):
    train = replace(
        rescale(TRAIN_PRESETS["nano"], iterations=2, batch_size=2),
        evaluate_every=2,
        train_sizes=(64,),
        max_size=107,
    )
    recipe = Recipe(model=MODEL, inference=INFERENCE, train=train)
    watching = Watching(tensorboard_every=2, num_pictures=1)
    validation = ShapesDataset(1, seed=5)
    data = ShapesDataset(4, seed=3)
    train_model(data, tmp_path, recipe, validation=validation, watching=watching)
    tags = events_of(tmp_path).Tags()
    assert {"loss/class", "loss/box", "loss/centerness", "loss/mask"} <= set(tags["scalars"])
    assert {"mask/AP", "box/AP"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"masks, truth on the left/picture 1", "bases/picture 1"}


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    recipe = Recipe(model=MODEL, inference=INFERENCE, train=TRAIN_PRESETS["nano"])
    with pytest.raises(ValueError, match=r"pip install 'blendmask_lite\[tensorboard\]'"):
        train_model(
            ShapesDataset(4), tmp_path / "run", recipe, watching=Watching(tensorboard_every=5)
        )


@pytest.mark.slow
def test_a_training_that_logs_nothing_needs_no_tensorboard():
    code = "import sys; sys.modules['torch.utils.tensorboard'] = None; "
    code += "import blendmask_lite.training.run"
    subprocess.run([sys.executable, "-c", code], check=True)
