"""The first moment of a run, or of its continuation: what fits, where the weights come from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.engine import TrainingState
from blendmask_lite.training.recipe import Recipe, require_same, start_from
from blendmask_lite.training.runlog import RunFolder
from blendmask_lite.weights.checkpoint import Checkpoint
from blendmask_lite.weights.imagenet import load_detectron2_backbone

__all__ = ["begin_state", "compile_network", "require_fitting"]


def require_fitting(dataset: InstanceDataset, recipe: Recipe, ranks: Ranks) -> None:
    """Refuse what cannot be trained.

    Raises:
        ValueError: the data has another number of classes or kinds of stuff than the model, or the
            batch cannot be divided among the processes and their parts.
    """
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
    dataset: InstanceDataset, recipe: Recipe, run: RunFolder, last: Checkpoint | None, ranks: Ranks
) -> TrainingState:
    """Model, optimizer and averages on the process' device: new ones, or those of a checkpoint.

    Raises:
        ValueError: the recipe differs from that of the run to continue, or the processes see
            different checkpoints.
    """
    torch.manual_seed(recipe.train.seed)
    model = BlendMask(
        recipe.model,
        inference=recipe.inference,
        class_names=dataset.class_names,
        stuff_names=dataset.stuff_names if recipe.model.num_stuff_classes else None,
        category_ids=dataset.category_ids,
    )
    if recipe.backbone_from is not None and last is None:
        load_detectron2_backbone(model, recipe.backbone_from)
    if recipe.start_from is not None and last is None:
        start_from(model, recipe.start_from)
    model.to(ranks.device)
    ranks.synchronize_norms(model)
    state = TrainingState(model, recipe.train)
    if last is not None:
        require_same(recipe, last, run)
        if tuple(last.class_names) != tuple(dataset.class_names):
            raise ValueError(f"{run.path}: cannot continue on other data: its classes are others")
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
    """Let torch.compile translate the parts that are nothing but layers, in place.

    Names of weights stay. Only training uses it: its image sizes come again and again, and each
    new one costs time at first.

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
