"""The Blender lab's controls, and its comparison with other mergers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from blendmask_lite.lab.blender.scene import Scene
from blendmask_lite.lab.blender.state import BlenderState, own_numbers
from blendmask_lite.lab.parts import button, control, note, row, toggle, wide

__all__ = ["BlenderControls", "Rivals", "method_note"]


METHODS = {"Blender": "blender", "YOLACT": "weighted_sum", "FCIS": "assembler"}
BRUSHES = {"value": "value", "erase (0)": "zero", "network's own": "own"}
SIZES = (7, 14, 28, 56, 112)  # R and M that can be chosen, cells
LARGEST_VALUE = 10.0  # of the brush, raw


class BlenderControls:
    """All controls, and rows to show them in; `changes` are those that make a new state.

    Args:
        num_bases: K of the network.
    """

    def __init__(self, num_bases: int) -> None:
        self.object = control(widgets.Dropdown, "object", 260)
        self.merger = _buttons("method", METHODS, "which equation makes the mask of these bases")
        self.num_bases = _slider(
            "bases K", 220, num_bases, 1, num_bases, "of the network's, the first"
        )
        self.attention_size = _choice("grid M", {})
        self.mask_size = _choice("mask R", {})
        self.interpolation = _choice("a: M → R", {each: each for each in ("bilinear", "nearest")})
        self.pooling = _choice("crop r", {"RoIAlign": "align", "RoIPool": "pool"})
        self.brush = _buttons("brush", BRUSHES, "what a stroke over a grid leaves there")
        limits = -LARGEST_VALUE, LARGEST_VALUE
        self.value = _slider("value", 240, 6.0, *limits, "raw attention; keys + and -")
        self.brush_size = _slider("size", 180, 1, 1, 5, "side of the brush, cells")
        self.undo = button("undo", "Undo", "Control + Z on the canvas")
        self.redo = button("repeat", "Redo", "Control + Shift + Z on the canvas")
        self.reset = button("refresh", "Network's own", "the network's attentions and coefficients")
        self.reset_all = button("home", "All as at first", "box, numbers and sizes")
        self.best = button("star", "Best found", "the best numbers found for these bases and box")
        self.save = button("save", "Save state", "a file that Load reads")
        self.load = widgets.FileUpload(accept=".json", description="Load state", layout=wide(140))
        self.png = button("image", "PNG", "the present state as a figure")
        self.svg = button("image", "SVG", "the present state as a figure for print")
        self.note = note()
        names = "num_bases attention_size mask_size interpolation pooling"
        sizes = {name: getattr(self, name) for name in names.split()}
        self.changes = {"merger": self.merger, **sizes}  # by field of the state
        self.above = [  # rows above the canvas
            row(self.object, self.merger),
            self.note,
            row(*sizes.values()),
            row(self.brush, self.value, self.brush_size),
        ]
        steps = [self.undo, self.redo, self.reset, self.reset_all, self.best]
        self.below = [row(*steps, self.save, self.load, self.png, self.svg)]

    def follow(self, state: BlenderState, *, num_undo: int, num_redo: int) -> None:
        """Show a state."""
        self.merger.value = state.merger
        self.num_bases.value = state.num_bases
        R, M = state.mask_size, state.attention_size
        _offer_sizes(self.attention_size, {M, 1, 2, 3, 4, *SIZES}, lambda size: size <= R)
        _offer_sizes(self.mask_size, {R, *SIZES}, lambda size: size >= M)
        self.attention_size.value, self.mask_size.value = M, R
        self.interpolation.value, self.pooling.value = state.interpolation, state.pooling
        is_blender, is_fixed = state.merger == "blender", state.merger == "assembler"
        self.attention_size.disabled = self.interpolation.disabled = not is_blender
        for painting in (self.brush, self.value, self.brush_size, self.reset, self.best):
            painting.disabled = is_fixed
        self.undo.disabled, self.redo.disabled = num_undo == 0, num_redo == 0
        self.note.value = method_note(state)


def method_note(state: BlenderState) -> str:
    """How the chosen method reads the K bases, in plain words."""
    K, M, tiles = state.num_bases, state.attention_size, state.num_tiles
    if state.merger == "blender" and K == 1:
        return (
            "<b>Blender, K = 1</b>: one base has nothing to compete with. Base and attention each "
            "pass a sigmoid, and the product is the probability."
        )
    if state.merger == "blender":
        return (
            f"<b>Blender</b>: every base has a grid of {M} × {M} numbers over the box. At each "
            "cell a softmax turns the enlarged numbers into weights that sum to 1."
        )
    if state.merger == "weighted_sum" and state.has_tanh:
        return (
            "<b>YOLACT</b>: base k has one coefficient for the whole box, which passes a tanh; it "
            "may be negative, and nothing competes. Negative values of the bases count as 0."
        )
    if state.merger == "weighted_sum":
        return (
            "<b>YOLACT</b> on the same bases: base k has one coefficient for the whole box; it may "
            "be negative, and nothing competes. It begins as the mean weight that the network's "
            "attention gives base k. No tanh or ReLU: the bases were not trained with them."
        )
    left = K - tiles**2
    rest = f" The last {left} of {K} bases are left out: tiles need a square number."
    return (
        f"<b>FCIS</b> on the same bases: the box is cut into {tiles} × {tiles} tiles, and base k "
        "alone fills tile k, counted row by row. The tiles are the same for all objects: nothing "
        f"to paint.{rest if left else ''}"
    )


def _offer_sizes(choice: widgets.Dropdown, sizes: set[int], fits: Any) -> None:
    options = [size for size in sorted(sizes) if fits(size)]
    if tuple(choice.options) != tuple(options):
        choice.options = options


def _choice(description: str, options: dict[str, str]) -> widgets.Dropdown:
    return control(widgets.Dropdown, description, 150, options=list(options.items()))


def _slider(
    description: str, width: int, value: float, low: float, high: float, tooltip: str
) -> widgets.Widget:
    """Whole numbers, or steps of a half where `value` is a float."""
    is_whole = isinstance(value, int)
    kind = widgets.IntSlider if is_whole else widgets.FloatSlider
    options: dict[str, Any] = {} if is_whole else {"step": 0.5, "readout_format": "+.1f"}
    options |= {"value": value, "min": low, "max": high, "tooltip": tooltip}
    return control(kind, description, width, **options)


def _buttons(description: str, options: dict[str, str], tooltip: str) -> widgets.ToggleButtons:
    tooltips = [tooltip] * len(options)
    return toggle(description, list(options.items()), tooltips=tooltips, layout=wide(340))


REST = 0.2  # seconds without an event after which the search begins


class Rivals:
    """IoU of the other masks with the true object under the box.

    Args:
        scene: what is looked at.
        own: the network's state of the object.
    """

    def __init__(self, scene: Scene, own: BlenderState) -> None:
        self.scene = scene
        self.own = own
        self._own_mask = scene.blend(own).mask
        self._network: dict[int | None, float | None] = {}
        self._best: tuple[object, float | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def network(self, truth: int | None) -> float | None:
        """IoU of the network's own mask with a true object; None without one."""
        if truth not in self._network:
            self._network[truth] = self.scene.iou(self._own_mask, truth)
        return self._network[truth]

    def best(self, state: BlenderState) -> float | None:
        """IoU of the best mask found for the state's box and bases; None if not known yet."""
        is_known = self._best is not None and self._best[0] == _question(state)
        return self._best[1] if is_known and self._best is not None else None

    def plan(self, state: BlenderState, tell: Callable[[], None]) -> None:
        """Search the best mask for a state, and then call `tell`; an older plan is dropped."""
        self.cancel()
        if self._best is not None and self._best[0] == _question(state):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nobody is waiting: a test, or a script
            self._search(state, tell)
            return
        self._timer = loop.call_later(REST, self._search, state, tell)

    def cancel(self) -> None:
        """Drop the plan, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _search(self, state: BlenderState, tell: Callable[[], None]) -> None:
        best = self.scene.best(state, own_numbers(self.own, state))
        iou = None
        if best is not None:
            iou = self.scene.iou(self.scene.blend(best).mask, self.scene.truth_of(state))
        self._best = _question(state), iou
        tell()


def _question(state: BlenderState) -> object:
    """What the best mask depends on: all of the state but its numbers."""
    sizes = state.num_bases, state.attention_size, state.mask_size
    return state.box, state.merger, sizes, state.interpolation, state.pooling
