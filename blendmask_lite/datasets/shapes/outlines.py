"""The eight silhouettes of the shapes data set, as polygons in a unit frame.

Chapter 01 of the course. Each class has a function that draws one individual, with random
proportions and joints, so no two are equal. Some have holes, some consist of separate pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["OUTLINES", "Array", "Part", "Uniform"]

Array = NDArray[np.float32]
Uniform = Callable[[float, float], float]  # (low, high) -> a random number between them

WHITE, BLACK = 1.9, 0.12  # tones of an eye and its pupil


@dataclass(frozen=True)
class Part:
    """One polygon of an individual; parts are drawn in order, later ones over earlier ones.

    In the unit frame, x points right and y down, and the body lies within about -1 to 1.
    """

    points: Array  # (P, 2) corners (x, y) in the unit frame
    tone: float = 1.0  # brightness of its colour: 0 is black, 1 the object's own colour, 2 white
    kind: Literal["solid", "hole", "detail"] = "solid"  # mask, hole in the mask, only painted


def _star(uniform: Uniform) -> list[Part]:
    num_tips = 5 + int(uniform(0, 2))
    inner = uniform(0.40, 0.55)
    angle = np.arange(2 * num_tips) * (math.pi / num_tips) - math.pi / 2
    radius = np.where(np.arange(2 * num_tips) % 2 == 0, 1.0, inner)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return [Part(points.astype(np.float32))]


def _ring(uniform: Uniform) -> list[Part]:
    flat, inner = uniform(0.8, 1.0), uniform(0.48, 0.62)
    hole = _ellipse(0, 0, inner, inner * flat, num=36)
    return [Part(_ellipse(0, 0, 1, flat, num=40)), Part(hole, kind="hole")]


def _moon(uniform: Uniform) -> list[Part]:
    opening, depth = uniform(0.55, 0.8), uniform(0.25, 0.55)
    outer = np.linspace(opening, 2 * math.pi - opening, 30)
    tip_x, tip_y = math.cos(opening), math.sin(opening)
    inner = np.linspace(1, -1, 20)
    # The inner edge bulges from tip to tip, away from the opening.
    inner_x = tip_x - (tip_x + depth) * (1 - inner**2)
    x = np.concatenate([np.cos(outer), inner_x[::-1][1:-1]]) + 0.25
    y = np.concatenate([np.sin(outer), (inner * tip_y)[::-1][1:-1]])
    return [Part(np.stack([x, y], axis=1).astype(np.float32))]


def _fish(uniform: Uniform) -> list[Part]:
    bend, height = uniform(-0.5, 0.5), uniform(0.38, 0.52)
    along = np.linspace(-1, 1, 16)
    belly = height * np.sqrt(np.maximum(1 - along**2, 0)) * (1 - 0.25 * along)
    body_x = along * 0.72 - 0.25
    body = np.concatenate(
        [np.stack([body_x, -belly], 1), np.stack([body_x, belly * 0.9], 1)[::-1][1:-1]]
    )
    spread = uniform(0.42, 0.62)
    tail = [(0.3, -0.1), (0.98, -spread), (0.8, 0.0), (0.98, spread), (0.3, 0.1)]
    fin = [(-0.45, -height * 0.8), (-0.1, -height - 0.33), (0.25, -height * 0.55)]
    flipper = [(-0.25, 0.1), (0.12, 0.38), (0.05, 0.02)]
    parts = [
        Part(_polygon(tail), 0.85),
        Part(_polygon(fin), 0.8),
        Part(body.astype(np.float32)),
        Part(_polygon(flipper), 0.72, "detail"),
        *_eye(-0.68, -0.1, 0.12),
    ]
    return [_bent(part, bend) for part in parts]


def _critter(uniform: Uniform) -> list[Part]:
    parts = []
    # A tail, four legs of two bones each, then body, ears and head.
    tail_up = uniform(-0.9, 0.3)
    tail = [(0.45, 0.0), (0.75, tail_up * 0.5 - 0.1), (0.95, tail_up - 0.1)]
    parts.append(Part(_limb(tail, [0.11, 0.08, 0.05]), 0.9))
    for hip_x, tone in ((-0.38, 0.78), (0.42, 0.78), (-0.22, 0.95), (0.3, 0.95)):
        swing, knee = uniform(-0.32, 0.32), uniform(-0.2, 0.2)
        leg = [(hip_x, 0.1), (hip_x + swing * 0.6, 0.5), (hip_x + swing + knee, 0.88)]
        parts.append(Part(_limb(leg, [0.14, 0.1, 0.09]), tone))
    parts.append(Part(_ellipse(0.05, 0.02, uniform(0.52, 0.6), uniform(0.27, 0.36))))
    nod, radius = uniform(-0.45, -0.15), uniform(0.25, 0.31)
    head_x = -0.62
    for side in (-1, 1):
        ear = [
            (head_x + side * 0.2 - 0.1, nod - 0.12),
            (head_x + side * 0.2, nod - radius - 0.2),
            (head_x + side * 0.2 + 0.1, nod - 0.12),
        ]
        parts.append(Part(_polygon(ear), 0.8))
    parts.append(Part(_ellipse(head_x, nod, radius, radius * 0.9), 1.06))
    parts += _eye(head_x - 0.08, nod - 0.04, 0.085)
    return parts


def _worm(uniform: Uniform) -> list[Part]:
    along = np.linspace(0, 1, 22)
    wave, turns, phase = uniform(0.3, 0.5), uniform(0.75, 1.25), uniform(0, 2 * math.pi)
    x = along * 1.8 - 0.9
    y = wave * np.sin(2 * math.pi * turns * along + phase)
    y -= y.mean()
    width = uniform(0.17, 0.22) * (1 - 0.55 * along**2)
    body = _limb(np.stack([x, y], axis=1), width)
    head = _ellipse(x[0], y[0], width[0] * 1.3, width[0] * 1.25)
    return [Part(body), Part(head, 1.06), *_eye(x[0] - 0.06, y[0] - 0.06, 0.085)]


def _mug(uniform: Uniform) -> list[Part]:
    top, bottom, height = uniform(0.5, 0.62), uniform(0.4, 0.56), uniform(0.68, 0.85)
    grip = uniform(0.4, 0.5)
    middle = top - 0.02
    wall = [(-top, -height), (top, -height), (bottom, height * 0.86), (bottom - 0.12, height)]
    wall += [(-bottom + 0.12, height), (-bottom, height * 0.86)]
    parts = [
        Part(_ellipse(middle, -0.05, grip, grip * 1.1), 0.85),
        Part(_ellipse(middle, -0.05, grip - 0.2, grip * 1.1 - 0.2), kind="hole"),
        Part(_polygon(wall)),
        Part(_ellipse(0, -height, top, 0.17)),
        Part(_ellipse(0, -height, top - 0.09, 0.1), 0.4, "detail"),
    ]
    to_center = np.array([0.2, 0.0], dtype=np.float32)
    return [Part(part.points - to_center, part.tone, part.kind) for part in parts]


def _paw(uniform: Uniform) -> list[Part]:
    # A pad and four toes that do not touch: an object in five pieces.
    width, height = uniform(0.62, 0.72), uniform(0.46, 0.52)
    parts = [Part(_ellipse(0, 0.4, width, height))]
    for x, y in ((-0.74, -0.18), (-0.27, -0.5), (0.27, -0.5), (0.74, -0.18)):
        radius = uniform(0.2, 0.235)
        parts.append(Part(_ellipse(x, y, radius, radius * 1.4, angle=x * 0.6)))
    return parts


OUTLINES: MappingProxyType[str, Callable[[Uniform], list[Part]]] = MappingProxyType(
    {
        "star": _star,
        "ring": _ring,
        "moon": _moon,
        "fish": _fish,
        "critter": _critter,
        "worm": _worm,
        "mug": _mug,
        "paw": _paw,
    }
)


def _ellipse(
    x: float, y: float, radius_x: float, radius_y: float, *, angle: float = 0.0, num: int = 24
) -> Array:
    """(num, 2) corners around a center, turned by `angle` radians."""
    circle_x, circle_y = _circle(num)
    across, down = radius_x * circle_x, radius_y * circle_y
    if angle:
        cosine, sine = math.cos(angle), math.sin(angle)
        across, down = cosine * across - sine * down, sine * across + cosine * down
    points = np.empty((num, 2), dtype=np.float32)
    points[:, 0], points[:, 1] = x + across, y + down
    return points


@lru_cache
def _circle(num: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(num,) cosines and (num,) sines of equally spaced angles around the circle."""
    around = np.arange(num) * (2 * math.pi / num)
    return np.cos(around), np.sin(around)


def _polygon(points: list[tuple[float, float]]) -> Array:
    return np.array(points, dtype=np.float32)


def _limb(
    line: list[tuple[float, float]] | NDArray[np.float64], half_widths: list[float] | NDArray
) -> Array:
    """The outline of a thick line with blunt ends, with a half width for every point."""
    center = np.asarray(line, dtype=np.float64)
    width = np.asarray(half_widths, dtype=np.float64)[:, None]
    along = np.empty_like(center)
    along[1:-1] = center[2:] - center[:-2]
    along[0], along[-1] = center[1] - center[0], center[-1] - center[-2]
    along /= np.hypot(along[:, 0], along[:, 1])[:, None]
    normal = along[:, ::-1] * width
    normal[:, 0] *= -1
    tip = center[-1:] + along[-1:] * width[-1]
    points = np.concatenate([center + normal, tip, (center - normal)[::-1]])
    return points.astype(np.float32)


def _eye(x: float, y: float, radius: float) -> list[Part]:
    return [
        Part(_ellipse(x, y, radius, radius, num=14), WHITE, "detail"),
        Part(_ellipse(x - 0.02, y, radius * 0.55, radius * 0.55, num=10), BLACK, "detail"),
    ]


def _bent(part: Part, bend: float) -> Part:
    """The part, bent so that its straight spine becomes a parabola."""
    points = part.points.copy()
    points[:, 1] += np.float32(bend) * (points[:, 0] ** 2 - np.float32(0.35))
    return Part(points, part.tone, part.kind)
