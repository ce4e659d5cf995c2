"""The beginning of a run, the content of its checkpoints, and its continuation from one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.datasets.sample import InstanceDataset, TrainingDataset
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.engine import TrainingState
from blendmask_lite.training.run_folder import RunFolder
from blendmask_lite.training.schedule import TrainConfig
from blendmask_lite.training.session import versions
from blendmask_lite.weights.checkpoint import Checkpoint, load_weights, read_checkpoint, save_model
from blendmask_lite.weights.imagenet import load_backbone_weights

__all__ = [
    "Recipe",
    "begin_state",
    "compile_network",
    "evaluated_model",
    "find_last_checkpoint",
    "iterations_before",
    "make_checkpoint",
    "require_fitting",
    "save_trained",
]

# Settings that may differ when a run continues. They change its duration and how much it stores;
# weights at a given iteration change at most by the rounding of sums.
FREE_ON_RESUME = {
    *("num_workers", "checkpoint_every", "evaluate_every", "patience", "accumulate", "is_compiled")
}
# Settings that change when a run becomes longer.
OF_LENGTH = {"iterations", "milestones", "warmup_iterations"}


@dataclass(frozen=True)
class Recipe:
    """A training: the model, its settings, and the weights that it starts from.

    Attributes:
        model: architecture.
        inference: test size and thresholds, stored with the weights and used by evaluations.
        train: schedule, optimizer and image sizes.
        start_from: a checkpoint whose fitting weights the run starts from, or None.
        backbone_from: ImageNet weights of the backbone, as `load_backbone_weights` takes them,
            or None.
    """

    model: ModelConfig
    inference: InferenceConfig
    train: TrainConfig
    start_from: Path | None = None
    backbone_from: str | None = None


def find_last_checkpoint(run: RunFolder, is_resumed: bool) -> Checkpoint | None:
    """The newest checkpoint of a run; None if there is none.

    Raises:
        FileExistsError: there is a checkpoint, but the run is not to be continued; or there is
            none, but a model that the run would replace.
        ValueError: the file is not a training checkpoint.
    """
    if not run.last.exists():
        # A run that was killed before its first checkpoint may have left a best model.
        for path in (run.model,) if run.description.exists() else (run.model, run.best):
            if path.exists():
                raise FileExistsError(
                    f"{path}: is there already, without a last.pt to continue from, and would be "
                    "lost; choose another folder"
                )
        return None
    if not is_resumed:
        raise FileExistsError(
            f"{run.path}: holds a run already; continue it with --resume, or choose another folder"
        )
    checkpoint = read_checkpoint(run.last)
    if checkpoint.training is None:
        raise ValueError(f"{run.last}: a finished model, not a training checkpoint")
    return checkpoint


def evaluated_model(state: TrainingState) -> BlendMask:
    """The model of a state that is evaluated and kept: a BlendMask in every run of this file."""
    model = state.evaluated_model
    assert isinstance(model, BlendMask)
    return model


def make_checkpoint(state: TrainingState, recipe: Recipe) -> Checkpoint:
    """Weights to evaluate, and everything needed to continue."""
    return Checkpoint.of(
        evaluated_model(state),
        metadata={"iterations": state.iteration},
        training={"state": state.state_dict(), "config": asdict(recipe.train)},
    )


def save_trained(
    state: TrainingState,
    recipe: Recipe,
    path: Path,
    *,
    half: bool,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights to use, and as metadata their training and further facts `about` them."""
    metadata = {
        "iterations": state.iteration,
        **(about or {}),
        "train": asdict(recipe.train),
        "versions": versions(),
    }
    dtype = torch.float16 if half else None
    save_model(evaluated_model(state), path, metadata=metadata, dtype=dtype)


def iterations_before(recipe: Recipe, last: Checkpoint | None) -> int | None:
    """The length planned before, if the run is to become longer now; otherwise None."""
    if last is None or last.training is None:
        return None
    planned: int = last.training["config"]["iterations"]
    return planned if planned < recipe.train.iterations else None


def _require_same(
    recipe: Recipe, last: Checkpoint, run: RunFolder, model: BlendMask, dataset: TrainingDataset
) -> None:
    """Refuse to continue a run with other settings, parts or classes than it began with."""
    assert last.training is not None
    stored = last.training["config"]
    free = FREE_ON_RESUME | (set() if iterations_before(recipe, last) is None else OF_LENGTH)
    different = [
        f"{field.name} is {getattr(recipe.train, field.name)!r}, was {stored.get(field.name)!r}"
        for field in fields(TrainConfig)
        if field.name not in free
        # If a setting is newer than the run, the run had its default value.
        and _plain(getattr(recipe.train, field.name))
        != _plain(stored.get(field.name, field.default))
    ]
    now, then = vars(recipe.model), vars(last.config)
    different += [f"{n} is {now[n]!r}, was {then[n]!r}" for n in now if now[n] != then[n]]
    if different:
        raise ValueError(f"{run.path}: cannot continue with other settings: {'; '.join(different)}")
    if last.own_parts != model.own_parts:
        raise ValueError(
            f"{run.path}: cannot continue with other parts: the model has "
            f"{model.own_parts or 'none of its own'}, had {last.own_parts or 'none'}"
        )
    if tuple(last.class_names) != tuple(dataset.class_names):
        raise ValueError(
            f"{run.path}: cannot continue on other data: its classes are others; {run.new_run()}"
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _start_from(model: BlendMask, path: Path) -> None:
    """Copy the weights of a checkpoint; weights that depend on the classes stay random."""
    own = model.state_dict()
    of_classes = ("head.class_logits.", "semantic_head.layers.6.", "panoptic_head.predictor.")
    state = {
        name: own[name] if name.startswith(of_classes) and value.shape != own[name].shape else value
        for name, value in read_checkpoint(path).state.items()
        if name in own
    }
    load_weights(model, state, source=path)


def require_fitting(
    dataset: TrainingDataset, validation: InstanceDataset | None, recipe: Recipe, ranks: Ranks
) -> None:
    """Refuse what cannot be trained.

    Raises:
        ValueError: an argument is not a data set for training or evaluation; the data and the model
            differ in the number of classes or stuff classes; or the batch cannot be divided among
            the processes and their parts.
    """
    for name, data, protocol in (
        ("dataset", dataset, TrainingDataset),
        ("validation", validation, InstanceDataset),
    ):
        if data is not None and not isinstance(data, protocol):
            raise ValueError(
                f"{name}: {type(data).__name__} is no {protocol.__name__}; a data set of images "
                "and torchvision's target dicts becomes one by TorchvisionDataset"
            )
    num_classes, num_stuff = recipe.model.num_classes, recipe.model.num_stuff_classes
    if len(dataset.class_names) != num_classes:
        raise ValueError(f"num_classes = {num_classes}: the data has {len(dataset.class_names)}")
    if num_stuff and len(dataset.stuff_names) != num_stuff:
        raise ValueError(
            f"num_stuff_classes = {num_stuff}: the data has {len(dataset.stuff_names)}"
        )
    batch_size, num_parts = recipe.train.batch_size, recipe.train.accumulate
    if batch_size % (ranks.size * num_parts):
        raise ValueError(
            f"batch_size = {batch_size}: cannot be divided equally among {ranks.size} processes"
            + (f" with {num_parts} parts each" if num_parts > 1 else "")
            + "; batch_size counts the images of all processes and parts"
        )


def begin_state(
    dataset: TrainingDataset,
    recipe: Recipe,
    run: RunFolder,
    last: Checkpoint | None,
    ranks: Ranks,
    model: BlendMask | None = None,
) -> TrainingState:
    """Model, optimizer and averages on the process's device, new or from a checkpoint.

    The caller's `model`, if given, is trained instead of a new one.

    Raises:
        ValueError: the recipe differs from the recipe of the run to continue, or the processes see
            different checkpoints.
    """
    torch.manual_seed(recipe.train.seed)
    stuff_names = dataset.stuff_names if recipe.model.num_stuff_classes else None
    if model is None:
        model = BlendMask(recipe.model)
    model.inference = recipe.inference
    model.name_labels(dataset.class_names, stuff_names, dataset.category_ids)
    if recipe.backbone_from is not None and last is None:
        load_backbone_weights(model, recipe.backbone_from)
    if recipe.start_from is not None and last is None:
        _start_from(model, recipe.start_from)
    model.to(ranks.device)
    ranks.synchronize_norms(model)
    state = TrainingState(model, recipe.train)
    if last is not None:
        _require_same(recipe, last, run, model, dataset)
        assert last.training is not None
        state.load_state_dict(last.training["state"])
    iterations = sorted(set(ranks.gather(state.iteration)))
    if len(iterations) > 1:
        raise ValueError(
            f"{run.path}: the processes see different checkpoints, of iterations "
            f"{', '.join(map(str, iterations))}: all machines have to share the folder"
        )
    if recipe.train.is_compiled:
        compile_network(model)
    return state


def compile_network(model: BlendMask) -> None:
    """Compile the parts that consist of layers only, in place.

    The names of the weights do not change. Only training uses this, because every new image size
    takes time to compile, and in training sizes repeat.

    Raises:
        ValueError: there is no C++ compiler.
    """
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([named] if named else ["g++", "clang++", "c++"])):
        raise ValueError("--compile: needs a C++ compiler, g++ or clang++, and there is none here")
    for name in ("backbone", "fpn", "head", "bottom", "semantic_head", "panoptic_head"):
        part = getattr(model, name)
        if part is not None:
            part.forward = _compiled_for_training(part.forward)


def _compiled_for_training(forward: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(forward)

    def choose(*inputs: Any) -> Any:
        return compiled(*inputs) if torch.is_grad_enabled() else forward(*inputs)

    return choose
