"""What the Blender lab displays: panels, pixels, bars, and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.figures.style import (
    PALETTE,
    base_color,
    largest_magnitude,
    weight_colormap,
)
from blendmask_lite.lab.blender.scene import Blend, Scene, attention_cells, base_pixels
from blendmask_lite.lab.blender.state import BlenderState
from blendmask_lite.lab.canvas import (
    MASK_LAYER,
    SHADES,
    Bar,
    Bars,
    Group,
    Mark,
    Overlay,
    Panel,
    as_cells,
    palette,
    png_panel,
)

__all__ = [
    "Limits",
    "base_cells",
    "columns",
    "iou_bars",
    "marks",
    "mask_overlay",
    "palettes",
    "pixels",
    "spoken",
    "weight_bars",
]


MOST_BARS = 8
PICTURE_SIZE, MASK_SIZE = 330, 220  # CSS pixels
SHARE = 0.995  # of the bases' values that the colours distinguish; a few values are far larger


def weight_bars(
    state: BlenderState,
    result: Blend,
    span: float,
    cell: tuple[int, int] | None,
    marks: Mapping[str, Sequence[Mark]],
) -> Bars:
    """The K weights at a cell (x, y) of the mask, and the values that they multiply.

    Args:
        state: the lab's state.
        result: what follows from it.
        span: end of the bars' scale.
        cell: the cell; if None, a hint asks the user to point at one.
        marks: the cell's marks, by panel.
    """
    if cell is None:
        return Bars("Point at a cell of the mask, or into the box, to see where it comes from.")
    x, y = cell
    logit = float(result.logits[y, x])
    scores, values = result.scores[:, y, x], result.crops[:, y, x]
    shown = (scores * values).abs().topk(min(MOST_BARS, len(scores))).indices.sort().values
    bars = [
        Bar(f"base {k + 1}", float(scores[k]), f"{scores[k]:.2f} · {values[k]:+.1f}", base_color(k))
        for k in shown.tolist()
    ]
    rest = "" if len(bars) == len(scores) else f" (the largest {len(bars)} of {len(scores)})"
    probability = float(result.logits[y, x].sigmoid())
    return Bars(
        f"Column {x + 1}, row {y + 1}: logit {logit:+.2f}, probability {probability:.2f}\n"
        f"{_sources(marks)}Weight · crop of every base{rest}:",
        tuple(bars),
        low=-span if state.merger == "weighted_sum" else 0,
        high=span,
    )


def _sources(marks: Mapping[str, Sequence[Mark]]) -> str:
    """The interpolation weights of the cell, the largest first."""
    lines = ""
    for key, name in (("attention 1", "attention cells"), ("base 1", "base pixels")):
        weights = sorted((mark.weight or 0 for mark in marks.get(key, ())), reverse=True)
        if weights:
            lines += f"{len(weights)} {name}: {' + '.join(f'{w:.2f}' for w in weights)}\n"
    return lines


def iou_bars(name: str, yours: float | None, network: float | None, best: float | None) -> Bars:
    """IoU of three masks with the true object, in pixels of the image.

    Args:
        name: the true object's name.
        yours: IoU of the current mask; None if there is no true object.
        network: IoU of the network's own mask.
        best: IoU with the best numbers found for the current box and bases; None if not known yet.
    """
    if yours is None or network is None:
        return Bars("IoU: there is no true object under the box.")
    gain = yours - network
    verdict = "the network's own" if abs(gain) < 0.005 else f"{gain:+.2f} against the network"
    rows = [("yours", yours, PALETTE[0]), ("network", network, "#999999")]
    bars = [Bar(label, value, f"{value:.2f}", color) for label, value, color in rows]
    text = "…" if best is None else f"{best:.2f}"
    bars.append(Bar("best found", best or 0.0, text, PALETTE[3]))
    return Bars(f"IoU with the true {name}: {verdict}", tuple(bars))


def spoken(box: Sequence[float], iou: float | None) -> str:
    """What a screen reader says after a change."""
    x0, y0, x1, y1 = (round(side) for side in box)
    place = f"box from {x0}, {y0} to {x1}, {y1}"
    return place if iou is None else f"{place}; IoU {iou:.2f}"


class Limits:
    """The ends of the colour scales, which rarely change, so that maps can be compared.

    Args:
        scene: its bases give the scale of crops and products.
        state: its numbers give the scale of attentions and scores.
        least: the end of the attentions' scale is at least this, raw.
    """

    def __init__(self, scene: Scene, state: BlenderState, *, least: float) -> None:
        magnitudes = scene.bases[: state.num_used].abs().flatten()
        self.bases = float(magnitudes.kthvalue(math.ceil(SHARE * len(magnitudes))).values) or 1.0
        self.attentions = float(math.ceil(max(least, largest_magnitude(state.numbers))))
        self.scores = 1.0
        if state.merger == "weighted_sum":
            self.scores = float(math.ceil(largest_magnitude(state.coefficients)))
        self.products = self.bases * self.scores


def palettes() -> dict[str, bytes]:
    """The colours of all maps of the lab."""
    weights = {f"weight {index}": palette(weight_colormap(index)) for index in range(len(PALETTE))}
    return {**SHADES, "mask": MASK_LAYER, **weights}


def columns(scene: Scene, state: BlenderState, limits: Limits) -> list[list[Group]]:
    """The panels: the image, the equations from top to bottom, and the mask."""
    R, M = state.mask_size, state.attention_size
    picture = png_panel(
        "picture",
        "The image with the box, the mask as a green layer and the true outline in white",
        scene.image_size,
        PICTURE_SIZE,
        acts=("box", "hover"),
        overlay="mask",
    )
    mask = Panel(
        "mask",
        f"The mask of {R} by {R} cells, probabilities from 0 (white) to 1 (black)",
        R,
        R,
        size=MASK_SIZE,
        palette="grey",
        is_live=True,
        acts=("hover",),
    )
    left = [
        Group("Image and box", (picture,), "drag, resize, or draw a new one"),
        Group("", bars="iou"),
    ]
    right = [Group("Mask m", (mask,), f"{R} × {R} probabilities"), Group("", bars="weights")]
    b, p = f"±{limits.bases:.3g}", f"±{limits.products:.3g}"
    signs = "red positive, blue negative"
    h, w = scene.bases.shape[-2:]
    s = f"±{limits.scores:.3g}" if state.merger == "weighted_sum" else "0 to 1"
    middle = [
        _row(scene, state, "base", "Bases B", f"{b} logits, {signs}", (w, h)),
        _row(scene, state, "crop", "Crops r", f"equation 1, {R} × {R}, {b}", (R, R)),
        _row(scene, state, "score", "Scores s", f"equations 2 and 3, {s}", (R, R)),
        _row(scene, state, "product", "Products r · s", f"equation 4 adds them, {p}", (R, R)),
    ]
    a = f"±{limits.attentions:.0f} raw, {signs}"
    if state.merger == "blender":
        middle.insert(2, _row(scene, state, "attention", "Attentions a", f"paint! {a}", (M, M)))
    elif state.merger == "weighted_sum":
        middle.insert(2, _row(scene, state, "attention", "Coefficients", f"paint! {a}", (1, 1)))
    return [left, middle, right]


def _row(
    scene: Scene, state: BlenderState, kind: str, title: str, note: str, size: tuple[int, int]
) -> Group:
    """One panel per base."""
    num = state.num_used
    side = 84 if num <= 4 else 72 if num <= 8 else 48
    acts = {"base": ("show box",), "attention": ("paint",)}.get(kind, ())
    is_weight = kind == "score" and state.merger != "weighted_sum"
    panels = [
        Panel(
            f"{kind} {k + 1}",
            f"{title} of base {k + 1}",
            *size,
            title=f"base {k + 1}" if kind == "base" else "",
            color=base_color(k),
            size=side,
            unit=scene.stride if kind == "base" else 1,
            palette=f"weight {k % len(PALETTE)}" if is_weight else "signed",
            is_live=kind != "base",
            acts=acts,  # type: ignore[arg-type]
        )
        for k in range(num)
    ]
    return Group(title, tuple(panels), note)


def pixels(state: BlenderState, result: Blend, limits: Limits) -> dict[str, bytes]:
    """The live panels' cells."""
    maps: dict[str, tuple[Tensor, float, float]] = {}
    low = -limits.scores if state.merger == "weighted_sum" else 0.0
    for k in range(state.num_used):
        maps[f"crop {k + 1}"] = result.crops[k], -limits.bases, limits.bases
        maps[f"score {k + 1}"] = result.scores[k], low, limits.scores
        maps[f"product {k + 1}"] = result.products[k], -limits.products, limits.products
        if state.merger != "assembler":
            numbers = state.numbers.unflatten(1, (state.num_bases, -1))[0, k]
            maps[f"attention {k + 1}"] = numbers, -limits.attentions, limits.attentions
    maps["mask"] = result.logits.sigmoid(), 0.0, 1.0
    return {key: as_cells(*scaled) for key, scaled in maps.items()}


def base_cells(scene: Scene, state: BlenderState, limits: Limits) -> dict[str, bytes]:
    """The cells of the bases, which do not depend on the box."""
    used, limit = scene.bases[: state.num_used], limits.bases
    return {f"base {k}": as_cells(base, -limit, limit) for k, base in enumerate(used, start=1)}


def mask_overlay(mask: Tensor, truth: Tensor | None) -> Overlay:
    """The layer above the image: 1 the mask, 2 its border, 3 the true outline."""
    layer = mask.to(torch.uint8) + _border(mask).to(torch.uint8)
    if truth is not None:
        layer[_border(truth)] = 3
    rows, lines = layer.any(dim=1).nonzero()[:, 0], layer.any(dim=0).nonzero()[:, 0]
    if len(rows) == 0:
        return Overlay(0, 0, 0, 0, b"")
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    x0, x1 = int(lines[0]), int(lines[-1]) + 1
    part = layer[y0:y1, x0:x1].contiguous()
    return Overlay(x0, y0, x1 - x0, y1 - y0, part.numpy().tobytes())


def _border(mask: Tensor) -> Tensor:
    """The mask's pixels that have a neighbour outside it: left, right, above or below."""
    around = F.pad(mask, (1, 1, 1, 1))
    inside = around[2:, 1:-1] & around[:-2, 1:-1] & around[1:-1, 2:] & around[1:-1, :-2]
    return mask & ~inside


def marks(scene: Scene, state: BlenderState, cell: tuple[int, int] | None) -> dict[str, list[Mark]]:
    """Where a cell (x, y) of the mask comes from: its interpolation weights on all panels."""
    if cell is None:
        return {}
    x, y = cell
    x0, y0, x1, y1 = state.box
    width, height = (x1 - x0) / state.mask_size, (y1 - y0) / state.mask_size
    found = {
        "mask": [Mark(x, y)],
        "picture": [Mark(x0 + x * width, y0 + y * height, width, height)],
    }
    sources = base_pixels(scene.bases, state, x, y, stride=scene.stride)
    cells = _weighed(attention_cells(state, x, y))
    for k in range(state.num_used):
        for kind in ("crop", "score", "product"):
            found[f"{kind} {k + 1}"] = [Mark(x, y)]
        found[f"base {k + 1}"] = _weighed(sources[k])
        if state.merger != "assembler":
            found[f"attention {k + 1}"] = cells
    return found


def _weighed(weights: Tensor) -> list[Mark]:
    places = (weights > 0.005).nonzero().tolist()
    return [Mark(x, y, weight=round(float(weights[y, x]), 4)) for y, x in places]
