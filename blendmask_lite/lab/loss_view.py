"""How the loss playground shows two boxes: a panel to drag in, the losses, and the four sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from blendmask_lite.figures.style import PALETTE
from blendmask_lite.lab.canvas_parts import Bar, Bars, Group, Panel
from blendmask_lite.research.losses import BoxLoss

__all__ = ["columns", "loss_bars", "side_bars", "spoken"]

SIZE = 400  # CSS pixels
MOST_LOGARITHM = 5.0  # of -log IoU, where its bar ends
WAYS = (
    ("x0", "right", "left"),
    ("y0", "down", "up"),
    ("x1", "right", "left"),
    ("y1", "down", "up"),
)
SIDES = ("left x0", "top y0", "right x1", "bottom y1")


def columns(image: Tensor) -> list[list[Group]]:
    """The picture, and the numbers beside it."""
    height, width = image.shape[-2:]
    panel = Panel(
        "boxes",
        "A picture with the true box in green and the predicted one in blue; an arrow on every "
        "side shows where the loss pulls it",
        width,
        height,
        size=round(SIZE * min(1, width / height)),
        palette="png",
        is_live=True,
        acts=("box",),
    )
    note = "green: true; blue: predicted, to be dragged"
    return [
        [Group("Two boxes", (panel,), note)],
        [Group("What it costs", bars="losses"), Group("", bars="sides")],
    ]


def loss_bars(losses: Mapping[str, BoxLoss], image: Tensor) -> Bars:
    """The losses side by side, each on a scale of its own."""
    scale = {
        "L1": 2.0 * sum(image.shape[-2:]),
        "-log IoU": MOST_LOGARITHM,
        "1 - IoU": 1.0,
        "1 - GIoU": 2.0,
    }
    bars = []
    for index, (name, loss) in enumerate(losses.items()):
        unit = " px" if name == "L1" else ""
        text = "infinite" if math.isinf(loss.value) else f"{max(loss.value, 0):.3g}{unit}"
        share = min(1.0, loss.value / scale[name])
        bars.append(Bar(name, max(share, 0), text, PALETTE[(index + 1) % len(PALETTE)]))
    return Bars("Every loss on a scale of its own", tuple(bars))


def side_bars(name: str, loss: BoxLoss) -> Bars:
    """The gradient by the four sides."""
    if not loss.has_direction:
        return Bars(f"Gradient of {name}: 0 on every side.\n{_why(loss)}")
    largest = max(abs(part) for part in loss.gradient)
    bars = [
        Bar(side, part, f"{part:+.4f}", PALETTE[0])
        for side, part in zip(SIDES, loss.gradient, strict=True)
    ]
    title = f"Gradient of {name}, per pixel (arrows: against it)"
    return Bars(title, tuple(bars), low=-largest, high=largest)


def spoken(name: str, box: Sequence[float], loss: BoxLoss) -> str:
    """For screen readers, when the hand rests."""
    x0, y0, x1, y1 = (round(side) for side in box)
    value = "infinite" if math.isinf(loss.value) else f"{max(loss.value, 0):.2f}"
    pulled = [
        f"{side} {further if part < 0 else back}"
        for (side, further, back), part in zip(WAYS, loss.gradient, strict=True)
        if part != 0
    ]
    way = ", ".join(pulled) if pulled else "nothing"
    return f"Box {x0}, {y0} to {x1}, {y1}. {name} is {value}; descent moves {way}."


def _why(loss: BoxLoss) -> str:
    if loss.value <= 1e-9:
        return "The boxes are equal."
    return "The boxes do not touch, and this loss does not know\nhow far they are apart."
