"""Train a model, and write it, its log and its checkpoints to a folder."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendmask_lite.cli.options import (
    apply_threads,
    find_device,
    is_generated,
    num_cores,
    open_dataset,
    require_few,
    told_few,
)
from blendmask_lite.cli.train_options import (
    DEFAULT_PRESET,
    EPILOG,
    MOST_WORKERS,
    add_options,
    make_watching,
)
from blendmask_lite.config import PRESET_INFERENCE, PRESETS, InferenceConfig
from blendmask_lite.files import find_checkpoint, read_text, require_apart
from blendmask_lite.terminal import counted, first_line, listed, printable
from blendmask_lite.training.run_folder import RunFolder
from blendmask_lite.training.schedule import (
    HELD_OUT_SEED,
    NUM_SHAPES,
    PRESET_SCHEDULES,
    SCHEDULES,
    WARMUP_FACTORS,
    TrainConfig,
    rescale,
)

if TYPE_CHECKING:
    from blendmask_lite.datasets.sample import InstanceDataset, TrainingDataset
    from blendmask_lite.training.distributed import Ranks

__all__ = ["EPILOG", "add_options", "run"]

VALIDATION_SHAPES = 200  # generated images
MOST_COUNTED = 100  # objects are counted in up to this many validation images; more have enough
# Options that are given again at every start.
NOT_STORED = ("run", "command", "command_line", "out", "resume", "debug")
# Options that must stay the same in a run: its start, data and files. The training itself checks
# the settings.
KEPT = (
    *("preset", "split", "validation", "classes", "one_class", "images"),
    *("weights", "backbone_weights"),
    *("half", "snapshots", "tensorboard", "watched_pictures"),
)
PLACES = ("root", "weights", "backbone_weights")  # files and folders, or special words
# Options that are fields of `TrainConfig`.
SETTINGS = (
    *("accumulate", "optimizer", "learning_rate", "warmup_iterations", "clip_norm", "seed"),
    *("precision", "evaluate_every", "checkpoint_every", "patience", "max_size", "jitter"),
    *("copy_paste", "color_jitter"),
)


def run(options: argparse.Namespace) -> int:
    """Train; returns 0 when finished, 130 if stopped on request."""
    import torch

    from blendmask_lite.training.distributed import join_ranks, one_voice

    if options.resume:
        _take_stored_options(options)
    if options.root is None:
        raise ValueError("ROOT: needed, unless --resume continues a run")
    apply_threads(options)
    if options.workers is not None:
        require_few("--workers", options.workers, least=0)
    with join_ranks(find_device(options.device or "auto")) as ranks, one_voice(ranks):
        try:
            return _train(options, ranks)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                "the GPU's memory is too small for this: --accumulate 2 takes half of the images "
                "at a time and trains the same weights; --precision bfloat16 and a smaller --size "
                f"help, too ({first_line(error)})"
            ) from None


def _train(options: argparse.Namespace, ranks: Ranks) -> int:
    """Train as one of the processes that work together."""
    from blendmask_lite.training.resume import Recipe
    from blendmask_lite.training.run import train_model

    if options.preset is None and options.weights is not None:
        options.preset = _preset_of_weights(options)
    config = make_train_config(options, ranks)
    architecture = PRESETS[_preset(options)]
    changes = {"frozen_stages": options.frozen_stages, "backbone": options.backbone}
    architecture = replace(architecture, **{k: v for k, v in changes.items() if v is not None})
    try:
        dataset = open_dataset(
            options.root,
            split=options.split,
            num_images=NUM_SHAPES,
            seed=config.seed,
            size=max(config.train_sizes),
            has_stuff=architecture.num_stuff_classes > 0,
            filter_empty=options.images is None,
            classes=options.classes,
            is_one_class=options.one_class,
        )
    except (ValueError, OSError) as error:
        if Path(options.root).exists() or not getattr(options, "is_root_stored", False):
            raise
        raise ValueError(f"{error}; say where the data of this run is now, as ROOT") from None
    if options.images is not None:
        dataset = dataset.select(options.images)
    recipe = Recipe(
        model=replace(
            architecture,
            num_classes=len(dataset.class_names),
            num_stuff_classes=len(dataset.stuff_names) if architecture.num_stuff_classes else 0,
        ),
        inference=make_inference_config(options, config),
        train=config,
        start_from=find_checkpoint(options.weights) if options.weights else None,
        backbone_from=options.backbone_weights,
    )
    run = RunFolder(options.out)
    begun_from = [path for path in (options.weights, options.backbone_weights) if path]
    outputs = (run.last, run.model, run.best, run.failure)
    require_apart(outputs, begun_from, "what the run starts from")
    validation = _open_validation(options, config)
    notes = (
        _told_plan(dataset, config),
        told_scaling(options, config),
        _told_validation(options, validation),
    )
    is_finished = train_model(
        dataset,
        options.out,
        recipe,
        validation=validation,
        is_resumed=options.resume,
        description={
            "command": options.command_line,
            "preset": _preset(options),
            "data": options.root,
            "options": _options_to_store(options),
        },
        half=options.half,
        watching=make_watching(options),
        note="\n".join(filter(None, notes)),
        ranks=ranks,
    )
    return 0 if is_finished else 130


def _preset_of_weights(options: argparse.Namespace) -> str:
    """The preset with the architecture of --weights; classes and frozen stages may differ."""
    from blendmask_lite.weights.checkpoint import read_checkpoint

    config = read_checkpoint(find_checkpoint(options.weights)).config
    for name, preset in PRESETS.items():
        num_stuff = config.num_stuff_classes if preset.num_stuff_classes else 0
        same = replace(
            preset,
            num_classes=config.num_classes,
            num_stuff_classes=num_stuff,
            frozen_stages=config.frozen_stages,
            backbone=options.backbone or preset.backbone,
        )
        if same == config:
            return name
    raise ValueError(f"{options.weights}: has the architecture of no preset; say --preset")


def _options_to_store(options: argparse.Namespace) -> dict[str, Any]:
    """The given options as plain values; folders and files as absolute paths."""
    stored = {
        name: _whole_path(value) if name in PLACES else value
        for name, value in vars(options).items()
        if name not in NOT_STORED and not _is_missing(value)
    }
    if options.weights and find_checkpoint(options.weights) != Path(options.weights):
        stored["weights"] = options.weights  # a name of the package, even next to such a folder
    return stored


def _take_stored_options(options: argparse.Namespace) -> None:
    """Take the options that were not given from the run to continue, in place.

    Nothing changes if there is no run yet and a ROOT is given to start one.
    """
    run = RunFolder(options.out)
    if options.root is not None and not run.last.exists():
        return
    stored = _read_stored(run)
    if stored is None:
        if options.root is not None:
            return
        reason = "does not say how the run was begun" if run.path.exists() else "is missing"
        raise ValueError(
            f"{run.description}: {reason}; --resume needs ROOT and the options of the beginning"
        )
    for name in KEPT:
        default = DEFAULT_PRESET if name == "preset" else None
        value, known = getattr(options, name), stored.get(name, default)
        if name == "split" and known is None:
            continue  # it was the only split then; now there may be more
        if not _is_missing(value) and _comparable(value) != _comparable(known):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{run.path}: cannot continue with other settings: {option} is {value!r}, "
                f"was {known!r}"
            )
    options.is_root_stored = options.root is None
    for name, value in stored.items():
        if hasattr(options, name) and _is_missing(getattr(options, name)):
            setattr(options, name, tuple(value) if isinstance(value, list) else value)


def _read_stored(run: RunFolder) -> dict[str, Any] | None:
    try:
        content = json.loads(read_text(run.description))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{run.description}: cannot be read ({error})") from None
    stored = content.get("options") if isinstance(content, dict) else None
    return stored if isinstance(stored, dict) else None


def _is_missing(value: object) -> bool:
    return value is None or value is False


def _whole_path(text: str) -> str:
    path = Path(text)
    return str(path.absolute()) if path.exists() else text


def _comparable(value: object) -> object:
    if isinstance(value, str):
        return _whole_path(value)
    return list(value) if isinstance(value, tuple) else value


def make_train_config(options: argparse.Namespace, ranks: Ranks) -> TrainConfig:
    """The schedule's settings, changed by the options."""
    named = _named_schedule(options)
    config = rescale(named, iterations=options.iterations, batch_size=options.batch_size)
    if options.learning_rate is None and options.optimizer not in (None, named.optimizer):
        raise ValueError(
            f"--optimizer {options.optimizer}: the schedule's learning rate is one for "
            f"{named.optimizer}; say --learning-rate, too"
        )
    changes = {name: getattr(options, name) for name in SETTINGS} | {
        "ema_decay": options.ema,
        "is_compiled": options.compile or None,
        "is_deterministic": options.deterministic or None,
        "num_workers": _default_workers(ranks) if options.workers is None else options.workers,
        "train_sizes": options.size,
        "flip": False if options.no_flip else None,
        # The colours of generated shapes are random; the colours of photographs are not.
        "channel_permutation": config.channel_permutation and is_generated(options.root),
    }
    if options.warmup not in (None, config.warmup):
        changes |= {"warmup": options.warmup, "warmup_factor": WARMUP_FACTORS[options.warmup]}
    if options.size is not None and options.max_size is None:
        # By default, images of up to 5 : 3 keep their shorter side.
        changes["max_size"] = round(max(options.size) * 5 / 3)
    config = replace(config, **{k: v for k, v in changes.items() if v is not None})
    is_validated = options.validation is not None or is_generated(options.root)
    if options.patience is not None and not is_validated:
        raise ValueError("--patience: needs --validation")
    if is_validated and config.evaluate_every is None:
        is_watched = options.validation is not None or options.patience is not None
        every = max(config.iterations // 10, 1) if is_watched else config.iterations
        config = replace(config, evaluate_every=every)
    return config


def _told_plan(dataset: TrainingDataset, config: TrainConfig) -> str:
    """A text that says what is learned from how many images with objects, and how often."""
    times = config.iterations * config.batch_size / max(len(dataset), 1)
    return (
        f"learns {printable(listed(dataset.class_names))} from {counted(len(dataset), 'image')}: "
        f"{counted(config.iterations, 'step')} of {config.batch_size} show each {times:.3g} times"
    )


def told_scaling(options: argparse.Namespace, config: TrainConfig) -> str | None:
    """A text that says how the learning rate was scaled to the batch size; None if it was not."""
    named = _named_schedule(options)
    if options.learning_rate is not None or config.batch_size == named.batch_size:
        return None
    how = "in proportion" if named.optimizer == "sgd" else "by the square root"
    return (
        f"learning rate {config.learning_rate:g}, scaled to "
        f"{counted(config.batch_size, 'image')} a step "
        f"{how} from {named.learning_rate:g} for {named.batch_size}"
    )


def _told_validation(options: argparse.Namespace, dataset: InstanceDataset | None) -> str | None:
    """A warning if the validation data are so few that their AP says little."""
    if dataset is None or len(dataset) > MOST_COUNTED:
        return None
    annotations = dataset.ground_truth()["annotations"]
    num_objects = sum(not annotation.get("iscrowd", 0) for annotation in annotations)
    few = told_few(len(dataset), num_objects)
    return few and f"--validation {printable(options.validation)}: {few}"


def _named_schedule(options: argparse.Namespace) -> TrainConfig:
    return SCHEDULES[options.schedule or PRESET_SCHEDULES[_preset(options)]]


def _preset(options: argparse.Namespace) -> str:
    return options.preset or DEFAULT_PRESET


def _default_workers(ranks: Ranks) -> int:
    """Number of workers: several for a GPU, which one process cannot keep busy, 0 for a CPU."""
    if ranks.device.type != "cuda":
        return 0
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(num_cores() // processes, 1), MOST_WORKERS)


def make_inference_config(options: argparse.Namespace, config: TrainConfig) -> InferenceConfig:
    """The preset's config, with a test size that the model is trained for."""
    preset = PRESET_INFERENCE[_preset(options)]
    sizes = config.train_sizes
    smallest, largest = config.jitter or (1, 1)
    is_fitting = min(sizes) * smallest <= preset.test_size <= max(sizes) * largest
    if options.size is None and options.max_size is None and is_fitting:
        return preset
    return replace(preset, test_size=sizes[-1], max_size=config.max_size)


def _open_validation(options: argparse.Namespace, config: TrainConfig) -> InstanceDataset | None:
    """The data set to evaluate on while training, if any."""
    if options.validation is None and not is_generated(options.root):
        return None
    return open_dataset(
        options.root,
        split=options.validation,
        num_images=VALIDATION_SHAPES,
        seed=config.seed + HELD_OUT_SEED,
        size=make_inference_config(options, config).test_size,
        classes=options.classes,
        is_one_class=options.one_class,
    )
