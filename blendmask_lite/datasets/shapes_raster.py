"""An object of a generated scene, and its picture on the pixels around it.

Chapter 01 of the course. Polygons are drawn several times as large and then averaged, so that
edges are smooth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blendmask_lite.datasets.shapes_outlines import Array, Part

__all__ = ["Placement", "Raster", "Surface", "draw_tone", "rasterize"]

MARGIN = 0.05  # around a raster, for shadow and blur; share of the image side


@dataclass(frozen=True)
class Surface:
    """What an object's skin looks like: two colours (RGB, 0 to 1) in a texture."""

    texture: str
    colors: tuple[tuple[float, float, float], tuple[float, float, float]]
    frequency: float  # radians per half width of the object
    slant: float  # direction of the texture on the object, radians


@dataclass(frozen=True)
class Placement:
    """One object of a scene; lengths are shares of the image side.

    Attributes:
        label: index of its class.
        parts: polygons in the unit frame.
        x, y: where the unit frame's origin goes.
        scale: half the width of the unit frame.
        angle: clockwise, radians.
        is_mirrored: left and right exchanged.
        surface: its skin.
        phase: shifts the texture on the object.
    """

    label: int
    parts: list[Part]
    x: float
    y: float
    scale: float
    angle: float
    is_mirrored: bool
    surface: Surface
    phase: float


@dataclass(frozen=True)
class Raster:
    """A placement drawn alone, on the pixels around it; they may lie outside of the image.

    Attributes:
        left, top: of the first pixel.
        alpha: (h, w) covered share of each pixel, 0 to 1.
    """

    left: int
    top: int
    alpha: Array

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w) pixels that are covered by half or more."""
        return self.alpha >= 0.5

    def windows(self, size: int, *, shift: tuple[int, int] = (0, 0)) -> tuple[tuple, tuple]:
        """Where the raster, moved by (down, right), and an image of `size` meet.

        Returns:
            Two pairs of slices: into the image and into the raster; empty where they do not meet.
        """
        height, width = self.alpha.shape
        inside, own = [], []
        for start, length in ((self.top + shift[0], height), (self.left + shift[1], width)):
            first, last = max(start, 0), max(min(start + length, size), 0)
            inside.append(slice(first, max(last, first)))
            own.append(slice(first - start, max(last, first) - start))
        return (inside[0], inside[1]), (own[0], own[1])


def rasterize(placement: Placement, size: int) -> Raster:
    """Draw a placement alone, for an image of `size` x `size` pixels."""
    corners = _corners(placement, size)
    margin = math.ceil(MARGIN * size)
    left, top = (math.floor(low) - margin for low in corners.min(axis=0).tolist())
    right, bottom = (math.ceil(high) + margin for high in corners.max(axis=0).tolist())
    fills = [{"solid": 255, "hole": 0, "detail": None}[part.kind] for part in placement.parts]
    alpha = _draw_parts(placement, fills, 0, (left, top, right, bottom), size)
    alpha *= np.float32(1 / 255)
    return Raster(left=left, top=top, alpha=alpha)


def draw_tone(placement: Placement, raster: Raster, size: int) -> Array:
    """(h, w) brightness of the object's parts on the pixels of its raster, see `Part`."""
    if all(part.tone == 1 for part in placement.parts):
        return np.ones_like(raster.alpha)
    height, width = raster.alpha.shape
    box = (raster.left, raster.top, raster.left + width, raster.top + height)
    fills = [
        None if part.kind == "hole" else min(round(part.tone * 128), 255)
        for part in placement.parts
    ]
    tone = _draw_parts(placement, fills, 128, box, size)
    tone *= np.float32(1 / 128)
    return tone


def _corners(placement: Placement, size: int) -> Array:
    """(P, 2) corners of all parts, one part after the other, in the image, pixels."""
    scale = placement.scale * size
    cosine, sine = math.cos(placement.angle) * scale, math.sin(placement.angle) * scale
    mirror = -1.0 if placement.is_mirrored else 1.0
    turn = np.array([[cosine * mirror, sine * mirror], [-sine, cosine]], dtype=np.float32)
    center = np.array([placement.x * size, placement.y * size], dtype=np.float32)
    return np.concatenate([part.points for part in placement.parts]) @ turn + center


def _draw_parts(
    placement: Placement,
    fills: list[int | None],
    ground: int,
    box: tuple[int, int, int, int],
    size: int,
) -> Array:
    """Fill the parts one after the other on the pixels of `box`, 0 to 255; None leaves one out."""
    left, top, right, bottom = box
    oversampling = 3 if size < 256 else 2
    image = Image.new("L", ((right - left) * oversampling, (bottom - top) * oversampling), ground)
    draw = ImageDraw.Draw(image)
    corners = _corners(placement, size) - np.array([left, top], dtype=np.float32)
    # Pillow's corners are pixel centers, ours pixel edges.
    flat = (corners * np.float32(oversampling) - np.float32(0.5)).ravel().tolist()
    first = 0
    for part, fill in zip(placement.parts, fills, strict=True):
        last = first + part.points.size
        if fill is not None:
            draw.polygon(flat[first:last], fill=fill)
        first = last
    return np.asarray(image.reduce(oversampling), dtype=np.float32)
