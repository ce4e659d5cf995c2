"""A training run from beginning to end: data set in, a folder with the trained model out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blendmask_lite.checkpoint import save_model
from blendmask_lite.datasets.batch import collate, load_sample
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.transforms import TrainTransform
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.published import load_detectron2_backbone
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.engine import TrainingState, train
from blendmask_lite.training.interrupt import StopRequest
from blendmask_lite.training.observers import (
    CheckpointWriter,
    EvaluationLog,
    MetricsLog,
    Observer,
    Observers,
    ProgressReport,
)
from blendmask_lite.training.progress import ProgressLine
from blendmask_lite.training.recipe import (
    Recipe,
    find_last_checkpoint,
    require_same,
    start_from,
)
from blendmask_lite.training.runlog import RunFolder
from blendmask_lite.training.sampling import batches_from
from blendmask_lite.training.session import RunSession, versions
from blendmask_lite.training.watching import Watching, make_watchers

__all__ = ["train_model"]


def train_model(
    dataset: InstanceDataset,
    folder: str | Path,
    recipe: Recipe,
    *,
    validation: InstanceDataset | None = None,
    is_resumed: bool = False,
    device: str | torch.device = "cpu",
    description: Mapping[str, Any] | None = None,
    half: bool = False,
    watching: Watching | None = None,
) -> bool:
    """Train a model and write it, its log and its checkpoints into a folder.

    Ctrl-C and SIGTERM save and leave. A run that was killed continues where its last checkpoint
    is, bit by bit.

    Args:
        dataset: to learn from; its names of classes and stuff go into the checkpoint.
        folder: of the run; see `RunFolder`.
        recipe: what and how.
        validation: evaluated every `recipe.train.evaluate_every` iterations and at the end.
        is_resumed: continue the run in `folder`, or begin it if there is no checkpoint yet.
        device: to train on.
        description: further plain values for run.json, such as the command.
        half: write the finished model in half precision.
        watching: what to record besides; on pictures of `validation`, or else of `dataset`.

    Returns:
        Whether the training is finished, and not stopped on request.

    Raises:
        FileExistsError: the folder holds a run and `is_resumed` is False.
        ValueError: the recipe differs from that of the run to continue, or the data from the
            model's number of classes or kinds of stuff.
        NonFiniteLossError: see `engine.train`.
    """
    if len(dataset.class_names) != recipe.model.num_classes:
        raise ValueError(
            f"num_classes = {recipe.model.num_classes}: the data has {len(dataset.class_names)}"
        )
    num_stuff = recipe.model.num_stuff_classes
    if num_stuff and len(dataset.stuff_names) != num_stuff:
        raise ValueError(
            f"num_stuff_classes = {num_stuff}: the data has {len(dataset.stuff_names)}"
        )
    run = RunFolder(folder)
    with RunSession(run, device=device) as session:
        last = find_last_checkpoint(run, is_resumed)
        torch.manual_seed(recipe.train.seed)
        model = BlendMask(
            recipe.model,
            inference=recipe.inference,
            class_names=dataset.class_names,
            stuff_names=dataset.stuff_names if num_stuff else None,
        )
        if recipe.backbone_from is not None and last is None:
            load_detectron2_backbone(model, recipe.backbone_from)
        if recipe.start_from is not None and last is None:
            start_from(model, recipe.start_from)
        step = TrainingStep(model.to(device))
        state = TrainingState(model, recipe.train)
        if last is not None:
            require_same(recipe, last, run)
            assert last.training is not None
            state.load_state_dict(last.training["state"])
        watchers = make_watchers(watching or Watching(), run, recipe, validation or dataset)
        run.remove_leftovers()
        about = {
            **(description or {}),
            "num_images": len(dataset),
            "model": asdict(recipe.model),
            "inference": asdict(recipe.inference),
            "train": asdict(recipe.train),
        }
        session.begin(about, iteration=state.iteration)
        is_finished = _loop(step, state, dataset, validation, recipe, run, device, half, watchers)
        session.finish(is_finished=is_finished, iteration=state.iteration)
    return is_finished


def _loop(
    step: TrainingStep,
    state: TrainingState,
    dataset: InstanceDataset,
    validation: InstanceDataset | None,
    recipe: Recipe,
    run: RunFolder,
    device: str | torch.device,
    half: bool,
    watchers: list[Observer],
) -> bool:
    config = recipe.train
    line = ProgressLine(config.iterations)
    observers = Observers(_observers(state, validation, recipe, run, line, watchers))

    def on_evaluate(state: TrainingState) -> None:
        if validation is not None:
            observers.on_evaluate(state, _scores(state, validation, device))

    transform = TrainTransform(
        train_sizes=config.train_sizes,
        max_size=config.max_size,
        flip=config.flip,
        channel_permutation=config.channel_permutation,
        crop=config.crop,
    )
    batches = batches_from(
        state.iteration,
        config,
        num_images=len(dataset),
        load=load_sample(dataset, transform),
        collate=collate,
    )
    with contextlib.closing(observers), StopRequest() as stop:
        observers.on_start(state)
        is_finished = train(
            state,
            step,
            batches,
            config,
            on_step=lambda record: observers.on_step(state, record),
            on_checkpoint=observers.on_checkpoint,
            on_evaluate=on_evaluate,
            should_stop=stop,
            device=device,
        )
    if is_finished:
        model = state.best_model
        assert isinstance(model, BlendMask)
        about = {"iterations": state.iteration, "train": asdict(config), "versions": versions()}
        save_model(model, run.model, metadata=about, dtype=torch.float16 if half else None)
        line.note(f"finished: {run.model}")
    else:
        line.note(f"stopped at iteration {state.iteration}; --resume continues: {run.last}")
    return is_finished


def _observers(
    state: TrainingState,
    validation: InstanceDataset | None,
    recipe: Recipe,
    run: RunFolder,
    line: ProgressLine,
    watchers: list[Observer],
) -> list[Observer]:
    """Everything that watches the run, in the order in which it is told."""
    observers: list[Observer] = [MetricsLog(run, iteration=state.iteration)]
    if validation is not None:
        observers.append(EvaluationLog(run, iteration=state.iteration))
    num_images = 0 if validation is None else len(validation)
    observers.append(ProgressReport(line, num_images=num_images))
    # The checkpoint last: what was recorded before it is not recorded again after a kill.
    observers += [*watchers, CheckpointWriter(run, recipe)]
    return observers


def _scores(
    state: TrainingState, validation: InstanceDataset, device: str | torch.device
) -> dict[str, float]:
    """Percent by name: "mask AP", "box AP50", ..."""
    model = state.best_model
    assert isinstance(model, BlendMask)
    results = evaluate_model(model.eval(), validation, device=device)
    scores = {f"mask {name}": value for name, value in results.mask.items()}
    return scores | {f"box {name}": value for name, value in results.box.items()}
