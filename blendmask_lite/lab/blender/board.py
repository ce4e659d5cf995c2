"""The Blender lab's canvas, which draws ahead of Python: it computes equations 1 to 4 itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from traitlets import Dict, List

from blendmask_lite.lab.blender.lanes import Lane, lane_problem
from blendmask_lite.lab.blender.scene import Scene
from blendmask_lite.lab.blender.view import Limits, maps
from blendmask_lite.lab.canvas import Canvas
from blendmask_lite.lab.parts import bundle

__all__ = ["BlenderBoard"]


class BlenderBoard(Canvas):
    """A canvas that is also told what it needs to compute the masks; see static/blender.js."""

    _esm = bundle("equations.js", "canvas.js", "blender.js")
    lanes: List[Any] = List().tag(sync=True)
    numbers = Dict().tag(sync=True)  # float32 by lane, changed by strokes
    ground = Dict().tag(sync=True)
    brush = Dict().tag(sync=True)

    def tell_lanes(self, lanes: Sequence[Lane], limits: Sequence[Limits]) -> None:
        """Bases, sizes and colours, which change with the layout only."""
        self.lanes = [
            lane_problem(lane)
            | {
                "maps": maps(lane, own),
                "picture": f"picture{lane.suffix}",
                "basePanels": [] if lane.name else [f"base {k + 1}" for k in lane.shown()],
            }
            for lane, own in zip(lanes, limits, strict=True)
        ]

    def tell_numbers(self, lanes: Sequence[Lane]) -> None:
        """Raw attentions or coefficients, which the user paints."""
        self.numbers = {lane.name: lane.state.numbers.float().numpy().tobytes() for lane in lanes}

    def tell_ground(
        self, scene: Scene, network: Sequence[float | None], notes: Sequence[str]
    ) -> None:
        """The true objects, and for each the IoU of the network's own mask and a note."""
        height, width = scene.image_size
        self.ground = {
            "height": height,
            "width": width,
            "threshold": scene.mask_threshold,
            "truths": [
                {
                    "name": name,
                    "box": scene.true_boxes[index].tolist(),
                    "mask": scene.true_masks[index].contiguous().numpy().tobytes(),
                    "network": network[index],
                    "note": notes[index],
                }
                for index, name in enumerate(scene.true_names)
            ],
        }

    def close(self) -> None:
        """Remove the canvas from the page and drop bases, masks and pixels."""
        with self.hold_sync():
            self.lanes, self.numbers, self.ground = [], {}, {}
        super().close()
