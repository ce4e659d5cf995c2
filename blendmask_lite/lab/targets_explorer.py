"""The targets explorer: FCOS's assignment, its rules as controls, and the reasons for each result.

Chapter 03.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import ipywidgets as widgets

from blendmask_lite.config import LEVEL_STRIDES, PRESETS, ModelConfig
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.figures.targets import targets_figure
from blendmask_lite.lab import targets_view as view
from blendmask_lite.lab.canvas import Canvas, CanvasEvent
from blendmask_lite.lab.parts import (
    LabWidget,
    button,
    check_index,
    checkbox,
    control,
    image_choice,
    row,
    shows_errors,
    slider,
)
from blendmask_lite.research.detector import ExplainedAssignment, explain_assignment, pyramid_shapes

__all__ = ["ALL", "TargetsControls", "TargetsExplorer", "limits_of", "parse_limits"]


ALL = -1  # the choice that shows all levels
LARGEST_RADIUS = 5.0  # strides


class TargetsControls:
    """All controls, and the rows that show them.

    Args:
        num_images: number of images to choose from.
    """

    def __init__(self, num_images: int) -> None:
        self.picture = image_choice(num_images)
        tooltip = "half side of the square around a box's center, strides of the level"
        limits = 0.25, 0.25, LARGEST_RADIUS, 0.25
        self.radius = slider("center radius", 290, *limits, tooltip=tooltip)
        self.is_whole = checkbox("whole box (no center sampling)")
        self.levels = control(widgets.Dropdown, "levels", 150, options=_level_choices())
        self.limits = control(
            widgets.Text,
            "size limits, px",
            280,
            tooltip="between neighbouring levels: the farthest side that the lower level takes",
            continuous_update=False,
        )
        self.level = control(widgets.Dropdown, "show", 150)
        self.reset = button("undo", "Reset", "the model's own rules")
        self.exports = {
            kind: button("image", kind.upper(), "all levels as a figure") for kind in ("png", "svg")
        }
        first = row(self.picture, self.level, self.radius, self.is_whole)
        self.above = [first, row(self.levels, self.limits, self.reset)]  # rows above the canvas
        self.below = [row(*self.exports.values())]

    def follow(self, picture: int, config: ModelConfig) -> None:
        """Show a state."""
        self.picture.value = picture
        self.is_whole.value = config.center_radius == math.inf
        self.radius.disabled = self.is_whole.value
        if not self.is_whole.value:
            self.radius.max = max(LARGEST_RADIUS, config.center_radius)
            self.radius.value = config.center_radius
        self.levels.value = config.levels
        self.limits.value = ", ".join(f"{limit:g}" for limit in config.size_limits)
        options = [("all levels", ALL), *((n, i) for i, n in enumerate(config.levels))]
        if list(self.level.options) != options:
            self.level.options = options
            self.level.value = ALL


def parse_limits(text: str) -> tuple[float, ...]:
    """The numbers in a text such as "64, 128".

    Raises:
        ValueError: a part is not a finite number above 0.
    """
    limits = []
    for part in text.replace(",", " ").split():
        try:
            limits.append(float(part))
        except ValueError:
            raise ValueError(f"size limits {text!r}: {part!r} is not a number") from None
        if not 0 < limits[-1] < math.inf:
            raise ValueError(f"size limits {text!r}: {part} must be above 0 and finite")
    return tuple(limits)


def limits_of(levels: tuple[str, ...]) -> tuple[float, ...]:
    """FCOS's limits between these levels: eight strides of the lower one (FCOS, section 3.2)."""
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


class TargetsExplorer(LabWidget):
    """FCOS's assignment on images with their true objects.

    Args:
        samples: the images, not resized; None for some generated ones.
        class_names: C names; by default, classes are numbered.
        config: the initial levels, size limits and center radius; None for preset `nano`.

    Raises:
        ValueError: there are no images.
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
            raise ValueError("samples: at least one is needed")
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
        """Names of the image's objects."""
        labels = self.sample.target.labels.tolist()
        known = self.class_names
        return [
            f"{place + 1}: {f'class {label}' if known is None else known[label]}"
            for place, label in enumerate(labels)
        ]

    @property
    def sample(self) -> Sample:
        """The sample that is shown."""
        return self.samples[self.picture]

    def choose(self, picture: int) -> None:
        """Show image `picture` (0-based).

        Raises:
            ValueError: there is no such image.
        """
        self._show(picture, self.config)

    def apply(self, config: ModelConfig) -> None:
        """Redo the assignment with the levels, size limits and center radius of `config`."""
        self._show(self.picture, config)

    def point(self, location: int | None) -> None:
        """Show which object a location learns, and why it does not learn the others.

        Args:
            location: index in the flattened pyramid; None for no location.

        Raises:
            ValueError: there is no such location.
        """
        if location is not None:
            check_index("location", location, len(self.found.owner))
        self._pointed = location
        self._draw_location()

    def figure(self) -> DescribedFigure:
        """All levels, as a figure for print."""
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
        """Drop the images and the assignment."""
        del self.samples, self.found

    # -------------------------------------------------------------- drawing

    def _show(self, picture: int, config: ModelConfig) -> None:
        """Show a state. Steps that can fail come first; then the old state stays."""
        check_index("image", picture, len(self.samples))
        found = _assign(self.samples[picture], config)
        self.picture, self.config, self.found = picture, config, found
        self._pointed = None
        with self.setting():
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
        self.when(controls.picture, do=lambda: self.choose(controls.picture.value))
        self.when(controls.radius, controls.is_whole, controls.limits, do=self._apply_rules)
        self.when(controls.levels, do=self._apply_levels)
        self.when(controls.level, do=self._draw)
        self.when(controls.reset, do=lambda: self.apply(self.own))
        for kind, export in controls.exports.items():
            self.when(export, do=partial(self._export, kind))

    @shows_errors
    def _on_event(self, event: CanvasEvent) -> None:
        if event.kind != "hover":
            return
        location = None
        if event.cells:
            level = self.config.levels.index(event.panel)
            location = self.found.place(level, *event.cells[0])
        self.point(location)

    def _apply_rules(self) -> None:
        controls = self.controls
        # An invalid limit stays in its field to be corrected, and the canvas does not change.
        limits = parse_limits(controls.limits.value)
        radius = math.inf if controls.is_whole.value else controls.radius.value
        self.apply(replace(self.config, size_limits=limits, center_radius=radius))

    def _apply_levels(self) -> None:
        levels = self.controls.levels.value
        limits = self.own.size_limits if levels == self.own.levels else limits_of(levels)
        self.apply(replace(self.config, levels=levels, size_limits=limits))

    def _export(self, kind: str) -> None:
        self.canvas.save_figure(self.figure(), "targets", kind)


def _assign(sample: Sample, config: ModelConfig) -> ExplainedAssignment:
    size = (int(sample.image.shape[-2]), int(sample.image.shape[-1]))
    return explain_assignment(
        sample.target.boxes,
        pyramid_shapes(size, config.level_strides, size_divisor=config.size_divisor),
        config.level_strides,
        size_ranges=config.size_ranges,
        center_radius=config.center_radius,
    )
