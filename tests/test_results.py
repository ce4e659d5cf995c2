"""The room's results: what is saved is read again, and what is damaged is named and left out."""

from __future__ import annotations

import json
import runpy
import sys

import pytest

from blendmask_lite.course.results import (
    Result,
    collect,
    draw,
    main,
    read_result,
    share_result,
)
from blendmask_lite.figures.room import room_figure

QUESTION = "12: mask AP, percent"


def share_room(folder):
    for seed, (name, ap, guess) in enumerate([("Ada", 45.2, 30), ("Bo", 43.1, 60), ("Çe", 47, 30)]):
        share_result(
            name, seed=seed, ap=ap, guesses={QUESTION: guess}, truths={QUESTION: ap}, folder=folder
        )


def test_what_is_shared_is_read_again(tmp_path):
    path = share_result("Ada & Bo", seed=3, ap=45.2, guesses={QUESTION: 30}, folder=tmp_path)
    assert path == tmp_path / "result_Ada_Bo.json"
    assert read_result(path) == Result("Ada & Bo", 3, 45.2, {QUESTION: 30})
    share_result("Ada & Bo", seed=3, ap=46.0, folder=tmp_path)  # the later one counts
    assert [each.ap for each in collect(tmp_path).results] == [46.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "x" * 61}, "name"),
        ({"seed": -1}, "seed -1"),
        ({"seed": True}, "seed True"),
        ({"ap": 101}, "ap 101"),
        ({"ap": float("nan")}, "ap nan"),
        ({"guesses": {QUESTION: "many"}}, "'many' is no finite number"),
        ({"truths": [3]}, "truths"),
    ],
)
def test_numbers_that_no_figure_could_show_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Result(**{"name": "Ada", **values})


DAMAGED = {
    "result_cut.json": ('{"name": "Ada", "ap"', "is no JSON"),
    "result_list.json": ("[1, 2]", "is no result"),
    "result_other.json": ('{"name": "Ada", "grade": 1}', "is no result"),
    "result_text.json": ('{"name": "Ada", "ap": "45"}', "ap '45'"),
    "result_huge.json": ('{"name": "Ada", "ap": 1e999}', "ap inf"),
    "result_long.json": (
        json.dumps({"name": "A", "guesses": {"x" * 10**5: 1}}),
        "more than 100000",
    ),
    "result_deep.json": ("[" * 50_000, "is no JSON"),
}


def test_damaged_files_are_named_and_the_others_drawn(tmp_path, capsys):
    share_room(tmp_path)
    for name, (text, _) in DAMAGED.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "result_latin.json").write_bytes(b'{"name": "\xe9"}')
    (tmp_path / "result_folder.json").mkdir()
    (tmp_path / "notes.json").write_text("not a result")
    assert main([str(tmp_path), "-o", str(tmp_path / "room.png")]) == 0
    said = capsys.readouterr()
    for name, (_, reason) in (DAMAGED | {"result_latin.json": (0, "UTF-8")}).items():
        [line] = [line for line in said.err.splitlines() if name in line]
        assert line.startswith("left out: ") and reason in line
    assert "result_folder.json" in said.err and "notes.json" not in said.err
    assert said.out.startswith("3 results: ")
    assert (tmp_path / "room.png").read_bytes().startswith(b"\x89PNG")


def test_copies_count_once_and_seeds_that_several_took_are_named(tmp_path, capsys):
    share_room(tmp_path)
    (tmp_path / "again").mkdir()
    share_result("Ada", seed=0, ap=45.2, guesses={QUESTION: 30}, truths={QUESTION: 45.2},
                 folder=tmp_path / "again")  # fmt: skip
    share_result("Dan", seed=1, ap=43.1, folder=tmp_path)
    collected = collect(tmp_path)
    assert len(collected.results) == 4
    [reason] = collected.skipped.values()
    assert "the same" in reason
    assert collected.shared_seeds() == {1: ["Bo", "Dan"]}


def test_figure_has_a_row_for_every_run_and_a_panel_for_every_question(tmp_path):
    share_room(tmp_path)
    share_result("Eve", guesses={QUESTION: 10, "00: objects": 5}, folder=tmp_path)
    figure = draw(collect(tmp_path))
    runs, first, second = figure.axes
    labels = [label.get_text() for label in runs.get_yticklabels()]
    assert labels == ["Bo, seed 1", "Ada, seed 0", "Çe, seed 2"]  # from the worst to the best
    # (45.2 + 43.1 + 47) / 3 = 45.1; 43.1 differs by 2, 45.2 by 0.1, 47 by 1.9.
    [line] = [each for each in runs.lines if len(set(each.get_xdata())) == 1]
    assert line.get_xdata()[0] == pytest.approx(45.1)
    panels = {ax.get_xlabel(): ax for ax in (first, second)}
    guesses, truth = panels[QUESTION].lines
    assert list(guesses.get_xdata()) == [10, 30, 30, 60]
    assert list(guesses.get_ydata())[1:3] == [0, pytest.approx(0.16)]  # equal ones stay apart
    assert truth.get_xdata()[0] == 45.2  # the median of 43.1, 45.2 and 47
    assert len(panels["00: objects"].lines) == 1
    assert "3 runs from 43.1 to 47.0" in figure.get_label()


def test_room_without_a_number_is_said(tmp_path, capsys):
    share_result("Ada", folder=tmp_path)
    assert main([str(tmp_path)]) == 1
    assert main([str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "results: neither scores nor guesses: nothing to draw"
    assert said[1].endswith("none: is no folder")
    assert len(room_figure({"Ada": 40}, {}).axes) == 1


def test_results_are_collected_by_one_command(tmp_path, monkeypatch, capsys):
    share_room(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["results", "."])
    monkeypatch.delitem(sys.modules, "blendmask_lite.course.results")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("blendmask_lite.course.results", run_name="__main__")
    assert capsys.readouterr().out == "3 results: room.png\n"
