"""How non-maximum suppression looks in the stepper: two pictures, and who removed whom in bars.

Chapter 05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.detections import paint_boxes
from blendmask_lite.figures.style import PALETTE
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.lab.canvas import Bar, Bars, Canvas, Group, Panel, as_png
from blendmask_lite.lab.parts import LabWidget, button, checkbox, control, offer, row
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.fcos import Proposals
from blendmask_lite.model.layers import evaluating
from blendmask_lite.research.detector import Suppression, fast_nms, greedy_nms
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["Compared", "NmsStepper", "bars", "columns", "pictures", "spoken"]


SIZE = 330  # CSS pixels of a picture: two fit beside a file browser
SCREEN = 512  # pixels that a small picture is enlarged to
MOST_BARS = 10
NOW, GONE, KEPT, REMOVER, LOST = (PALETTE[0], PALETTE[2], PALETTE[1], PALETTE[3], PALETTE[4])
WAITING = "#6f6f6f"


@dataclass(frozen=True)
class Compared:
    """One picture's candidates under both methods.

    Attributes:
        image: (3, H, W).
        candidates: N boxes.
        names: of the boxes, by their rank: "#1 star 0.93".
        greedy: what greedy NMS makes of them.
        fast: what Fast NMS makes of them.
        threshold: IoU above which a box goes.
    """

    image: Tensor
    candidates: Proposals
    names: tuple[str, ...]
    greedy: Suppression
    fast: Suppression
    threshold: float

    @property
    def num_steps(self) -> int:
        """One for every box that greedy NMS keeps."""
        return len(self.greedy.kept)

    def chosen(self, step: int) -> int | None:
        """The box that is kept in this step, counted from 1; none in step 0."""
        return int(self.greedy.kept[step - 1]) if step else None


def columns(image: Tensor) -> list[list[Group]]:
    """Greedy on the left, Fast NMS on the right."""
    height, width = image.shape[-2:]
    size = min(SIZE, round(SIZE * width / height))

    def panel(key: str, label: str) -> Panel:
        return Panel(key, label, width, height, size=size, palette="png")

    greedy = panel("greedy", "Greedy NMS: boxes kept so far, removed in this step, and waiting")
    fast = panel("fast", "Fast NMS: boxes kept, and those that greedy NMS keeps but this does not")
    return [
        [
            Group("Greedy NMS", (greedy,), "orange: kept now; yellow: goes; blue: kept"),
            Group("", (), bars="greedy"),
        ],
        [
            Group("Fast NMS", (fast,), "blue: kept; pink: lost; green: its remover"),
            Group("", (), bars="fast"),
            Group("", (), bars="counts"),
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
    """What happens in this step, what Fast NMS does with the same box, and the counts."""
    return {
        "greedy": _greedy_bars(found, step),
        "fast": _fast_bars(found, step),
        "counts": _count_bars(found),
    }


def spoken(found: Compared, step: int) -> str:
    """What a screen reader says after a change."""
    return f"{_greedy_bars(found, step).title} {_fast_bars(found, step).title}"


def _greedy_bars(found: Compared, step: int) -> Bars:
    now = found.chosen(step)
    if now is None:
        return Bars(f"Step 0 of {found.num_steps}: {len(found.names)} candidates wait.")
    removed = found.greedy.removed_by(now).tolist()
    more = f"; the best {MOST_BARS} of them" if len(removed) > MOST_BARS else ""
    overlap = f" with IoU above {found.threshold:.2f}{more}:" if removed else "."
    return Bars(
        f"Step {step} of {found.num_steps}: {found.names[now]} is the best that is left. It stays "
        f"and removes {len(removed)}{overlap}",
        tuple(_overlap(found, i, float(found.greedy.iou[i]), GONE) for i in removed[:MOST_BARS]),
    )


def _fast_bars(found: Compared, step: int) -> Bars:
    now = found.chosen(step)
    if now is None:
        return Bars("No steps here: every box looks at all better ones at once.")
    remover = int(found.fast.remover[now])
    if remover < 0:
        return Bars(f"Fast NMS keeps {found.names[now]}, too.")
    iou = float(found.fast.iou[now])
    by = int(found.greedy.remover[remover])
    return Bars(
        f"Fast NMS removes {found.names[now]}: it overlaps the better {found.names[remover]}. That "
        f"one is itself removed, by {found.names[by]}, and so greedy NMS never asks it.",
        (_overlap(found, remover, iou, REMOVER),),
    )


def _overlap(found: Compared, index: int, iou: float, color: str) -> Bar:
    """A bar has room for the rank alone; the sentence above it has the whole name."""
    return Bar(found.names[index].split()[0], iou, f"IoU {iou:.2f}", color)


def _count_bars(found: Compared) -> Bars:
    counts = {
        "greedy": (found.num_steps, KEPT),
        "Fast": (len(found.fast.kept), KEPT),
        "lost": (found.num_steps - len(found.fast.kept), LOST),
    }
    return Bars(
        f"Kept of {len(found.names)} candidates, and lost by Fast NMS alone:",
        tuple(Bar(name, n, str(n), color) for name, (n, color) in counts.items()),
        high=max(1, found.num_steps),
    )


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
        self.canvas.arrange(columns(self.samples[picture].image))
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
        self.canvas.draw(pictures(found, step), bars=bars(found, step))
        self.canvas.announcement = spoken(found, step)

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
        self.found = Compared(
            image=self.samples[picture].image,
            candidates=candidates,
            names=_names(candidates, greedy.order.tolist(), self.model.class_names),
            greedy=greedy,
            fast=fast,
            threshold=self.threshold.value,
        )

    def _follow(self, step: int) -> None:
        """Let the slider and the buttons show a step."""
        with self.setting():
            self.step.max = max(self.found.num_steps, step)
            self.step.value = step
        self.back.disabled = step == 0
        self.forward.disabled = step == self.found.num_steps

    # -------------------------------------------------------------- controls

    def _make_controls(self) -> None:
        self.picture = control(widgets.Dropdown, "picture", 130)
        offer(self.picture, [str(place + 1) for place in range(len(self.samples))], 0)
        self.threshold = control(
            widgets.FloatSlider,
            "IoU threshold",
            320,
            value=self.model.inference.nms_iou,
            min=0.1,
            max=0.95,
            step=0.05,
            continuous_update=False,
        )
        self.class_wise = checkbox("class-wise: classes leave each other alone", True)
        self.step = control(widgets.IntSlider, "step", 420, min=0, max=0)
        self.back = button("step-backward", "Back", "one kept box less")
        self.forward = button("step-forward", "Next", "keep the best box that is left")

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
