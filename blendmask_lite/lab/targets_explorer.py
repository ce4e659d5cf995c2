"""The targets explorer's controls: the rules of the assignment, and what is shown of it."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from blendmask_lite.config import LEVEL_STRIDES, PRESETS, ModelConfig
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.figures.targets import targets_figure
from blendmask_lite.lab import targets_view as view
from blendmask_lite.lab.canvas import Canvas, CanvasEvent
from blendmask_lite.lab.parts import SHORT, LabWidget, row, shows_errors, wide
from blendmask_lite.research.detector import ExplainedAssignment, explain_assignment, pyramid_shapes

__all__ = ["ALL", "TargetsControls", "TargetsExplorer", "limits_of", "parse_limits"]


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


MIMES = {"png": "image/png", "svg": "image/svg+xml"}


class TargetsExplorer(LabWidget):
    """FCOS' assignment on pictures with their true objects.

    Args:
        samples: the pictures, not resized; None: some generated ones.
        class_names: C names; without, objects are called by the number of their class.
        config: levels, size limits and center radius to begin with; None: the preset `nano`.

    Raises:
        ValueError: no pictures.
    """

    def __init__(
        self,
        *,
        samples: Sequence[Sample] | None = None,
        class_names: Sequence[str] | None = None,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__(title="Targets explorer")
        if samples is None:
            dataset = ShapesDataset(6, seed=7)
            samples = [dataset.load(index) for index in range(len(dataset))]
            class_names = dataset.class_names
        if len(samples) == 0:
            raise ValueError("samples: no pictures to look at")
        self.samples, self.class_names = tuple(samples), class_names
        self.own = PRESETS["nano"] if config is None else config
        self.controls = TargetsControls(len(self.samples))
        self.canvas = Canvas()
        self._pointed: int | None = None
        self._layout: tuple[object, ...] = ()
        self._show(0, self.own)
        self._connect()
        self.arrange(*self.controls.above, self.canvas, *self.controls.below)

    @property
    def names(self) -> list[str]:
        """Of the picture's objects."""
        labels = self.sample.target.labels.tolist()
        known = self.class_names
        return [
            f"{place + 1}: {f'class {label}' if known is None else known[label]}"
            for place, label in enumerate(labels)
        ]

    @property
    def sample(self) -> Sample:
        """The picture that is shown."""
        return self.samples[self.picture]

    def choose(self, picture: int) -> None:
        """Look at another picture, counted from 0.

        Raises:
            ValueError: there is none.
        """
        self._show(picture, self.config)

    def apply(self, config: ModelConfig) -> None:
        """Assign with the levels, size limits and center radius of another configuration."""
        self._show(self.picture, config)

    def point(self, location: int | None) -> None:
        """Tell what a location learns, and of every object why not.

        Args:
            location: its place on the flattened pyramid; None for none.

        Raises:
            ValueError: there is no such location.
        """
        if location is not None and not 0 <= location < len(self.found.owner):
            raise ValueError(f"location {location}: there are {len(self.found.owner)}")
        self._pointed = location
        self._draw_location()

    def figure(self) -> DescribedFigure:
        """All levels, for print."""
        found = self.found
        return targets_figure(
            self.sample.image,
            boxes=found.boxes,
            names=self.names,
            owners=view.by_level(found.owner, found),
            ambiguous=view.by_level(found.is_ambiguous, found),
            strides=found.strides,
            level_names=self.config.levels,
        )

    def free(self) -> None:
        """Drop the pictures and the assignment."""
        del self.samples, self.found

    # -------------------------------------------------------------- drawing

    def _show(self, picture: int, config: ModelConfig) -> None:
        """What can fail comes first, so that the old state stays."""
        if not 0 <= picture < len(self.samples):
            raise ValueError(f"picture {picture}: there are {len(self.samples)}, counted from 0")
        found = _assign(self.samples[picture], config)
        self.picture, self.config, self.found = picture, config, found
        self._pointed = None
        self.controls.follow(picture, config)
        self._draw()

    @property
    def _shown(self) -> list[int]:
        level = self.controls.level.value
        everything = list(range(len(self.found.shapes)))
        return everything if level == ALL else [level]

    def _draw(self) -> None:
        found, levels, shown = self.found, self.config.levels, self._shown
        layout = (found.shapes, levels, tuple(shown))
        with self.canvas.hold_sync():
            if layout != self._layout:
                self.canvas.arrange(view.columns(found, levels, shown))
                self._layout = layout
            self.canvas.draw(
                view.pictures(found, self.sample.image, levels, shown),
                bars={
                    "levels": view.level_bars(found, levels),
                    "objects": view.object_bars(found, self.names),
                },
            )
            self._draw_location()
            self.canvas.announcement = view.spoken(found)

    def _draw_location(self) -> None:
        bars = view.location_bars(self.found, self.names, self.config.levels, self._pointed)
        marks = view.marks(self.found, self.config.levels, self._shown, self._pointed)
        self.canvas.draw(bars={"location": bars}, marks=marks)
        if self._pointed is not None:
            self.canvas.announcement = bars.title

    # -------------------------------------------------------------- from the page

    def _connect(self) -> None:
        controls = self.controls
        self.canvas.on_event(self._on_event)
        controls.picture.observe(self._on_picture, "value")
        controls.radius.observe(self._on_rules, "value")
        controls.is_whole.observe(self._on_rules, "value")
        controls.levels.observe(self._on_levels, "value")
        controls.limits.observe(self._on_rules, "value")
        controls.level.observe(self._on_level, "value")
        controls.reset.on_click(self._on_reset)
        for kind, button in controls.exports.items():
            button.on_click(functools.partial(self._on_export, kind))

    @shows_errors(clears=False)
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind != "hover":
            return
        location = None
        if event.cells:
            level = self.config.levels.index(event.panel)
            location = self.found.place(level, *event.cells[0])
        self.point(location)

    @shows_errors
    def _on_picture(self, change: Any) -> None:
        if not self.controls.is_following:
            self.choose(change["new"])

    @shows_errors
    def _on_rules(self, _change: Any) -> None:
        controls = self.controls
        if controls.is_following:
            return
        # A wrong limit stays there to be corrected, and the picture stays as it is.
        limits = parse_limits(controls.limits.value)
        radius = math.inf if controls.is_whole.value else controls.radius.value
        self.apply(replace(self.config, size_limits=limits, center_radius=radius))

    @shows_errors
    def _on_levels(self, change: Any) -> None:
        if self.controls.is_following:
            return
        levels = change["new"]
        is_own = levels == self.own.levels
        limits = self.own.size_limits if is_own else limits_of(levels)
        self.apply(replace(self.config, levels=levels, size_limits=limits))

    @shows_errors
    def _on_level(self, _change: Any) -> None:
        if not self.controls.is_following:
            self._draw()

    @shows_errors
    def _on_reset(self, _button: Any) -> None:
        self.apply(self.own)

    @shows_errors
    def _on_export(self, kind: str, _button: Any) -> None:
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format=kind, facecolor="white", dpi=200)
        self.canvas.download(f"targets.{kind}", buffer.getvalue(), MIMES[kind])


def _assign(sample: Sample, config: ModelConfig) -> ExplainedAssignment:
    size = (int(sample.image.shape[-2]), int(sample.image.shape[-1]))
    return explain_assignment(
        sample.target.boxes,
        pyramid_shapes(size, config.level_strides, size_divisor=config.size_divisor),
        config.level_strides,
        size_ranges=config.size_ranges,
        center_radius=config.center_radius,
    )
