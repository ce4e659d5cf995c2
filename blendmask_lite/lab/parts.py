"""What the widgets of the lab share: a frame with a heading, controls, figures, and messages.

A line below the heading holds messages and errors. `FigurePanel` gives a figure a control for each
of its arguments: the smallest widget of the lab.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import anywidget
import ipywidgets as widgets
from matplotlib.figure import Figure
from traitlets import Bytes, Enum, Unicode

from blendmask_lite.figures.style import figure_file, fit_figure

__all__ = [
    "SHORT",
    "STATIC",
    "FigurePanel",
    "FigureView",
    "LabWidget",
    "MessageLine",
    "button",
    "checkbox",
    "control",
    "note",
    "offer",
    "row",
    "shows_errors",
    "toggle",
    "wide",
]


STATIC = Path(__file__).parent / "static"
# Errors that say by themselves what to do; of all others the kind and the place matter, too.
PLAIN_ERRORS = (ValueError, OSError)

W = TypeVar("W", bound="LabWidget")
P = ParamSpec("P")
T = TypeVar("T")


class MessageLine(anywidget.AnyWidget):
    """One line that screen readers announce when it changes; empty, it takes no room."""

    _esm = STATIC / "messages.js"
    _css = STATIC / "lab.css"
    text = Unicode("").tag(sync=True)
    kind = Enum(["info", "warning", "error"], "info").tag(sync=True)
    details = Unicode("").tag(sync=True)  # the traceback of an unexpected error, folded away

    def __init__(self) -> None:
        super().__init__()
        self.num_shown = 0  # messages so far: tells whether a callback left one

    def show(self, text: str, kind: str = "info", details: str = "") -> None:
        """Replace the message.

        Args:
            text: one sentence, as it is: no HTML.
            kind: "info", "warning" or "error".
            details: more lines, folded away.
        """
        self.num_shown += 1
        with self.hold_sync():
            self.text, self.kind, self.details = text, kind, details

    def fail(self, error: Exception) -> None:
        """Show an error: its own words, and for an unexpected one where it happened."""
        if isinstance(error, PLAIN_ERRORS):
            self.show(str(error), "error")
            return
        place = "".join(traceback.format_exception(error))
        self.show(f"{type(error).__name__}: {error}", "error", place)

    def clear(self) -> None:
        """Remove the message."""
        self.text = self.details = ""


@overload
def shows_errors(
    method: Callable[Concatenate[W, P], T],
) -> Callable[Concatenate[W, P], T | None]: ...


@overload
def shows_errors(
    *, clears: bool
) -> Callable[[Callable[Concatenate[W, P], T]], Callable[Concatenate[W, P], T | None]]: ...


def shows_errors(method: Any = None, *, clears: bool = True) -> Any:
    """Decorate a method of a `LabWidget` that a control calls: errors appear in its message line.

    The method must change the widget's state last, in one assignment, so that an error leaves the
    old state. An older message is removed when the method ends well and left none of its own.

    Args:
        method: of a `LabWidget`.
        clears: False keeps older messages, for callbacks that come often, such as hovering.

    Returns:
        The method; it returns None where it failed.
    """
    if method is None:
        return functools.partial(shows_errors, clears=clears)

    @functools.wraps(method)
    def guarded(self: LabWidget, *args: Any, **named: Any) -> Any:
        if self.is_closed:  # an event that was on its way
            return None
        shown = self.message.num_shown
        try:
            result = method(self, *args, **named)
        except Exception as error:
            self.message.fail(error)
            return None
        if clears and self.message.num_shown == shown:
            self.message.clear()
        return result

    return guarded


class LabWidget(widgets.VBox):
    """The frame of a widget of the lab: heading, contents, message line.

    A subclass calls `super().__init__(title=...)` first in `__init__`, then builds its controls,
    connects them with `when`, and calls `arrange` last. It puts what takes memory (models,
    tensors) into attributes that it deletes in `free`.

    Args:
        title: the heading, also the label for screen readers.
    """

    def __init__(self, *, title: str) -> None:
        super().__init__()
        self.title = title
        self.message = MessageLine()
        self.is_closed = False
        self._is_setting = False
        self.add_class("blendmask-lab")

    def arrange(self, *contents: widgets.Widget) -> None:
        """Put the contents between heading and message line."""
        heading = widgets.Label(self.title)
        heading.add_class("blendmask-lab-title")
        self.children = (heading, *contents, self.message)

    def say(
        self, text: str, kind: Literal["info", "warning", "error"] = "info", details: str = ""
    ) -> None:
        """Show a message in the widget's line."""
        self.message.show(text, kind, details)

    def when(self, *sources: widgets.Widget, do: Callable[[], object]) -> None:
        """Call `do` when a button is pressed or a control changes; errors as in `shows_errors`."""

        @shows_errors
        def answer(_self: LabWidget) -> None:
            do()

        def react(_event: Any) -> None:
            if not self._is_setting:
                answer(self)

        for source in sources:
            if isinstance(source, widgets.Button):
                source.on_click(react)
            elif isinstance(source, widgets.Tab):
                source.observe(react, "selected_index")
            else:
                source.observe(react, "value")

    @contextmanager
    def setting(self) -> Iterator[None]:
        """Controls that are set inside it call nothing that `when` connected."""
        before, self._is_setting = self._is_setting, True
        try:
            yield
        finally:
            self._is_setting = before

    @shows_errors
    def save_view(self, view: FigureView, kind: str) -> None:
        """Let the browser save a figure: the callback for `FigureView.on_save`."""
        view.save(kind)

    def free(self) -> None:
        """Drop models, tensors and buffers; subclasses override it."""

    def close(self) -> None:
        """Remove the widget from the page, and free its model and buffers in kernel and page."""
        if self.is_closed:
            return
        self.is_closed = True
        self.free()
        _close_inside(self)
        self.children = ()
        super().close()


def _close_inside(box: widgets.Box) -> None:
    for child in box.children:
        if isinstance(child, widgets.Box):
            _close_inside(child)
            child.children = ()
        child.unobserve_all()
        child.close()


SHORT = {"description_width": "initial"}


def button(icon: str, description: str, tooltip: str) -> widgets.Button:
    """A button as wide as its text."""
    return widgets.Button(
        icon=icon, description=description, tooltip=tooltip, layout=widgets.Layout(width="auto")
    )


def wide(pixels: int) -> widgets.Layout:
    """So wide where there is room, and no wider than the window."""
    return widgets.Layout(width=f"{pixels}px", max_width="100%")


def control(kind: Callable[..., Any], description: str, width: int, **settings: Any) -> Any:
    """A control of ipywidgets beside its description, so many CSS pixels wide in all."""
    return kind(description=description, layout=wide(width), style=SHORT, **settings)


def checkbox(description: str, value: bool = False) -> widgets.Checkbox:
    """A box to tick, as wide as its text."""
    layout = widgets.Layout(width="auto")
    return widgets.Checkbox(value, description=description, indent=False, layout=layout)


def toggle(description: str, options: Any, **settings: Any) -> widgets.ToggleButtons:
    """A choice between a few, as wide as their names."""
    style = {**SHORT, "button_width": "auto"}
    return widgets.ToggleButtons(options=options, description=description, style=style, **settings)


def note() -> widgets.HTML:
    """Words between the controls."""
    html = widgets.HTML()
    html.add_class("blendmask-lab-note")
    return html


def offer(choice: widgets.Dropdown, names: Sequence[str], chosen: int | None) -> None:
    """Fill a dropdown with these names, whose values are 0, 1, ..., and select one."""
    options = tuple((name, index) for index, name in enumerate(names))
    if tuple(choice.options) != options:
        choice.options = options
    choice.value = chosen


def row(*controls: widgets.Widget) -> widgets.HBox:
    """Side by side, in several lines where the window is narrow."""
    layout = widgets.Layout(flex_flow="row wrap", align_items="center", overflow="visible")
    return widgets.HBox(list(controls), layout=layout)


KINDS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}


class FigureView(anywidget.AnyWidget):
    """Shows one figure with buttons that save it, or a sentence where there is none."""

    _esm = STATIC / "figure.js"
    _css = STATIC / "figure.css"
    png = Bytes(b"").tag(sync=True)
    text = Unicode("").tag(sync=True)  # alternative text; read out when it changes

    def __init__(self) -> None:
        super().__init__()
        self._make: Callable[[], Figure] | None = None
        self._callback: Callable[[FigureView, str], None] | None = None
        self.on_msg(self._receive)

    def show(self, make: Callable[[], Figure], *, dpi: float = 110) -> None:
        """Draw the figure that `make` gives; its label becomes the alternative text.

        Args:
            make: called now, and again whenever the figure is saved.
            dpi: of the picture in the page.
        """
        figure = make()
        content = figure_file(figure, ".png", dpi=dpi)
        self._make = make
        with self.hold_sync():
            self.png, self.text = content, str(figure.get_label())

    def say(self, text: str) -> None:
        """Words in the place of a figure."""
        self._make = None
        with self.hold_sync():
            self.png, self.text = b"", text

    def on_save(self, callback: Callable[[FigureView, str], None]) -> None:
        """Call `callback` with this view and "png", "svg" or "pdf" when a button is pressed."""
        self._callback = callback

    def save(self, kind: str, *, width: float | str | None = None) -> None:
        """Let the browser save the figure; nothing where there is none.

        Args:
            kind: "png", "svg" or "pdf".
            width: as in `fit_figure`; None is as shown.

        Raises:
            ValueError: another kind or width.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind}: {', '.join(KINDS)} are written")
        if self._make is not None:
            figure = self._make()
            if width is not None:
                fit_figure(figure, width)
            content = figure_file(figure, f".{kind}")
            self.send({"download": f"figure.{kind}", "kind": KINDS[kind]}, [content])

    def close(self) -> None:
        """Remove it from the page and drop the picture in both places."""
        self._callback = None
        self.say("")
        super().close()

    def _receive(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if self._callback is not None:
            self._callback(self, str(content.get("save")))


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
        self.view.on_save(self.save_view)
        self._make = make
        self.when(*controls.values(), do=self.draw)
        self.arrange(row(*controls.values()), self.view)
        self.draw()

    def draw(self) -> None:
        """Draw the figure for the present values; where that fails, the old one stays."""
        values = {name: widget.value for name, widget in self.controls.items()}
        self.view.show(lambda: self._make(**values))

    def free(self) -> None:
        """Drop the function with all that it holds."""
        del self._make
