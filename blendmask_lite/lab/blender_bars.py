"""The Blender lab's bars and words: IoU against the rivals, and the K weights of a cell.

Chapter 09.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blendmask_lite.figures.style import PALETTE, base_color
from blendmask_lite.lab.blender_compute import Blend
from blendmask_lite.lab.blender_state import BlenderState
from blendmask_lite.lab.canvas_parts import Bar, Bars, Mark

__all__ = ["iou_bars", "spoken", "weight_bars"]

MOST_BARS = 8


def weight_bars(
    state: BlenderState,
    result: Blend,
    span: float,
    cell: tuple[int, int] | None,
    marks: Mapping[str, Sequence[Mark]],
) -> Bars:
    """The K weights at a cell of the mask, and what they multiply.

    Args:
        state: of the lab.
        result: what follows from it.
        span: end of the bars' scale.
        cell: (x, y); None says how to point at one.
        marks: of the cell, by panel.
    """
    if cell is None:
        return Bars("Point at a cell of the mask, or into the box: where does it come from?")
    x, y = cell
    logit = float(result.logits[y, x])
    scores, values = result.scores[:, y, x], result.crops[:, y, x]
    shown = (scores * values).abs().topk(min(MOST_BARS, len(scores))).indices.sort().values
    bars = [
        Bar(f"base {k + 1}", float(scores[k]), f"{scores[k]:.2f} · {values[k]:+.1f}", base_color(k))
        for k in shown.tolist()
    ]
    rest = "" if len(bars) == len(scores) else f" (the {len(bars)} of {len(scores)} that say most)"
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
            lines += f"{len(weights)} {name}: {' + '.join(f'{each:.2f}' for each in weights)}\n"
    return lines


def iou_bars(name: str, yours: float | None, network: float | None, best: float | None) -> Bars:
    """IoU with the true object, in pixels of the picture: of three masks.

    Args:
        name: of the true object.
        yours: of the present mask; None without a true object.
        network: of the network's own mask.
        best: of the best numbers found for the present box and bases; None is not known yet.
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
