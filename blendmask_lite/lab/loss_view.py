"""How the loss playground looks: two boxes to drag, the losses of the four sides, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from blendmask_lite.boxes import centerness, xyxy_to_ltrb
from blendmask_lite.figures.losses import centerness_figure, loss_and_gradient_figure
from blendmask_lite.figures.style import PALETTE, DescribedFigure
from blendmask_lite.lab.canvas import Bar, Bars, Group, image_panel
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.research.loss_shapes import BoxLoss, centerness_curve, entropy, focal_curve

__all__ = [
    "box_centerness_figure",
    "centerness_words",
    "columns",
    "focal_figure",
    "focal_words",
    "loss_bars",
    "side_bars",
    "spoken",
]


SIZE = 400  # CSS pixels
MOST_LOGARITHM = 5.0  # of -log IoU, where its bar ends
SIDES = ("left x0", "top y0", "right x1", "bottom y1")


def columns(image: Tensor) -> list[list[Group]]:
    """The image, and the numbers beside it."""
    label = (
        "An image with the true box in green and the predicted one in blue; an arrow on every side "
        "shows where the loss pulls it"
    )
    panel = image_panel("boxes", label, image, SIZE, is_live=True, acts=("box",))
    return [
        [Group("Two boxes", (panel,), "green: true; blue: predicted, drag it")],
        [Group("What it costs", bars="losses"), Group("", bars="sides")],
    ]


def loss_bars(losses: Mapping[str, BoxLoss], image: Tensor) -> Bars:
    """The losses side by side, each on a scale of its own."""
    sides = 2.0 * sum(image.shape[-2:])
    scale = {"L1": sides, "-log IoU": MOST_LOGARITHM, "1 - IoU": 1.0, "1 - GIoU": 2.0}
    bars = []
    for index, (name, loss) in enumerate(losses.items()):
        unit = " px" if name == "L1" else ""
        text = "infinite" if math.isinf(loss.value) else f"{max(loss.value, 0):.3g}{unit}"
        share = min(1.0, loss.value / scale[name])
        bars.append(Bar(name, max(share, 0), text, PALETTE[(index + 1) % len(PALETTE)]))
    return Bars("Every loss on a scale of its own", tuple(bars))


def side_bars(name: str, loss: BoxLoss) -> Bars:
    """The gradient with respect to the four sides."""
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
    """What a screen reader says when the box rests."""
    x0, y0, x1, y1 = (round(side) for side in box)
    value = "infinite" if math.isinf(loss.value) else f"{max(loss.value, 0):.2f}"
    pulled = []
    for side, part in zip(("x0", "y0", "x1", "y1"), loss.gradient, strict=True):
        ways = ("right", "left") if side.startswith("x") else ("down", "up")
        pulled += [f"{side} {ways[part > 0]}"] if part != 0 else []
    way = ", ".join(pulled) if pulled else "nothing"
    return f"Box {x0}, {y0} to {x1}, {y1}. {name} is {value}; descent moves {way}."


def _why(loss: BoxLoss) -> str:
    if loss.value <= 1e-9:
        return "The boxes are equal."
    return "The boxes do not touch, and this loss does not depend\non how far apart they are."


NUM_POINTS = 99  # of a curve


def focal_figure(alpha: float, gamma: float, chance: float) -> DescribedFigure:
    """Cross entropy and focal loss of a location, over the probability of an object there.

    Args:
        alpha: weight of objects.
        gamma: exponent of the focal loss.
        chance: predicted probability that is marked, 0.01 to 0.99.
    """
    p = torch.linspace(0.01, 0.99, NUM_POINTS)
    logits = torch.logit(p)
    plain = {"alpha": 0.5, "gamma": 0.0}  # half of the cross entropy
    curves = {}
    for name, is_object in (("object", True), ("background", False)):
        loss, gradient = focal_curve(logits, is_object=is_object, **plain)
        curves[f"{name}, cross entropy"] = 2 * loss, 2 * gradient.abs()
        loss, gradient = focal_curve(logits, is_object=is_object, alpha=alpha, gamma=gamma)
        curves[f"{name}, focal"] = loss, gradient.abs()
    return loss_and_gradient_figure(
        p,
        curves,
        x_label="predicted probability of an object",
        gradient_label="size of the gradient, per unit of logit",
        mark=chance,
        mark_label="prediction",
        is_log=True,
    )


def focal_words(alpha: float, gamma: float, chance: float) -> str:
    """What the prediction costs with both losses, as HTML."""
    logit = torch.logit(torch.tensor([chance]))
    words = []
    for name, is_object in (("an object", True), ("background", False)):
        (plain,), _ = focal_curve(logit, is_object=is_object, alpha=0.5, gamma=0)
        (focal,), _ = focal_curve(logit, is_object=is_object, alpha=alpha, gamma=gamma)
        words.append(f"At {name}: cross entropy {2 * float(plain):.3g}, focal {float(focal):.3g}.")
    return " ".join(words)


def box_centerness_figure(
    size: tuple[int, int], box: Sequence[float], place: tuple[float, float], predicted: float
) -> DescribedFigure:
    """Centerness of all pixels of an image, and the loss at one place of the box.

    Args:
        size: (height, width) of the image.
        box: (x0, y0, x1, y1), pixels.
        place: across and down, shares of the box.
        predicted: predicted centerness that is marked.
    """
    middles = pyramid_locations([size], [1]) + 0.5
    ltrb = xyxy_to_ltrb(middles, torch.tensor([list(box)]))[:, 0]
    values = torch.where((ltrb > 0).all(dim=1), centerness(ltrb.clamp(min=1e-6)), 0)
    p = torch.linspace(0.01, 0.99, NUM_POINTS)
    target = _target(box, place)
    losses, _ = centerness_curve(torch.logit(p), target)
    return centerness_figure(
        values.unflatten(0, size),
        box=box,
        location=_location(box, place),
        probabilities=p,
        losses=losses,
        floor=float(entropy(torch.tensor(target))),
        predicted=predicted,
    )


def centerness_words(box: Sequence[float], place: tuple[float, float], predicted: float) -> str:
    """Target, loss and floor at a place of the box, as HTML."""
    target = _target(box, place)
    (loss,), _ = centerness_curve(torch.logit(torch.tensor([predicted])), target)
    floor = float(entropy(torch.tensor(target)))
    return f"Target {target:.2f}. The loss is {float(loss):.3f}; it cannot fall below {floor:.3f}."


def _location(box: Sequence[float], place: tuple[float, float]) -> tuple[float, float]:
    x0, y0, x1, y1 = box
    return x0 + place[0] * (x1 - x0), y0 + place[1] * (y1 - y0)


def _target(box: Sequence[float], place: tuple[float, float]) -> float:
    location = torch.tensor([_location(box, place)])
    return float(centerness(xyxy_to_ltrb(location, torch.tensor([list(box)]))))
