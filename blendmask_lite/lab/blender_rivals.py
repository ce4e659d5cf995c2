"""The masks that the hand competes with: the network's own, and the best one found.

Chapter 09. The search takes a few tenths of a second, so it begins when the hand rests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from blendmask_lite.lab.blender_scene import Scene
from blendmask_lite.lab.blender_state import BlenderState, own_numbers

__all__ = ["Rivals"]

REST = 0.2  # seconds without an event after which the search begins


class Rivals:
    """IoU of the other masks with the true object under the box.

    Args:
        scene: what is looked at.
        own: the network's state of the object.
    """

    def __init__(self, scene: Scene, own: BlenderState) -> None:
        self.scene = scene
        self.own = own
        self._own_mask = scene.blend(own).mask
        self._network: dict[int | None, float | None] = {}
        self._best: tuple[object, float | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def network(self, truth: int | None) -> float | None:
        """IoU of the network's own mask with a true object; None without one."""
        if truth not in self._network:
            self._network[truth] = self.scene.iou(self._own_mask, truth)
        return self._network[truth]

    def best(self, state: BlenderState) -> float | None:
        """IoU of the best mask found for the state's box and bases; None if not known yet."""
        is_known = self._best is not None and self._best[0] == _question(state)
        return self._best[1] if is_known and self._best is not None else None

    def plan(self, state: BlenderState, tell: Callable[[], None]) -> None:
        """Search the best mask for a state, and then call `tell`; an older plan is dropped."""
        self.cancel()
        if self._best is not None and self._best[0] == _question(state):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no hand is waiting: a test, or a script
            self._search(state, tell)
            return
        self._timer = loop.call_later(REST, self._search, state, tell)

    def cancel(self) -> None:
        """Drop the plan, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _search(self, state: BlenderState, tell: Callable[[], None]) -> None:
        best = self.scene.best(state, own_numbers(self.own, state))
        iou = None
        if best is not None:
            iou = self.scene.iou(self.scene.blend(best).mask, self.scene.truth_of(state))
        self._best = _question(state), iou
        tell()


def _question(state: BlenderState) -> object:
    """What the best mask depends on: all of the state but its numbers."""
    sizes = state.num_bases, state.attention_size, state.mask_size
    return state.box, state.merger, sizes, state.interpolation, state.pooling
