"""The NMS stepper: greedy suppression step by step, and what Fast NMS does with the same boxes.

Chapter 05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.detections import paint_boxes
from blendmask_lite.figures.style import PALETTE
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.lab.canvas import Bar, Bars, Canvas, Group, as_png, png_panel
from blendmask_lite.lab.parts import (
    LabWidget,
    button,
    check_index,
    checkbox,
    image_choice,
    row,
    slider,
)
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.fcos import Proposals
from blendmask_lite.model.layers import evaluating
from blendmask_lite.research.detector import Suppression, fast_nms, greedy_nms
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["Compared", "NmsStepper", "bars", "columns", "pictures", "spoken"]


SIZE = 330  # size of a panel, CSS pixels: two fit next to a file browser
SCREEN = 512  # size to which a small image is enlarged, pixels
MOST_BARS = 10
NOW, GONE, KEPT, REMOVER, LOST = (PALETTE[0], PALETTE[2], PALETTE[1], PALETTE[3], PALETTE[4])
WAITING = "#6f6f6f"


@dataclass(frozen=True)
class Compared:
    """One image's candidates under both methods."""

    image: Tensor  # (3, H, W)
    candidates: Proposals  # N boxes with their scores
    names: tuple[str, ...]  # names of the boxes, with their ranks: "#1 star 0.93"
    greedy: Suppression  # result of greedy NMS
    fast: Suppression  # result of Fast NMS
    threshold: float  # IoU above which a box is removed

    @property
    def num_steps(self) -> int:
        """Number of steps: one for every box that greedy NMS keeps."""
        return len(self.greedy.kept)

    def chosen(self, step: int) -> int | None:
        """Index of the box that this step (1, 2, ...) keeps; None in step 0."""
        return int(self.greedy.kept[step - 1]) if step else None


def columns(image: Tensor) -> list[list[Group]]:
    """The panels: greedy NMS on the left, Fast NMS on the right."""
    label = "Greedy NMS: boxes kept so far, removed in this step, and waiting"
    greedy = png_panel("greedy", label, image.shape[-2:], SIZE)
    label = "Fast NMS: boxes kept, and boxes that only greedy NMS keeps"
    fast = png_panel("fast", label, image.shape[-2:], SIZE)
    return [
        [
            Group("Greedy NMS", (greedy,), "orange: kept now; yellow: removed; blue: kept"),
            Group("", bars="greedy"),
        ],
        [
            Group("Fast NMS", (fast,), "blue: kept; pink: lost; green: its remover"),
            Group("", bars="fast"),
            Group("", bars="counts"),
        ],
    ]


def pictures(found: Compared, step: int) -> dict[str, bytes]:
    """Both panels as PNG."""
    scale = max(1, SCREEN // max(found.image.shape[-2:]))
    boxes, now = found.candidates.boxes, found.chosen(step)
    before = set(found.greedy.kept[: max(step - 1, 0)].tolist())
    removed = set(found.greedy.removed_by(now).tolist()) if now is not None else set()
    earlier = {i for i, by in enumerate(found.greedy.remover.tolist()) if by in before}
    waiting = set(range(len(boxes))) - before - removed - earlier - {now}
    greedy = [(boxes[i], WAITING, 1) for i in waiting]
    greedy += [(boxes[i], KEPT, 2) for i in before] + [(boxes[i], GONE, 2) for i in removed]

    both = found.fast.kept.tolist()
    lost = [i for i in found.greedy.kept.tolist() if i not in set(both)]
    fast = [(boxes[i], KEPT, 2) for i in both] + [(boxes[i], LOST, 2) for i in lost]
    if now is not None:
        greedy.append((boxes[now], NOW, 4))
        remover = int(found.fast.remover[now])
        if remover >= 0:
            fast.append((boxes[remover], REMOVER, 3))
        fast.append((boxes[now], NOW, 4))
    return {
        "greedy": as_png(paint_boxes(found.image, greedy, scale=scale)),
        "fast": as_png(paint_boxes(found.image, fast, scale=scale)),
    }


def bars(found: Compared, step: int) -> dict[str, Bars]:
    """The events of this step, the result of Fast NMS for the same box, and the counts."""
    greedy, fast = _greedy_bars(found, step), _fast_bars(found, step)
    return {"greedy": greedy, "fast": fast, "counts": _count_bars(found)}


def spoken(found: Compared, step: int) -> str:
    """The words of a screen reader after a change."""
    return f"{_greedy_bars(found, step).title} {_fast_bars(found, step).title}"


def _greedy_bars(found: Compared, step: int) -> Bars:
    now = found.chosen(step)
    if now is None:
        return Bars(f"Step 0 of {found.num_steps}: {len(found.names)} candidates wait.")
    removed = found.greedy.removed_by(now).tolist()
    more = f"; the best {MOST_BARS} of them" if len(removed) > MOST_BARS else ""
    overlap = f" with IoU above {found.threshold:.2f}{more}:" if removed else "."
    return Bars(
        f"Step {step} of {found.num_steps}: {found.names[now]} is the best box left. It is kept "
        f"and removes {len(removed)}{overlap}",
        tuple(_overlap(found, i, float(found.greedy.iou[i]), GONE) for i in removed[:MOST_BARS]),
    )


def _fast_bars(found: Compared, step: int) -> Bars:
    now = found.chosen(step)
    if now is None:
        return Bars("Fast NMS has no steps: it compares every box with all better ones at once.")
    remover = int(found.fast.remover[now])
    if remover < 0:
        return Bars(f"Fast NMS also keeps {found.names[now]}.")
    iou = float(found.fast.iou[now])
    by = int(found.greedy.remover[remover])
    return Bars(
        f"Fast NMS removes {found.names[now]}, which overlaps the better {found.names[remover]}. "
        f"Greedy NMS has removed that one already, because of {found.names[by]}.",
        (_overlap(found, remover, iou, REMOVER),),
    )


def _overlap(found: Compared, index: int, iou: float, color: str) -> Bar:
    """A bar for one overlap. It has room for the rank only; the text above has the whole name."""
    return Bar(found.names[index].split()[0], iou, f"IoU {iou:.2f}", color)


def _count_bars(found: Compared) -> Bars:
    greedy, fast = found.num_steps, len(found.fast.kept)
    counts = (("greedy", greedy, KEPT), ("Fast", fast, KEPT), ("lost", greedy - fast, LOST))
    bars = tuple(Bar(name, count, str(count), color) for name, count, color in counts)
    title = f"Kept of {len(found.names)} candidates, and lost by Fast NMS only:"
    return Bars(title, bars, high=max(1, greedy))


class NmsStepper(LabWidget):
    """A model's candidates before suppression, and each step of the suppression.

    Args:
        model: the model that finds the candidates; None for the shipped one.
        samples: images, not resized; None for some generated ones.

    Raises:
        ValueError: no images.
    """

    def __init__(
        self, *, model: BlendMask | None = None, samples: Sequence[Sample] | None = None
    ) -> None:
        super().__init__(title="NMS stepper")
        if samples is None:
            dataset = ShapesDataset(22, seed=7)
            samples = [dataset.load(index) for index in (21, 0, 1, 2, 3)]
        if len(samples) == 0:
            raise ValueError("samples: at least one is needed")
        self.samples = tuple(samples)
        self.model = load_model(shipped_checkpoint()) if model is None else model
        self.canvas = Canvas()
        self._make_controls()
        self.show(0)
        self._connect()
        self.arrange(
            row(self.picture, self.threshold, self.class_wise),
            row(self.back, self.step, self.forward),
            self.canvas,
        )

    def show(self, picture: int) -> None:
        """Show image `picture` (0-based), before the first step.

        Raises:
            ValueError: there is no such image.
        """
        check_index("image", picture, len(self.samples))
        candidates = _candidates(self.model, self.samples[picture])
        self._begin(picture, candidates)
        self.canvas.arrange(columns(self.samples[picture].image))
        self.go_to(0)

    def go_to(self, step: int) -> None:
        """Show a step: 0 is the state before the first, and each later step keeps one box.

        Raises:
            ValueError: there is no such step.
        """
        found = self.found
        if not 0 <= step <= found.num_steps:
            raise ValueError(f"step {step}: there are 0 to {found.num_steps}")
        self._follow(step)
        self.canvas.draw(pictures(found, step), bars=bars(found, step))
        self.canvas.announcement = spoken(found, step)

    def free(self) -> None:
        """Drop the model and the images."""
        del self.model, self.samples, self.found

    # -------------------------------------------------------------- state

    def _begin(self, picture: int, candidates: Proposals) -> None:
        rule: Any = {"iou_threshold": self.threshold.value, "class_wise": self.class_wise.value}
        three = (candidates.boxes, candidates.scores, candidates.labels)
        greedy, fast = greedy_nms(*three, **rule), fast_nms(*three, **rule)
        self.found = Compared(
            image=self.samples[picture].image,
            candidates=candidates,
            names=_names(candidates, greedy.order.tolist(), self.model.class_names),
            greedy=greedy,
            fast=fast,
            threshold=self.threshold.value,
        )

    def _follow(self, step: int) -> None:
        """Update the slider and the buttons to match a step."""
        with self.setting():
            self.step.max = max(self.found.num_steps, step)
            self.step.value = step
        self.back.disabled = step == 0
        self.forward.disabled = step == self.found.num_steps

    # -------------------------------------------------------------- controls

    def _make_controls(self) -> None:
        self.picture = image_choice(len(self.samples))
        limits = self.model.inference.nms_iou, 0.1, 0.95, 0.05
        self.threshold = slider("IoU threshold", 320, *limits, continuous_update=False)
        self.class_wise = checkbox("only boxes of the same class remove each other", True)
        self.step = slider("step", 340, 0, 0, 0)
        self.back = button("step-backward", "Back", "one kept box less")
        self.forward = button("step-forward", "Next", "keep the best box left")

    def _connect(self) -> None:
        self.when(self.picture, do=lambda: self.show(self.picture.value))
        self.when(self.threshold, self.class_wise, do=self._apply_rule)
        self.when(self.step, do=lambda: self.go_to(self.step.value))
        self.when(self.back, do=lambda: self.go_to(max(self.step.value - 1, 0)))
        self.when(self.forward, do=lambda: self.go_to(min(self.step.value + 1, self.step.max)))

    def _apply_rule(self) -> None:
        self._begin(self.picture.value, self.found.candidates)
        self.go_to(min(self.step.value, self.found.num_steps))


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
