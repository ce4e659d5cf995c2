"""Bars of costs: every number is drawn and written, and told to those who cannot see it."""

from __future__ import annotations

import pytest

from blendmask_lite.figures import cost_bars_figure

MEASURES = {
    "weights, millions": {"narrow": 1.4, "wide": 3.54},
    "channels": {"narrow": 4.0, "wide": 7938.0},
}


def test_every_number_is_a_bar_and_is_written_beside_it():
    figure = cost_bars_figure(MEASURES, logarithmic=["channels"])
    for ax, (name, each) in zip(figure.axes, MEASURES.items(), strict=True):
        assert [bar.get_width() for bar in ax.patches] == list(each.values())
        assert ax.get_xlabel() == name
    assert [text.get_text() for text in figure.axes[1].texts] == ["4", "7,938"]
    assert [ax.get_xscale() for ax in figure.axes] == ["linear", "log"]


def test_rows_stand_in_the_order_given_and_are_named_once():
    figure = cost_bars_figure(MEASURES)
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["narrow", "wide"]
    assert {label.get_text() for label in second.get_yticklabels()} == {""}
    low, high = first.get_ylim()
    assert low > high  # the first row on top


def test_the_description_holds_the_numbers():
    label = cost_bars_figure(MEASURES, title="Two modules").get_label()
    assert "Two modules" in label and "wide 7,938" in label


def test_many_measures_still_fit_a_notebook():
    figure = cost_bars_figure({f"measure {i}": {"one": 1.0} for i in range(4)})
    assert figure.get_figwidth() <= 9


@pytest.mark.parametrize("measures", [{}, {"a": {}}, {"a": {"x": 1.0}, "b": {"y": 1.0}}])
def test_measures_of_different_things_are_refused(measures):
    with pytest.raises(ValueError, match="same rows"):
        cost_bars_figure(measures)
