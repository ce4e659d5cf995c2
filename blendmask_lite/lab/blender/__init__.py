"""The Blender lab: drag a box, paint the attentions, and see the resulting mask.

The page computes what it draws under the pointer; Python computes it again after each gesture.

Chapters 09 and 10 (BlendMask, section 3.2, equations 1 to 4).
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import ipywidgets as widgets
import torch
from torch import Tensor

from blendmask_lite.datasets.shapes import SHAPE_CLASSES
from blendmask_lite.figures.blending import blending_figure, crop_picture
from blendmask_lite.figures.style import DescribedFigure, largest_magnitude, save_figure
from blendmask_lite.files import shipped_checkpoint, write_atomically
from blendmask_lite.lab.blender import view
from blendmask_lite.lab.blender.board import BlenderBoard
from blendmask_lite.lab.blender.controls import BlenderControls, Rivals
from blendmask_lite.lab.blender.lanes import METHODS, Contestants, Lane, same_bases
from blendmask_lite.lab.blender.presets import PRESETS, SHAPES, open_preset
from blendmask_lite.lab.blender.scene import Blend, Scene, look_at
from blendmask_lite.lab.blender.state import (
    BlenderState,
    History,
    changed,
    own_numbers,
    painted,
    picture_checksum,
    read_state,
    write_state,
)
from blendmask_lite.lab.blender.view import iou_bars, spoken, weight_bars
from blendmask_lite.lab.canvas import Bars, CanvasEvent, as_png
from blendmask_lite.lab.parts import LabWidget, offer, shows_errors
from blendmask_lite.masks import crop_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research.race import read_race
from blendmask_lite.structures import Target
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["BlenderLab"]


LEAST_SCALE = 10.0  # the attentions' colours span at least the brush's values, raw
OWN_SCENE = "your image"
RACE_NOTE = (
    "<b>Side by side</b>: three small networks on the same features, trained equally long (chapter "
    "10 compares them). Each learned one method and bases of its own, in only {steps} steps, so "
    "their masks are rough. One box is in all three: drag it."
)
SAME_NOTE = (
    "<b>Side by side, on the same bases</b>: those of this network, which learned one of the three "
    "methods. Networks trained for each exist for generated shapes only: choose the scene “shapes”."
)


class BlenderLab(LabWidget):
    """The blender by hand (BlendMask, section 3.2): the box, the attentions, and their effects.

    Args:
        model: the model, in evaluation mode; kept until `close`. By default the shipped `small`.
        image: (3, H, W), RGB, float in [0, 1] or uint8; not resized. By default the preset
            "shapes".
        target: the true objects of the image, with masks; None if they are unknown.
        score_threshold: smallest score of the objects in the list, as in `BlendMask.predict`.

    Raises:
        ValueError: the image or target cannot be shown; see `look_at`.
    """

    scene: Scene
    history: History
    blend: Blend  # what follows from the current state

    def __init__(
        self,
        *,
        model: BlendMask | None = None,
        image: Tensor | None = None,
        target: Target | None = None,
        score_threshold: float = 0.3,
    ) -> None:
        super().__init__(title="Blender lab")
        name = OWN_SCENE
        if image is None:
            preset = open_preset(SHAPES, [] if model is None else [model])
            name, model, image, target = SHAPES, preset.model, preset.image, preset.target
        self.model = load_model(shipped_checkpoint("small")) if model is None else model
        self._models = [self.model]  # the models loaded so far
        self._own_scene = None if name == SHAPES else (self.model, image, target)
        self._contestants: Contestants | None = None
        self.score_threshold = score_threshold
        scenes = PRESETS if name == SHAPES else (OWN_SCENE, *PRESETS)
        self.controls = BlenderControls(self.model.config.num_bases, scenes)
        self.canvas = BlenderBoard(grows=True)
        self._pointed: tuple[float, float] | None = None  # position in the box, in fractions
        self._layout: object = None
        self._gesture = 0.0
        self.show(image, target, score_threshold=score_threshold)
        self._connect()
        self.arrange(*self.controls.above, self.canvas, *self.controls.below)

    @property
    def state(self) -> BlenderState:
        """The current state."""
        return self.history.present

    def apply(self, state: BlenderState) -> None:
        """Make `state` the current one; `undo` brings the old one back.

        Raises:
            ValueError: the state has more bases than the model.
        """
        self._set(self.history.pushed(state))

    def undo(self) -> None:
        """Go one step back, if there is one."""
        self._set(self.history.undone())

    def redo(self) -> None:
        """Go one step forward again, if there is one."""
        self._set(self.history.redone())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the current state to a JSON file."""
        write_atomically(Path(path), self._state_file())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read a state that `save` or the page's button wrote.

        Raises:
            OSError, ValueError: there is no such file, or it does not fit; the old state stays.
        """
        self._read(Path(path).read_bytes(), str(path))

    def figure(self) -> DescribedFigure:
        """The current state as a figure: crops, scores, products and mask."""
        box, true_mask = torch.tensor(self.state.box), self._true_mask
        if true_mask is not None:
            true_mask = crop_masks(true_mask[None], box[None], self.state.mask_size)[0]
        title = METHODS[self.state.merger] + ("" if self.iou is None else f": IoU {self.iou:.2f}")
        return blending_figure(
            self.blend.crops,
            self.blend.scores,
            logits=self.blend.logits,
            picture=crop_picture(self.scene.image, box),
            true_mask=true_mask,
            title=title,
        )

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the figure as a PNG, SVG or PDF file, depending on the suffix.

        Raises:
            ValueError: the suffix is not .png, .svg or .pdf.
        """
        save_figure(self.figure(), Path(path))

    def free(self) -> None:
        """Drop the model, the image and all states."""
        self.rivals.cancel()
        self._models.clear()
        self._contestants = self._own_scene = None
        del self.model, self.scene, self.history, self.blend, self.rivals, self._lanes

    def show(
        self, image: Tensor, target: Target | None = None, *, score_threshold: float = 0.3
    ) -> None:
        """Continue with another image; arguments and errors as for the class."""
        self.scene = look_at(self.model, image, target, score_threshold=score_threshold)
        self._layout = self._pointed = None
        self.choose(self.scene.first_object)
        if self.scene.num_found == 0:
            instead = "the true objects are" if self.scene.true_names else "a box in the middle is"
            self.say(f"Nothing scores above {score_threshold}; {instead} shown instead.", "warning")

    # -------------------------------------------------------------- drawing

    def follow(self) -> None:
        """Make the controls show the state."""
        history, controls = self.history, self.controls
        with self.setting():
            offer(controls.object, [found.name for found in self.scene.objects], self._number)
            note = None
            if controls.side_by_side.value:
                note = SAME_NOTE
                if self._has_contestants:
                    note = RACE_NOTE.format(steps=max(map(int, read_race()["scores"])))
            controls.follow(
                history.present,
                num_undo=len(history.past),
                num_redo=len(history.future),
                note=note,
            )

    def choose(self, number: int) -> None:
        """Start from object `number` (0-based) of the scene."""
        self._number = number
        self.rivals = Rivals(self.scene, self.own)
        self._lanes: list[Lane] | None = None
        truths = range(len(self.scene.true_names))
        with self.canvas.hold_sync():
            self.canvas.tell_ground(
                self.scene, [*map(self.rivals.network, truths)], [*map(self._truth_note, truths)]
            )
        self._set(History(self.own))

    @property
    def own(self) -> BlenderState:
        """The network's own state for the chosen object."""
        return self.scene.objects[self._number].own

    @property
    def iou(self) -> float | None:
        """IoU of the current mask with the true object under the box, in pixels of the image."""
        return self.scene.iou(self.blend.mask, self.scene.truth_of(self.state))

    def _truth_note(self, truth: int | None) -> str:
        """A note if the box lies over an object other than the chosen one; otherwise empty."""
        if truth is None or truth == self.scene.truth_of(self.own):
            return ""
        return f"The object chosen above is still {self.scene.objects[self._number].name}."

    @property
    def _true_mask(self) -> Tensor | None:
        truth = self.scene.truth_of(self.state)
        return None if truth is None else self.scene.true_masks[truth]

    @property
    def _cell(self) -> tuple[int, int] | None:
        """The cell (x, y) of the mask that the user points at; None if there is none."""
        if self._pointed is None:
            return None
        across, down = self._pointed
        return int(across * self.state.mask_size), int(down * self.state.mask_size)

    def _set(self, history: History) -> None:
        """Compute and draw the current state of `history`; if that fails, the old state stays."""
        self.blend = self.scene.blend(history.present)
        self.history = history
        with self.canvas.hold_sync():
            self._draw()
        self.follow()
        self.rivals.plan(history.present, self._draw_iou)

    def _draw(self) -> None:
        state, scene = self.state, self.scene
        lanes = self._present_lanes()
        least = max(LEAST_SCALE, largest_magnitude(self.own.attentions))
        limits = [view.Limits(lane, least=least) for lane in lanes]
        scales = [(lane.name, vars(own)) for lane, own in zip(lanes, limits, strict=True)]
        layout = (id(scene), self._number, state.settings, scales)
        results = [lane.blend() if lane.name else self.blend for lane in lanes]
        content: dict[str, bytes] = {}
        for lane, result, own in zip(lanes, results, limits, strict=True):
            content |= view.pixels(lane, result, own)
        if layout != self._layout:
            one = not lanes[0].name
            made = view.columns(lanes[0], limits[0]) if one else view.side_by_side(lanes, limits)
            self.canvas.arrange(made, view.palettes())
            self.canvas.smallest_box = float(min(4, *scene.image_size))
            if one:
                content |= view.base_cells(lanes[0], limits[0])
            content |= {f"picture{lane.suffix}": as_png(scene.image) for lane in lanes}
            self.canvas.tell_lanes(lanes, limits)
            self._layout = layout
        self.canvas.tell_numbers(lanes)
        self._limits = limits
        truth = self._true_mask
        self.canvas.draw(
            content,
            overlays={
                f"picture{lane.suffix}": view.mask_overlay(result.mask, truth)
                for lane, result in zip(lanes, results, strict=True)
            },
            box=state.box,
        )
        self._draw_iou()
        self._draw_weights()

    @property
    def _has_contestants(self) -> bool:
        """Whether the networks of the race know the classes of the scene."""
        return tuple(self.model.class_names) == SHAPE_CLASSES

    def _present_lanes(self) -> list[Lane]:
        """The lab's own lane, or three side by side."""
        state, scene = self.state, self.scene
        if not self.controls.side_by_side.value:
            return [Lane("", scene, self.own, state)]
        if not self._has_contestants:
            return same_bases(scene, self.own, state)
        if self._lanes is None:
            self._contestants = self._contestants or Contestants()
            self._lanes = self._contestants.lanes(scene, self.own)
        return [lane.with_box(state.box) for lane in self._lanes]

    def _draw_iou(self) -> None:
        truth = self.scene.truth_of(self.state)
        name = "" if truth is None else self.scene.true_names[truth]
        network, best = self.rivals.network(truth), self.rivals.best(self.state)
        bars = iou_bars(name, self.iou, network, best, note=self._truth_note(truth))
        self.canvas.draw(bars={"iou": bars})

    def _draw_weights(self) -> Bars:
        if self.controls.side_by_side.value:
            self.canvas.draw(marks={})
            return Bars("")
        marks = view.marks(self.scene, self.state, self._cell)
        bars = weight_bars(self.state, self.blend, self._limits[0].scores, self._cell, marks)
        self.canvas.draw(bars={"weights": bars}, marks=marks)
        return bars

    # -------------------------------------------------------------- files

    def _state_file(self) -> bytes:
        return write_state(self.state, picture=picture_checksum(self.scene.image))

    def _read(self, content: bytes, name: str) -> None:
        state, picture = read_state(content, name=name)
        self.apply(state)
        if picture != picture_checksum(self.scene.image):
            self.say(
                f"{name} was saved with another image; its box and numbers are shown on this one.",
                "warning",
            )

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        self.when(controls.preset, do=self._open_preset)
        self.when(controls.side_by_side, do=lambda: self._set(self.history))
        for brush in (controls.brush, controls.value, controls.brush_size):
            brush.observe(lambda _: self._tell_brush(), "value")
        self._tell_brush()
        self.when(controls.object, do=lambda: self.choose(controls.object.value))
        for name, control in controls.changes.items():
            self.when(control, do=partial(self._change, name, control))
        self.when(controls.undo, do=self.undo)
        self.when(controls.redo, do=self.redo)
        self.when(controls.reset, do=lambda: self.apply(own_numbers(self.own, self.state)))
        self.when(controls.reset_all, do=lambda: self.apply(self.own))
        self.when(controls.best, do=self._apply_best)
        self.when(controls.save, do=self._save_state)
        self.when(controls.load, do=self._load_state)
        for kind, export in (("png", controls.png), ("svg", controls.svg)):
            self.when(export, do=partial(self._export, kind))

    @shows_errors
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "hover":
            self._point(event)
        elif event.kind == "key":
            self._press(event)
        else:
            state = self._after(event)
            is_same = event.gesture != 0 and event.gesture == self._gesture
            history = self.history
            history = history.replaced(state) if is_same else history.pushed(state)
            self._gesture = event.gesture
            if not event.is_last:  # the page draws what it computes itself
                self.history = history
                return
            self._set(history)
            self.canvas.announcement = spoken(state.box, self.iou)

    def _after(self, event: CanvasEvent) -> BlenderState:
        if event.kind == "box":
            x0, y0, x1, y1 = event.box
            return replace(self.state, box=(x0, y0, x1, y1))
        base = int(event.panel.removeprefix("attention ")) - 1
        controls, state = self.controls, self.state
        own = own_numbers(self.own, state)
        value: float | Tensor = {
            "value": controls.value.value,
            "zero": 0.0,
            "own": (own.attentions if state.merger == "blender" else own.coefficients)[base],
        }[controls.brush.value]
        return painted(state, base, event.cells, value, brush_size=controls.brush_size.value)

    def _press(self, event: CanvasEvent) -> None:
        if event.key in ("undo", "redo"):
            for _ in range(event.count):
                getattr(self, event.key)()
            return
        value = self.controls.value
        step = value.step * event.count * (1 if event.key == "+" else -1)
        value.value = min(max(value.value + step, value.min), value.max)
        self.canvas.announcement = f"brush value {value.value:+.1f}"

    def _point(self, event: CanvasEvent) -> None:
        self._pointed = None
        if event.cells:
            x, y = (place + 0.5 for place in event.cells[0])
            R = self.state.mask_size
            is_picture = event.panel.startswith("picture")
            left, top, right, bottom = self.state.box if is_picture else (0, 0, R, R)
            across, down = (x - left) / (right - left), (y - top) / (bottom - top)
            if 0 <= across < 1 and 0 <= down < 1:
                self._pointed = across, down
        bars = self._draw_weights()
        self.canvas.announcement = bars.title if self._cell else ""

    def _change(self, name: str, control: widgets.Widget) -> None:
        try:
            self.apply(changed(self.state, self.own, name, control.value))
        finally:  # a refused value must not stay in the control
            self.follow()

    def _tell_brush(self) -> None:
        kind, value = self.controls.brush.value, self.controls.value
        self.canvas.brush_size = self.controls.brush_size.value
        self.canvas.brush = {
            "kind": kind,
            "value": value.value,
            "step": value.step,
            "low": value.min,
            "high": value.max,
        }

    def _open_preset(self) -> None:
        name = self.controls.preset.value
        if name == OWN_SCENE:
            assert self._own_scene is not None  # otherwise it is not offered
            model, image, target = self._own_scene
        else:
            preset = open_preset(name, self._models)
            model, image, target = preset.model, preset.image, preset.target
        if model not in self._models:
            self._models.append(model)
        self.model = model
        self.controls.num_bases.max = model.config.num_bases
        self.show(image, target, score_threshold=self.score_threshold)

    def _apply_best(self) -> None:
        best = self.scene.best(self.state, own_numbers(self.own, self.state))
        if best is None:
            raise ValueError("There is no true mask under the box, so no best numbers to search.")
        self.apply(best)

    def _save_state(self) -> None:
        self.canvas.download("blender_lab.json", self._state_file(), "application/json")

    def _load_state(self) -> None:
        if self.controls.load.value:
            file = self.controls.load.value[0]
            with self.setting():
                self.controls.load.value = ()
            self._read(bytes(file["content"]), file["name"])

    def _export(self, kind: str) -> None:
        self.canvas.save_figure(self.figure(), "blender_lab", kind)
