"""Painting of a generated scene: background, clutter, textures, light, shadows and noise.

Chapter 01.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from blendmask_lite.datasets.shapes.outlines import Array, Part, Uniform

__all__ = [
    "STUFF_CLASSES",
    "Light",
    "Placement",
    "Raster",
    "Surface",
    "add_noise",
    "draw_tone",
    "paint_background",
    "paint_object",
    "rasterize",
]

MARGIN = 0.05  # width around a raster, for shadow and blur; fraction of the image side
STUFF_CLASSES = ("sky", "wall", "water", "meadow")  # two for the upper half, two for the lower
RELIEF = 0.022  # radius of the rounded edges, share of the image side
SHADOW_LENGTH = 0.022
SHADOW_DEPTH = 0.5  # fraction of the light that a shadow takes away


@dataclass(frozen=True)
class Surface:
    """An object's surface: a texture of two colours (RGB, 0 to 1)."""

    texture: str
    colors: tuple[tuple[float, float, float], tuple[float, float, float]]
    frequency: float  # radians per half width of the object
    slant: float  # direction of the texture on the object, radians


@dataclass(frozen=True)
class Placement:
    """One object of a scene; lengths are fractions of the image side."""

    label: int
    parts: list[Part]  # polygons in the unit frame
    x: float  # position of the unit frame's origin
    y: float
    scale: float  # half the width of the unit frame
    angle: float  # clockwise, radians
    is_mirrored: bool  # whether left and right are swapped
    surface: Surface
    phase: float  # shifts the texture on the object


@dataclass(frozen=True)
class Raster:
    """A placement drawn alone, on the pixels around it; they may lie outside the image."""

    left: int  # position of the first pixel in the image
    top: int
    alpha: Array  # (h, w) covered share of each pixel, 0 to 1

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w) bool: pixels that are at least half covered."""
        return self.alpha >= 0.5

    def windows(self, size: int, *, shift: tuple[int, int] = (0, 0)) -> tuple[tuple, tuple]:
        """The overlap of the raster, moved by (down, right), with an image of `size`.

        Returns:
            Two pairs of slices: into the image and into the raster; empty if they do not overlap.
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
    """(h, w) brightness of the object's parts on the pixels of its raster; see `Part`."""
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
    """(P, 2) corners of all parts, one part after the other, in pixels of the image."""
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
    # Pillow's coordinates refer to pixel centers, ours to pixel edges.
    flat = (corners * np.float32(oversampling) - np.float32(0.5)).ravel().tolist()
    first = 0
    for part, fill in zip(placement.parts, fills, strict=True):
        last = first + part.points.size
        if fill is not None:
            draw.polygon(flat[first:last], fill=fill)
        first = last
    return np.asarray(image.reduce(oversampling), dtype=np.float32)


class Light:
    """The direction of a scene's light and the strength of its shading."""

    def __init__(self, uniform: Uniform) -> None:
        angle = uniform(-0.85, -0.15) * math.pi  # light comes from above; y points down
        self.x, self.y = math.cos(angle), math.sin(angle)
        self.strength = uniform(1.6, 2.6)


def paint_background(uniform: Uniform, size: int, light: Light) -> tuple[Array, NDArray[np.uint8]]:
    """Paint two stuff classes with a border between them, and clutter that is not annotated.

    Returns:
        (3, size, size) float32 canvas, 0 to 1, and (size, size) stuff labels.
    """
    x, y = _axes(size)
    upper, lower = int(uniform(0, 2)), 2 + int(uniform(0, 2))
    level, sway = uniform(0.3, 0.62), uniform(0.0, 0.05)
    border = level + sway * np.sin(uniform(2, 9) * x + uniform(0, 6))
    is_lower = y > border  # (size, size)
    # Rows from the first with a lower pixel to the last with an upper pixel have both classes.
    first_row = size - np.count_nonzero(is_lower.any(axis=1))
    end_row = size - np.count_nonzero(is_lower.all(axis=1))
    canvas = np.empty((3, size, size), dtype=np.float32)
    dark, bright = _stuff_colors(uniform)[..., None, None]
    above = _STUFF[STUFF_CLASSES[upper]](uniform, x, y[:end_row])
    canvas[:, :end_row] = dark + (bright - dark) * above
    dark, bright = _stuff_colors(uniform)[..., None, None]
    below = _STUFF[STUFF_CLASSES[lower]](uniform, x, y[first_row:])
    lower_part = dark + (bright - dark) * below
    np.copyto(canvas[:, first_row:], lower_part, where=is_lower[first_row:])
    # Light falls off across the image.
    canvas *= 1 + (0.25 * light.x) * (x - 0.5) + (0.25 * light.y) * (y - 0.5)
    _scatter_clutter(uniform, canvas, size)
    return canvas, np.where(is_lower, lower, upper).astype(np.uint8)


def paint_object(canvas: Array, placement: Placement, raster: Raster, light: Light) -> None:
    """Paint a placement and its shadow over the (3, size, size) canvas, in place."""
    size = canvas.shape[-1]
    radius = RELIEF * size
    cover = Image.fromarray((raster.alpha * 255).astype(np.uint8))
    relief = np.asarray(cover.filter(ImageFilter.BoxBlur(radius)), dtype=np.float32)
    relief = relief * np.float32(1 / 255)

    shift = (round(-light.y * SHADOW_LENGTH * size), round(-light.x * SHADOW_LENGTH * size))
    inside, own = raster.windows(size, shift=shift)
    canvas[:, *inside] *= 1 - SHADOW_DEPTH * relief[own]

    inside, own = raster.windows(size)
    slope = np.zeros_like(relief)  # towards the light
    slope[1:-1] -= (relief[2:] - relief[:-2]) * np.float32(light.y)
    slope[:, 1:-1] -= (relief[:, 2:] - relief[:, :-2]) * np.float32(light.x)
    shade = 0.64 + 0.4 * relief - (light.strength * 0.14 * radius) * slope
    tone = draw_tone(placement, raster, size)
    shade *= np.minimum(tone, 1)
    color = _skin(placement, raster, size)
    color *= shade
    color += (np.float32(0.97) - color) * np.maximum(tone - 1, 0)
    seen = canvas[:, *inside]
    seen += raster.alpha[own] * (color[:, *own] - seen)


def add_noise(canvas: Array, bits: np.random.BitGenerator, amplitude: float) -> NDArray[np.uint8]:
    """The canvas as (size, size, 3) bytes, with sensor noise of standard deviation `amplitude`.

    The noise is the difference of two random bytes, whose distribution is roughly bell-shaped. They
    come from the bit generator's raw words, because NumPy guarantees that their stream stays the
    same.
    """
    count = canvas.size
    words = bits.random_raw(-(-2 * count // 8))
    pairs = np.asarray(words, dtype="<u8").view(np.uint8)[: 2 * count].reshape(2, *canvas.shape)
    deviation = 255 / math.sqrt(6)  # standard deviation of the difference of two uniform bytes
    noise = np.subtract(*pairs, dtype=np.float32)
    noise *= np.float32(amplitude / deviation)
    noise += canvas * np.float32(255)
    levels = np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
    return levels.transpose(1, 2, 0)


def _skin(placement: Placement, raster: Raster, size: int) -> Array:
    """(3, h, w) colours of the texture, which is fixed to the object and turns with it."""
    surface, scale = placement.surface, placement.scale * size
    height, width = raster.alpha.shape
    x = (np.arange(width, dtype=np.float32) + (raster.left + 0.5 - placement.x * size)) / scale
    y = (np.arange(height, dtype=np.float32) + (raster.top + 0.5 - placement.y * size)) / scale
    angle = placement.angle + surface.slant
    cosine, sine = math.cos(angle) * surface.frequency, math.sin(angle) * surface.frequency
    u = np.float32(cosine) * x + (np.float32(sine) * y + np.float32(placement.phase))[:, None]
    v = np.float32(-sine) * x + (np.float32(cosine) * y)[:, None]
    first, second = np.array(surface.colors, dtype=np.float32)[..., None, None]
    return first + (second - first) * _pattern(surface.texture, u, v)


def _pattern(texture: str, u: Array, v: Array) -> Array:
    """(h, w) share of the second colour, 0 to 1."""
    if texture == "plain":
        return np.float32(0.15) + np.float32(0.1) * np.sin(u * np.float32(0.3))
    if texture == "stripes":
        wave = np.sin(u)
    elif texture == "dots":
        wave = np.sin(u) * np.sin(v) * 2 - np.float32(0.6)
    elif texture == "checks":
        wave = np.sin(u) * np.sin(v) * 2
    elif texture == "waves":
        wave = np.sin(u + np.float32(1.3) * np.sin(v * np.float32(0.8)))
    else:
        wave = np.sin(u + np.sin(v * np.float32(0.7)) * 2) + np.sin(v - u * np.float32(0.4))
        return np.clip(wave * np.float32(0.25) + np.float32(0.5), 0, 1)
    return np.clip(wave * np.float32(2.5) + np.float32(0.5), 0, 1)


def _sky(uniform: Uniform, x: Array, y: Array) -> Array:
    bend = np.float32(uniform(1, 3))
    clouds = np.sin(uniform(5, 9) * x + bend * np.sin(9 * y)) * np.sin(uniform(12, 20) * y + 2 * x)
    return np.clip(clouds, 0, 1) * np.float32(0.6) + y * np.float32(0.4)


def _wall(uniform: Uniform, x: Array, y: Array) -> Array:
    course = np.float32(uniform(0.06, 0.11))
    row = np.floor(y / course)
    along = x / (course * np.float32(2.2)) + row * np.float32(0.5)
    brick = along - np.floor(along)
    is_joint = (y / course - row < np.float32(0.13)) | (brick < np.float32(0.07))
    tint = np.sin(np.floor(along) * np.float32(12.9) + row * np.float32(78.2))
    return np.where(is_joint, np.float32(1), np.float32(0.25) + np.float32(0.25) * tint)


def _water(uniform: Uniform, x: Array, y: Array) -> Array:
    wave = np.sin(uniform(45, 70) * y + 2 * np.sin(uniform(7, 12) * x + uniform(3, 8) * y))
    return np.clip(wave * np.float32(0.5) + np.float32(0.3), 0, 1)


def _meadow(uniform: Uniform, x: Array, y: Array) -> Array:
    # Blades in rows that overlap like tiles: bright tips, dark roots.
    height = np.float32(uniform(0.07, 0.11))
    sway = np.sin(uniform(60, 85) * x + uniform(0, 6)) + np.sin(uniform(100, 130) * x)
    row = y / height + sway * np.float32(0.22)
    return np.clip(np.float32(1.05) - (row - np.floor(row)), 0, 1)


_STUFF = {"sky": _sky, "wall": _wall, "water": _water, "meadow": _meadow}


def _axes(size: int) -> tuple[Array, Array]:
    """(1, size) and (size, 1) pixel centers, 0 to 1."""
    centers = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return centers[None, :], centers[:, None]


def _stuff_colors(uniform: Uniform) -> Array:
    """(2, 3) a dark and a bright colour for a stuff class, similar to each other."""
    hue, saturation, value = uniform(0, 1), uniform(0.12, 0.5), uniform(0.3, 0.65)
    second_hue = (hue + uniform(-0.1, 0.1)) % 1
    dark = colorsys.hsv_to_rgb(hue, saturation, value)
    bright = colorsys.hsv_to_rgb(second_hue, saturation * 0.8, value + uniform(0.1, 0.24))
    return np.array([dark, bright], dtype=np.float32)


def _scatter_clutter(uniform: Uniform, canvas: Array, size: int) -> None:
    """Draw semi-transparent twigs, pebbles and shards over the background, in place."""
    side = size * 2
    cover, color = Image.new("L", (side, side), 0), Image.new("RGB", (side, side), (128, 128, 128))
    draws = (ImageDraw.Draw(cover), ImageDraw.Draw(color))
    for _ in range(5 + int(uniform(0, 8))):
        red, green, blue = colorsys.hsv_to_rgb(
            uniform(0, 1), uniform(0.1, 0.6), uniform(0.25, 0.95)
        )
        fills: tuple[int | tuple[int, int, int], ...] = (
            round(uniform(120, 230)),
            (round(255 * red), round(255 * green), round(255 * blue)),
        )
        x, y, reach = uniform(0, side), uniform(0, side), uniform(0.012, 0.05) * side
        corners = [(x + uniform(-1, 1) * reach, y + uniform(-1, 1) * reach) for _ in range(4)]
        kind = int(uniform(0, 3))
        for draw, fill in zip(draws, fills, strict=True):
            if kind == 0:
                draw.line(corners[:3], fill, round(0.012 * side))
            elif kind == 1:
                draw.ellipse((x - reach, y - reach * 0.7, x + reach, y + reach * 0.7), fill)
            else:
                draw.polygon(corners, fill)
    alpha = np.asarray(cover.reduce(2), dtype=np.float32) * np.float32(1 / 255)
    pixels = np.ascontiguousarray(np.asarray(color.reduce(2)).transpose(2, 0, 1))
    difference = pixels * np.float32(1 / 255)
    difference -= canvas
    difference *= alpha
    canvas += difference
