"""A model of the released code in one call: found or fetched, recognised, renamed, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.convert import load_adelaidet_state
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.presets import PRESET_INFERENCE, PRESETS
from blendmask_lite.published.classes import COCO_STUFF, COCO_THING_IDS, COCO_THINGS
from blendmask_lite.published.reader import read_weights
from blendmask_lite.published.structure import (
    differences,
    read_structure,
    recognise,
    with_counts_of,
)
from blendmask_lite.published.zoo import Published, find_file, find_published

__all__ = ["load_adelaidet"]


def load_adelaidet(
    source: str | os.PathLike[str],
    preset: str | ModelConfig | None = None,
    *,
    class_names: Sequence[str] | None = None,
    stuff_names: Sequence[str] | None = None,
) -> BlendMask:
    """A model with weights of the authors' released code, or of a training with it.

    Every tensor of the file is used, and every one of the model is in the file. Reading never
    runs code of the file.

    Args:
        source: a name of the model zoo ("R_50_3x", see `PUBLISHED`), a URL, or a file. What is
            downloaded stays in the cache folder.
        preset: a name of `PRESETS`, or a config where the training had one of its own; without,
            the weights tell. Numbers of classes always come from the weights, and an auxiliary
            semantic head that they lack is left out.
        class_names: C names for the labels; without, COCO's for 80 classes, "person" for the
            person model and otherwise "class 0", ... The file has no names: give them for a model
            of your own data. With COCO's names, the labels have COCO's category ids.
        stuff_names: S names for a panoptic model; without, COCO's where there are 53.

    Returns:
        The model in evaluation mode, float32, on the CPU, with the preset's test size.

    Raises:
        FileNotFoundError: there is no such file or name.
        DownloadError: the file is not in the cache and cannot be fetched.
        ValueError: the file is no such weights, would run code, is damaged, or does not fit the
            preset; with all that does not fit.
    """
    published = find_published(source)
    path = find_file(source)
    state = read_weights(path)
    try:
        structure = read_structure(state)
        wanted = preset or _expected(published, structure)
        config = _config_of(wanted)
        _require_no_differences(structure, config, wanted)
    except ValueError as error:
        hint = "" if preset or published is None else _shared_link(published)
        raise ValueError(f"{path}: {error}{hint}") from None
    config = with_counts_of(structure, config)
    names = class_names or _class_names(config, wanted)
    is_coco = names is not None and tuple(names) == COCO_THINGS
    model = BlendMask(
        config,
        inference=_inference_of(wanted),
        class_names=names,
        category_ids=COCO_THING_IDS if is_coco else None,
        stuff_names=stuff_names or (COCO_STUFF if config.num_stuff_classes == 53 else None),
    )
    load_adelaidet_state(model, state, source=path)
    return model.eval()


def _expected(published: Published | None, structure: Mapping[str, Any]) -> str:
    if published is not None:
        return published.preset
    preset = recognise(structure)
    if preset is None:
        text = ", ".join(f"{name} {value}" for name, value in structure.items())
        raise ValueError(f"no preset is built so: {text}; give a ModelConfig as the preset")
    return preset


def _config_of(preset: str | ModelConfig) -> ModelConfig:
    if isinstance(preset, ModelConfig):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: must be one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def _inference_of(preset: str | ModelConfig) -> InferenceConfig:
    return PRESET_INFERENCE[preset] if isinstance(preset, str) else InferenceConfig()


def _class_names(config: ModelConfig, preset: str | ModelConfig) -> tuple[str, ...] | None:
    if config.num_classes == len(COCO_THINGS):
        return COCO_THINGS
    return ("person",) if preset == "person_r50" and config.num_classes == 1 else None


def _require_no_differences(
    structure: Mapping[str, Any], config: ModelConfig, preset: str | ModelConfig
) -> None:
    found = differences(structure, config)
    if found:
        title = f"preset {preset}" if isinstance(preset, str) else "of the given config"
        right = recognise(structure)
        hint = f"; preset {right} is built so" if right else ""
        raise ValueError(f"not {title}: {'; '.join(found)}{hint}")


def _shared_link(published: Published) -> str:
    if not published.twins:
        return ""
    return f" (the model zoo has one link for {published.name} and {', '.join(published.twins)})"
