"""What all widgets of the lab share: a frame with a heading, and one line for messages and errors.

Chapter: the lab. Jupyter drops what a callback raises; here it is caught and shown, the state kept.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import anywidget
import ipywidgets as widgets
from traitlets import Enum, Unicode

__all__ = ["STATIC", "LabWidget", "MessageLine", "shows_errors"]

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


class LabWidget(widgets.VBox):
    """The frame of a widget of the lab: heading, contents, message line.

    A subclass builds its controls in `__init__`, calls `super().__init__(title=...)` first and
    `arrange` last, decorates its callbacks with `shows_errors`, and puts what takes memory
    (models, tensors) into attributes that it deletes in `free`.

    Args:
        title: the heading, also the label for screen readers.
    """

    def __init__(self, *, title: str) -> None:
        super().__init__()
        self.title = title
        self.message = MessageLine()
        self.is_closed = False
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


def _close_inside(box: widgets.Box) -> None:
    for child in box.children:
        if isinstance(child, widgets.Box):
            _close_inside(child)
            child.children = ()
        child.unobserve_all()
        child.close()
