"""The loss playground: boxes under four losses, the focal loss, and centerness.

Chapter 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import ipywidgets as widgets
from torch import Tensor

from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.losses import paint_pull
from blendmask_lite.lab import loss_view as view
from blendmask_lite.lab.canvas import Canvas, CanvasEvent, as_png
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
from blendmask_lite.research.loss_shapes import BOX_LOSSES, BoxLoss, box_loss_of, follow_gradient

__all__ = ["PAGES", "LossControls", "LossPlayground"]


PAGES = ("Boxes", "Focal loss", "Centerness")


class LossControls:
    """All controls, and a row of them for every page."""

    def __init__(self) -> None:
        self.page = toggle("page", PAGES)
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


SCREEN = 512  # pixels that a small image is enlarged to
NUM_STEPS = 10  # of descent for one press of the button


class LossPlayground(LabWidget):
    """Drag a predicted box against a true one; move the sliders of focal loss and centerness.

    Args:
        image: (3, H, W) uint8 or float in [0, 1]; None for a generated one.
        true_box: (x0, y0, x1, y1), pixels; None for the generated image's first object.

    Raises:
        ValueError: an image without a box, a box without area, or one outside the image.
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
        self.canvas.arrange(view.columns(image))
        self.pages = self._make_pages()
        self.set_box(_beside(self.true_box, 0.35))
        self._draw_focal()
        self._draw_centerness()
        self._connect()
        self.arrange(self.controls.page, *self.pages.values())

    @property
    def losses(self) -> dict[str, BoxLoss]:
        """The losses of the present box by name."""
        return {name: box_loss_of(name, self.box, self.true_box) for name in BOX_LOSSES}

    def set_box(self, box: Sequence[float]) -> None:
        """Predict another box, (x0, y0, x1, y1) in pixels.

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
            The number of steps that were taken; 0 if the gradient is 0.
        """
        name = self.controls.loss.value
        way = follow_gradient(name, self.box, self.true_box, num_steps=num_steps)
        self.set_box(way[-1])
        return len(way) - 1

    def free(self) -> None:
        """Drop the image."""
        del self.image

    # -------------------------------------------------------------- drawing

    def _make_pages(self) -> dict[str, widgets.VBox]:
        controls, figures, notes = self.controls, self.figures, self.controls.note
        contents = (
            [row(controls.loss, controls.step, controls.apart, controls.reset), self.canvas],
            [row(*controls.focal), notes["focal"], figures["focal"]],
            [row(*controls.centerness), notes["centerness"], figures["centerness"]],
        )
        pages = {name: widgets.VBox(some) for name, some in zip(PAGES, contents, strict=True)}
        self._turn_to(PAGES[0], pages)
        return pages

    def _turn_to(self, page: str, pages: dict[str, widgets.VBox]) -> None:
        for name, box in pages.items():
            box.layout.display = "flex" if name == page else "none"

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
                "losses": view.loss_bars(losses, self.image),
                "sides": view.side_bars(name, losses[name]),
            },
            box=self.box,
        )

    def _draw_focal(self) -> None:
        controls = self.controls
        values = controls.alpha.value, controls.gamma.value, controls.chance.value
        controls.note["focal"].value = view.focal_words(*values)
        self.figures["focal"].show(partial(view.focal_figure, *values))

    def _draw_centerness(self) -> None:
        controls = self.controls
        place = controls.across.value, controls.down.value
        size = (int(self.image.shape[-2]), int(self.image.shape[-1]))
        predicted = controls.predicted.value
        controls.note["centerness"].value = view.centerness_words(self.true_box, place, predicted)
        self.figures["centerness"].show(
            partial(view.box_centerness_figure, size, self.true_box, place, predicted)
        )

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        self.when(controls.page, do=lambda: self._turn_to(controls.page.value, self.pages))
        self.when(controls.loss, do=lambda: self._move(self.box))
        self.when(controls.step, do=self._step_down)
        self.when(controls.apart, do=lambda: self._move(_apart(self.true_box, self.image)))
        self.when(controls.reset, do=lambda: self._move(_beside(self.true_box, 0.35)))
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
        self.canvas.announcement = view.spoken(name, self.box, self.losses[name])


def _checked(box: Sequence[float], image: Tensor) -> tuple[float, float, float, float]:
    height, width = image.shape[-2:]
    x0, y0, x1, y1 = (float(side) for side in box)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"true_box {tuple(box)}: not inside the image of {width} x {height}")
    return x0, y0, x1, y1


def _beside(box: Sequence[float], share: float) -> tuple[float, float, float, float]:
    """The box, moved right and down by a share of its sides and made a little smaller."""
    x0, y0, x1, y1 = box
    right, down = share * (x1 - x0), share * (y1 - y0)
    return x0 + right, y0 + down, x1 + 0.6 * right, y1 + 0.6 * down


def _apart(box: Sequence[float], image: Tensor) -> tuple[float, float, float, float]:
    """A box in the corner of the image that is farthest from the true box's center."""
    height, width = image.shape[-2:]
    side = min(height, width) / 6
    x = 2.0 if box[0] + box[2] > width else width - side - 2
    y = 2.0 if box[1] + box[3] > height else height - side - 2
    return x, y, x + side, y + side
