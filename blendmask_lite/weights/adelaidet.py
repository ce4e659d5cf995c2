"""The authors' models: recognised, renamed, checked and loaded in one call.

The names and sizes of weights tell which configuration they belong to. `convert` maps names of the
released code to ours.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from torch import Tensor

from blendmask_lite.config import PRESET_INFERENCE, PRESETS, InferenceConfig, ModelConfig
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights.pickles import read_weights
from blendmask_lite.weights.tensors import require_loadable
from blendmask_lite.weights.zoo import (
    COCO_STUFF,
    COCO_THING_IDS,
    COCO_THINGS,
    Published,
    find_file,
    find_published,
)

__all__ = [
    "DEAD_WEIGHTS",
    "adelaidet_name",
    "load_adelaidet",
    "load_adelaidet_state",
    "released_name",
]


# Their names and ours; the first rule that fits counts. "#" is a number and "*" the rest of a name,
# which are the same on both sides.
RULES = (
    ("backbone.bottom_up.stem.conv1.norm.*", "backbone.bn1.*"),
    ("backbone.bottom_up.stem.conv1.*", "backbone.conv1.*"),
    *(
        (f"backbone.bottom_up.res{stage}.#.{theirs}.*", f"backbone.layer{stage - 1}.#.{ours}.*")
        for stage in (2, 3, 4, 5)
        for theirs, ours in (
            ("shortcut.norm", "downsample.1"),
            ("shortcut", "downsample.0"),
            ("conv2_offset", "conv2.offset"),
            ("conv#.norm", "bn#"),
            ("conv#", "conv#"),
        )
    ),
    ("backbone.bottom_up.base_layer.*", "backbone.base_layer.*"),
    ("backbone.bottom_up.level#.*", "backbone.level#.*"),
    ("backbone.fpn_lateral#.*", "fpn.lateral.c#.*"),
    ("backbone.fpn_output#.*", "fpn.output.c#.*"),
    ("backbone.top_block.p#.*", "fpn.top.p#.*"),
    ("proposal_generator.fcos_head.share_tower.*", "head.shared_tower.*"),
    ("proposal_generator.fcos_head.cls_tower.*", "head.class_tower.*"),
    ("proposal_generator.fcos_head.bbox_tower.*", "head.box_tower.*"),
    ("proposal_generator.fcos_head.cls_logits.*", "head.class_logits.*"),
    ("proposal_generator.fcos_head.bbox_pred.*", "head.ltrb.*"),
    ("proposal_generator.fcos_head.ctrness.*", "head.centerness.*"),
    ("top_layer.*", "top_layer.conv.*"),
    *((f"basis_module.refine.{i}.*", f"bottom.refine.p{i + 3}.*") for i in range(3)),
    ("basis_module.tower.*", "bottom.tower.*"),
    ("basis_module.seg_head.*", "semantic_head.layers.*"),
    ("panoptic_module.p#.#.norm.*", "panoptic_head.towers.p#.#.norm.*"),
    ("panoptic_module.p#.#.*", "panoptic_head.towers.p#.#.conv.*"),
    ("panoptic_module.predictor.*", "panoptic_head.predictor.*"),
)


# No output depends on these weights: a tree of two levels leaves the projection of its residual to
# the trees inside it. Our DLA-34 has them only because the files do.
DEAD_WEIGHTS = tuple(
    f"backbone.bottom_up.level{level}.project.{name}"
    for level in (3, 4)
    for name in (
        "0.weight",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    )
)


def adelaidet_name(name: str, *, num_bottom_convs: int) -> str | None:
    """Our name of a tensor of the released code; None if it has no place here.

    Args:
        name: a key of their state dict.
        num_bottom_convs: number of convolutions before the upsampling in their basis module. The
            layers after them have other names here.
    """
    return _translated(name, _rules(num_bottom_convs))


def released_name(name: str, *, num_bottom_convs: int) -> str | None:
    """The released code's name of a tensor of ours: the inverse of `adelaidet_name`."""
    return _translated(name, [(ours, theirs) for theirs, ours in _rules(num_bottom_convs)])


def _rules(num_bottom_convs: int) -> list[tuple[str, str]]:
    return [  # between these convolutions and the last ones is the upsampling, without weights
        (f"basis_module.tower.{num_bottom_convs + 1}.*", "bottom.last.*"),
        (f"basis_module.tower.{num_bottom_convs + 2}.*", "bottom.bases.*"),
        *RULES,
    ]


def _translated(name: str, rules: Sequence[tuple[str, str]]) -> str | None:
    for pattern, replacement in rules:
        if match := _regex(pattern).fullmatch(name):
            return re.sub("[#*]", "{}", replacement).format(*match.groups())
    return None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)"))


def load_adelaidet_state(
    model: BlendMask, state: Mapping[str, Tensor], *, source: object = "AdelaiDet weights"
) -> None:
    """Copy a state dict of the released code into a model of the same configuration.

    Args:
        model: its config says what the weights have to be.
        state: their names; float16 is turned into the model's float32. The batch counters of
            norms may be left out, as they often are.
        source: name of the weights in errors.

    Raises:
        ValueError: some tensors are left over, missing, present in two spellings, of another shape
            or type, or not weights; they are listed by their names in the released code.
    """
    num_convs = model.config.num_bottom_convs
    own = model.state_dict()
    places = {released_name(place, num_bottom_convs=num_convs) or place: place for place in own}
    given = {
        name: own[place] for name, place in places.items() if place.endswith("num_batches_tracked")
    }
    for name, value in state.items():
        usual = name.replace(".fcos_head.centerness.", ".fcos_head.ctrness.")  # old spelling
        if usual != name and usual in state:
            raise ValueError(f"{source}: these weights have {name} beside {usual}")
        given[usual] = value
    require_loadable(given, {name: own[place] for name, place in places.items()}, source)
    model.load_state_dict({places[name]: value for name, value in given.items()})


FCOS_HEAD = "proposal_generator.fcos_head."
NECESSARY = (f"{FCOS_HEAD}cls_logits.weight", "top_layer.weight", "basis_module.tower.0.0.weight")
RESNETS = {6: "resnet50", 23: "resnet101"}  # name by the number of blocks in res4
# What training on own data changes; it is taken from the weights.
COUNTS = ("num_classes", "num_stuff_classes", "semantic_weight")


def _structure(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `ModelConfig` that follow from the released code's names and sizes.

    `semantic_weight` is 0 if the auxiliary head is missing. `backbone` is a description if we do
    not have that backbone.
    """
    missing = [name for name in NECESSARY if name not in state]
    if missing:
        raise ValueError(f"not AdelaiDet's BlendMask: {', '.join(missing)} missing")
    top_levels = [p for p in ("p6", "p7") if f"backbone.top_block.{p}.weight" in state]
    has_level_norms = _indices(state, re.escape(FCOS_HEAD) + r"\w+_tower\.1\.(\d+)\.weight") != []
    stuff = state.get("panoptic_module.predictor.weight")
    return {
        "backbone": _backbone(state),
        "deform_interval": _deform_interval(state),
        "levels": ("p3", "p4", "p5", *top_levels),
        "num_shared_convs": _num_convs(state, "share_tower"),
        "num_class_convs": _num_convs(state, "cls_tower"),
        "num_box_convs": _num_convs(state, "bbox_tower"),
        "head_norm": "bn_per_level" if has_level_norms else "gn",
        "bottom": "proto_fpn",  # the only bottom module in the released code
        "num_bottom_convs": len(_indices(state, r"basis_module\.tower\.(\d+)\.0\.weight")) - 1,
        "num_classes": len(state[f"{FCOS_HEAD}cls_logits.weight"]),
        "num_stuff_classes": 0 if stuff is None else len(stuff) - 1,
        "semantic_weight": 0.3 if "basis_module.seg_head.0.weight" in state else 0.0,
    }


def _recognised(structure: Mapping[str, Any]) -> str | None:
    """The preset with this structure; weights of one class are taken for the person model's."""
    names = [
        name
        for name, config in PRESETS.items()
        if config.channel_order == "bgr" and _differences(structure, config) == []
    ]
    exact = [n for n in names if PRESETS[n].num_classes == structure["num_classes"]]
    return next(iter(exact + names), None)


def _differences(structure: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """Differences between the weights' structure and the config, except in numbers of classes."""
    found = [
        f"{name} is {value!r}, not {getattr(config, name)!r}"
        for name, value in structure.items()
        if name not in COUNTS and value != getattr(config, name)
    ]
    has_branch = structure["num_stuff_classes"] > 0
    if has_branch != (config.num_stuff_classes > 0):
        found.append(f"there is {'a' if has_branch else 'no'} panoptic branch")
    return found


def _backbone(state: Mapping[str, Tensor]) -> str:
    if "backbone.bottom_up.base_layer.0.weight" in state:
        return "dla34"
    num_blocks = len(_blocks(state, "conv1"))
    return RESNETS.get(num_blocks, f"one with {num_blocks} blocks in res4")


def _deform_interval(state: Mapping[str, Tensor]) -> int:
    num_deformable = len(_blocks(state, "conv2_offset"))
    return math.ceil(len(_blocks(state, "conv1")) / num_deformable) if num_deformable else 0


def _blocks(state: Mapping[str, Tensor], conv: str) -> list[int]:
    return _indices(state, rf"backbone\.bottom_up\.res4\.(\d+)\.{conv}\.weight")


def _num_convs(state: Mapping[str, Tensor], tower: str) -> int:
    """The tower's length; a convolution, its norm and its ReLU are three layers."""
    places = _indices(state, re.escape(f"{FCOS_HEAD}{tower}.") + r"(\d+)\.weight")
    return sum(place % 3 == 0 for place in places)


def _indices(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, name) for name in state)
    return sorted({int(each[1]) for each in found if each})


def load_adelaidet(
    source: str | os.PathLike[str],
    preset: str | ModelConfig | None = None,
    *,
    class_names: Sequence[str] | None = None,
    stuff_names: Sequence[str] | None = None,
) -> BlendMask:
    """A model with weights of the authors' released code, or of a training with it.

    Every tensor in the file is used, and every tensor of the model is in the file. Reading never
    runs code from the file.

    Args:
        source: a name of the model zoo ("R_50_3x", see `PUBLISHED`), a URL, or a file. A
            downloaded file stays in the cache folder.
        preset: a name of `PRESETS`, or your own config if the training had one; by default it
            is recognised from the weights. Numbers of classes always come from the weights, and an
            auxiliary semantic head that they lack is left out.
        class_names: C names for the labels; by default COCO's for 80 classes, "person" for the
            person model and otherwise "class 0", ... The file has no names: give them for a model
            of your own data. With COCO's names, the labels have COCO's category ids.
        stuff_names: S names for a panoptic model; by default COCO's if there are 53.

    Returns:
        The model in evaluation mode, float32, on the CPU, with the preset's test size.

    Raises:
        FileNotFoundError: there is no such file or name.
        DownloadError: the file is not in the cache and cannot be fetched.
        ValueError: the file has no such weights, would run code, is damaged, or does not fit the
            preset; the message lists everything that does not fit.
    """
    published = find_published(source)
    path = find_file(source)
    state = read_weights(path)
    try:
        structure = _structure(state)
        wanted = preset or _expected(published, structure)
        config = _config_of(wanted)
        _require_no_differences(structure, config, wanted)
    except ValueError as error:
        hint = "" if preset or published is None else _shared_link(published)
        raise ValueError(f"{path}: {error}{hint}") from None
    config = replace(
        config,
        num_classes=structure["num_classes"],
        num_stuff_classes=structure["num_stuff_classes"],
        semantic_weight=config.semantic_weight if structure["semantic_weight"] else 0.0,
    )
    names = class_names or _class_names(config, wanted)
    is_coco = names is not None and tuple(names) == COCO_THINGS
    model = BlendMask(
        config,
        inference=PRESET_INFERENCE[wanted] if isinstance(wanted, str) else InferenceConfig(),
        class_names=names,
        category_ids=COCO_THING_IDS if is_coco else None,
        stuff_names=stuff_names or (COCO_STUFF if config.num_stuff_classes == 53 else None),
    )
    load_adelaidet_state(model, state, source=path)
    return model.eval()


def _expected(published: Published | None, structure: Mapping[str, Any]) -> str:
    if published is not None:
        return published.preset
    preset = _recognised(structure)
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


def _class_names(config: ModelConfig, preset: str | ModelConfig) -> tuple[str, ...] | None:
    if config.num_classes == len(COCO_THINGS):
        return COCO_THINGS
    return ("person",) if preset == "person_r50" and config.num_classes == 1 else None


def _require_no_differences(
    structure: Mapping[str, Any], config: ModelConfig, preset: str | ModelConfig
) -> None:
    found = _differences(structure, config)
    if found:
        title = f"preset {preset}" if isinstance(preset, str) else "of the given config"
        right = _recognised(structure)
        hint = f"; preset {right} is built so" if right else ""
        raise ValueError(f"not {title}: {'; '.join(found)}{hint}")


def _shared_link(published: Published) -> str:
    if not published.twins:
        return ""
    return f" (the model zoo has one link for {published.name} and {', '.join(published.twins)})"
