"""Weights of the released code under our names.

Every tensor of an AdelaiDet BlendMask state dict has one place here, and every place of ours one
tensor there; whatever is left over on either side is refused with its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from torch import Tensor

from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.weights import listed, misfit

__all__ = ["DEAD_WEIGHTS", "adelaidet_name", "load_adelaidet_state", "released_name"]

LISTED = 20  # names of a kind that an error lists

RES = r"backbone\.bottom_up\.res(\d)\.(\d+)\."
HEAD = r"proposal_generator\.fcos_head\."

# From their names to ours, in order; the first rule that matches is the one that counts.
RULES: tuple[tuple[str, str], ...] = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(.+)", r"backbone.bn1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(.+)", r"backbone.conv1.\1"),
    (RES + r"shortcut\.norm\.(.+)", r"backbone.layer\1.\2.downsample.1.\3"),
    (RES + r"shortcut\.(.+)", r"backbone.layer\1.\2.downsample.0.\3"),
    (RES + r"conv2_offset\.(.+)", r"backbone.layer\1.\2.conv2.offset.\3"),
    (RES + r"conv(\d)\.norm\.(.+)", r"backbone.layer\1.\2.bn\3.\4"),
    (RES + r"conv(\d)\.(.+)", r"backbone.layer\1.\2.conv\3.\4"),
    (r"backbone\.bottom_up\.((?:base_layer|level\d)\..+)", r"backbone.\1"),
    (r"backbone\.fpn_lateral(\d)\.(.+)", r"fpn.lateral.c\1.\2"),
    (r"backbone\.fpn_output(\d)\.(.+)", r"fpn.output.c\1.\2"),
    (r"backbone\.top_block\.(p\d)\.(.+)", r"fpn.top.\1.\2"),
    (HEAD + r"share_tower\.(.+)", r"head.shared_tower.\1"),
    (HEAD + r"cls_tower\.(.+)", r"head.class_tower.\1"),
    (HEAD + r"bbox_tower\.(.+)", r"head.box_tower.\1"),
    (HEAD + r"cls_logits\.(.+)", r"head.class_logits.\1"),
    (HEAD + r"bbox_pred\.(.+)", r"head.ltrb.\1"),
    (HEAD + r"(?:ctrness|centerness)\.(.+)", r"head.centerness.\1"),
    (r"top_layer\.(.+)", r"top_layer.conv.\1"),
    (r"basis_module\.refine\.(\d)\.(.+)", r"bottom.refine.p\1.\2"),
    (r"basis_module\.tower\.(\d+)\.(.+)", r"bottom.tower.\1.\2"),
    (r"basis_module\.seg_head\.(.+)", r"semantic_head.layers.\1"),
    (r"panoptic_module\.(p\d\.\d)\.norm\.(.+)", r"panoptic_head.towers.\1.norm.\2"),
    (r"panoptic_module\.(p\d\.\d)\.(.+)", r"panoptic_head.towers.\1.conv.\2"),
    (r"panoptic_module\.predictor\.(.+)", r"panoptic_head.predictor.\1"),
)


# In the files, in our DLA-34 for the tensors' sake, and without influence on any output: a tree of
# two levels leaves the projection of its residual to the trees inside it.
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
        num_bottom_convs: convolutions before the upsampling in their basis module: what follows
            them in their sequence has names of its own here.
    """
    for pattern, replacement in RULES:
        if re.fullmatch(pattern, name):
            return _renumbered(re.sub(pattern, replacement, name), num_bottom_convs)
    return None


def released_name(name: str, *, num_bottom_convs: int) -> str | None:
    """The released code's name of a tensor of ours: the inverse of `adelaidet_name`."""
    numbered = _numbered_back(name, num_bottom_convs)
    for pattern, replacement in _inverse_rules():
        if re.fullmatch(pattern, numbered):
            theirs = re.sub(pattern, replacement, numbered)
            if adelaidet_name(theirs, num_bottom_convs=num_bottom_convs) == name:
                return theirs
    return None


def load_adelaidet_state(
    model: BlendMask, state: Mapping[str, Tensor], *, source: object = "AdelaiDet weights"
) -> None:
    """Copy a state dict of the released code into a model of the same configuration.

    Args:
        model: its config says what the weights have to be.
        state: their names; float16 is turned into the model's float32. The batch counters of
            norms may be left out, as they often are.
        source: names the weights in errors.

    Raises:
        ValueError: tensors without a place, places without a tensor or with two, other shapes and
            types, and values that are no weights; each with its names in the released code.
    """
    num_convs = model.config.num_bottom_convs
    own = model.state_dict()
    found: dict[str, str] = {}  # our names to theirs
    misfits: dict[str, list[str]] = {"left over": [], "twice": [], "missing": []}
    for name, value in state.items():
        place = adelaidet_name(name, num_bottom_convs=num_convs)
        if place not in own:
            misfits["left over"].append(name)
        elif place in found:
            misfits["twice"].append(f"{name} beside {found[place]}")
        else:
            found[place] = name
            if reason := misfit(place, value, own[place]):
                kind, details = reason
                misfits.setdefault(kind, []).append(f"{name} {details}".strip())
    for place in own:
        if place not in found and not place.endswith(".num_batches_tracked"):
            theirs = released_name(place, num_bottom_convs=num_convs)
            misfits["missing"].append(theirs or place)
    problems = [
        f"{len(names)} tensors {kind}: {listed(names, LISTED)}"
        for kind, names in misfits.items()
        if names
    ]
    if problems:
        raise ValueError(f"{source}: these weights cannot be loaded: {'; '.join(problems)}")
    model.load_state_dict({**own, **{place: state[name] for place, name in found.items()}})


def _renumbered(name: str, num_bottom_convs: int) -> str:
    """Stages are counted from 1 and pyramid inputs by level; the bottom's tower has three parts."""
    if stage := re.match(r"backbone\.layer(\d)(.+)", name):
        return f"backbone.layer{int(stage[1]) - 1}{stage[2]}"
    if level := re.match(r"bottom\.refine\.p(\d)(.+)", name):
        return f"bottom.refine.p{int(level[1]) + 3}{level[2]}"
    if tower := re.match(r"bottom\.tower\.(\d+)\.(.+)", name):
        place, rest = int(tower[1]), tower[2]
        if place == num_bottom_convs + 1:  # after the upsampling, which has no weights
            return f"bottom.last.{rest}"
        if place == num_bottom_convs + 2:
            return f"bottom.bases.{rest}"
    return name


def _numbered_back(name: str, num_bottom_convs: int) -> str:
    """The inverse of `_renumbered`."""
    if stage := re.match(r"backbone\.layer(\d)(.+)", name):
        return f"backbone.layer{int(stage[1]) + 1}{stage[2]}"
    if level := re.match(r"bottom\.refine\.p(\d)(.+)", name):
        return f"bottom.refine.p{int(level[1]) - 3}{level[2]}"
    if part := re.match(r"bottom\.(last|bases)\.(.+)", name):
        place = num_bottom_convs + (1 if part[1] == "last" else 2)
        return f"bottom.tower.{place}.{part[2]}"
    return name


@cache
def _inverse_rules() -> tuple[tuple[str, str], ...]:
    """RULES from our names to theirs; of several spellings there the first."""
    group = re.compile(r"\((?!\?)(?:[^()]|\([^()]*\))*\)")  # that captures; one may be inside
    rules = []
    for theirs, ours in RULES:
        groups = group.findall(theirs)
        parts = re.split(r"\\(\d)", ours)  # text, number of a group, text, ...
        pattern = "".join(
            groups[int(part) - 1] if i % 2 else re.escape(part) for i, part in enumerate(parts)
        )
        replacement = theirs
        for number, each in enumerate(groups, start=1):
            replacement = replacement.replace(each, rf"\{number}", 1)
        replacement = re.sub(r"\(\?:(.*?)\|.*?\)", r"\1", replacement).replace(r"\.", ".")
        rules.append((pattern, replacement))
    return tuple(rules)
