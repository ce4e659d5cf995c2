"""The named schedules, and the options of `train` that change them."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.cli import main, train
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.resume import compile_network
from blendmask_lite.training.schedule import PRESET_SCHEDULES, SCHEDULES, learning_rate_at

# (iterations, milestones, least and largest shorter side, number of sizes, longest, crop) as the
# paper's section 4 and AdelaiDet's configs/BlendMask have them.
PUBLISHED = {
    "1x_paper": (90_000, (60_000, 80_000), 800, 800, 1, 1333, None),
    "3x_paper": (270_000, (180_000, 240_000), 640, 800, 161, 1333, None),
    "rt_paper": (270_000, (180_000, 240_000), 440, 550, 6, 916, None),
    "1x": (90_000, (60_000, 80_000), 640, 800, 6, 1333, None),
    "3x": (270_000, (210_000, 250_000), 640, 800, 6, 1333, None),
    "4x": (360_000, (300_000, 340_000), 256, 608, 12, 900, None),
    "5x": (400_000, (280_000, 360_000), 640, 864, 225, 1440, 0.9),
    "5x_1333": (400_000, (280_000, 360_000), 640, 864, 225, 1333, 0.9),
    "550_1x": (90_000, (60_000, 80_000), 440, 550, 6, 916, None),
    "550_3x": (270_000, (210_000, 250_000), 440, 550, 6, 916, None),
    "550_3x_crop": (270_000, (210_000, 250_000), 440, 594, 155, 990, 0.9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schedules_are_as_published(name):
    schedule = SCHEDULES[name]
    sizes = schedule.train_sizes
    assert PUBLISHED[name] == (
        schedule.iterations,
        schedule.milestones,
        min(sizes),
        max(sizes),
        len(sizes),
        schedule.max_size,
        schedule.crop,
    )
    assert (schedule.batch_size, schedule.learning_rate, schedule.optimizer) == (16, 0.01, "sgd")
    assert (schedule.weight_decay, schedule.warmup_iterations) == (1e-4, 1000)


def test_the_papers_warm_up_is_constant_and_the_released_codes_linear():
    paper, released = SCHEDULES["1x_paper"], SCHEDULES["1x"]
    rates = [learning_rate_at(i, paper) for i in (0, 999, 1000, 60_000, 80_000)]
    assert rates == pytest.approx([0.01 / 3, 0.01 / 3, 0.01, 0.001, 0.0001])
    assert learning_rate_at(0, released) == pytest.approx(1e-5)


def test_every_preset_names_a_schedule():
    assert PRESET_SCHEDULES.keys() == PRESETS.keys()
    assert set(PRESET_SCHEDULES.values()) <= SCHEDULES.keys()


def options_of(*words):
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    return parser.parse_args(["data", "-o", "out", *words])


def config_of(*words):
    return train.make_train_config(options_of(*words), Ranks(rank=0, size=2))


def test_a_schedule_by_name_and_changed():
    config = config_of("--preset", "r50", "--schedule", "3x_paper", "--iterations", "27000")
    assert config.milestones == (18_000, 24_000)
    assert config.train_sizes[0] == 640
    assert config.warmup_iterations == 1000


def test_what_is_scaled_is_told():
    words = ("--preset", "r50", "--batch-size", "4")
    config = config_of(*words)
    assert config.learning_rate == 0.0025
    said = train.told_scaling(options_of(*words), config)
    assert said is not None
    assert "0.0025, scaled to 4 images a step in proportion from 0.01 for 16" in said
    words = ("--preset", "r50")
    assert train.told_scaling(options_of(*words), config_of(*words)) is None


def test_every_setting_can_be_said():
    words = "--preset r50 --optimizer adamw --learning-rate 2e-4 --warmup constant"
    words += " --warmup-iterations 7 --accumulate 4 --clip-norm 3 --precision bfloat16 --compile"
    config = config_of(*words.split())
    assert (config.optimizer, config.learning_rate, config.warmup) == ("adamw", 2e-4, "constant")
    assert (config.warmup_iterations, config.accumulate, config.clip_norm) == (7, 4, 3.0)
    assert config.warmup_factor == pytest.approx(1 / 3)
    assert config.is_compiled and config.precision == "bfloat16"


def test_another_optimizer_wants_its_own_learning_rate():
    with pytest.raises(ValueError, match=r"--optimizer adamw: .* one for sgd; say --learning-rate"):
        config_of("--preset", "r50", "--optimizer", "adamw")


def test_there_are_ten_checkpoints_at_least():
    assert config_of().checkpoint_every == 500
    assert config_of("--iterations", "300").checkpoint_every == 30
    assert config_of("--iterations", "3").checkpoint_every == 1
    assert config_of("--iterations", "300", "--checkpoint-every", "200").checkpoint_every == 200


def test_a_run_with_validation_is_evaluated_every_tenth_of_it():
    assert config_of("--iterations", "300").evaluate_every is None
    assert config_of("--iterations", "300", "--validation", "val").evaluate_every == 30
    every = config_of("--iterations", "300", "--validation", "val", "--evaluate-every", "7")
    assert every.evaluate_every == 7
    assert config_of("--validation", "val", "--patience", "3").patience == 3
    with pytest.raises(ValueError, match="--patience: needs --validation"):
        config_of("--patience", "3")


@pytest.mark.parametrize(
    ("num_cores", "num_processes", "expected"), [(4, 1, 4), (64, 1, 8), (8, 4, 2)]
)
def test_on_a_gpu_workers_prepare_the_pictures(num_cores, num_processes, expected, monkeypatch):
    monkeypatch.setattr(train, "num_cores", lambda: num_cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(num_processes))
    gpu, cpu = Ranks(device=torch.device("cuda")), Ranks()
    assert train.make_train_config(options_of(), gpu).num_workers == expected
    assert train.make_train_config(options_of("--workers", "0"), gpu).num_workers == 0
    assert train.make_train_config(options_of(), cpu).num_workers == 0


def test_parts_have_to_divide_the_batch():
    with pytest.raises(ValueError, match="accumulate = 3: must be a divisor of batch_size = 4"):
        config_of("--batch-size", "4", "--accumulate", "3")


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_own_schedule_keeps_its_test_size(name):
    options = options_of("--preset", name)
    config = train.make_train_config(options, Ranks())
    assert train.make_inference_config(options, config) == PRESET_INFERENCE[name]


def test_a_test_size_follows_what_the_model_was_trained_for():
    for words, expected in (
        (["--preset", "nano", "--schedule", "550_1x"], (550, 916)),
        (["--preset", "r50", "--size", "480,512"], (512, 853)),
        (["--preset", "r50_550", "--schedule", "550_1x"], (550, 916)),
    ):
        options = options_of(*words)
        inference = train.make_inference_config(options, train.make_train_config(options, Ranks()))
        assert (inference.test_size, inference.max_size) == expected


def test_frozen_stages_become_the_models(tmp_path, monkeypatch):
    recipes = []
    train_model = "blendmask_lite.training.run.train_model"
    monkeypatch.setattr(train_model, lambda *data, **more: recipes.append(data[2]))
    assert main(["train", "shapes", "-o", str(tmp_path), "--frozen-stages", "3"]) == 130
    assert recipes[0].model.frozen_stages == 3


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="--compile: needs a C"):
        compile_network(BlendMask(PRESETS["nano"]))


@pytest.mark.slow
def test_compiled_parts_compute_the_same_and_only_for_training():
    torch.manual_seed(0)
    model = BlendMask(replace(PRESETS["nano"], stem_channels=8, pyramid_channels=8))
    p3 = torch.rand(1, 8, 4, 4)
    names = list(model.state_dict())
    expected = model.semantic_head(p3)
    compile_network(model)
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        model.semantic_head(p3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    torch.testing.assert_close(model.semantic_head(p3), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert list(model.state_dict()) == names
