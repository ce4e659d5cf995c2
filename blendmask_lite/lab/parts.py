"""The common parts of the lab's widgets: a frame with a heading, controls, figures, messages.

A line in the frame shows messages and errors. `FigurePanel`, the simplest widget of the lab, gives
a figure a control for each of its arguments.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

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
    "bundle",
    "button",
    "check_index",
    "checkbox",
    "control",
    "image_choice",
    "note",
    "offer",
    "row",
    "shows_errors",
    "slider",
    "toggle",
    "wide",
]


STATIC = Path(__file__).parent / "static"
# In a bundle: imports of files that come earlier in it, and exports that anywidget would take.
OWN_IMPORTS = re.compile(r'^import [^;]+ from "\./[\w.]+";\n', re.MULTILINE)
OWN_EXPORT = re.compile(r"^export default [^\n]+\n", re.MULTILINE)
# The messages of these errors say what to do; other errors are shown with type and traceback.
PLAIN_ERRORS = (ValueError, OSError)

W = TypeVar("W", bound="LabWidget")
P = ParamSpec("P")
T = TypeVar("T")


def bundle(*names: str) -> str:
    """Files of `static/` as the one module that anywidget loads, the widget's own file last.

    In the files, a module imports from `./NAME`, so a page can also load them as they are.
    """
    *others, last = (OWN_IMPORTS.sub("", (STATIC / name).read_text("utf-8")) for name in names)
    return "\n".join([*(OWN_EXPORT.sub("", other) for other in others), last])


class MessageLine(anywidget.AnyWidget):
    """One line that screen readers announce when it changes; while empty, it takes no space."""

    _esm = STATIC / "messages.js"
    _css = STATIC / "lab.css"
    text = Unicode("").tag(sync=True)
    kind = Enum(["info", "warning", "error"], "info").tag(sync=True)
    details = Unicode("").tag(sync=True)  # the traceback of an unexpected error, collapsed

    def __init__(self) -> None:
        super().__init__()
        self.num_shown = 0  # number of messages so far; a change tells that a callback showed one

    def show(self, text: str, kind: str = "info", details: str = "") -> None:
        """Replace the message with plain text; `details` are further lines, collapsed at first."""
        self.num_shown += 1
        with self.hold_sync():
            self.text, self.kind, self.details = text, kind, details

    def fail(self, error: Exception) -> None:
        """Show an error's message, and for an unexpected error also where it happened."""
        if isinstance(error, PLAIN_ERRORS):
            self.show(str(error), "error")
            return
        place = "".join(traceback.format_exception(error))
        self.show(f"{type(error).__name__}: {error}", "error", place)

    def clear(self) -> None:
        """Remove the message."""
        self.text = self.details = ""


def shows_errors(
    method: Callable[Concatenate[W, P], T],
) -> Callable[Concatenate[W, P], T | None]:
    """Decorate a callback of a `LabWidget` so that errors appear in the widget's message line.

    The method must change the widget's state last, in one assignment: an error then leaves the
    old state. The decorated method returns None if it fails or if the widget is closed.
    """

    def guarded(self: W, /, *args: P.args, **named: P.kwargs) -> T | None:
        if self.is_closed:  # the event was still on its way
            return None
        try:
            return method(self, *args, **named)
        except Exception as error:
            self.message.fail(error)
            return None

    return functools.update_wrapper(guarded, method)


class LabWidget(widgets.VBox):
    """The frame of a widget of the lab: heading, contents, message line.

    In `__init__`, a subclass first calls `super().__init__(title=...)`, then builds its controls
    and connects them with `when`, and finally calls `arrange`. It keeps models and tensors in
    attributes that it deletes in `free`.

    Args:
        title: the heading, which is also the label for screen readers.
    """

    def __init__(self, *, title: str) -> None:
        super().__init__()
        self.title = title
        self.message = MessageLine()
        self.is_closed = False
        self._is_setting = False
        self.add_class("blendmask-lab")

    def arrange(self, *contents: widgets.Widget) -> None:
        """Put the contents between the heading and the message line."""
        heading = widgets.Label(self.title)
        heading.add_class("blendmask-lab-title")
        self.children = (heading, *contents, self.message)

    def say(self, text: str, kind: Literal["info", "warning", "error"] = "info") -> None:
        """Show a message in the widget's line."""
        self.message.show(text, kind)

    def when(self, *sources: widgets.Widget, do: Callable[[], object]) -> None:
        """Call `do` when a button is pressed or a control changes.

        Errors appear in the message line. A successful call removes an older message, unless it
        left a new one.
        """

        def react(_event: Any) -> None:
            if self._is_setting or self.is_closed:
                return
            num_shown = self.message.num_shown
            try:
                do()
            except Exception as error:
                self.message.fail(error)
            if self.message.num_shown == num_shown:
                self.message.clear()

        for source in sources:
            if isinstance(source, widgets.Button):
                source.on_click(react)
            elif isinstance(source, widgets.Tab):
                source.observe(react, "selected_index")
            else:
                source.observe(react, "value")

    @contextmanager
    def setting(self) -> Iterator[None]:
        """Let the `with` block set controls without calling what `when` connected to them."""
        before, self._is_setting = self._is_setting, True
        try:
            yield
        finally:
            self._is_setting = before

    @shows_errors
    def save_view(self, view: FigureView, kind: str) -> None:
        """Make the browser save a figure; this is the callback for `FigureView.on_save`."""
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
    """A button as wide as its label."""
    return widgets.Button(
        icon=icon, description=description, tooltip=tooltip, layout=widgets.Layout(width="auto")
    )


def wide(pixels: int) -> widgets.Layout:
    """A layout of this width, or of the window's width if that is smaller."""
    return widgets.Layout(width=f"{pixels}px", max_width="100%")


def control(kind: Callable[..., Any], description: str, width: int, **settings: Any) -> Any:
    """An ipywidgets control with its description; `width` is their total width, CSS pixels."""
    return kind(description=description, layout=wide(width), style=SHORT, **settings)


def slider(
    description: str,
    width: int,
    value: float,
    low: float,
    high: float,
    step: float = 1,
    **settings: Any,
) -> widgets.IntSlider | widgets.FloatSlider:
    """A slider for whole numbers, or for fractions if `step` is a fraction."""
    kind = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    limits = {"value": value, "min": low, "max": high, "step": step}
    return control(kind, description, width, **limits, **settings)


def checkbox(description: str, value: bool = False) -> widgets.Checkbox:
    """A checkbox as wide as its label."""
    layout = widgets.Layout(width="auto")
    return widgets.Checkbox(value, description=description, indent=False, layout=layout)


def toggle(description: str, options: Any, **settings: Any) -> widgets.ToggleButtons:
    """A few buttons, one of which is selected; each is as wide as its label."""
    style = {**SHORT, "button_width": "auto"}
    return widgets.ToggleButtons(options=options, description=description, style=style, **settings)


def note(text: str = "") -> widgets.HTML:
    """Text between the controls, as HTML."""
    html = widgets.HTML(text)
    html.add_class("blendmask-lab-note")
    return html


def offer(choice: widgets.Dropdown, names: Sequence[str], chosen: int | None) -> None:
    """Fill a dropdown with names whose values are 0, 1, ..., and select one."""
    options = tuple((name, index) for index, name in enumerate(names))
    if tuple(choice.options) != options:
        choice.options = options
    choice.value = chosen


def image_choice(num_images: int) -> widgets.Dropdown:
    """A dropdown of images, shown as 1, 2, ..., with the values 0, 1, ..."""
    choice = control(widgets.Dropdown, "image", 130)
    offer(choice, [str(index + 1) for index in range(num_images)], 0)
    return choice


def check_index(name: str, index: int, total: int) -> None:
    """Refuse an index outside 0 to `total` - 1.

    Raises:
        ValueError: the index is outside; the message gives name, index and total.
    """
    if not 0 <= index < total:
        raise ValueError(f"{name} {index}: there are {total}, counted from 0")


def row(*controls: widgets.Widget) -> widgets.HBox:
    """Controls side by side, wrapped into several lines if the window is narrow."""
    layout = widgets.Layout(flex_flow="row wrap", align_items="center", overflow="visible")
    return widgets.HBox(list(controls), layout=layout)


KINDS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}


class FigureView(anywidget.AnyWidget):
    """Shows one figure with buttons that save it, or a text in its place."""

    _esm = STATIC / "figure.js"
    _css = STATIC / "figure.css"
    png = Bytes(b"").tag(sync=True)
    text = Unicode("").tag(sync=True)  # alternative text; read out when it changes

    def __init__(self) -> None:
        super().__init__()
        self._make: Callable[[], Figure] | None = None
        self._callback: Callable[[FigureView, str], object] | None = None
        self.on_msg(self._receive)

    def show(self, make: Callable[[], Figure]) -> None:
        """Draw the figure that `make` returns; its label becomes the alternative text.

        `make` is called now, and again whenever the figure is saved.
        """
        figure = make()
        content = figure_file(figure, ".png", dpi=110)
        self._make = make
        with self.hold_sync():
            self.png, self.text = content, str(figure.get_label())

    def say(self, text: str) -> None:
        """Show text instead of a figure."""
        self._make = None
        with self.hold_sync():
            self.png, self.text = b"", text

    def on_save(self, callback: Callable[[FigureView, str], object]) -> None:
        """Call `callback` with this view and "png", "svg" or "pdf" when a button is pressed."""
        self._callback = callback

    def save(self, kind: str, *, width: float | str | None = None) -> None:
        """Make the browser save the figure, if one is shown.

        Args:
            kind: "png", "svg" or "pdf".
            width: as in `fit_figure`; None keeps the displayed width.

        Raises:
            ValueError: the kind or the width is invalid.
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
        """Remove the view from the page and drop its picture in kernel and page."""
        self._callback = None
        self.say("")
        super().close()

    def _receive(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if self._callback is not None:
            self._callback(self, str(content.get("save")))


class FigurePanel(LabWidget):
    """The figure of a plain function, redrawn whenever a control changes.

    Args:
        make: function that returns a figure, whose label becomes the alternative text. It is called
            with the controls' values as keyword arguments.
        title: the heading.
        controls: a widget with a `value` and a description for each argument of `make`.
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
        """Draw the figure for the current values; if that fails, the old figure stays."""
        values = {name: widget.value for name, widget in self.controls.items()}
        self.view.show(lambda: self._make(**values))

    def free(self) -> None:
        """Drop the function and everything that it holds."""
        del self._make
