"""Figures of chapters 03 and 04 show the numbers that they are given."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.colors import to_hex

from blendmask_lite.figures import (
    ambiguity_figure,
    boxes_figure,
    centerness_figure,
    claims_figure,
    loss_and_gradient_figure,
    shares_figure,
    sides_figure,
)
from blendmask_lite.figures.style import object_color

IMAGE = torch.full((3, 32, 48), 100, dtype=torch.uint8)


def words(figure):
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    return " ".join([*texts, *(ax.get_title() for ax in figure.axes)])


def test_boxes_are_outlined_and_named_in_their_objects_colours():
    boxes = torch.tensor([[2.0, 4.0, 20.0, 30.0], [10.0, 8.0, 40.0, 24.0]])
    figure = boxes_figure(IMAGE, boxes=boxes, names=["1: cup", "2: fish"])
    outlines = figure.axes[0].patches
    assert [each.get_bbox().extents.tolist() for each in outlines] == boxes.tolist()
    assert [to_hex(each.get_edgecolor()) for each in outlines] == [object_color(0), object_color(1)]
    assert "1: cup 2: fish" in words(figure) and "2 boxes: 1: cup, 2: fish" in figure.get_label()
    assert "0 boxes: none" in boxes_figure(IMAGE, boxes=torch.zeros(0, 4), names=[]).get_label()


def test_sides_are_arrows_from_the_location_to_the_box():
    # From (20, 12) in the box 10 to 40, 4 to 30: l 10, t 8, r 20, b 18; the other box begins 2 px
    # to the right.
    figure = sides_figure(
        IMAGE,
        location=torch.tensor([20.0, 12.0]),
        boxes=torch.tensor([[10.0, 4.0, 40.0, 30.0], [22.0, 4.0, 40.0, 30.0]]),
        ltrb=torch.tensor([[10.0, 8.0, 20.0, 18.0], [-2.0, 8.0, 20.0, 18.0]]),
        names={0: "inside", 1: "outside"},
    )
    ends = [[text.xy for text in ax.texts if not text.get_text()] for ax in figure.axes]
    assert ends[0] == [(10, 12), (20, 4), (40, 12), (20, 30)]
    assert ends[1][0] == (22, 12)
    assert "l = 10" in words(figure) and "l = -2" in words(figure)
    assert "outside: l -2, t 8, r 20, b 18" in figure.get_label()


def test_claims_are_shown_by_rule_and_level():
    fine, coarse = torch.tensor([[0, 1, 2], [5, 0, 0]]), torch.tensor([[1]])
    figure = claims_figure(
        {"whole boxes": [fine, coarse], "central": [fine * 0, coarse * 0]},
        strides=(8, 16),
        level_names=("p3", "p4"),
    )
    shown = [ax.images[0] for ax in figure.axes if ax.images]
    assert shown[0].get_array().tolist() == [[0, 1, 2], [3, 0, 0]]
    assert shown[0].get_extent() == [0, 24, 16, 0] and shown[1].get_extent() == [0, 16, 16, 0]
    assert "p3: 2 by several" in words(figure)
    assert "whole boxes: 2 locations" in figure.get_label()
    assert "central: 0 locations" in figure.get_label()


def test_ambiguity_is_drawn_as_numbers_and_per_cent():
    figure = ambiguity_figure({"one level": (110.0, 0.35), "three levels": (40.0, 0.03)})
    number, share = figure.axes
    assert [bar.get_width() for bar in number.patches] == [110, 40]
    assert [bar.get_width() for bar in share.patches] == pytest.approx([35, 3])
    assert "locations a picture: one level 110, three levels 40" in figure.get_label()
    assert ambiguity_figure({"nothing": (0.0, 0.0)}).axes


# Chapter 04


def test_loss_and_gradient_are_drawn_with_gaps_where_they_are_not_finite():
    x = torch.tensor([0.0, 1.0, 2.0])
    loss, gradient = torch.tensor([math.inf, 2.0, 1.0]), torch.tensor([0.0, -1.0, -0.5])
    figure = loss_and_gradient_figure(
        x,
        {"IoU": (loss, gradient)},
        x_label="distance, pixels",
        gradient_label="per pixel",
        mark=1.0,
        mark_label="here",
        largest_gradient=0.8,
    )
    left, right = figure.axes
    line = left.lines[0].get_ydata()
    assert math.isnan(line[0]) and list(line[1:]) == [2, 1]
    assert list(right.lines[0].get_ydata()) == [0, -1, -0.5]
    assert list(left.lines[1].get_xdata()) == [1, 1]
    assert "IoU: loss 1 to 2, gradient -1 to 0" in figure.get_label()


def test_shares_fill_their_bars():
    figure = shares_figure(
        {
            "cross entropy": {"background": 3.0, "objects": 1.0},
            "focal": {"background": 1.0, "objects": 1.0},
        },
        label="% of the loss",
    )
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([75, 25, 50, 50])
    assert [bar.get_x() for bar in figure.axes[0].patches] == pytest.approx([0, 75, 0, 50])
    assert "75.0 %" in words(figure)
    assert "cross entropy: background 75.0 %, objects 25.0 %" in figure.get_label()
    assert shares_figure({"nothing": {"background": 0.0}}, label="%").axes


def test_centerness_is_a_map_and_a_curve_with_its_floor():
    p = torch.tensor([0.1, 0.5, 0.9])
    figure = centerness_figure(
        torch.eye(4),
        box=(0, 0, 4, 4),
        location=(1.0, 2.0),
        probabilities=p,
        losses=torch.tensor([2.0, 0.7, 1.1]),
        floor=0.69,
        predicted=0.9,
    )
    assert figure.axes[0].images[0].get_array().tolist() == torch.eye(4).tolist()
    curve, floor, prediction = figure.axes[1].lines
    assert list(curve.get_ydata()) == pytest.approx([2, 0.7, 1.1])
    assert floor.get_ydata()[0] == 0.69 and prediction.get_xdata()[0] == 0.9
    assert "at x 1, y 2 the loss is least, 0.69" in figure.get_label()
