"""The course's parts: comparing results, stubs in cells, progress, badges and the budget."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from blendmask_lite import course
from blendmask_lite.course import checking
from blendmask_lite.course.checking import first_difference
from blendmask_lite.course.definition import Case, Exercise, WrongAnswer, task
from blendmask_lite.course.display import Note
from blendmask_lite.course.exercises import all_exercises, find_exercise
from blendmask_lite.course.progress import load_progress, record
from blendmask_lite.course.source import exercises_in, is_bare_stub, replace_exercise

EXERCISES = {exercise.id: exercise for exercise in all_exercises()}


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """No test sees the progress file of whoever runs the tests."""
    monkeypatch.setenv("BLENDMASK_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.chdir(tmp_path)  # away from the notebooks
    monkeypatch.setattr(checking, "_hints_given", {})


@pytest.mark.parametrize(
    "body", ["...", "pass", "return", "return None", "raise NotImplementedError()"]
)
def test_bare_stub_is_recognised(body):
    assert is_bare_stub(f'def f(x):\n    """Doc."""\n    {body}\n')
    assert not is_bare_stub(f"def f(x):\n    y = x\n    {body}\n")


# Comparing


def test_shapes_are_compared_with_their_letters():
    lines = first_difference(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2), axes="N, K, R, R")
    assert lines == ("expected shape (1, 4, 2, 2)  (N, K, R, R)", "your shape     (1, 2, 2)")


@pytest.mark.parametrize(
    ("expected", "got", "word"),
    [
        (torch.zeros(2), None, "return"),
        (torch.zeros(2), [0, 0], "list"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), "float64"),
        (torch.zeros(2), torch.tensor([0.0, torch.nan]), "not finite"),
        (torch.zeros(2, dtype=torch.bool), torch.tensor([False, True]), "True"),
        (1.5, 1.6, "1.6"),
        (1.5, "x", "str"),
        ([1, 2], [1], "length"),
        ((1, 2), (1, 3), "entry 1"),
        ({"a": 1}, {"a": 2}, "entry 'a'"),
        ({"a": 1}, {"b": 1}, "keys"),
        (True, 1, "True"),
    ],
)
def test_difference_is_named(expected, got, word):
    assert word in "\n".join(first_difference(expected, got))


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (torch.zeros(0, 4), torch.zeros(0, 4)),
        (torch.ones(2), torch.ones(2) + 1e-6),
        (1.0, torch.tensor(1.0)),
        ([torch.ones(1), 2], [torch.ones(1), 2]),
    ],
)
def test_equal_results_have_no_difference(expected, got):
    assert first_difference(expected, got) == ()


# Hints, solutions, progress


def test_hints_come_one_after_the_other(capsys):
    for step in (1, 2, 3, 3):
        course.hint("09.2")
        assert f"Hint {step} of 3" in capsys.readouterr().out
    course.hint("09.2", 1)
    assert "Hint 1 of 3" in capsys.readouterr().out
    with pytest.raises(ValueError, match="hints 1 to 3"):
        course.hint("09.2", 4)
    assert load_progress()["09.2"].hints == 3


def test_solution_shows_code_and_is_noted(capsys):
    course.solution("09.3")
    said = capsys.readouterr().out
    assert '@exercise("09.3")\ndef blend(' in said and "(crops * scores).sum(dim=1)" in said
    assert load_progress()["09.3"].saw_solution


def test_progress_of_a_chapter_shows_its_own_exercises():
    record("09.3", is_solved=True, attempts=1)
    table = course.progress("09")
    assert [row[0] for row in table.rows()] == ["09.1", "09.2", "09.3", "09.4", "09.5"]
    assert table.num_solved == 1
    assert len(course.progress().rows()) > 4
    with pytest.raises(ValueError, match=r"'00': those with exercises are .*09, 10"):
        course.progress("00")


def test_progress_counts_attempts_and_a_later_red_takes_nothing_away():
    record("09.1", attempts=1, is_solved=True)
    record("09.1", attempts=1)
    entry = load_progress()["09.1"]
    assert (entry.attempts, entry.is_solved) == (2, True)
    table = course.progress()
    assert table.num_solved == 1
    assert "09.1" in str(table)
    assert "solved" in table._repr_html_()


def test_broken_or_forbidden_progress_file_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "progress.json").write_text("{half a fi")
    assert load_progress() == {}
    monkeypatch.setenv("BLENDMASK_PROGRESS", str(tmp_path / "progress.json" / "below"))
    record("09.1", attempts=1)
    monkeypatch.setenv("BLENDMASK_PROGRESS", "off")
    record("09.1", attempts=1)
    assert course.progress().num_solved == 0


def _record_many(path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLENDMASK_PROGRESS", path)
        for _ in range(20):
            record("09.1", attempts=1)


def test_two_notebooks_at_once_lose_no_attempt(tmp_path):
    path = str(tmp_path / "shared.json")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_record_many, args=(path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert json.loads(Path(path).read_text())["09.1"]["attempts"] == 40


# Cells, badges, budget


def test_exercise_in_a_cell_is_replaced_and_the_rest_stays():
    cell = f"x = 1\n\n{EXERCISES['09.3'].stub_cell}\n\ny = 2"
    assert list(exercises_in(cell)) == ["09.3"]
    solved = replace_exercise(cell, "09.3", EXERCISES["09.3"].solution_cell)
    assert solved.startswith("x = 1\n\n@exercise")
    assert solved.endswith("\n\ny = 2")
    assert "NotImplementedError" not in solved
    assert replace_exercise(cell, "09.1", "") == cell


def test_badge_says_its_status_in_words_and_escapes_what_students_write():
    text = Note("red", "09.1", ("a < b",), code="<b>").to_html()
    assert "red" in text
    assert "a &lt; b" in text
    assert "&lt;b&gt;" in text


def test_budget_follows_the_environment(monkeypatch):
    monkeypatch.delenv("BLENDMASK_BUDGET", raising=False)
    assert course.budget(smoke=1, laptop=2, gpu=3) == 2
    monkeypatch.setenv("BLENDMASK_BUDGET", "gpu")
    assert course.budget(smoke=1, laptop=2, gpu=3) == 3
    monkeypatch.setenv("BLENDMASK_BUDGET", "huge")
    with pytest.raises(ValueError, match=r"'huge'.*smoke, laptop, gpu"):
        course.budget(smoke=1, laptop=2, gpu=3)


@pytest.mark.parametrize(("field", "value"), [("hints", ("a",)), ("wrong_answers", ())])
def test_impossible_definition_is_refused(field, value):
    @task("09.8", "t", minutes=5, difficulty=1)
    def solution():
        pass

    fields = {
        "solution": solution,
        "reference": is_bare_stub,
        "make_cases": lambda generator: [Case("")],
        "wrong_answers": (WrongAnswer(abs, "a"), WrongAnswer(abs, "b")),
        "hints": ("a", "b", "c"),
    }
    made = Exercise(**fields)
    assert (made.id, made.title, made.minutes, made.difficulty) == ("09.8", "t", 5, 1)
    with pytest.raises(ValueError, match="09.8: [01] " + field.replace("_", " ")):
        Exercise(**{**fields, field: value})


def test_a_task_has_an_id_of_chapter_and_number_and_a_difficulty_up_to_5():
    with pytest.raises(ValueError, match=r"id = '9\.2'"):
        task("9.2", "t", minutes=5, difficulty=1)
    with pytest.raises(ValueError, match="difficulty = 6"):
        task("09.2", "t", minutes=5, difficulty=6)


def test_wrong_answer_is_the_solution_with_its_pieces_replaced():
    def halve(number):
        """Not 2 in here."""
        return number / 2 + 2

    assert WrongAnswer({"2": "4"}, "").function(halve)(8) == 6  # 8 / 4 + 4
    assert WrongAnswer({"/ 2": "* 3", " + 2": ""}, "").function(halve)(8) == 24
    assert WrongAnswer(abs, "").function(halve) is abs
    with pytest.raises(ValueError, match=r"halve: its body has no 'Not'"):
        WrongAnswer({"Not": ""}, "").function(halve)


def test_find_exercise_gives_the_one_asked_for():
    assert find_exercise("10.2").name == "assemble"
