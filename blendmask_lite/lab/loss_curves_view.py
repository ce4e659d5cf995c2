"""The loss playground's pages of curves: focal loss, and centerness over a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from blendmask_lite.boxes import centerness, xyxy_to_ltrb
from blendmask_lite.figures.losses import centerness_figure, loss_and_gradient_figure
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.research.losses import centerness_curve, entropy, focal_curve

__all__ = ["box_centerness_figure", "centerness_words", "focal_figure", "focal_words"]

NUM_POINTS = 99  # of a curve


def focal_figure(alpha: float, gamma: float, chance: float) -> DescribedFigure:
    """Cross entropy and focal loss of a location, over the probability of an object there.

    Args:
        alpha: weight of objects.
        gamma: of the focal loss.
        chance: the probability that is marked.
    """
    p = _probabilities()
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
    """What the prediction costs by both losses, as HTML."""
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
    """Centerness of all pixels of a picture, and the loss at one place of the box.

    Args:
        size: (height, width) of the picture.
        box: (x0, y0, x1, y1), pixels.
        place: across and down, shares of the box.
        predicted: centerness that is marked.
    """
    middles = pyramid_locations([size], [1]) + 0.5
    ltrb = xyxy_to_ltrb(middles, torch.tensor([list(box)]))[:, 0]
    values = torch.where((ltrb > 0).all(dim=1), centerness(ltrb.clamp(min=1e-6)), 0)
    p = _probabilities()
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


def _probabilities() -> torch.Tensor:
    return torch.linspace(0.01, 0.99, NUM_POINTS)


def _location(box: Sequence[float], place: tuple[float, float]) -> tuple[float, float]:
    x0, y0, x1, y1 = box
    return x0 + place[0] * (x1 - x0), y0 + place[1] * (y1 - y0)


def _target(box: Sequence[float], place: tuple[float, float]) -> float:
    location = torch.tensor([_location(box, place)])
    return float(centerness(xyxy_to_ltrb(location, torch.tensor([list(box)]))))
