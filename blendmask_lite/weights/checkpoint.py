"""One file that holds a trained model: config, class names and weights, read without running code.

A finished model is a safetensors file: weights, and the rest as JSON in its header. A training
checkpoint also holds an optimizer's nested values and is a file of torch.save, as finished models
once were. Both are read by the same functions and told apart by their first bytes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.files import require_local, write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.terminal import first_line
from blendmask_lite.weights.tensors import (
    checked_training,
    checked_weights,
    is_safetensors,
    named_errors,
    read_safetensors,
    require_file,
    require_intact,
    require_loadable,
)

__all__ = [
    "Checkpoint",
    "build_model",
    "load_model",
    "load_weights",
    "plain_content",
    "read_checkpoint",
    "save_model",
    "write_checkpoint",
]


ConfigT = TypeVar("ConfigT", ModelConfig, InferenceConfig)
ValueT = TypeVar("ValueT", str, int)

FORMAT = 1  # increased when old readers would misunderstand the file
HEADER = "blendmask_lite"  # the only key in the safetensors header; two would be in random order


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file: plain values and tensors only.

    Attributes:
        config: architecture and input convention.
        inference: test size and thresholds that go with the weights.
        class_names: C names, in the order of the labels.
        state: the model's parameters and buffers by name.
        metadata: plain values that describe where the weights come from.
        training: what is needed in addition to continue the training; None in a finished model.
        stuff_names: S names of the stuff classes; empty without a panoptic branch.
        category_ids: C numbers of the labels in the data's files; None in files of older versions,
            which did not keep them.
        own_parts: class names of the parts that the config does not name, by argument of
            `BlendMask`; whoever builds the model has to pass them.
    """

    config: ModelConfig
    inference: InferenceConfig
    class_names: tuple[str, ...]
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    stuff_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None
    own_parts: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(model: BlendMask, **content: Any) -> Checkpoint:
        """The checkpoint of a model; `content` gives further fields, or replaces some."""
        own: dict[str, Any] = {
            "config": model.config,
            "inference": model.inference,
            "class_names": model.class_names,
            "stuff_names": model.stuff_names,
            "category_ids": model.category_ids,
            "own_parts": model.own_parts,
            "state": model.state_dict(),
        }
        return Checkpoint(**(own | content))


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
        path: the file, conventionally .safetensors; its folder is made if it is missing.
        metadata: values that JSON can hold (numbers, strings, lists, dicts), kept with the weights.
            Tuples are read as lists, and the keys of dicts as strings.
        dtype: None keeps the weights as they are; `torch.float16` halves the file. Reading
            turns them back to float32.

    Raises:
        TypeError: `model` is no BlendMask.
        ValueError: `load_model` would refuse the weights or the metadata; the old file stays.
    """
    if not isinstance(model, BlendMask):
        raise TypeError(f"model: a {type(model).__name__}, expected a BlendMask")
    own = model.state_dict()
    state = {name: _as_stored(value, dtype) for name, value in own.items()}
    require_loadable(state, own, path)
    write_checkpoint(Checkpoint.of(model, state=state, metadata=dict(metadata or {})), path)


def load_model(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu", **own_parts: Any
) -> BlendMask:
    """The model of a checkpoint in evaluation mode, float32, on `device`.

    Training checkpoints are read, too, with the weights that an evaluation would use.

    Args:
        path: the file.
        device: device of the model.
        own_parts: `backbone`, `bottom` and `merger`, if the model was built with your own parts;
            their weights come from the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, is damaged, would run code, comes from a newer
            version, or has weights that do not fit its config, are no floats, or are not finite; a
            part is missing, which the message names; or torch cannot compute on `device` here.
    """
    try:
        torch.zeros(1, device=device).cpu()  # fails for "meta", which has no values
    except (RuntimeError, AssertionError, ImportError, TypeError):
        raise ValueError(f"device = {device!r}: torch cannot compute on it here") from None
    return build_model(read_checkpoint(path), source=path, **own_parts).eval().to(device)


def build_model(
    checkpoint: Checkpoint,
    *,
    source: object = "the checkpoint",
    must_be_finite: bool = True,
    **own_parts: Any,
) -> BlendMask:
    """A model with the checkpoint's weights, on the CPU.

    Args:
        checkpoint: its weights are compared with its config before memory is allocated for them.
        source: name of the checkpoint in errors.
        must_be_finite: False admits NaN and infinity, for looking into a step that failed.
        own_parts: see `load_model`.

    Raises:
        ValueError: see `load_model`.
    """
    _require_parts(checkpoint, own_parts, source)

    def build() -> BlendMask:
        return BlendMask(
            checkpoint.config,
            inference=checkpoint.inference,
            class_names=checkpoint.class_names,
            stuff_names=checkpoint.stuff_names,
            category_ids=checkpoint.category_ids,
            **own_parts,
        )

    try:
        with torch.device("meta"):
            frame = build()
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    own = frame.state_dict()
    require_loadable(checkpoint.state, own, source, must_be_finite=must_be_finite)
    if own_parts or "/" in checkpoint.config.backbone:
        model = build()  # a part from elsewhere may compute tensors that no checkpoint holds
    else:
        model = frame.to_empty(device="cpu")  # without random weights, which would all be replaced
    model.load_state_dict(checkpoint.state)
    return model


def _require_parts(checkpoint: Checkpoint, own_parts: Mapping[str, object], source: object) -> None:
    missing = {name: kind for name, kind in checkpoint.own_parts.items() if name not in own_parts}
    if missing:
        name, kind = next(iter(missing.items()))
        call = f"load_model(..., {name}={kind.rpartition('.')[2]}(...))"
        raise ValueError(
            f"{source}: the model was built with a {name} of its own, {kind}: pass it, {call}"
        )
    for name in own_parts:
        if name not in checkpoint.own_parts:
            raise ValueError(f"{source}: {name}: the model has the {name} of its config")


def load_weights(model: torch.nn.Module, state: Mapping[str, Tensor], *, source: object) -> None:
    """Copy `state` into `model`; every name and shape has to fit, and every value to be finite.

    Raises:
        ValueError: names are missing or unexpected, or tensors have another shape or type or values
            that cannot be weights; the message lists a few of each kind.
    """
    require_loadable(state, model.state_dict(), source)
    model.load_state_dict(dict(state))


def write_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write `checkpoint` to `path` in one step; equal contents give equal bytes.

    Raises:
        ValueError: the metadata contain themselves, or values that JSON cannot hold.
    """
    content = plain_content(checkpoint)
    if checkpoint.training is None:
        write_atomically(Path(path), _as_safetensors(content, checkpoint.state))
        return
    # Through memory: torch would store the file's name, and call a full disk a broken archive.
    buffer = io.BytesIO()
    torch.save(content | {"state": checkpoint.state, "training": checkpoint.training}, buffer)
    write_atomically(Path(path), buffer.getvalue())


def plain_content(checkpoint: Checkpoint) -> dict[str, Any]:
    """All of a checkpoint except its tensors, as values that JSON can hold."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "config": dataclasses.asdict(checkpoint.config),
        "inference": dataclasses.asdict(checkpoint.inference),
        "class_names": list(checkpoint.class_names),
        "stuff_names": list(checkpoint.stuff_names),
        "metadata": checkpoint.metadata,
    }
    if checkpoint.category_ids is not None:
        content["category_ids"] = list(checkpoint.category_ids)
    if checkpoint.own_parts:
        content["own_parts"] = checkpoint.own_parts
    return content


def _as_safetensors(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> bytes:
    for name, value in content["metadata"].items():
        try:
            json.dumps({name: value})
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"metadata[{name!r}]: cannot be written as JSON ({error})") from None
    # Copies, because safetensors refuses channels-last tensors and two names for the same weights.
    tensors = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()
    }
    text = json.dumps({**content, "crc32": _check_sum(content, tensors)})
    return safetensors.torch.save(tensors, {HEADER: text})


def _check_sum(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> int:
    """CRC-32 of everything: safetensors has none, and a damaged number is still a number."""
    total = zlib.crc32(json.dumps(content).encode())
    for name in sorted(state):
        total = zlib.crc32(state[name].flatten().view(torch.uint8).numpy().data, total)
    return total


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a file, with tensors on the CPU; see `load_model` for the errors."""
    require_local(path, hint="; `blendmask-lite convert` fetches the authors' models")
    path = Path(path)
    content = _read_content(path)
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
    metadata, ids = content.get("metadata", {}), content.get("category_ids")
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: metadata: a {type(metadata).__name__}, expected a dictionary")
    return Checkpoint(
        config=_from_fields(ModelConfig, content["config"], path),
        inference=_from_fields(InferenceConfig, content["inference"], path),
        class_names=_tuple_of(str, content["class_names"], f"{path}: class_names"),
        state=state,
        metadata=metadata,
        training=checked_training(content.get("training"), state, path),
        stuff_names=_tuple_of(str, content.get("stuff_names", ()), f"{path}: stuff_names"),
        category_ids=None if ids is None else _tuple_of(int, ids, f"{path}: category_ids"),
        own_parts=_own_parts(content.get("own_parts", {}), path),
    )


def _own_parts(values: object, path: Path) -> dict[str, str]:
    if not isinstance(values, dict) or not set(values) <= {"backbone", "bottom", "merger"}:
        raise ValueError(f"{path}: own_parts: expected the kinds of backbone, bottom and merger")
    if not all(isinstance(kind, str) for kind in values.values()):
        raise ValueError(f"{path}: own_parts: expected texts")
    return values


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
    # JSON has no tuples.
    fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    try:
        return kind(**fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _tuple_of(kind: type[ValueT], values: object, place: str) -> tuple[ValueT, ...]:
    if not isinstance(values, list | tuple) or not all(type(each) is kind for each in values):
        what = "texts" if kind is str else "whole numbers"
        raise ValueError(f"{place}: expected a list of {what}")
    return tuple(values)


def _as_stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Kernels and matrices in `dtype`; norm statistics stay: they are small but vary widely."""
    if dtype is None or not value.is_floating_point() or value.dim() < 2:
        return value.detach().cpu()
    stored = value.detach().cpu().to(dtype)
    return stored if bool(torch.isfinite(stored).all()) else value.detach().cpu()


def _read_content(path: Path) -> object:
    """Config, names and "state" by key, from either format; tensors on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or reading it would run code.
    """
    require_file(path, "checkpoint file")
    if is_safetensors(path):
        state, texts = read_safetensors(path)
        if HEADER not in texts:
            return state
        try:
            content = json.loads(texts[HEADER])
            if content.pop("crc32") != _check_sum(content, state):
                raise ValueError("wrong check sum")
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: damaged ({first_line(error)})") from None
        return content | {"state": state}
    with named_errors(path, "a checkpoint"):
        require_intact(path)
        with path.open("rb") as file:  # torch would judge a path by its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
