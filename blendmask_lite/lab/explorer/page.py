"""The common parts of the explorer's pages: controls, figure, table, and measurements on demand.

Chapter: the lab.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import ipywidgets as widgets

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer.sources import Picture
from blendmask_lite.lab.explorer.views import Look
from blendmask_lite.lab.parts import FigureView, control, note, row
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["MeasuredPage", "Page", "Present", "as_table"]


COMPUTING = "Computing …"
NO_OBJECTS = "No object was found in this image. Lower the least score, or take another image."
MOST_MEASURED = 200

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Present:
    """Everything that the pages show; it is only replaced as a whole."""

    model: BlendMask  # the model, in evaluation mode
    dataset: InstanceDataset  # the data set to measure on
    picture: Picture  # not resized
    look: Look  # the model's view of the picture
    chosen: int = 0  # index of the object in `look.objects`


class Page(widgets.VBox):
    """One tab: controls, a figure below them, and a table below that.

    Figure and table are made when the page is first drawn, because anywidget gives a web page 2
    seconds to start all of its widgets, which is not enough for many of them on a slow machine.

    Args:
        changes: controls whose changes redraw the page.
        others: further widgets in the same row.
    """

    title: ClassVar[str]
    about: ClassVar[str]  # what the page shows, in a sentence
    needs: ClassVar[Literal["image", "object", "detection"]] = "object"  # or nothing is drawn

    def __init__(self, *changes: widgets.Widget, others: Sequence[widgets.Widget] = ()) -> None:
        self.changes = changes
        self.views: list[FigureView] = []  # all figures of the page
        self.on_save: Callable[[FigureView, str], object] = FigureView.save
        self.controls = [row(*changes, *others)] if changes or others else []
        self.told = note(self.about)
        super().__init__([self.told, *self.controls, note(COMPUTING)])

    def parts(self) -> list[widgets.Widget]:
        """Make everything that the page shows, from top to bottom."""
        self.view, self.table = self.new_view(), widgets.HTML()
        return [*self.controls, self.view, self.table]

    def new_view(self) -> FigureView:
        """Make another figure for the page."""
        view = FigureView()
        view.say(COMPUTING)
        view.on_save(self.on_save)
        self.views.append(view)
        return view

    def build(self) -> None:
        """Make the contents of the page, unless they exist."""
        if not self.views:
            self.children = [self.told, *self.parts()]

    def wait(self) -> None:
        """Drop the drawings of an earlier state, until the page is opened again."""
        if self.views:
            self.view.say(COMPUTING)
            self.table.value = ""

    def missing(self, present: Present) -> str:
        """The reason why nothing can be drawn, or an empty string."""
        look = present.look
        num = {"image": 1, "object": len(look.objects), "detection": len(look.found)}[self.needs]
        return "" if num else NO_OBJECTS

    def figure(self, present: Present) -> DescribedFigure:
        """Draw the page's figure for the values of its controls."""
        raise NotImplementedError

    def rows(self, present: Present) -> Rows:
        """The table below the figure, header first; empty for no table."""
        return ()

    def follow(self, present: Present) -> None:
        """Make the controls offer what the model and the image have."""

    def forget(self) -> None:
        """Drop everything that belongs to an earlier model or data set."""

    def draw(self, present: Present) -> None:
        """Show the page for `present`."""
        self.build()
        self.follow(present)
        reason = self.missing(present)
        if reason:
            self.view.say(reason)
            self.table.value = ""
        else:
            self.view.show(partial(self.figure, present))
            self.table.value = as_table(self.rows(present))


class MeasuredPage(Page):
    """A page whose numbers are measured on images of the data set when a button is pressed.

    Args:
        changes: as for `Page`.
        what: name of the measurement, for the tooltip and the text before the first measurement.
        num_images: initial value for the number of images.
    """

    def __init__(self, *changes: widgets.Widget, what: str, num_images: int = 20) -> None:
        self.num_images = whole_number("images", 150, num_images, 1, MOST_MEASURED)
        self.button = widgets.Button(description="Measure", icon="play", tooltip=what)
        self.progress = widgets.IntProgress(
            0, 0, 1, layout={"width": "160px", "visibility": "hidden"}
        )
        super().__init__(*changes)
        self.before = f"Press “Measure”: {what}."

    def parts(self) -> list[widgets.Widget]:
        """As for `Page`, and below that the button, and figure and table of the measurement."""
        return [*super().parts(), *self.measured_parts()]

    def measured_parts(self) -> list[widgets.Widget]:
        """Button, figure and table of the measurement."""
        self.measured, self.measured_table = self.new_view(), widgets.HTML()
        self.measured.say(self.before)
        controls = row(self.num_images, self.button, self.progress)
        return [controls, self.measured, self.measured_table]

    def measure(
        self, present: Present, progress: Callable[[int, int], None]
    ) -> tuple[Callable[[], DescribedFigure], Rows]:
        """Measure on the first `num_images` images; returns a drawing function, and a table."""
        raise NotImplementedError

    def run(self, present: Present) -> None:
        """Measure and show the result; if that fails, the earlier measurement stays."""
        self.build()
        self.progress.value = 0
        self.progress.layout.visibility = "visible"
        try:
            make, rows = self.measure(present, self._tell)
            self.measured.show(make)
            self.measured_table.value = as_table(rows)
        finally:
            self.progress.layout.visibility = "hidden"

    def forget(self) -> None:
        """Drop the measurement."""
        if self.views:
            self.measured.say(self.before)
            self.measured_table.value = ""

    def close(self) -> None:
        """Remove the page and its button, which may never have been shown."""
        for widget in (self.num_images, self.button, self.progress):
            widget.close()
        super().close()

    def _tell(self, done: int, total: int) -> None:
        self.progress.max = total
        self.progress.value = done


def whole_number(
    description: str, width: int, value: int, low: int, high: int
) -> widgets.BoundedIntText:
    """A field for a whole number from `low` to `high`."""
    return control(widgets.BoundedIntText, description, width, value=value, min=low, max=high)


def as_table(rows: Rows) -> str:
    """HTML for a table whose first row is the header; empty if there are no rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in rows[1:]
    )
    return f'<table class="blendmask-table"><tr>{head}</tr>{body}</table>'
