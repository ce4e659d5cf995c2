"""A figure with a control for each of its arguments: the smallest widget of the lab.

Chapter: the lab. For views that no larger widget has; ipywidgets' own `interactive` hides errors
and has no alternative text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from blendmask_lite.lab.controls import row
from blendmask_lite.lab.figure_view import FigureView
from blendmask_lite.lab.messages import LabWidget, shows_errors

__all__ = ["FigurePanel"]


class FigurePanel(LabWidget):
    """The figure of a plain function, drawn again whenever a control changes.

    Args:
        make: returns a figure; its label becomes the alternative text. Called with the value of
            every control by name.
        title: the heading.
        controls: a widget with a `value` for each argument of `make`, described so that the
            reader knows what it is.
    """

    def __init__(
        self, make: Callable[..., Figure], *, title: str, **controls: widgets.Widget
    ) -> None:
        super().__init__(title=title)
        self.controls = controls
        self.view = FigureView()
        self.view.on_save(self._on_save)
        self._make = make
        for control in controls.values():
            control.observe(self._on_change, "value")
        self.arrange(row(*controls.values()), self.view)
        self.draw()

    def draw(self) -> None:
        """Draw the figure for the present values; where that fails, the old one stays."""
        values = {name: control.value for name, control in self.controls.items()}
        self.view.show(lambda: self._make(**values))

    def free(self) -> None:
        """Drop the function with all that it holds."""
        del self._make

    @shows_errors
    def _on_change(self, _change: Any) -> None:
        self.draw()

    @shows_errors
    def _on_save(self, view: FigureView, kind: str) -> None:
        view.save(kind)
