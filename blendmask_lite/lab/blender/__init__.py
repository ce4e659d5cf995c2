"""The Blender lab: drag a box, paint the attentions, and see the mask that follows.

Chapters 09 and 10 (BlendMask, section 3.2, equations 1 to 4).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import ipywidgets as widgets
from torch import Tensor

from blendmask_lite.lab.blender import view
from blendmask_lite.lab.blender.controls import BlenderControls
from blendmask_lite.lab.blender.screen import BlenderScreen
from blendmask_lite.lab.blender.state import BlenderState, changed, own_numbers, painted
from blendmask_lite.lab.blender.view import spoken
from blendmask_lite.lab.canvas import CanvasEvent
from blendmask_lite.lab.parts import offer, shows_errors
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target

__all__ = ["BlenderLab"]


class BlenderLab(BlenderScreen):
    """The blender by hand (BlendMask, section 3.2): box, attentions, and all that follows.

    Args:
        model: in evaluation mode; kept until `close`.
        image: (3, H, W), RGB, float in [0, 1] or uint8; not resized.
        target: the true objects of the picture, with masks; None where nobody knows them.
        score_threshold: of the objects in the list, as in `BlendMask.predict`.

    Raises:
        ValueError: a picture or target that cannot be shown; see `look_at`.
    """

    def __init__(
        self,
        *,
        model: BlendMask,
        image: Tensor,
        target: Target | None = None,
        score_threshold: float = 0.3,
    ) -> None:
        self.controls = BlenderControls(model.config.num_bases)
        self._gesture = 0.0
        super().__init__(model=model, image=image, target=target, score_threshold=score_threshold)
        self._connect()
        self.arrange(*self.controls.above, self.canvas, *self.controls.below)

    def follow(self) -> None:
        """Bring the controls in step with the state."""
        history, controls = self.history, self.controls
        with self.setting():
            offer(controls.object, [found.name for found in self.scene.objects], self._number)
            controls.follow(
                history.present, num_undo=len(history.past), num_redo=len(history.future)
            )

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        self.when(controls.object, do=lambda: self.choose(controls.object.value))
        for name, control in controls.changes.items():
            self.when(control, do=partial(self._change, name, control))
        self.when(controls.brush_size, do=self._set_brush)
        self.when(controls.undo, do=self.undo)
        self.when(controls.redo, do=self.redo)
        self.when(controls.reset, do=lambda: self.apply(own_numbers(self.own, self.state)))
        self.when(controls.reset_all, do=lambda: self.apply(self.own))
        self.when(controls.best, do=self._apply_best)
        self.when(controls.save, do=self._save_state)
        self.when(controls.load, do=self._load_state)
        for kind, export in (("png", controls.png), ("svg", controls.svg)):
            self.when(export, do=partial(self._export, kind))

    @shows_errors(clears=False)
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind == "hover":
            self._point(event)
        elif event.kind == "key":
            self._press(event)
        else:
            state = self._after(event)
            is_same = event.gesture != 0 and event.gesture == self._gesture
            history = self.history
            self._set(history.replaced(state) if is_same else history.pushed(state))
            self._gesture = event.gesture
            if event.is_last:
                self.canvas.announcement = spoken(state.box, self.iou)

    def _after(self, event: CanvasEvent) -> BlenderState:
        if event.kind == "box":
            x0, y0, x1, y1 = event.box
            return replace(self.state, box=(x0, y0, x1, y1))
        base = int(event.panel.removeprefix("attention ")) - 1
        controls, state = self.controls, self.state
        value: float | Tensor = {"value": controls.value.value, "zero": 0.0}.get(
            controls.brush.value, 0.0
        )
        if controls.brush.value == "own":
            own = own_numbers(self.own, state)
            is_grid = state.merger == "blender"
            value = own.attentions[base] if is_grid else own.coefficients[base]
        size = controls.brush_size.value
        return painted(state, base, event.cells, value, brush_size=size)

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
            left, top, right, bottom = (0, 0, R, R) if event.panel == "mask" else self.state.box
            across, down = (x - left) / (right - left), (y - top) / (bottom - top)
            if 0 <= across < 1 and 0 <= down < 1:
                self._pointed = across, down
        self._marks = view.marks(self.scene, self.state, self._cell)
        bars = self._weight_bars(self._limits())
        self.canvas.draw(bars={"weights": bars}, marks=self._marks)
        self.canvas.announcement = bars.title if self._cell else ""

    def _change(self, name: str, control: widgets.Widget) -> None:
        try:
            self.apply(changed(self.state, self.own, name, control.value))
        finally:  # a value that could not be set must not stay in the control
            self.follow()

    def _set_brush(self) -> None:
        self.canvas.brush_size = self.controls.brush_size.value

    def _apply_best(self) -> None:
        best = self.scene.best(self.state, own_numbers(self.own, self.state))
        if best is None:
            raise ValueError("No true mask under the box: nothing to search the best numbers for.")
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
