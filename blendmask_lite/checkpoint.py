"""One file that holds a trained model: config, class names and weights, read without running code.

A training checkpoint is the same file with one key more, so whatever reads the one reads the other.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.files import write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.plain import read_plain, require_plain
from blendmask_lite.weights import checked_training, checked_weights, require_loadable

__all__ = [
    "Checkpoint",
    "build_model",
    "load_model",
    "load_weights",
    "read_checkpoint",
    "save_model",
    "write_checkpoint",
]

ConfigT = TypeVar("ConfigT", ModelConfig, InferenceConfig)

FORMAT = 1  # raised when old readers would misunderstand the file


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds: plain values and tensors only.

    Attributes:
        config: architecture and input convention.
        inference: test size and thresholds that go with the weights.
        class_names: C names, in the order of the labels.
        state: the model's parameters and buffers by name.
        metadata: plain values that describe where the weights come from.
        training: what continuing the training needs on top; None in a finished model.
        stuff_names: S names of the kinds of stuff; empty without a panoptic branch.
        category_ids: C numbers of the labels in the data's files; None in a file of an older
            version, which did not keep them.
    """

    config: ModelConfig
    inference: InferenceConfig
    class_names: tuple[str, ...]
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    stuff_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None


def save_model(
    model: BlendMask,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model as one file; a crash leaves the old file or the new one, never half of it.

    Args:
        model: its config, inference settings, class names and weights are stored.
        path: the file, conventionally .pt; its folder is made if it is missing.
        metadata: plain values (numbers, strings, lists, dicts) to keep beside the weights.
        dtype: None keeps the weights as they are; `torch.float16` halves the file. Reading
            turns them back to float32.
    """
    state = {name: _as_stored(value, dtype) for name, value in model.state_dict().items()}
    checkpoint = Checkpoint(
        config=model.config,
        inference=model.inference,
        class_names=model.class_names,
        state=state,
        metadata=dict(metadata or {}),
        stuff_names=model.stuff_names,
        category_ids=model.category_ids,
    )
    write_checkpoint(checkpoint, path)


def load_model(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> BlendMask:
    """The model of a checkpoint in evaluation mode, float32, on `device`.

    Training checkpoints are read, too: the weights are those that an evaluation would use.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, is damaged, would run code, comes from a newer
            version, or its weights do not fit its config, are no floats, or not finite.
    """
    return build_model(read_checkpoint(path), source=path).eval().to(device)


def build_model(
    checkpoint: Checkpoint, *, source: object = "the checkpoint", must_be_finite: bool = True
) -> BlendMask:
    """A model with the checkpoint's weights, on the CPU.

    Args:
        checkpoint: whose weights are compared with its config before memory is taken for them.
        source: names it in errors.
        must_be_finite: False admits NaN and infinity, for looking into a step that failed.

    Raises:
        ValueError: see `load_model`.
    """

    def build() -> BlendMask:
        return BlendMask(
            checkpoint.config,
            inference=checkpoint.inference,
            class_names=checkpoint.class_names,
            stuff_names=checkpoint.stuff_names,
            category_ids=checkpoint.category_ids,
        )

    try:
        with torch.device("meta"):
            frame = build()
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    own = frame.state_dict()
    require_loadable(checkpoint.state, own, source, must_be_finite=must_be_finite)
    model = build()
    model.load_state_dict(checkpoint.state)
    return model


def load_weights(model: torch.nn.Module, state: Mapping[str, Tensor], *, source: object) -> None:
    """Copy `state` into `model`; every name and shape has to fit, and every value to be finite.

    Raises:
        ValueError: names that are missing, unexpected, of another shape or type, or whose values
            cannot be weights; a few of each.
    """
    require_loadable(state, model.state_dict(), source)
    model.load_state_dict(dict(state))


def write_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write `checkpoint` to `path` in one step; equal contents give equal bytes.

    Raises:
        ValueError: metadata that could not be read again without running code.
    """
    require_plain(checkpoint.metadata, "metadata")
    content = {
        "format": FORMAT,
        "config": dataclasses.asdict(checkpoint.config),
        "inference": dataclasses.asdict(checkpoint.inference),
        "class_names": list(checkpoint.class_names),
        "stuff_names": list(checkpoint.stuff_names),
        "state": checkpoint.state,
        "metadata": checkpoint.metadata,
    }
    if checkpoint.category_ids is not None:
        content["category_ids"] = list(checkpoint.category_ids)
    if checkpoint.training is not None:
        content["training"] = checkpoint.training
    # Through memory: torch would store the file's name, and call a full disk a broken archive.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(Path(path), buffer.getvalue())


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """What the file holds, tensors on the CPU; see `load_model` for the errors."""
    path = Path(path)
    content = read_plain(path)
    required = {"format", "config", "inference", "class_names", "state"}
    if not isinstance(content, dict) or not required <= set(content):
        raise ValueError(
            f"{path}: not a checkpoint of blendmask_lite (official AdelaiDet and torchvision "
            "weights have to be converted first)"
        )
    if type(content["format"]) is not int or content["format"] != FORMAT:
        raise ValueError(
            f"{path}: checkpoint format {content['format']!r}, this version reads {FORMAT}; "
            "update blendmask_lite"
        )
    state = checked_weights(content["state"], "state", path)
    metadata = content.get("metadata", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: metadata: a {type(metadata).__name__}, expected a dictionary")
    return Checkpoint(
        config=_from_fields(ModelConfig, content["config"], path),
        inference=_from_fields(InferenceConfig, content["inference"], path),
        class_names=_names(content["class_names"], "class_names", path),
        state=state,
        metadata=metadata,
        training=checked_training(content.get("training"), state, path),
        stuff_names=_names(content.get("stuff_names", ()), "stuff_names", path),
        category_ids=_category_ids(content, path),
    )


def _category_ids(content: Mapping[str, Any], path: Path) -> tuple[int, ...] | None:
    ids = content.get("category_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or set(map(type, ids)) != {int}:
        raise ValueError(f"{path}: category_ids: expected a list of whole numbers")
    return tuple(ids)


def _from_fields(kind: type[ConfigT], values: object, path: Path) -> ConfigT:
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{path}: {kind.__name__}: expected a dictionary of its fields")
    known = {each.name for each in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{path}: {kind.__name__} has no field {', '.join(unknown)}; "
            "the file comes from a newer version of blendmask_lite"
        )
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _names(values: object, place: str, path: Path) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(type(each) is str for each in values):
        raise ValueError(f"{path}: {place}: expected a list of texts")
    return tuple(values)


def _as_stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Kernels and matrices in `dtype`; norm statistics stay, being small and of wide range."""
    if dtype is None or not value.is_floating_point() or value.dim() < 2:
        return value.detach().cpu()
    stored = value.detach().cpu().to(dtype)
    return stored if bool(torch.isfinite(stored).all()) else value.detach().cpu()
