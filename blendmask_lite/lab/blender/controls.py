"""The Blender lab's controls, and its comparison with other mergers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import ipywidgets as widgets

from blendmask_lite.lab.blender.lanes import METHODS
from blendmask_lite.lab.blender.scene import Scene
from blendmask_lite.lab.blender.state import BlenderState, own_numbers
from blendmask_lite.lab.parts import button, control, note, row, slider, toggle, wide

__all__ = ["BlenderControls", "Rivals", "method_note"]


BRUSHES = {"value": "value", "erase (0)": "zero", "restore": "own"}
STROKES = ["leaves the value beside it", "leaves 0", "brings the network's numbers back"]
SIZES = (7, 14, 28, 56, 112)  # choices for R and M, cells


class BlenderControls:
    """All controls, and the rows that show them; changing one in `changes` makes a new state.

    Args:
        num_bases: the network's K.
        scenes: names to choose from; the first one is open.
    """

    def __init__(self, num_bases: int, scenes: Sequence[str]) -> None:
        self.preset = _choice("scene", scenes, "image and network", 190)
        tooltip = "where you begin: its box and its attentions; class and score of a found object"
        self.object = control(widgets.Dropdown, "object", 230, tooltip=tooltip)
        methods = {name: merger for merger, name in METHODS.items()}
        how = ["how the bases are combined into a mask"] * len(methods)
        self.merger = _buttons("method", methods, how)
        self.side_by_side = widgets.ToggleButton(
            value=False,
            description="side by side",
            tooltip="the three methods in columns, under one box",
            icon="columns",
            layout=widgets.Layout(width="auto"),
        )
        tooltip = "how many of the network's bases are used"
        self.num_bases = slider("bases K", 220, num_bases, 1, num_bases, tooltip=tooltip)
        self.attention_size = _choice("grid M", [], "an attention has M × M numbers")
        self.mask_size = _choice("mask R", [], "crops, scores and mask have R × R cells")
        tooltip = "how M × M attentions become R × R (equation 2)"
        self.interpolation = _choice("enlarge a", ["bilinear", "nearest"], tooltip)
        tooltip = "how the box is cut out of the bases (equation 1)"
        poolings = [("RoIAlign", "align"), ("RoIPool", "pool")]
        self.pooling = _choice("crop r", poolings, tooltip)
        self.brush = _buttons("brush", BRUSHES, STROKES)
        tooltip = "the attention that a stroke leaves, before the softmax; keys + and -"
        look = {"readout_format": "+.1f", "tooltip": tooltip}
        self.value = slider("value", 240, 6.0, -10.0, 10.0, 0.5, **look)
        self.brush_size = slider("size", 180, 1, 1, 5, tooltip="side of the brush, cells")
        self.undo = button("undo", "Undo", "Control + Z on the canvas")
        self.redo = button("repeat", "Redo", "Control + Shift + Z on the canvas")
        tooltip = "the network's attentions and coefficients; box and sizes stay"
        self.reset = button("refresh", "Undo all painting", tooltip)
        tooltip = "box, attentions and sizes as at the beginning"
        self.reset_all = button("home", "Start again, box too", tooltip)
        self.best = button("star", "Best found", "the best numbers found for these bases and box")
        self.save = button("save", "Save state", "a file for “Load state”")
        self.load = widgets.FileUpload(accept=".json", description="Load state", layout=wide(140))
        self.png = button("image", "PNG", "the present state as a figure")
        self.svg = button("image", "SVG", "the present state as a figure for print")
        self.note = note()
        names = "num_bases attention_size mask_size interpolation pooling"
        sizes = {name: getattr(self, name) for name in names.split()}
        self.changes = {"merger": self.merger, **sizes}  # by the name of the state's field
        self.painting = row(self.brush, self.value)
        self.above = [  # rows above the canvas
            row(self.preset, self.object, self.merger, self.side_by_side),
            self.note,
            self.painting,
        ]
        self.more = widgets.Accordion(
            [
                widgets.VBox(
                    [
                        row(*sizes.values(), self.brush_size),
                        row(self.save, self.load, self.png, self.svg),
                    ]
                )
            ],
            titles=["more: sizes, interpolation, files"],
        )
        steps = [self.undo, self.redo, self.reset, self.reset_all, self.best]
        self.below = [row(*steps), self.more]

    def follow(
        self, state: BlenderState, *, num_undo: int, num_redo: int, note: str | None = None
    ) -> None:
        """Show a state; `note` is the text for lanes side by side, where nothing can be painted."""
        self.merger.value = state.merger
        self.num_bases.value = state.num_bases
        R, M = state.mask_size, state.attention_size
        _offer_sizes(self.attention_size, {M, 1, 2, 3, 4, *SIZES}, lambda size: size <= R)
        _offer_sizes(self.mask_size, {R, *SIZES}, lambda size: size >= M)
        self.attention_size.value, self.mask_size.value = M, R
        self.interpolation.value, self.pooling.value = state.interpolation, state.pooling
        for choice in (self.merger, self.num_bases, self.mask_size, self.pooling):
            choice.disabled = False
        is_blender, is_fixed = state.merger == "blender", state.merger == "assembler"
        self.attention_size.disabled = self.interpolation.disabled = not is_blender
        for painting in (self.brush, self.value, self.brush_size, self.reset, self.best):
            painting.disabled = is_fixed or note is not None
        self.painting.layout.display = "none" if is_fixed or note is not None else "flex"
        for choice in self.changes.values():
            choice.disabled = choice.disabled if note is None else True
        self.undo.disabled, self.redo.disabled = num_undo == 0, num_redo == 0
        self.note.value = method_note(state) if note is None else note


def method_note(state: BlenderState) -> str:
    """The use of the K bases by the chosen method, in plain words."""
    K, M, tiles = state.num_bases, state.attention_size, state.num_tiles
    if state.merger == "blender" and K == 1:
        return (
            "<b>Blender, K = 1</b>: a single base has nothing to compete with. Base and attention "
            "pass through a sigmoid each, and their product is the probability."
        )
    if state.merger == "blender":
        return (
            f"<b>Blender</b>: every base has a grid of {M} × {M} numbers over the box. At each "
            "cell a softmax turns the enlarged numbers into scores that sum to 1."
        )
    if state.merger == "weighted_sum" and state.has_tanh:
        return (
            "<b>YOLACT</b>: base k has one coefficient for the whole box, which passes through a "
            "tanh; it may be negative, and the bases do not compete. Their negative values count "
            "as 0."
        )
    if state.merger == "weighted_sum":
        return (
            "<b>YOLACT</b> on the same bases: base k has one coefficient for the whole box; it may "
            "be negative, and the bases do not compete. It begins as the mean score of base k "
            "with the network's attention. There is no tanh or ReLU, because the bases were "
            "not trained with them."
        )
    left = K - tiles**2
    rest = f" The last {left} of {K} bases are left out: tiles need a square number."
    return (
        f"<b>FCIS</b> on the same bases: the box is cut into {tiles} × {tiles} tiles, and tile k, "
        "counted row by row, is filled by base k alone. The tiles are the same for all objects, so "
        f"there is nothing to paint.{rest if left else ''}"
    )


def _offer_sizes(choice: widgets.Dropdown, sizes: set[int], fits: Callable[[int], bool]) -> None:
    options = tuple(size for size in sorted(sizes) if fits(size))
    if choice.options != options:
        choice.options = options


def _choice(
    description: str, options: Sequence[str | tuple[str, str]], tooltip: str, width: int = 150
) -> widgets.Dropdown:
    return control(widgets.Dropdown, description, width, options=options, tooltip=tooltip)


def _buttons(
    description: str, options: dict[str, str], tooltips: list[str]
) -> widgets.ToggleButtons:
    layout = widgets.Layout(width="auto", max_width="100%")
    return toggle(description, list(options.items()), tooltips=tooltips, layout=layout)


REST = 0.2  # seconds without an event before the search begins


class Rivals:
    """The IoU of the network's mask and of the best possible mask with a true object.

    Args:
        scene: the scene that the lab shows.
        own: the network's state for the object.
    """

    def __init__(self, scene: Scene, own: BlenderState) -> None:
        self.scene = scene
        self.own = own
        self._network: dict[int | None, float | None] = {}  # by index of the true object
        self._best: tuple[object, float | None] = (None, None)  # the last question, and its answer
        self._timer: asyncio.TimerHandle | None = None

    def network(self, truth: int | None) -> float | None:
        """IoU of the network's own mask with a true object; None if there is no such mask."""
        if truth is not None and truth not in self._network:
            scene, own = self.scene, self.own
            state = own if truth == scene.truth_of(own) else scene.found_at(truth)
            mask = None if state is None else scene.blend(state).mask
            self._network[truth] = None if mask is None else scene.iou(mask, truth)
        return self._network.get(truth)

    def best(self, state: BlenderState) -> float | None:
        """IoU of the best mask found for the state's box and bases; None if not known yet."""
        return self._best[1] if self._best[0] == (state.box, state.settings) else None

    def plan(self, state: BlenderState, tell: Callable[[], None]) -> None:
        """Plan to search for a state's best mask and then call `tell`; an older plan is dropped."""
        self.cancel()
        if self._best[0] == (state.box, state.settings):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a test or a script has no event loop to wait in
            self._search(state, tell)
            return
        self._timer = loop.call_later(REST, self._search, state, tell)

    def cancel(self) -> None:
        """Drop the planned search, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _search(self, state: BlenderState, tell: Callable[[], None]) -> None:
        best, scene = self.scene.best(state, own_numbers(self.own, state)), self.scene
        iou = None if best is None else scene.iou(scene.blend(best).mask, scene.truth_of(state))
        self._best = (state.box, state.settings), iou
        tell()
