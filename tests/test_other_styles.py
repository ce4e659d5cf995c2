"""The checks accept right answers in any style: loops, library calls, matrix products, in place."""

import ast
import inspect
from importlib import import_module

import pytest

from blendmask_lite.course.checking import judge
from blendmask_lite.course.exercises import all_exercises, chapter_exercises, chapters


def answers_of(chapter):
    """(exercise, answer) of the chapter's file, whose functions begin with an exercise's name."""
    names = {exercise.name: exercise for exercise in chapter_exercises(chapter)}
    found = []
    for name, function in vars(import_module(f"other_styles.ch{chapter}")).items():
        known = [each for each in names if name.startswith(f"{each}_")]
        if known:
            found.append((names[max(known, key=len)], function))
    return found


ANSWERS = [answer for chapter in chapters() for answer in answers_of(chapter)]


@pytest.mark.parametrize(
    ("exercise", "answer"), ANSWERS, ids=[f"{e.id}-{f.__name__}" for e, f in ANSWERS]
)
def test_right_answer_in_another_style_is_green(exercise, answer):
    for seed in range(3):
        result = judge(exercise, answer, seed=seed)
        assert result.status == "green", "\n".join(result.lines)


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_every_exercise_has_three_answers_in_other_styles(exercise):
    answers = [answer for one, answer in ANSWERS if one is exercise]
    assert len(answers) >= 3
    assert len({code_of(answer) for answer in [exercise.solution, *answers]}) == len(answers) + 1


def code_of(function):
    """The body as a syntax tree, without its docstring."""
    [definition] = ast.parse(inspect.getsource(function)).body
    has_docstring = ast.get_docstring(definition) is not None
    return "".join(ast.dump(statement) for statement in definition.body[has_docstring:])
