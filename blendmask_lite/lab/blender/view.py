"""The display of the Blender lab: panels, pixels, bars, and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.figures.style import (
    PALETTE,
    base_color,
    largest_magnitude,
    weight_colormap,
)
from blendmask_lite.lab.blender.lanes import Lane
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
    "equation_rows",
    "iou_bars",
    "maps",
    "marks",
    "mask_overlay",
    "palettes",
    "pixels",
    "side_by_side",
    "spoken",
    "weight_bars",
]


MOST_BARS = 8
MOST_LINES = 4  # lines above the bars of a cell
PICTURE_SIZE, SUM_SIZE, MASK_SIZE = 300, 170, 170  # CSS pixels
LANE_SIZE, LANE_SIDE = 266, 56  # sizes of a picture and of a map in a lane next to others
MOST_JOINED = 8  # panels in a row with signs between them
SIGNS = "red positive, blue negative"
SHARE = 0.995  # share of the values that the colours distinguish; a few values are far larger


def weight_bars(
    state: BlenderState,
    result: Blend,
    span: float,
    cell: tuple[int, int] | None,
    marks: Mapping[str, Sequence[Mark]],
) -> Bars:
    """The K scores at a cell (x, y) of the mask, and the values that they multiply.

    Args:
        state: the lab's state.
        result: the result of the state.
        span: end of the bars' scale.
        cell: the cell; if None, a hint asks the user to point at one.
        marks: the cell's marks, by panel.
    """
    if cell is None:
        names = range(min(MOST_BARS, len(result.scores)))
        waiting = tuple(Bar(f"base {k + 1}", 0, "–", base_color(k)) for k in names)
        hint = "Point at a cell of the mask, or into the box, to see where it comes from."
        return Bars(hint, waiting, lines=MOST_LINES)
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
        f"Column {x + 1}, row {y + 1}: Σ = {logit:+.2f}, mask σ(Σ) = {probability:.2f}\n"
        f"{_sources(marks)}Score s · crop r of every base{rest}:",
        tuple(bars),
        low=-span if state.merger == "weighted_sum" else 0,
        high=span,
        lines=MOST_LINES,
    )


def _sources(marks: Mapping[str, Sequence[Mark]]) -> str:
    """The interpolation weights of the cell, the largest first."""
    lines = ""
    for key, name, cells in (("attention 1", "Attention", "cells"), ("base 1", "Bases", "pixels")):
        weighed = [mark.weight for mark in marks.get(key, ()) if mark.weight is not None]
        weights = sorted(weighed, reverse=True)
        if weights:
            sum_ = " + ".join(f"{weight:.2f}" for weight in weights)
            lines += f"{name}: {sum_} of {len(weights)} {cells}\n"
    return lines


def iou_bars(
    name: str, yours: float | None, network: float | None, best: float | None, *, note: str = ""
) -> Bars:
    """IoU of three masks with the true object, in pixels of the image.

    Args:
        name: the true object's name.
        yours: IoU of the current mask; None if there is no true object.
        network: IoU of the network's own mask of this object; None if it has none.
        best: IoU with the best numbers found for the current box and bases; None if not known yet.
        note: a further line above the bars.
    """
    if yours is None:
        title, network, waiting = "IoU: there is no true object under the box.", None, "–"
    else:
        title, waiting = f"IoU with the true {name}\n{_verdict(yours, network)}\n{note}", "…"
    rows = (
        ("yours", yours, "–", PALETTE[0]),
        ("network", network, "–", "#999999"),
        ("best found", best, waiting, PALETTE[3]),
    )
    bars = [
        Bar(label, value or 0.0, none if value is None else f"{value:.2f}", color)
        for label, value, none, color in rows
    ]
    return Bars(title, tuple(bars), lines=3)


def _verdict(yours: float, network: float | None) -> str:
    if network is None:
        return "The network found no mask of it."
    gain = yours - network
    return "The network's own mask." if abs(gain) < 0.005 else f"{gain:+.2f} against the network"


def spoken(box: Sequence[float], iou: float | None) -> str:
    """The words of a screen reader after a change."""
    x0, y0, x1, y1 = (round(side) for side in box)
    place = f"box from {x0}, {y0} to {x1}, {y1}"
    return place if iou is None else f"{place}; IoU {iou:.2f}"


class Limits:
    """The ends of the colour scales, which rarely change, so that maps can be compared.

    Args:
        lane: the lane whose bases give the scale of crops, and whose numbers give the scale of
            attentions and scores. The sums of the network's own numbers over its own box give the
            scale of products and sums.
        least: smallest end of the attentions' scale, raw.
    """

    def __init__(self, lane: Lane, *, least: float) -> None:
        state = lane.state
        self.bases = _span(lane.scene.bases[: state.num_used])
        self.attentions = float(math.ceil(max(least, largest_magnitude(state.attentions))))
        self.scores = 1.0
        if state.merger == "weighted_sum":
            coefficients = state.coefficients.tanh() if state.has_tanh else state.coefficients
            self.scores = float(math.ceil(largest_magnitude(coefficients)))
            self.attentions = float(math.ceil(largest_magnitude(state.coefficients)))
        self.sums = _span(lane.blend(lane.own_like_state).logits)


def _span(values: Tensor) -> float:
    """The magnitude that nearly all values stay within, to two digits."""
    magnitudes = values.abs().flatten()
    span = float(magnitudes.kthvalue(math.ceil(SHARE * len(magnitudes))).values)
    return float(f"{span:.2g}") or 1.0


def palettes() -> dict[str, bytes]:
    """The colours of all maps of the lab."""
    weights = {f"weight {index}": palette(weight_colormap(index)) for index in range(len(PALETTE))}
    return {**SHADES, "mask": MASK_LAYER, **weights}


def columns(lane: Lane, limits: Limits) -> list[list[Group]]:
    """One lane: the image, the network's numbers and equations 1 to 4, and the mask."""
    state, R = lane.state, lane.state.mask_size
    left = [
        Group("Image and box", (_picture(lane, PICTURE_SIZE),), "drag, resize, or draw a new one"),
        Group("", bars="iou"),
        Group("", bars="weights"),
    ]
    a = f"paint here; {SIGNS}, ±{limits.attentions:.0f}"
    middle = [_row(lane, "base", "Bases B", f"{SIGNS}, ±{limits.bases:.3g}")]
    if state.merger == "blender":
        middle.append(_row(lane, "attention", "Attentions a", a))
    elif state.merger == "weighted_sum":
        middle.append(_row(lane, "attention", "Coefficients", a))
    middle += equation_rows(lane, limits)
    right = [
        Group(
            "Σ  Sum",
            (_map(lane, "sum", 0, "The sum of the products, the logits of the mask", SUM_SIZE),),
            f"before the sigmoid, ±{limits.sums:.3g}",
            is_low=True,
        ),
        Group("σ  Mask m", (_mask(lane, MASK_SIZE),), f"{R} × {R} probabilities", is_low=True),
    ]
    return [left, middle, right]


def side_by_side(lanes: Sequence[Lane], limits: Sequence[Limits]) -> list[list[Group]]:
    """A column for each lane, with one box in all of them."""
    made = []
    for lane, own in zip(lanes, limits, strict=True):
        num, total = len(lane.shown()), lane.state.num_used
        part = f"the largest {num} of {total}" if num < total else f"all {num}"
        made.append(
            [
                Group(lane.name, (_picture(lane, LANE_SIZE, value=""),), lane.note),
                *equation_rows(lane, own, part=part),
                Group(
                    "Σ and σ  Sum and mask",
                    (
                        _map(lane, "sum", 0, "The sum of all products", LANE_SIZE // 2 - 12),
                        _mask(lane, LANE_SIZE // 2 - 12),
                    ),
                    "of all bases",
                    joint="σ",
                ),
            ]
        )
    return made


def equation_rows(lane: Lane, limits: Limits, *, part: str = "") -> list[Group]:
    """Crops, scores and products, joined by the signs of equation 4."""
    R = lane.state.mask_size
    s = f"±{limits.scores:.3g}" if lane.state.merger == "weighted_sum" else "0 to 1"
    crops = part or f"equation 1, {R} × {R}, ±{limits.bases:.3g}"
    scores = "" if part else f"equations 2 and 3, {s}"
    products = f"±{limits.sums:.3g}" if part else f"equation 4 adds them, ±{limits.sums:.3g}"
    return [
        _row(lane, "crop", "Crops r", crops),
        _row(lane, "score", "×  Scores s", scores),
        _row(lane, "product", "=  Products r × s", products),
    ]


def _picture(lane: Lane, size: int, *, value: str | None = None) -> Panel:
    return png_panel(
        f"picture{lane.suffix}",
        f"{lane.name} The image with the box, the mask as a green layer and the true outline in "
        "white".strip(),
        lane.scene.image_size,
        size,
        acts=("box", "hover"),
        overlay="mask",
        value=value,
    )


def _mask(lane: Lane, size: int) -> Panel:
    R = lane.state.mask_size
    label = f"The mask of {R} by {R} cells, probabilities from 0 (white) to 1 (black)"
    return _map(lane, "mask", 0, label, size, palette="grey")


# Below a panel while no cell is pointed at.
VALUES = {"crop": "r", "score": "× s", "product": "= r × s", "sum": "Σ", "mask": "σ(Σ)"}


def _map(
    lane: Lane,
    kind: str,
    k: int,
    label: str,
    size: int,
    *,
    title: str = "",
    palette: str = "signed",
) -> Panel:
    """A panel of R x R cells with a result of equations 1 to 4."""
    R = lane.state.mask_size
    number = "" if kind in ("sum", "mask") else f" {k + 1}"
    return Panel(
        f"{kind}{number}{lane.suffix}",
        label,
        R,
        R,
        title=title,
        color=base_color(k) if title else "",
        size=size,
        palette=palette,
        is_live=True,
        acts=("hover",),
        value=VALUES[kind],
    )


def _input(lane: Lane, kind: str, k: int, label: str, size: int) -> Panel:
    """A panel with an output of the network: a base, or the numbers of its attention."""
    if kind == "base":
        h, w = lane.scene.bases.shape[-2:]
        return Panel(
            f"base {k + 1}",
            label,
            w,
            h,
            title=f"base {k + 1}",
            color=base_color(k),
            size=size,
            unit=lane.scene.stride,
            palette="signed",
            acts=("show box",),
        )
    M = 1 if lane.state.merger == "weighted_sum" else lane.state.attention_size
    return Panel(
        f"attention {k + 1}",
        label,
        M,
        M,
        size=size,
        palette="signed",
        is_live=True,
        acts=("paint",),
    )


def _row(lane: Lane, kind: str, title: str, note: str) -> Group:
    """One panel per base."""
    shown = lane.shown()
    num = len(shown)
    side = LANE_SIDE if lane.name else 80 if num <= 4 else 72 if num <= 8 else 48
    joint = None if num > MOST_JOINED else "+" if kind == "product" else ""
    panels = []
    for k in shown:
        label = f"{lane.name} {title} of base {k + 1}".strip()
        if kind in ("base", "attention"):
            panels.append(_input(lane, kind, k, label, side))
            continue
        is_weight = kind == "score" and lane.state.merger != "weighted_sum"
        palette = f"weight {k % len(PALETTE)}" if is_weight else "signed"
        name = str(k + 1) if lane.name and kind == "crop" else ""
        panels.append(_map(lane, kind, k, label, side, title=name, palette=palette))
    return Group(title, tuple(panels), note, joint=joint)


def maps(lane: Lane, limits: Limits) -> list[dict[str, Any]]:
    """For each live panel of a lane, the map that it shows and the ends of its colour scale."""
    state = lane.state
    low = -limits.scores if state.merger == "weighted_sum" else 0.0
    spans = {
        "crop": (-limits.bases, limits.bases),
        "score": (low, limits.scores),
        "product": (-limits.sums, limits.sums),
    }
    if state.merger != "assembler" and not lane.name:
        spans["attention"] = (-limits.attentions, limits.attentions)
    found = [
        {"panel": f"{kind} {k + 1}{lane.suffix}", "kind": kind, "k": k, "low": low, "high": high}
        for k in lane.shown()
        for kind, (low, high) in spans.items()
    ]
    for kind, low, high in (("sum", -limits.sums, limits.sums), ("mask", 0.0, 1.0)):
        panel = f"{kind}{lane.suffix}"
        found.append({"panel": panel, "kind": kind, "k": 0, "low": low, "high": high})
    return found


def pixels(lane: Lane, result: Blend, limits: Limits) -> dict[str, bytes]:
    """The live panels' cells."""
    state = lane.state
    values = {
        "crop": result.crops,
        "score": result.scores,
        "product": result.products,
        "sum": result.logits[None],
        "mask": result.logits.sigmoid()[None],
    }
    if state.merger != "assembler":
        values["attention"] = state.numbers.unflatten(1, (state.num_bases, -1))[0]
    return {
        each["panel"]: as_cells(values[each["kind"]][each["k"]], each["low"], each["high"])
        for each in maps(lane, limits)
    }


def base_cells(lane: Lane, limits: Limits) -> dict[str, bytes]:
    """The cells of the bases, which do not depend on the box."""
    used, limit = lane.scene.bases[: lane.state.num_used], limits.bases
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
    """The origin of a cell (x, y) of the mask: its interpolation weights on all panels."""
    if cell is None:
        return {}
    x, y = cell
    x0, y0, x1, y1 = state.box
    width, height = (x1 - x0) / state.mask_size, (y1 - y0) / state.mask_size
    found = {
        "mask": [Mark(x, y)],
        "sum": [Mark(x, y)],
        "picture": [Mark(x0 + x * width, y0 + y * height, width, height)],
    }
    sources = base_pixels(scene.bases, state, x, y, stride=scene.stride)
    # A coefficient is one number for the whole box: nothing is interpolated.
    is_grid = state.merger == "blender"
    cells = _weighed(attention_cells(state, x, y)) if is_grid else [Mark(0, 0)]
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
