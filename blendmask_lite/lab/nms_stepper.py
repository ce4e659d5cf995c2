"""The NMS stepper: greedy suppression box by box, and beside it YOLACT's Fast NMS.

Chapter 05 (FCOS, section 3.3; YOLACT, section 5; BlendMask, Table 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import torch

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.lab import nms_view as view
from blendmask_lite.lab.canvas import Canvas
from blendmask_lite.lab.controls import SHORT, button, row, wide
from blendmask_lite.lab.messages import LabWidget, shows_errors
from blendmask_lite.model.blendmask import BlendMask, evaluating
from blendmask_lite.model.fcos import Proposals
from blendmask_lite.research.detector import fast_nms, greedy_nms
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["NmsStepper"]


class NmsStepper(LabWidget):
    """What a model finds in pictures before suppression, and how that proceeds.

    Args:
        model: that finds; None: the shipped one.
        samples: pictures, not resized; None: some generated ones.

    Raises:
        ValueError: no pictures.
    """

    def __init__(
        self, *, model: BlendMask | None = None, samples: Sequence[Sample] | None = None
    ) -> None:
        super().__init__(title="NMS stepper")
        if samples is None:
            dataset = ShapesDataset(22, seed=7)
            samples = [dataset.load(index) for index in (21, 0, 1, 2, 3)]
        if len(samples) == 0:
            raise ValueError("samples: no pictures to look at")
        self.samples = tuple(samples)
        self.model = load_model(shipped_checkpoint()) if model is None else model
        self.canvas = Canvas()
        self._make_controls()
        self._is_following = False
        self.show(0)
        self._connect()
        self.arrange(
            row(self.picture, self.threshold, self.class_wise),
            row(self.back, self.step, self.forward),
            self.canvas,
        )

    def show(self, picture: int) -> None:
        """Look at another picture, counted from 0, before the first step.

        Raises:
            ValueError: there is none.
        """
        if not 0 <= picture < len(self.samples):
            raise ValueError(f"picture {picture}: there are {len(self.samples)}, counted from 0")
        candidates = _candidates(self.model, self.samples[picture])
        self._begin(picture, candidates)
        self.canvas.arrange(view.columns(self.samples[picture].image))
        self.go_to(0)

    def go_to(self, step: int) -> None:
        """Show a step: 0 is before the first, and each keeps one box.

        Raises:
            ValueError: there is none.
        """
        found = self.found
        if not 0 <= step <= found.num_steps:
            raise ValueError(f"step {step}: there are 0 to {found.num_steps}")
        self._follow(step)
        self.canvas.draw(view.pictures(found, step), bars=view.bars(found, step))
        self.canvas.announcement = view.spoken(found, step)

    def free(self) -> None:
        """Drop the model and the pictures."""
        del self.model, self.samples, self.found

    # -------------------------------------------------------------- state

    def _begin(self, picture: int, candidates: Proposals) -> None:
        rule: Any = {
            "iou_threshold": self.threshold.value,
            "class_wise": self.class_wise.value,
        }
        three = (candidates.boxes, candidates.scores, candidates.labels)
        greedy, fast = greedy_nms(*three, **rule), fast_nms(*three, **rule)
        self.found = view.Compared(
            image=self.samples[picture].image,
            candidates=candidates,
            names=_names(candidates, greedy.order.tolist(), self.model.class_names),
            greedy=greedy,
            fast=fast,
            threshold=self.threshold.value,
        )

    def _follow(self, step: int) -> None:
        """Let the slider show a step, without calling anybody."""
        self._is_following = True
        try:
            self.step.max = max(self.found.num_steps, step)
            self.step.value = step
        finally:
            self._is_following = False
        self.back.disabled = step == 0
        self.forward.disabled = step == self.found.num_steps

    # -------------------------------------------------------------- controls

    def _make_controls(self) -> None:
        self.picture = widgets.Dropdown(
            options=[(str(place + 1), place) for place in range(len(self.samples))],
            description="picture",
            layout=wide(130),
            style=SHORT,
        )
        self.threshold = widgets.FloatSlider(
            value=self.model.inference.nms_iou,
            description="IoU threshold",
            min=0.1,
            max=0.95,
            step=0.05,
            continuous_update=False,
            layout=wide(320),
            style=SHORT,
        )
        self.class_wise = widgets.Checkbox(
            True,
            description="class-wise: classes leave each other alone",
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.step = widgets.IntSlider(
            description="step", min=0, max=0, layout=wide(420), style=SHORT
        )
        self.back = button("step-backward", "Back", "one kept box less")
        self.forward = button("step-forward", "Next", "keep the best box that is left")

    def _connect(self) -> None:
        self.picture.observe(self._on_picture, "value")
        self.threshold.observe(self._on_rule, "value")
        self.class_wise.observe(self._on_rule, "value")
        self.step.observe(self._on_step, "value")
        self.back.on_click(lambda _button: self._on_move(-1))
        self.forward.on_click(lambda _button: self._on_move(1))

    @shows_errors
    def _on_picture(self, change: Any) -> None:
        self.show(change["new"])

    @shows_errors
    def _on_rule(self, _change: Any) -> None:
        self._begin(self.picture.value, self.found.candidates)
        self.go_to(min(self.step.value, self.found.num_steps))

    @shows_errors
    def _on_step(self, change: Any) -> None:
        if not self._is_following:
            self.go_to(change["new"])

    @shows_errors
    def _on_move(self, way: int) -> None:
        self.go_to(min(max(self.step.value + way, 0), self.found.num_steps))


@torch.no_grad()
def _candidates(model: BlendMask, sample: Sample) -> Proposals:
    with evaluating(model):
        return model.candidates(model([sample.image.to(model.device)]), 0)


def _names(
    candidates: Proposals, order: Sequence[int], class_names: Sequence[str]
) -> tuple[str, ...]:
    """Rank, class and score: "#1 star 0.93" for the best, and so on."""
    names = [""] * len(candidates)
    for rank, index in enumerate(order, start=1):
        label, score = int(candidates.labels[index]), float(candidates.scores[index])
        names[index] = f"#{rank} {class_names[label]} {score:.2f}"
    return tuple(names)
