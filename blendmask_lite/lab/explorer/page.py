"""What the explorer's pages share: controls, a figure, a table, and a measurement on demand.

Chapter: the lab.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import ipywidgets as widgets

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.figures.style import DescribedFigure
from blendmask_lite.lab.explorer.sources import Picture
from blendmask_lite.lab.explorer.views import Look
from blendmask_lite.lab.parts import FigureView, control, row
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["MeasuredPage", "Page", "Present", "as_table"]


NO_OBJECTS = "No object was found in this picture; lower the least score, or take another picture."
MOST_MEASURED = 200

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Present:
    """All that the pages look at; replaced as a whole.

    Attributes:
        model: in evaluation mode.
        dataset: that numbers are measured on.
        picture: not resized.
        look: at it, by the model.
        chosen: which of `look.objects`.
    """

    model: BlendMask
    dataset: InstanceDataset
    picture: Picture
    look: Look
    chosen: int = 0


class Page(widgets.VBox):
    """One tab: controls above, a figure, a table below.

    Figure and table are made when the page is first drawn: anywidget gives a page 2 seconds to
    begin with all of its widgets, which a slow machine needs for a few.

    Args:
        changes: controls; the page is drawn again when one's value changes.
        others: shown in the same row.
    """

    title: ClassVar[str]

    def __init__(self, *changes: widgets.Widget, others: Sequence[widgets.Widget] = ()) -> None:
        self.changes = changes
        self.views: list[FigureView] = []  # all figures of the page
        self.on_save: Callable[[FigureView, str], None] | None = None
        self.controls = [row(*changes, *others)] if changes or others else []
        super().__init__(self.controls)

    def parts(self) -> list[widgets.Widget]:
        """Make all that the page shows, from top to bottom."""
        self.view, self.table = self.new_view(), widgets.HTML()
        return [*self.controls, self.view, self.table]

    def new_view(self) -> FigureView:
        """Another figure of the page."""
        view = FigureView()
        view.on_save(self._save)
        self.views.append(view)
        return view

    def build(self) -> None:
        """Make what the page shows, unless it is there."""
        if not self.views:
            self.children = self.parts()

    def _save(self, view: FigureView, kind: str) -> None:
        if self.on_save is not None:
            self.on_save(view, kind)

    def missing(self, present: Present) -> str:
        """Why there is nothing to draw; empty where there is."""
        return "" if present.look.objects else NO_OBJECTS

    def maker(self, present: Present) -> Callable[[], DescribedFigure]:
        """The plain function that draws the page's figure, all choices bound."""
        raise NotImplementedError

    def rows(self, present: Present) -> Rows:
        """The table below the figure, its header first; empty for no table."""
        return ()

    def follow(self, present: Present) -> None:
        """Bring the controls in step with model and picture."""

    def forget(self) -> None:
        """Drop what holds for another model or data set."""

    def draw(self, present: Present) -> None:
        """Show the page for `present`."""
        self.build()
        self.follow(present)
        reason = self.missing(present)
        if reason:
            self.view.say(reason)
            self.table.value = ""
        else:
            self.view.show(self.maker(present))
            self.table.value = as_table(self.rows(present))


class MeasuredPage(Page):
    """A page whose numbers are measured over pictures of the data set when a button is pressed.

    Args:
        changes: as `Page`'s.
        num_images: to begin with.
        what: is measured, for the sentence that stands there before.
    """

    def __init__(self, *changes: widgets.Widget, what: str, num_images: int = 20) -> None:
        self.num_images = whole_number("pictures", 150, num_images, 1, MOST_MEASURED)
        self.button = widgets.Button(description="Measure", icon="play", tooltip=what)
        self.progress = widgets.IntProgress(
            0, 0, 1, layout={"width": "160px", "visibility": "hidden"}
        )
        super().__init__(*changes)
        self.before = f"Press “Measure”: {what}."

    def parts(self) -> list[widgets.Widget]:
        """As `Page`'s, and below it the button with what it measured."""
        return [*super().parts(), *self.measured_parts()]

    def measured_parts(self) -> list[widgets.Widget]:
        """Button, figure and table of what is measured."""
        self.measured, self.measured_table = self.new_view(), widgets.HTML()
        self.measured.say(self.before)
        controls = row(self.num_images, self.button, self.progress)
        return [controls, self.measured, self.measured_table]

    def measure(
        self, present: Present, progress: Callable[[int, int], None]
    ) -> tuple[Callable[[], DescribedFigure], Rows]:
        """Measure over the first `num_images` pictures.

        Returns:
            The plain function that draws the result, and a table.
        """
        raise NotImplementedError

    def run(self, present: Present) -> None:
        """Measure and show; what was measured before stays where it fails."""
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
        """Drop the measured numbers."""
        if self.views:
            self.measured.say(self.before)
            self.measured_table.value = ""

    def close(self) -> None:
        """Remove the page; its button may never have been shown."""
        for widget in (self.num_images, self.button, self.progress):
            widget.close()
        super().close()

    def _tell(self, done: int, total: int) -> None:
        self.progress.max = total
        self.progress.value = done


def whole_number(
    description: str, width: int, value: int, low: int, high: int
) -> widgets.BoundedIntText:
    """A field for a whole number."""
    return control(widgets.BoundedIntText, description, width, value=value, min=low, max=high)


def as_table(rows: Rows) -> str:
    """HTML of a table whose first row is its header; empty without rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in rows[1:]
    )
    return f'<table class="blendmask-table"><tr>{head}</tr>{body}</table>'
