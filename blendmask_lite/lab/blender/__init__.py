"""The Blender lab: drag a box, paint the attentions, and see the mask that follows.

Chapters 09 and 10 (BlendMask, section 3.2, equations 1 to 4).
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from torch import Tensor

from blendmask_lite.lab.blender import view as view
from blendmask_lite.lab.blender.controls import BlenderControls
from blendmask_lite.lab.blender.screen import BlenderScreen
from blendmask_lite.lab.blender.state import BlenderState, changed, own_numbers, painted
from blendmask_lite.lab.blender.view import spoken
from blendmask_lite.lab.canvas import CanvasEvent
from blendmask_lite.lab.parts import shows_errors
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
        history = self.history
        names = [each.name for each in self.scene.objects]
        self.controls.list_objects(names, self._number)
        self.controls.follow(
            history.present, num_undo=len(history.past), num_redo=len(history.future)
        )

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        controls.object.observe(self._on_object, "value")
        for name, control in controls.changes.items():
            control.observe(functools.partial(self._on_change, name), "value")
        controls.brush_size.observe(self._on_brush, "value")
        controls.load.observe(self._on_load, "value")
        for button, method in (
            (controls.undo, self._on_undo),
            (controls.redo, self._on_redo),
            (controls.reset, self._on_reset),
            (controls.reset_all, self._on_reset_all),
            (controls.best, self._on_best),
            (controls.save, self._on_save),
            (controls.png, functools.partial(self._on_export, "png", "image/png")),
            (controls.svg, functools.partial(self._on_export, "svg", "image/svg+xml")),
        ):
            button.on_click(method)

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

    @shows_errors
    def _on_object(self, change: Any) -> None:
        if not self.controls.is_following:
            self.choose(change["new"])

    @shows_errors
    def _on_change(self, name: str, change: Any) -> None:
        if self.controls.is_following:
            return
        try:
            self.apply(changed(self.state, self.own, name, change["new"]))
        finally:  # a value that could not be set must not stay in the control
            self.follow()

    @shows_errors
    def _on_brush(self, change: Any) -> None:
        self.canvas.brush_size = change["new"]

    @shows_errors
    def _on_undo(self, _button: Any) -> None:
        self.undo()

    @shows_errors
    def _on_redo(self, _button: Any) -> None:
        self.redo()

    @shows_errors
    def _on_reset(self, _button: Any) -> None:
        self.apply(own_numbers(self.own, self.state))

    @shows_errors
    def _on_reset_all(self, _button: Any) -> None:
        self.apply(self.own)

    @shows_errors
    def _on_best(self, _button: Any) -> None:
        best = self.scene.best(self.state, own_numbers(self.own, self.state))
        if best is None:
            raise ValueError("No true mask under the box: nothing to search the best numbers for.")
        self.apply(best)

    @shows_errors
    def _on_save(self, _button: Any) -> None:
        self.canvas.download("blender_lab.json", self._state_file(), "application/json")

    @shows_errors
    def _on_export(self, kind: str, mime: str, _button: Any) -> None:
        self.canvas.download(f"blender_lab.{kind}", self._picture_file(kind), mime)

    @shows_errors
    def _on_load(self, change: Any) -> None:
        if not change["new"]:
            return
        file = change["new"][0]
        self.controls.load.value = ()
        self._read(bytes(file["content"]), file["name"])
