"""The small pieces that the controls of all widgets are made of, so that they look alike."""

from __future__ import annotations

import ipywidgets as widgets

__all__ = ["SHORT", "button", "row", "wide"]

SHORT = {"description_width": "initial"}


def button(icon: str, description: str, tooltip: str) -> widgets.Button:
    """A button as wide as its text."""
    return widgets.Button(
        icon=icon, description=description, tooltip=tooltip, layout=widgets.Layout(width="auto")
    )


def wide(pixels: int) -> widgets.Layout:
    """So wide where there is room, and no wider than the window."""
    return widgets.Layout(width=f"{pixels}px", max_width="100%")


def row(*controls: widgets.Widget) -> widgets.HBox:
    """Side by side, in several lines where the window is narrow."""
    layout = widgets.Layout(flex_flow="row wrap", align_items="center", overflow="visible")
    return widgets.HBox(list(controls), layout=layout)
