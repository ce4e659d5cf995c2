"""The smallest widget of the lab: a figure that follows the controls of its arguments."""

from __future__ import annotations

import gc
import weakref

import ipywidgets as widgets

from blendmask_lite.figures.style import panels
from blendmask_lite.lab import Canvas, CanvasEvent, FigurePanel


def make(number, *, is_dark=False):
    if number == 3:
        raise ValueError("3 is no number of this test")
    return panels(1, number, description=f"{number} panels, dark {is_dark}")[0]


def panel_of(function=make) -> FigurePanel:
    number = widgets.IntSlider(1, 1, 4, description="panels")
    return FigurePanel(function, title="panels", number=number, is_dark=widgets.Checkbox())


def test_the_figure_follows_every_control():
    panel = panel_of()
    assert panel.view.text == "1 panels, dark False"
    before = panel.view.png
    panel.controls["number"].value = 2
    panel.controls["is_dark"].value = True
    assert panel.view.text == "2 panels, dark True"
    assert panel.view.png.startswith(b"\x89PNG") and panel.view.png != before


def test_an_error_is_shown_and_the_figure_stays_until_the_next_goes_well():
    panel = panel_of()
    panel.controls["number"].value = 3
    assert panel.message.text == "3 is no number of this test"
    assert panel.view.text == "1 panels, dark False"
    panel.controls["number"].value = 4
    assert panel.message.text == "" and panel.view.text == "4 panels, dark False"


def test_the_shown_figure_is_saved(monkeypatch):
    panel, sent = panel_of(), []
    monkeypatch.setattr(panel.view, "send", lambda content, buffers: sent.append(buffers[0]))
    panel.controls["number"].value = 2
    panel.view._receive(None, {"save": "svg"}, [])
    assert sent[0].startswith(b"<?xml")
    panel.view._receive(None, {"save": "doc"}, [])
    assert "doc" in panel.message.text


def test_closing_frees_the_function_and_controls_answer_nobody():
    class Drawing:
        def __call__(self, number, is_dark):
            return make(number)

    drawing = Drawing()
    panel, gone = panel_of(drawing), weakref.ref(drawing)
    slider = panel.controls["number"]
    panel.close()
    del drawing
    gc.collect()
    assert gone() is None and panel.view.png == b""
    slider.value = 2


def test_a_canvas_answers_an_event_from_code_as_one_of_the_page():
    canvas, seen = Canvas(), []
    canvas.act(CanvasEvent("hover"))  # nobody listens yet
    canvas.on_event(seen.append)
    event = CanvasEvent("paint", "attention 1", cells=((1, 2),))
    canvas.act(event)
    content = {"id": 1, "kind": "paint", "panel": "attention 1", "cells": [[1, 2]]}
    canvas._receive(None, content, [])
    assert seen == [event, event] and canvas.done == 1
