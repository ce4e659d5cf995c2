"""The training loop, its schedule, sampling and log, on a model of a few weights."""

import copy
import io
import math
import os
import random
import signal
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from blendmask_lite.structures import Target
from blendmask_lite.terminal import duration
from blendmask_lite.training.data import BatchSampler, batches_from
from blendmask_lite.training.engine import (
    NonFiniteLossError,
    TrainingState,
    WeightAverage,
    make_optimizer,
    train,
)
from blendmask_lite.training.observers import ProgressLine
from blendmask_lite.training.run import StopRequest
from blendmask_lite.training.run_folder import CsvLog, RunFolder, step_row
from blendmask_lite.training.schedule import TRAIN_PRESETS, TrainConfig, learning_rate_at, rescale

CONFIG = TrainConfig(
    iterations=12,
    batch_size=4,
    optimizer="adamw",
    learning_rate=0.05,
    weight_decay=0.01,
    schedule="cosine",
    milestones=(),
    warmup_iterations=3,
    clip_norm=1.0,
    train_sizes=(8,),
    max_size=8,
    checkpoint_every=5,
)
NUM_IMAGES = 7


@dataclass
class Batch:
    images: list
    targets: list
    image_ids: list


class TinyStep(nn.Module):
    """A network with a convolution, batch statistics and dropout, and two losses."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 1, 1)
        )

    def forward(self, images, targets):
        maps = self.model(torch.stack(images))
        wanted = torch.stack([target.boxes.sum() for target in targets])
        error = maps.mean(dim=(1, 2, 3)) - wanted
        return {"class": error.square().mean(), "box": error.abs().mean()}


def load(index, generator):
    """An image that tells which image it is, with noise from the generator."""
    noise = torch.tensor([generator.random() for _ in range(3 * 8 * 8)]).view(3, 8, 8)
    target = Target(boxes=torch.full((1, 4), index / 10), labels=torch.zeros(1, dtype=torch.int64))
    return index * 0.1 + noise, target, index


def collate(samples):
    images, targets, ids = zip(*samples, strict=True)
    return Batch(list(images), list(targets), list(ids))


def new_run(config):
    torch.manual_seed(0)
    step = TinyStep()
    return step, TrainingState(step.model, config)


def run(step, state, config, **callbacks):
    batches = batches_from(
        state.iteration, config, num_images=NUM_IMAGES, load=load, collate=collate
    )
    callbacks = {"on_step": lambda r: None, "on_checkpoint": lambda s: None} | callbacks
    return train(state, step, batches, config, **callbacks)


def through_a_file(state):
    """What a checkpoint on the disk would give back."""
    buffer = io.BytesIO()
    torch.save(state.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, optimizer="sgd", schedule="steps", milestones=(6, 9), ema_decay=0.9),
    ],
    ids=["adamw", "sgd with averaged weights"],
)
@pytest.mark.parametrize("kill_at", [1, 5, 7, 11])
def test_a_killed_run_continues_to_exactly_the_same_weights(config, kill_at):
    step, whole = new_run(config)
    assert run(step, whole, config)

    saved = {}

    def save(state):
        saved["state"] = through_a_file(state)

    def kill(record):
        if record.iteration == kill_at:
            raise Killed

    step, first = new_run(config)
    with pytest.raises(Killed):
        run(step, first, config, on_step=kill, on_checkpoint=save)

    step, second = new_run(config)
    if saved:
        second.load_state_dict(saved["state"])
    # Worker processes must not change the data either.
    assert run(step, second, replace(config, num_workers=1))

    assert second.iteration == config.iterations
    for name, value in whole.state_dict()["model"].items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.evaluated_model.state_dict().items():
        assert torch.equal(value, second.evaluated_model.state_dict()[name]), name


def test_another_seed_gives_other_weights():
    weights = []
    for seed in (0, 1):
        config = replace(CONFIG, seed=seed)
        step, state = new_run(config)
        run(step, state, config)
        weights.append(state.model[0].weight)
    assert not torch.equal(*weights)


def test_checkpoints_come_at_their_interval_and_at_the_end():
    saved, evaluated, steps = [], [], []
    config = replace(CONFIG, evaluate_every=8)
    step, state = new_run(config)
    run(
        step,
        state,
        config,
        on_step=lambda r: steps.append(r.iteration),
        on_checkpoint=lambda s: saved.append(s.iteration),
        on_evaluate=lambda s: evaluated.append(s.iteration),
    )
    assert steps == list(range(1, 13))
    assert saved == [5, 10, 12]
    assert evaluated == [8, 12]


def test_a_request_to_stop_saves_and_leaves():
    saved = []
    step, state = new_run(CONFIG)
    is_finished = run(
        step,
        state,
        CONFIG,
        on_checkpoint=lambda s: saved.append(s.iteration),
        should_stop=lambda: state.iteration == 3,
    )
    assert not is_finished
    assert saved == [3]


def test_a_finished_run_has_nothing_left_to_do():
    step, state = new_run(CONFIG)
    state.iteration = CONFIG.iterations
    before = state.model[0].weight.clone()
    assert run(step, state, CONFIG)
    assert torch.equal(before, state.model[0].weight)


def test_a_loss_that_is_not_a_number_names_iteration_images_and_loss():
    step, state = new_run(CONFIG)
    healthy = step.forward

    def bad_box(images, targets):
        losses = healthy(images, targets)
        if state.iteration == 2:
            losses["box"] = losses["box"] * math.nan
        return losses

    keys = BatchSampler(NUM_IMAGES, 4, 0, 0, 12).keys_at(2)
    ids = ", ".join(str(key.index) for key in keys)
    before = []
    with pytest.raises(NonFiniteLossError, match=f"iteration 2, images {ids}: box is nan.*0.025"):
        run(
            bad_box,
            state,
            CONFIG,
            on_step=lambda r: before.append(state.model[0].weight.detach().clone()),
        )
    assert torch.equal(before[-1], state.model[0].weight)


def test_an_infinite_gradient_stops_before_it_reaches_the_weights():
    step, state = new_run(CONFIG)
    state.model[4].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLossError, match="gradient norm is"):
        run(step, state, CONFIG)
    assert all(bool(p.isfinite().all()) for p in state.model.parameters())


def test_every_image_is_drawn_once_per_pass_and_passes_differ():
    keys = [key for batch in BatchSampler(5, 3, 0, 0, 10) for key in batch]
    assert len(keys) == 30
    passes = [[key.index for key in keys[i : i + 5]] for i in range(0, 30, 5)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in passes)
    assert [key.epoch for key in keys] == [i // 5 for i in range(30)]
    assert len({tuple(each) for each in passes}) > 1


def test_the_batch_of_an_iteration_does_not_depend_on_where_the_run_started():
    whole = list(BatchSampler(5, 3, 7, 0, 10))
    assert list(BatchSampler(5, 3, 7, 4, 10)) == whole[4:]


def test_one_image_fills_a_batch_by_being_drawn_again():
    batch = BatchSampler(1, 3, 0, 0, 1).keys_at(0)
    assert [(key.epoch, key.index) for key in batch] == [(0, 0), (1, 0), (2, 0)]


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        BatchSampler(0, 3, 0, 0, 1)


def test_an_image_is_augmented_anew_in_every_pass_but_the_same_in_every_run():
    def draws():
        config = replace(CONFIG, iterations=4, batch_size=1)
        batches = batches_from(
            0, config, num_images=1, load=lambda i, g: g.random(), collate=lambda s: s[0]
        )
        return list(batches)

    first = draws()
    assert len(set(first)) == 4
    random.seed(1)
    torch.manual_seed(1)
    assert draws() == first


def test_linear_warm_up_and_steps_are_those_of_the_released_code():
    config = TrainConfig()
    # detectron2: base * (f (1 - a) + a), f = 1/1000, a = iteration / 1000
    assert learning_rate_at(0, config) == pytest.approx(1e-5)
    assert learning_rate_at(500, config) == pytest.approx(0.01 * 0.5005)
    assert learning_rate_at(1000, config) == pytest.approx(0.01)
    assert learning_rate_at(59_999, config) == pytest.approx(0.01)
    assert learning_rate_at(60_000, config) == pytest.approx(0.001)
    assert learning_rate_at(80_000, config) == pytest.approx(0.0001)


def test_constant_warm_up_waits_at_its_share():
    config = replace(TrainConfig(), warmup="constant", warmup_factor=0.01)
    assert [learning_rate_at(i, config) for i in (0, 999, 1000)] == pytest.approx(
        [1e-4, 1e-4, 1e-2]
    )


def test_the_cosine_starts_at_the_end_of_the_warm_up_and_falls_to_zero():
    config = replace(CONFIG, iterations=103, warmup_iterations=3, learning_rate=2.0)
    assert learning_rate_at(3, config) == pytest.approx(2.0)
    assert learning_rate_at(53, config) == pytest.approx(1.0)
    assert learning_rate_at(102, config) == pytest.approx(1 - math.cos(math.pi / 100), rel=1e-6)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate_at(0, replace(CONFIG, warmup_iterations=0)) == CONFIG.learning_rate


def test_sgd_scales_in_proportion_to_the_batch_and_adam_by_its_root():
    assert rescale(TRAIN_PRESETS["r50"], batch_size=4).learning_rate == pytest.approx(0.0025)
    assert rescale(TRAIN_PRESETS["nano"], batch_size=2).learning_rate == pytest.approx(0.0025)


def test_a_shorter_run_moves_milestones_and_keeps_the_warm_up_within_a_tenth():
    short = rescale(TRAIN_PRESETS["r50"], iterations=9000)
    assert short.milestones == (6000, 8000)
    assert short.warmup_iterations == 900
    assert rescale(TRAIN_PRESETS["r50"], iterations=270_000).milestones == (180_000, 240_000)
    assert rescale(TRAIN_PRESETS["nano"], iterations=2000).warmup_iterations == 200
    assert rescale(TRAIN_PRESETS["nano"], iterations=1).warmup_iterations == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations = 0: must be at least 1"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"optimizer": "lion"}, "optimizer = 'lion': must be adamw or sgd"),
        ({"train_sizes": ()}, "train_sizes"),
        ({"max_size": 7}, "max_size = 7: must be at least the largest"),
        ({"milestones": (3, 2)}, "milestones"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"iterations": 10.0}, "iterations = 10.0: must be a whole number"),
        ({"precision": None}, "precision = None: must be float32 or bfloat16"),
        ({"crop": "half"}, "crop = 'half': must be a finite number or None"),
        ({"jitter": (0.1,)}, "must be a tuple of 2 finite numbers or None"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_norm_layers_are_never_decayed_and_biases_only_by_sgd():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 1, 1))
    model[2].weight.requires_grad_(False)
    for name, num_decayed in (("adamw", 1), ("sgd", 3)):
        groups = make_optimizer(model, replace(CONFIG, optimizer=name)).param_groups
        assert [len(group["params"]) for group in groups] == [num_decayed, 5 - num_decayed]
        assert [group["weight_decay"] for group in groups] == [0.01, 0.0]


def test_the_average_moves_by_hand_computed_shares():
    model = nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(9)
    average.update(model, 1)  # decay min(0.5, 2 / 11): 1 + (1 - 2 / 11) * 2
    assert average.model.weight.item() == pytest.approx(1 + 9 / 11 * 2)
    assert average.model.num_batches_tracked.item() == 9
    average.update(model, 1000)  # decay 0.5
    assert average.model.weight.item() == pytest.approx((1 + 9 / 11 * 2 + 3) / 2)


def test_metrics_of_a_resumed_run_have_every_row_once(tmp_path):
    folder = RunFolder(tmp_path / "run")
    step, state = new_run(CONFIG)
    log = CsvLog(folder.metrics, keep_until=0)
    run(step, state, CONFIG, on_step=lambda r: log.append(step_row(r)))
    log.file.write("13,0.0")  # a row that a kill cut short
    log.close()

    log = CsvLog(folder.metrics, keep_until=10)
    step, state = new_run(CONFIG)
    state.iteration = 10
    run(step, state, CONFIG, on_step=lambda r: log.append(step_row(r)))
    log.close()

    lines = folder.metrics.read_text().splitlines()
    assert lines[0].startswith("iteration,learning_rate,loss,class,box,gradient_norm")
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(1, 13)]


def test_a_log_killed_in_its_header_starts_again(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("iterat")
    log = CsvLog(path, keep_until=10)
    log.append({"iteration": 1, "loss": 2})
    log.close()
    assert path.read_text() == "iteration,loss\n1,2\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbfiteration,loss\n1,2\n", "line 1: is no head of a log"),
        (b"Xteration,loss\n1,2\n", "line 1: is no head of a log"),
        (b"iteration,loss\n1,2\nfoo\n3,2\n", "line 3: is no row of the log"),
        (b"iteration,loss\nX,2\n", "line 2: is no row of the log"),
        (b"iteration,loss\n1,2,3\n", "line 2: is no row of the log"),
        (b"a letter\n", "line 1: is no head of a log"),
        (b"iteration,loss\n1,\xff\n", "is no text in UTF-8"),
    ],
)
def test_a_damaged_log_is_refused_and_stays_as_it_is(tmp_path, content, words):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"metrics\.csv[,:] {words}"):
        CsvLog(path, keep_until=10)
    assert path.read_bytes() == content


def test_a_pipe_in_the_place_of_a_log_is_refused(tmp_path):
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.raises(ValueError, match=r"metrics\.csv: is no regular file"):
        CsvLog(tmp_path / "metrics.csv", keep_until=10)


def test_progress_names_losses_speed_and_time_left():
    stream = io.StringIO()
    line = ProgressLine(CONFIG.iterations, stream=stream)
    step, state = new_run(CONFIG)
    run(step, state, CONFIG, on_step=lambda record: line.on_step(state, record))
    first, last = stream.getvalue().splitlines()
    assert first.startswith("1/12  loss ") and last.startswith("12/12  loss ")
    assert "(class " in last and " box " in last and "images/s" in last
    assert last.endswith("ETA 0:00")


def test_durations_read_like_a_clock():
    assert [duration(s) for s in (5, 754, 12_060)] == ["0:05", "12:34", "3:21:00"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_and_the_old_handlers_come_back(number):
    before = signal.getsignal(number)
    said = []
    with StopRequest(said.append) as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop() and stop.signal == number
        os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["finishes this step and saves; Ctrl-C again stops at once, unsaved"]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest(print):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_adamw_steps_as_the_plain_loop_does_and_takes_over_its_state():
    torch.manual_seed(0)
    weights = [torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)]
    weights.append(torch.randn(5))
    modules = [nn.ParameterList([weight.clone() for weight in weights]) for _ in range(2)]
    config = replace(CONFIG, optimizer="adamw", learning_rate=0.1)
    own = make_optimizer(modules[0], config)
    settings = {"lr": 0.1, "weight_decay": config.weight_decay}
    plain = torch.optim.AdamW(modules[1].parameters(), **settings, foreach=False, fused=False)
    for number in range(6):
        for weight, other in zip(modules[0], modules[1], strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        own.step()
        plain.step()
        for weight, other in zip(modules[0], modules[1], strict=True):
            assert torch.allclose(weight, other, atol=1e-6)
        if number == 2:  # a checkpoint of a version that had the loop
            stored = copy.deepcopy(plain.state_dict())
            groups = [stored["param_groups"][0], {**stored["param_groups"][0], "params": []}]
            own.load_state_dict({**stored, "param_groups": groups})
