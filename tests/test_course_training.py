"""Chapters 11 and 12 outside their notebooks: the small trainings, their command, their scores."""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blendmask_lite.cli import train as train_command
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.course.checking import judge
from blendmask_lite.course.exercises import find_exercise
from blendmask_lite.course.overfit import learn_by_heart, spread_of
from blendmask_lite.course.source import changed
from blendmask_lite.course.training_recipe import (
    HeldOutPictures,
    LearnedBases,
    training_options,
    untrained_model,
)
from blendmask_lite.research import BasisScores
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.losses import mask_loss
from blendmask_lite.training.schedule import SCHEDULES, rescale
from blendmask_lite.training.snapshots import choose_pictures, read_snapshots

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_command_is_the_laptop_schedule_of_fewer_iterations():
    parser = argparse.ArgumentParser()
    train_command.add_options(parser)
    words = [*training_options(seed=4, iterations=2000), "--out", "runs/x"]
    config = train_command.make_train_config(parser.parse_args(words), Ranks())
    expected = rescale(SCHEDULES["laptop"], iterations=2000)
    assert config == replace(expected, seed=4, evaluate_every=2000)
    assert (config.batch_size, config.warmup_iterations) == (8, 200)


STEPS = {
    "zero_grad": "        optimizer.zero_grad()\n",
    "forward": "        losses = model(images, targets)\n",
    "backward": "        torch.stack(list(losses.values())).sum().backward()\n",
    "clip": (
        "        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or torch.inf)\n"
    ),
    "rate": (
        "        for group in optimizer.param_groups:\n"
        '            group["lr"] = learning_rate_at(iteration, config)\n'
    ),
    "step": "        optimizer.step()\n",
}


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("forward backward zero_grad clip rate step", "zero_grad, backward, step"),
        ("zero_grad forward step clip rate backward", "zero_grad, backward, step"),
        ("zero_grad forward clip backward rate step", "backward, clip, step"),
        ("zero_grad forward backward rate step clip", "backward, clip, step"),
        ("zero_grad forward backward step rate clip", "backward, clip, set the rate, step"),
        ("zero_grad forward backward clip step rate", "set the rate, step"),
    ],
)
def test_two_steps_of_the_loop_that_are_swapped_are_named_in_their_order(written, right):
    exercise = find_exercise("12.3")
    swapped = "".join(STEPS[name] for name in written.split())
    answer = changed(exercise.solution, {"".join(STEPS.values()): swapped})
    result = judge(exercise, answer, seed=0)
    assert result.status == "red"
    assert f"The order: {right}." in result.lines[0]


def test_upside_down_pictures_keep_masks_boxes_and_pixels_together():
    upright, turned = HeldOutPictures(3).load(2), HeldOutPictures(3, is_upside_down=True).load(2)
    assert turned.image.flip(1).equal(upright.image)
    assert turned.target.masks.flip(1).equal(upright.target.masks)
    assert turned.target.stuff.flip(0).equal(upright.target.stuff)
    for mask, box in zip(turned.target.masks, turned.target.boxes, strict=True):
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (torch.stack(seen) - box).abs().max() <= 1
    assert HeldOutPictures(3, is_upside_down=True).select([2]).load(0).image.equal(turned.image)


def test_a_base_that_is_small_on_objects_tells_them_as_well():
    scores = BasisScores(
        object_auc=torch.tensor([0.6, 0.1]),
        depth=torch.zeros(2),
        x=torch.tensor([0.2, -0.5]),
        y=torch.tensor([0.1, 0.0]),
        mean_crops=torch.zeros(2, 4, 4),
        num_objects=1,
        num_images=1,
    )
    bases = LearnedBases(scores, torch.zeros(2))
    assert bases.object_auc == pytest.approx(0.9)
    assert bases.position == pytest.approx(0.5)
    assert bases.typical_position == pytest.approx(0.2)


def test_untrained_models_leave_the_random_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = untrained_model(1)
    assert torch.rand(3).equal(expected)
    assert first.state_dict()["bottom.bases.weight"].equal(
        untrained_model(1).state_dict()["bottom.bases.weight"]
    )


@pytest.fixture(scope="module")
def sample():
    return choose_pictures(HeldOutPictures(2), PRESET_INFERENCE["nano"], 1)[0]


def test_equal_bases_with_zero_attentions_never_part(sample, tmp_path):
    model = untrained_model(0)
    with torch.no_grad():
        model.bottom.bases.weight[:] = model.bottom.bases.weight[:1].clone()
        model.bottom.bases.bias[:] = model.bottom.bases.bias[:1].clone()
        model.top_layer.conv.weight.zero_()
    before = model.bottom.bases.weight.clone()
    done = list(
        learn_by_heart(model, sample, loss=mask_loss, steps=4, folder=tmp_path, num_snapshots=3)
    )
    assert [each.iteration for each in done] == [1, 2, 3, 4]
    assert all(each.spread == 0 and each.attention_gradient == 0 for each in done)
    assert not model.bottom.bases.weight.equal(before)  # it learned, as one base
    snapshots = read_snapshots(tmp_path)
    assert snapshots.iterations[0] == 0 and snapshots.iterations[-1] == 4
    assert len(snapshots) == 3


def test_the_loss_that_is_given_trains(sample):
    seen = []

    def loss(logits, targets, weight, total_weight):
        assert logits.shape == targets.shape and len(weight) == len(logits)
        assert total_weight == weight.sum()
        seen.append(mask_loss(logits, targets, weight, total_weight))
        return seen[-1]

    done = list(learn_by_heart(untrained_model(0), sample, loss=loss, steps=3))
    assert [each.loss for each in done] == [each.item() for each in seen]
    assert all(each.spread > 0 and each.attention_gradient > 0 for each in done)


def test_spread_is_the_distance_from_the_mean_as_a_share():
    # Two bases of one cell, 1 and 3: mean 2, distances 1 and 1, size sqrt(10).
    assert spread_of(torch.tensor([[[1.0]], [[3.0]]])) == pytest.approx((2 / 10) ** 0.5)
    assert spread_of(torch.zeros(2, 3, 3)) == 0


@pytest.mark.slow
def test_the_seeds_are_trained_scored_and_not_trained_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_command, "VALIDATION_SHAPES", 4)
    spec = importlib.util.spec_from_file_location("seeds", BENCHMARKS / "training_course.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    words = ["--seeds", "3", "--iterations", "2", "--images", "2", "--untrained", "1"]
    words += ["--folder", str(tmp_path), "--json", str(tmp_path / "numbers.json")]
    assert benchmark.main(words) == 0
    model = tmp_path / "2-seed3" / "model.safetensors"
    written, report = model.stat().st_mtime_ns, json.loads((tmp_path / "numbers.json").read_text())
    assert {"mask AP", "object AUC", "position r", "bases"} <= set(report["trained"]["3"])
    assert len(report["untrained"]["0"]["bases"]["y r upside down"]) == 4
    assert benchmark.main(words) == 0
    assert model.stat().st_mtime_ns == written
    assert json.loads((tmp_path / "numbers.json").read_text()) == report
    assert capsys.readouterr().out.count("untrained     0") == 2
