"""Green answers are kept, and become a model of the student's own."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from blendmask_lite import course
from blendmask_lite.course import student
from blendmask_lite.course.answers import (
    Answer,
    answers_lock,
    answers_path,
    capture,
    keep_answer,
    load_answers,
)
from blendmask_lite.course.exercises import find_exercise


@pytest.fixture(autouse=True)
def fresh_student(tmp_path, monkeypatch):
    """No test sees another's answers, nor those of whoever runs the tests."""
    monkeypatch.setenv("BLENDMASK_PROGRESS", str(tmp_path / "home" / "progress.json"))
    monkeypatch.chdir(tmp_path)
    student.forget_students()
    yield
    student.forget_students()


CELLS = iter(range(1_000_000))


def run_cell(code: str, names: dict | None = None) -> dict:
    """Run a cell as a notebook does: `inspect` finds its source, and its module is __main__."""
    path = Path(f"cell_{next(CELLS)}.py")
    path.write_text(code)
    names = {"__name__": "__main__"} if names is None else names
    exec(compile(code, str(path.resolve()), "exec"), names)
    return names


START = "import torch\nfrom blendmask_lite.course import exercise\n\n"
BLEND = '@exercise("09.3")\ndef blend(crops, scores):\n    return (crops * scores).sum(1)\n'


# The answers


def test_green_answer_is_kept_with_its_source():
    run_cell(START + BLEND)
    assert course.check("09.3").status == "green"
    assert load_answers()["09.3"].source == BLEND.split("\n", 1)[1].rstrip()


def test_answer_that_is_edited_and_red_again_stays_kept(capsys):
    run_cell(START + BLEND)
    course.check("09.3")
    run_cell(START + BLEND.replace(".sum(1)", ".mean(1)"))
    result = course.check("09.3")
    assert result.status == "red"
    assert "your last green answer is kept" in capsys.readouterr().out
    assert ".sum(1)" in load_answers()["09.3"].source


def test_another_green_answer_replaces_the_first_which_stays_as_an_earlier_one():
    versions = (BLEND, BLEND.replace(".sum(1)", ".sum(dim=1)"), BLEND)
    for version in versions:
        run_cell(START + version)
        assert course.check("09.3").status == "green"
    kept = load_answers()["09.3"]
    assert ".sum(1)" in kept.source
    assert [".sum(dim=1)" in one for one in kept.earlier] == [False, True]


def test_helpers_constants_and_imports_of_the_cell_are_kept_and_other_answers_by_name():
    cell = """
import math
from torch import Tensor
from torch.nn import functional as fun

SCALE = 2 * math.pi
LIMIT = SCALE / SCALE


def half(x):
    return x / 2


def doubled(x: Tensor) -> Tensor:
    return LIMIT * half(4 * x)


@exercise("09.1")
def enlarge(attentions, size):
    return fun.interpolate(attentions, (size, size), mode="bilinear")


@exercise("09.2")
def score_maps(attentions: Tensor, size: int) -> Tensor:
    return doubled(enlarge(attentions, size) / 2).softmax(dim=1)
"""
    run_cell(START + cell)
    assert course.check("09.2").status == "green"
    kept = load_answers()["09.2"]
    assert kept.imports == {"Tensor": "from torch import Tensor", "math": "import math"}
    assert list(kept.helpers) == ["SCALE", "LIMIT", "half", "doubled"]
    assert kept.helpers["SCALE"] == "SCALE = 2 * math.pi"
    assert kept.answers == {"enlarge": "09.1"}
    assert kept.problem == ""


def test_name_without_a_source_is_reported():
    names = run_cell(START + "def answer(x):\n    return x + other\n")
    names["other"] = object()
    assert capture(names["answer"]).problem == "other"


def test_answers_survive_another_folder_and_a_new_process(tmp_path, monkeypatch):
    run_cell(START + BLEND)
    course.check("09.3")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(load_answers)["09.3"].name == "blend"


def keep_many(names):
    for name in names:
        with answers_lock():
            keep_answer(name, Answer(name="f", source=f"def f(): return {os.getpid()}"))


def test_two_notebooks_at_once_keep_the_answers_of_both():
    groups = [[f"0{n}.{i}" for i in range(10)] for n in (1, 2)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(keep_many, groups)
    assert sorted(load_answers()) == sorted(groups[0] + groups[1])


def test_unreadable_file_of_answers_is_kept_beside_the_new_one():
    run_cell(START + BLEND)
    path = answers_path()
    path.parent.mkdir()
    path.write_text('{"09.3": damaged')
    assert course.check("09.3").status == "green"
    assert list(json.loads(path.read_text())) == ["09.3"]
    assert path.with_name("progress_answers_unreadable.json").read_text() == '{"09.3": damaged'


def test_answer_is_green_although_its_folder_cannot_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLENDMASK_PROGRESS", str(tmp_path / "file" / "progress.json"))
    run_cell(START + BLEND)
    assert course.check("09.3").status == "green"
    assert "could not be kept" in capsys.readouterr().out


def test_nothing_is_kept_without_progress(monkeypatch):
    monkeypatch.setenv("BLENDMASK_PROGRESS", "off")
    run_cell(START + BLEND)
    assert course.check("09.3").status == "green"
    assert answers_path() is None and load_answers() == {}


# Classes as exercises


def test_solution_of_every_exercise_can_be_kept():
    for exercise in course.exercises.all_exercises():
        assert capture(exercise.solution).problem == "", exercise.id
    assert capture(find_exercise("09.2").solution).answers == {"enlarge": "09.1"}
