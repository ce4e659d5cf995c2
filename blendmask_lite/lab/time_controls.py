"""The time machine's controls: which object, which moment, and how it is drawn."""

from __future__ import annotations

import ipywidgets as widgets

from blendmask_lite.lab.controls import SHORT, button, row, wide
from blendmask_lite.lab.time_reel import TimeReel
from blendmask_lite.lab.time_view import object_names, words

__all__ = ["TimeControls"]

LAYERS = {"mask of the object": "mask", "all that is found": "found"}
SCALES = {"one for all moments": "shared", "each moment its own": "own"}
MILLISECONDS = 350  # a moment, while it plays


class TimeControls:
    """All controls, and rows to show them in."""

    def __init__(self) -> None:
        self.picture = widgets.Dropdown(description="picture", layout=wide(190), style=SHORT)
        self.object = widgets.Dropdown(description="object", layout=wide(230), style=SHORT)
        self.layer = _toggle("on the picture", LAYERS)
        self.scale = _toggle("colours", SCALES)
        self.play = widgets.Play(
            interval=MILLISECONDS, show_repeat=True, tooltip="play the moments"
        )
        self.moment = widgets.IntSlider(
            description="moment",
            readout=False,
            layout=widgets.Layout(width="420px", max_width="100%", flex="1 1 200px"),
            style=SHORT,
        )
        # In the page: it plays on while the kernel is busy.
        self.link = widgets.jslink((self.play, "value"), (self.moment, "value"))
        self.words = widgets.Label()
        self.path = widgets.Text(
            description="snapshots of",
            placeholder="folder of a run; empty: the package's own",
            layout=wide(430),
            style=SHORT,
        )
        self.open = button("folder-open", "Open", "show the snapshots of this run")
        self.again = button("refresh", "New moments", "of a training that goes on")
        self.exports = {
            (what, kind): button("image", f"{label} {kind.upper()}", tooltip)
            for what, label, tooltip in (
                ("moment", "Moment", "the present moment as a figure"),
                ("film", "Film", "up to seven moments side by side"),
            )
            for kind in ("png", "svg")
        }
        self.is_following = False  # the controls are being set: nobody moved them

    @property
    def above(self) -> list[widgets.Widget]:
        """Rows above the canvas."""
        return [
            row(self.picture, self.object, self.layer, self.scale),
            row(self.play, self.moment, self.words),
        ]

    @property
    def below(self) -> list[widgets.Widget]:
        """Rows below the canvas."""
        return [row(*self.exports.values()), row(self.path, self.open, self.again)]

    def follow(self, reel: TimeReel, picture: int, object_index: int, index: int) -> None:
        """Show a state, without calling anybody."""
        self.is_following = True
        try:
            num = len(reel.snapshots.samples)
            self._offer(self.picture, [str(place + 1) for place in range(num)], picture)
            self._offer(self.object, object_names(reel, picture), object_index)
            # A slider needs two ends.
            self.moment.max = self.play.max = max(1, len(reel) - 1)
            self.moment.disabled = self.play.disabled = len(reel) == 1
            self.moment.value = index  # the page moves the player with it
            self.words.value = words(reel, index)
        finally:
            self.is_following = False

    @staticmethod
    def _offer(control: widgets.Dropdown, names: list[str], chosen: int) -> None:
        options = tuple((name, index) for index, name in enumerate(names))
        if tuple(control.options) != options:
            control.options = options
        control.value = chosen


def _toggle(description: str, options: dict[str, str]) -> widgets.ToggleButtons:
    buttons = widgets.ToggleButtons(
        options=list(options.items()),
        description=description,
        layout=widgets.Layout(width="auto", max_width="100%"),
        style=SHORT,
    )
    buttons.style.button_width = "auto"
    return buttons
