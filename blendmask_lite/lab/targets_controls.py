"""The targets explorer's controls: the rules of the assignment, and what is shown of it."""

from __future__ import annotations

import math

import ipywidgets as widgets

from blendmask_lite.config import LEVEL_STRIDES, ModelConfig
from blendmask_lite.lab.controls import SHORT, row, wide

__all__ = ["ALL", "TargetsControls", "limits_of", "parse_limits"]

ALL = -1  # levels are shown
LARGEST_RADIUS = 5.0  # strides


class TargetsControls:
    """All controls, and rows to show them in.

    Args:
        num_pictures: to choose from.
    """

    def __init__(self, num_pictures: int) -> None:
        self.picture = widgets.Dropdown(
            options=[(str(place + 1), place) for place in range(num_pictures)],
            description="picture",
            layout=wide(130),
            style=SHORT,
        )
        self.radius = widgets.FloatSlider(
            description="center radius",
            min=0.25,
            max=LARGEST_RADIUS,
            step=0.25,
            tooltip="half side of the square around a box' center, strides of the level",
            layout=wide(290),
            style=SHORT,
        )
        self.is_whole = widgets.Checkbox(
            description="whole box (no center sampling)",
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.levels = widgets.Dropdown(
            options=_level_choices(), description="levels", layout=wide(150), style=SHORT
        )
        self.limits = widgets.Text(
            description="size limits, px",
            tooltip="between two levels each: the farthest side that the lower one still takes",
            continuous_update=False,
            layout=wide(280),
            style=SHORT,
        )
        self.level = widgets.Dropdown(description="show", layout=wide(150), style=SHORT)
        self.reset = widgets.Button(
            icon="undo", description="Reset", tooltip="the model's own rules", layout=wide(100)
        )
        self.exports = {
            kind: widgets.Button(
                icon="image",
                description=kind.upper(),
                tooltip="all levels as a figure",
                layout=wide(90),
            )
            for kind in ("png", "svg")
        }
        self.is_following = False  # the controls are being set: nobody moved them

    @property
    def above(self) -> list[widgets.Widget]:
        """Rows above the canvas."""
        return [
            row(self.picture, self.level, self.radius, self.is_whole),
            row(self.levels, self.limits, self.reset),
        ]

    @property
    def below(self) -> list[widgets.Widget]:
        """Rows below the canvas."""
        return [row(*self.exports.values())]

    def follow(self, picture: int, config: ModelConfig) -> None:
        """Show a state, without calling anybody."""
        self.is_following = True
        try:
            self.picture.value = picture
            self.is_whole.value = config.center_radius == math.inf
            self.radius.disabled = self.is_whole.value
            if not self.is_whole.value:
                self.radius.max = max(LARGEST_RADIUS, config.center_radius)
                self.radius.value = config.center_radius
            self.levels.value = config.levels
            self.limits.value = ", ".join(f"{each:g}" for each in config.size_limits)
            options = [("all levels", ALL), *((n, i) for i, n in enumerate(config.levels))]
            if list(self.level.options) != options:
                self.level.options = options
                self.level.value = ALL
        finally:
            self.is_following = False


def parse_limits(text: str) -> tuple[float, ...]:
    """The numbers of a text such as "64, 128".

    Raises:
        ValueError: something that is no number above 0.
    """
    limits = []
    for part in text.replace(",", " ").split():
        try:
            limits.append(float(part))
        except ValueError:
            raise ValueError(f"size limits {text!r}: {part!r} is no number") from None
        if not 0 < limits[-1] < math.inf:
            raise ValueError(f"size limits {text!r}: {part} must be above 0 and finite")
    return tuple(limits)


def limits_of(levels: tuple[str, ...]) -> tuple[float, ...]:
    """FCOS' limits for these levels: eight strides of the lower one (FCOS, section 3.2)."""
    return tuple(8.0 * LEVEL_STRIDES[level] for level in levels[:-1])


def _level_choices() -> list[tuple[str, tuple[str, ...]]]:
    names = list(LEVEL_STRIDES)
    choices = []
    for first in ("p2", "p3"):
        start = names.index(first)
        for end in range(start + 1, len(names) + 1):
            run = tuple(names[start:end])
            choices.append((run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}", run))
    return choices
