"""Named scenes whose objects are hard to tell apart: one merger may fail where another works.

Chapter 10. All objects of a scene have the same surface, so only their shape tells them apart. The
placements are fixed; light, background, surface and noise depend on a seed.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from blendmask_lite.datasets.shapes.outlines import OUTLINES
from blendmask_lite.datasets.shapes.paint import Placement, rasterize
from blendmask_lite.datasets.shapes.scene import (
    PLAN_SIZE,
    SHAPE_CLASSES,
    Plan,
    Scene,
    ShapesConfig,
    draw_surface,
    paint_scene,
    uniform_from,
)

__all__ = ["HARD_CASES", "draw_hard_case"]


class Spot(NamedTuple):
    """The position of an object in a hard case; see `Placement`. The angle is in degrees."""

    shape: str
    x: float
    y: float
    scale: float
    angle: float = 0.0
    is_mirrored: bool = False


# The objects of each case are listed front to back.
HARD_CASES: MappingProxyType[str, tuple[Spot, ...]] = MappingProxyType(
    {
        "touching twins": (
            Spot("mug", 0.33, 0.5, 0.24),
            Spot("mug", 0.64, 0.5, 0.24, is_mirrored=True),
        ),
        "star in ring": (Spot("star", 0.5, 0.5, 0.13), Spot("ring", 0.5, 0.5, 0.28)),
        "overhang": (
            Spot("fish", 0.56, 0.3, 0.27, 12),
            Spot("fish", 0.42, 0.52, 0.27, -14, is_mirrored=True),
            Spot("fish", 0.58, 0.72, 0.27, 10),
        ),
        "crossing worms": (
            Spot("worm", 0.5, 0.55, 0.28, 20),
            Spot("worm", 0.46, 0.5, 0.28, -75),
        ),
        "three with one center": (
            Spot("star", 0.5, 0.5, 0.11),
            Spot("ring", 0.5, 0.5, 0.23),
            Spot("star", 0.5, 0.5, 0.34, 10),
        ),
    }
)


def draw_hard_case(name: str, *, seed: int = 0, size: int = PLAN_SIZE) -> Scene:
    """Draw one of the `HARD_CASES`.

    Args:
        name: name of the case.
        seed: determines the individuals, their surface, light, background and noise; at least 0.
        size: side of the image, pixels.

    Raises:
        ValueError: there is no such case.
    """
    if name not in HARD_CASES:
        raise ValueError(f"hard case {name!r}: the cases are {', '.join(HARD_CASES)}")
    number = list(HARD_CASES).index(name)  # a new case goes to the end, or others are drawn anew
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, number))))
    uniform = uniform_from(generator)
    surface = draw_surface(uniform)
    placements = [
        Placement(
            label=SHAPE_CLASSES.index(spot.shape),
            parts=OUTLINES[spot.shape](uniform),
            x=spot.x,
            y=spot.y,
            scale=spot.scale,
            angle=math.radians(spot.angle),
            is_mirrored=spot.is_mirrored,
            surface=surface,
            phase=uniform(0, 2 * math.pi),
        )
        for spot in HARD_CASES[name]
    ]
    plan = Plan(placements, [rasterize(placement, PLAN_SIZE) for placement in placements])
    return paint_scene(plan, generator, ShapesConfig(size=size))
