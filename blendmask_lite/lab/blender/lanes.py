"""Lanes: ways from bases to a mask, one or three of them under one box.

The lab's network is one lane. Next to it may stand the networks of chapter 10's race, which learned
masks by Blender, YOLACT and FCIS on the same features, each with bases of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.evaluation.pictures import picture_for
from blendmask_lite.lab.blender.scene import Blend, Scene, nearest_location, own_state
from blendmask_lite.lab.blender.state import BlenderState, own_numbers
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.research.race import load_contestant, load_features

__all__ = ["METHODS", "Contestants", "Lane", "lane_problem", "same_bases"]

# By merger: the method's name in the lab, and the name of its network in the race.
METHODS = {"blender": "Blender", "weighted_sum": "YOLACT", "assembler": "FCIS"}
CONTESTANTS = METHODS | {"blender": "BlendMask"}
MOST_SHOWN = 4  # bases shown of each lane if there are several lanes


@dataclass(frozen=True)
class Lane:
    """One way from bases to a mask."""

    name: str  # name of the method; "" if this is the only lane
    scene: Scene  # the lab's scene, perhaps with the bases of another network
    own: BlenderState  # the network's own state for the object
    state: BlenderState
    note: str = ""  # where the bases come from

    @property
    def suffix(self) -> str:
        """A suffix for the names of its panels, which must differ between lanes."""
        return f" {self.name}" if self.name else ""

    def blend(self, state: BlenderState | None = None) -> Blend:
        """The result of its state, or of another one."""
        return self.scene.blend(self.state if state is None else state)

    def with_box(self, box: tuple[float, float, float, float]) -> Lane:
        """The lane with another box."""
        return replace(self, state=replace(self.state, box=box))

    @property
    def own_like_state(self) -> BlenderState:
        """The network's own state with the merger and the sizes of the present one."""
        return replace(own_numbers(self.own, self.state), box=self.own.box)

    def shown(self) -> list[int]:
        """The bases that have panels: all, or next to other lanes those that add most to the mask.

        They follow from the network's own state, so they stay while the box is dragged.
        """
        if not self.name:
            return list(range(self.state.num_used))
        products = self.blend(self.own_like_state).products.abs().mean(dim=(1, 2))
        return sorted(products.topk(min(MOST_SHOWN, len(products))).indices.tolist())


def same_bases(scene: Scene, own: BlenderState, state: BlenderState) -> list[Lane]:
    """The three methods on the bases of one network, which was trained for one of them."""
    lanes = []
    for merger, name in METHODS.items():
        is_own = merger == own.merger
        note = "the network's own bases" if is_own else "bases not trained for it"
        changed = replace(state, merger=merger)  # type: ignore[arg-type]
        lanes.append(Lane(name, scene, own, changed, note))
    return lanes


class Contestants:
    """The networks of chapter 10's race on one image."""

    def __init__(self) -> None:
        features = load_features()
        self._models = {merger: load_contestant(features, of) for merger, of in CONTESTANTS.items()}
        self._image: Tensor | None = None
        self._outputs: dict[str, BlendMaskOutput] = {}

    @torch.no_grad()
    def lanes(self, scene: Scene, own: BlenderState) -> list[Lane]:
        """One lane per network, with the numbers of the location that should find the object's box.

        Args:
            scene: its image is resized to the size that the networks were trained with.
            own: the object, as the lab's network has it.
        """
        if self._image is not scene.image:
            self._outputs = {
                name: model([picture_for(model, scene.image)])
                for name, model in self._models.items()
            }
            self._image = scene.image
        lanes = []
        for merger, model in self._models.items():
            output = self._outputs[merger]
            scale = output.image_sizes[0][1] / scene.image_size[1]
            box = torch.tensor(own.box)
            place = nearest_location(output, box * scale, model.config)
            index = torch.stack([torch.zeros_like(place), place], dim=1)
            state = own_state(model.config, box, model.attentions_at(output, index)[0])
            bases, stride = output.bases[0].float(), model.bottom.stride / scale
            note = f"{model.config.num_bases} bases of its own"
            own_scene = replace(scene, bases=bases, stride=stride)
            lanes.append(Lane(METHODS[merger], own_scene, state, state, note))
        return lanes


def lane_problem(lane: Lane) -> dict[str, Any]:
    """Everything that the page needs to compute the lane's mask, except box and numbers; see
    `Problem` in static/equations.js.
    """
    state = lane.state
    used = lane.scene.bases[: state.num_used].float().contiguous()
    return {
        "name": lane.name,
        "method": state.merger,
        "bases": used.numpy().tobytes(),
        "K": state.num_used,
        "H": used.shape[1],
        "W": used.shape[2],
        "stride": float(lane.scene.stride),
        "R": state.mask_size,
        "M": 1 if state.merger == "weighted_sum" else state.attention_size,
        "interpolation": state.interpolation,
        "pooling": state.pooling,
        "hasTanh": state.has_tanh,
        "hasRelu": state.has_relu,
        "own": own_numbers(lane.own, state).numbers.float().numpy().tobytes(),
    }
