"""The Blender lab's screen: a picture, a history of states, and the canvas that shows the present.

Chapters 09 and 10. Code works on it as the user does on the page; `BlenderLab` adds the controls.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from blendmask_lite.figures.blending import blending_figure, crop_picture
from blendmask_lite.figures.style import DescribedFigure, largest_magnitude, save_figure
from blendmask_lite.files import write_atomically
from blendmask_lite.lab.blender import view
from blendmask_lite.lab.blender.controls import Rivals
from blendmask_lite.lab.blender.scene import Blend, Scene, look_at
from blendmask_lite.lab.blender.state import (
    BlenderState,
    History,
    picture_checksum,
    read_state,
    write_state,
)
from blendmask_lite.lab.blender.view import iou_bars, weight_bars
from blendmask_lite.lab.canvas import Bars, Canvas, Mark, as_png
from blendmask_lite.lab.parts import LabWidget
from blendmask_lite.masks import crop_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target

__all__ = ["BlenderScreen"]


LEAST_SCALE = 6.0  # of the attentions' colours, raw
NAMES = {"blender": "Blender", "weighted_sum": "YOLACT", "assembler": "FCIS"}


class BlenderScreen(LabWidget):
    """Picture, states and canvas, without controls.

    Args:
        model: in evaluation mode; kept until `close`.
        image: (3, H, W), RGB, float in [0, 1] or uint8; not resized.
        target: the true objects of the picture, with masks; None where nobody knows them.
        score_threshold: of the objects in the list, as in `BlendMask.predict`.

    Raises:
        ValueError: a picture or target that cannot be shown; see `look_at`.
    """

    scene: Scene
    history: History
    blend: Blend  # of the present state

    def __init__(
        self,
        *,
        model: BlendMask,
        image: Tensor,
        target: Target | None,
        score_threshold: float,
    ) -> None:
        super().__init__(title="Blender lab")
        self.model = model
        self.canvas = Canvas()
        self._pointed: tuple[float, float] | None = None  # share of the box, across and down
        self._layout: object = None
        self._marks: dict[str, list[Mark]] = {}
        self.show(image, target, score_threshold=score_threshold)

    @property
    def state(self) -> BlenderState:
        """The present state."""
        return self.history.present

    def apply(self, state: BlenderState) -> None:
        """Make `state` the present one; `undo` brings the old one back.

        Raises:
            ValueError: more bases than the picture has.
        """
        self._set(self.history.pushed(state))

    def undo(self) -> None:
        """One step back; nothing at the beginning."""
        self._set(self.history.undone())

    def redo(self) -> None:
        """One step forward again; nothing at the end."""
        self._set(self.history.redone())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the present state as a JSON file."""
        write_atomically(Path(path), self._state_file())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read a state that `save` or the page's button wrote.

        Raises:
            OSError, ValueError: no such file, or none that fits; the old state stays.
        """
        self._read(Path(path).read_bytes(), str(path))

    def figure(self) -> DescribedFigure:
        """The present state as a figure: crops, scores, products and mask."""
        truth = self.scene.truth_of(self.state)
        box = torch.tensor(self.state.box)
        true_mask = None
        if truth is not None:
            mask = self.scene.true_masks[truth : truth + 1]
            true_mask = crop_masks(mask, box[None], self.state.mask_size)[0]
        title = NAMES[self.state.merger] + ("" if self.iou is None else f": IoU {self.iou:.2f}")
        return blending_figure(
            self.blend.crops,
            self.blend.scores,
            logits=self.blend.logits,
            picture=crop_picture(self.scene.image, box),
            true_mask=true_mask,
            title=title,
        )

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the figure; the suffix says how: .png, .svg or .pdf.

        Raises:
            ValueError: another suffix.
        """
        save_figure(self.figure(), Path(path))

    def free(self) -> None:
        """Drop the model, the picture and all states."""
        self.rivals.cancel()
        del self.model, self.scene, self.history, self.blend, self.rivals

    def show(
        self, image: Tensor, target: Target | None = None, *, score_threshold: float = 0.3
    ) -> None:
        """Go on with another picture; arguments and errors as the class'."""
        scene = look_at(self.model, image, target, score_threshold=score_threshold)
        self.scene = scene
        self._layout = self._pointed = None
        self.choose(0)
        if scene.num_found == 0:
            place = "the middle" if not scene.true_names else "the true objects"
            self.say(
                f"Nothing was found above score {score_threshold}; begin with {place}.", "warning"
            )

    # -------------------------------------------------------------- drawing

    def follow(self) -> None:
        """Bring controls in step with the state; the screen has none."""

    def choose(self, number: int) -> None:
        """Begin with another object of the scene, counted from 0."""
        self._number = number
        self.rivals = Rivals(self.scene, self.own)
        self._set(History(self.own))

    @property
    def own(self) -> BlenderState:
        """The network's own state of the chosen object."""
        return self.scene.objects[self._number].own

    @property
    def iou(self) -> float | None:
        """Of the present mask with the true object under the box, in pixels of the picture."""
        return self.scene.iou(self.blend.mask, self.scene.truth_of(self.state))

    @property
    def _cell(self) -> tuple[int, int] | None:
        """The pointed cell (x, y) of the mask."""
        if self._pointed is None:
            return None
        across, down = self._pointed
        return int(across * self.state.mask_size), int(down * self.state.mask_size)

    def _set(self, history: History) -> None:
        """Compute and draw the present of `history`; where that fails, the old one stays."""
        self.blend = self.scene.blend(history.present)
        self.history = history
        with self.canvas.hold_sync():
            self._draw()
        self.follow()
        self.rivals.plan(history.present, self._tell_best)

    def _draw(self) -> None:
        state, scene = self.state, self.scene
        limits = self._limits()
        sizes = state.merger, state.num_bases, state.attention_size, state.mask_size
        layout = id(scene), sizes, vars(limits)
        content = view.pixels(state, self.blend, limits)
        if layout != self._layout:
            self.canvas.arrange(view.columns(scene, state, limits), view.palettes())
            self.canvas.smallest_box = float(min(4, *scene.image_size))
            content |= view.base_cells(scene, state, limits) | {"picture": as_png(scene.image)}
            self._layout = layout
        truth = scene.truth_of(state)
        true_mask = None if truth is None else scene.true_masks[truth]
        self._marks = view.marks(scene, state, self._cell)
        self.canvas.draw(
            content,
            overlays={"picture": view.mask_overlay(self.blend.mask, true_mask)},
            marks=self._marks,
            bars={
                "iou": self._iou_bars(),
                "weights": self._weight_bars(limits),
            },
            box=state.box,
        )

    def _limits(self) -> view.Limits:
        least = max(LEAST_SCALE, largest_magnitude(self.own.attentions))
        return view.Limits(self.scene, self.state, least=least)

    def _iou_bars(self) -> Bars:
        """Of the present mask, the network's and the best one found, with the true object."""
        truth = self.scene.truth_of(self.state)
        name = "" if truth is None else self.scene.true_names[truth]
        return iou_bars(name, self.iou, self.rivals.network(truth), self.rivals.best(self.state))

    def _weight_bars(self, limits: view.Limits) -> Bars:
        return weight_bars(self.state, self.blend, limits.scores, self._cell, self._marks)

    def _tell_best(self) -> None:
        self.canvas.draw(bars={"iou": self._iou_bars()})

    # -------------------------------------------------------------- files

    def _state_file(self) -> bytes:
        return write_state(self.state, picture=picture_checksum(self.scene.image))

    def _read(self, content: bytes, name: str) -> None:
        state, picture = read_state(content, name=name)
        self.apply(state)
        if picture != picture_checksum(self.scene.image):
            self.say(
                f"{name} was saved over another picture; its box and numbers are shown here.",
                "warning",
            )
