"""Weights of the released code under our names.

Every tensor of an AdelaiDet BlendMask state dict has one place here, and every place of ours one
tensor there; whatever is left over on either side is refused with its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from blendmask_lite.checkpoint import load_weights
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["adelaidet_name", "load_adelaidet_state"]

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


def load_adelaidet_state(model: BlendMask, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict of the released code into a model of the same configuration.

    Args:
        model: its config says what the weights have to be.
        state: their names; float16 is turned into the model's float32.

    Raises:
        ValueError: a name without a place, or a place without a tensor; named.
    """
    names = {
        name: adelaidet_name(name, num_bottom_convs=model.config.num_bottom_convs) for name in state
    }
    unknown = [name for name, ours in names.items() if ours is None]
    if unknown:
        raise ValueError(f"{len(unknown)} tensors of no known name, such as {unknown[0]}")
    ours = {str(names[name]): value.float() for name, value in state.items()}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):  # a counter, often left out of stored weights
            ours.setdefault(name, value)
    load_weights(model, ours, source="AdelaiDet weights")


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
