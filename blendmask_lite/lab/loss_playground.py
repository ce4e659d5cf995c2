"""The loss playground: boxes under four losses, the focal loss, and centerness.

Chapter 04.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import ipywidgets as widgets
import torch
from torch import Tensor

from blendmask_lite.boxes import centerness, xyxy_to_ltrb
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.losses import centerness_figure, loss_and_gradient_figure, paint_pull
from blendmask_lite.figures.style import PALETTE, DescribedFigure
from blendmask_lite.lab.canvas import Bar, Bars, Canvas, CanvasEvent, Group, as_png, png_panel
from blendmask_lite.lab.parts import (
    FigureView,
    LabWidget,
    button,
    note,
    row,
    shows_errors,
    slider,
    toggle,
)
from blendmask_lite.model.fcos import pyramid_locations
from blendmask_lite.research.loss_shapes import (
    BOX_LOSSES,
    BoxLoss,
    box_loss_of,
    centerness_curve,
    entropy,
    focal_curve,
    follow_gradient,
)

__all__ = ["LossControls", "LossPlayground"]


SIZE = 400  # CSS pixels
MOST_LOGARITHM = 5.0  # the end of the bar for -log IoU
SIDES = ("left x0", "top y0", "right x1", "bottom y1")


class LossControls:
    """All controls, with a row of them for every page."""

    def __init__(self) -> None:
        self.loss = toggle("loss", BOX_LOSSES, value="1 - GIoU")
        self.step = button("step-forward", "10 steps down", "let the box follow its arrows")
        self.apart = button("arrows-h", "Apart", "a box that does not touch the true one")
        self.reset = button("undo", "Reset", "the first box")
        self.alpha = _slider("alpha", 0.25, 0, 1, "weight of objects; 1 - alpha of background")
        self.gamma = _slider("gamma", 2, 0, 5, "how fast easy examples lose their weight")
        tooltip = "what the network predicts at a location"
        self.chance = _slider("p of an object", 0.01, 0.01, 0.99, tooltip)
        self.across = _slider("across", 0.3, 0.02, 0.98, "location, in widths of the box")
        self.down = _slider("down", 0.4, 0.02, 0.98, "location, in heights of the box")
        self.predicted = _slider("prediction", 0.9, 0.01, 0.99, "predicted centerness")
        self.note = {page: note() for page in ("focal", "centerness")}
        self.focal = [self.alpha, self.gamma, self.chance]
        self.centerness = [self.across, self.down, self.predicted]


def _slider(
    description: str, value: float, low: float, high: float, tooltip: str
) -> widgets.FloatSlider:
    limits = value, low, high, 0.01 if high <= 1 else 0.25
    return slider(description, 290, *limits, tooltip=tooltip, continuous_update=False)


def columns(image: Tensor) -> list[list[Group]]:
    """The panels: the image, with the numbers beside it."""
    label = (
        "An image with the true box in green and the predicted one in white; an arrow on every "
        "side shows where the loss pulls it"
    )
    panel = png_panel("boxes", label, image.shape[-2:], SIZE, is_live=True, acts=("box",))
    return [
        [Group("Two boxes", (panel,), "green: true; white: predicted, drag it")],
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
    """The loss's gradient with respect to the box's four sides."""
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
    """The words of a screen reader when the box stops moving."""
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


NUM_POINTS = 99  # points per curve


def focal_figure(alpha: float, gamma: float, chance: float) -> DescribedFigure:
    """Cross entropy and focal loss at a location, against the predicted probability of an object.

    Args:
        alpha: weight of objects.
        gamma: exponent of the focal loss.
        chance: predicted probability to mark, 0.01 to 0.99.
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
    """The cost of the prediction with both losses, as HTML."""
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
    """Centerness of all pixels of an image, and the loss at one place in the box.

    Args:
        size: (height, width) of the image.
        box: (x0, y0, x1, y1), pixels.
        place: position across and down, as fractions of the box.
        predicted: predicted centerness to mark.
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
    """Target, loss and smallest possible loss at a place in the box, as HTML."""
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


SCREEN = 512  # size to which a small image is enlarged, pixels
NUM_STEPS = 10  # steps of descent per press of the button


class LossPlayground(LabWidget):
    """Drag a predicted box over a true one, and move the sliders of focal loss and centerness.

    Args:
        image: (3, H, W) uint8 or float in [0, 1]; None for a generated one.
        true_box: (x0, y0, x1, y1), pixels; None for the generated image's first object.

    Raises:
        ValueError: the image comes without a box, or the box has no area or lies outside the image.
    """

    def __init__(
        self, *, image: Tensor | None = None, true_box: Sequence[float] | None = None
    ) -> None:
        super().__init__(title="Loss playground")
        if image is None:
            sample = ShapesDataset(22, seed=7).load(7)
            image = sample.image
            true_box = sample.target.boxes[0].tolist() if true_box is None else true_box
        if true_box is None:
            raise ValueError("true_box: needed with an image of your own")
        self.image, self.true_box = image, _checked(true_box, image)
        self.controls = LossControls()
        self.canvas = Canvas()
        self.figures = {"focal": FigureView(), "centerness": FigureView()}
        self.canvas.arrange(columns(image))
        self.set_box(_beside(self.true_box))
        self._draw_focal()
        self._draw_centerness()
        self._connect()
        self.arrange(self._make_pages())

    @property
    def losses(self) -> dict[str, BoxLoss]:
        """The current box's losses, by name."""
        return {name: box_loss_of(name, self.box, self.true_box) for name in BOX_LOSSES}

    def set_box(self, box: Sequence[float]) -> None:
        """Make (x0, y0, x1, y1), in pixels, the predicted box.

        Raises:
            ValueError: it has no area.
        """
        x0, y0, x1, y1 = (float(side) for side in box)
        box_loss_of(self.controls.loss.value, (x0, y0, x1, y1), self.true_box)
        self.box = (x0, y0, x1, y1)
        self._draw_boxes()

    def descend(self, num_steps: int = NUM_STEPS) -> int:
        """Follow the gradient of the chosen loss.

        Returns:
            The number of steps taken; 0 if the gradient is 0.
        """
        name = self.controls.loss.value
        way = follow_gradient(name, self.box, self.true_box, num_steps=num_steps)
        self.set_box(way[-1])
        return len(way) - 1

    def free(self) -> None:
        """Drop the image."""
        del self.image

    # -------------------------------------------------------------- drawing

    def _make_pages(self) -> widgets.Tab:
        controls, figures, notes = self.controls, self.figures, self.controls.note
        pages = {
            "Boxes": [
                row(controls.loss, controls.step, controls.apart, controls.reset),
                self.canvas,
            ],
            "Focal loss": [row(*controls.focal), notes["focal"], figures["focal"]],
            "Centerness": [
                row(*controls.centerness),
                notes["centerness"],
                figures["centerness"],
            ],
        }
        return widgets.Tab([widgets.VBox(parts) for parts in pages.values()], titles=list(pages))

    def _draw_boxes(self) -> None:
        name, losses = self.controls.loss.value, self.losses
        painted = paint_pull(
            self.image,
            predicted=self.box,
            true=self.true_box,
            gradient=losses[name].gradient,
            has_hull=name == "1 - GIoU",
            scale=max(1, SCREEN // max(self.image.shape[-2:])),
        )
        self.canvas.draw(
            {"boxes": as_png(painted)},
            bars={
                "losses": loss_bars(losses, self.image),
                "sides": side_bars(name, losses[name]),
            },
            box=self.box,
        )

    def _draw_focal(self) -> None:
        controls = self.controls
        values = controls.alpha.value, controls.gamma.value, controls.chance.value
        controls.note["focal"].value = focal_words(*values)
        self.figures["focal"].show(partial(focal_figure, *values))

    def _draw_centerness(self) -> None:
        controls = self.controls
        place = controls.across.value, controls.down.value
        size = (int(self.image.shape[-2]), int(self.image.shape[-1]))
        predicted = controls.predicted.value
        controls.note["centerness"].value = centerness_words(self.true_box, place, predicted)
        self.figures["centerness"].show(
            partial(box_centerness_figure, size, self.true_box, place, predicted)
        )

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        self.when(controls.loss, do=lambda: self._move(self.box))
        self.when(controls.step, do=self._step_down)
        self.when(controls.apart, do=lambda: self._move(_apart(self.true_box, self.image)))
        self.when(controls.reset, do=lambda: self._move(_beside(self.true_box)))
        self.when(*controls.focal, do=self._draw_focal)
        self.when(*controls.centerness, do=self._draw_centerness)
        for figure in self.figures.values():
            figure.on_save(self.save_view)

    @shows_errors
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "box":
            self.set_box(event.box)
            if event.is_last:
                self._announce()

    def _move(self, box: Sequence[float]) -> None:
        self.set_box(box)
        self._announce()

    def _step_down(self) -> None:
        if self.descend() == 0:
            loss = self.losses[self.controls.loss.value]
            is_done = loss.value <= 1e-9
            self.say("The boxes are equal." if is_done else "The gradient is 0: the box stays.")
        self._announce()

    def _announce(self) -> None:
        name = self.controls.loss.value
        self.canvas.announcement = spoken(name, self.box, self.losses[name])


def _checked(box: Sequence[float], image: Tensor) -> tuple[float, float, float, float]:
    height, width = image.shape[-2:]
    x0, y0, x1, y1 = (float(side) for side in box)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"true_box {tuple(box)}: not inside the image of {width} x {height}")
    return x0, y0, x1, y1


def _beside(box: Sequence[float]) -> tuple[float, float, float, float]:
    """The box, moved right and down by a third of its sides and made a little smaller."""
    x0, y0, x1, y1 = box
    right, down = 0.35 * (x1 - x0), 0.35 * (y1 - y0)
    return x0 + right, y0 + down, x1 + 0.6 * right, y1 + 0.6 * down


def _apart(box: Sequence[float], image: Tensor) -> tuple[float, float, float, float]:
    """A box in the image corner that is farthest from the true box's center."""
    height, width = image.shape[-2:]
    side = min(height, width) / 6
    x = 2.0 if box[0] + box[2] > width else width - side - 2
    y = 2.0 if box[1] + box[3] > height else height - side - 2
    return x, y, x + side, y + side
