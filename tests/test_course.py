"""Exercises: stubs are amber, solutions green, typical mistakes red, and nothing blocks."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite import course
from blendmask_lite.course import checking, student
from blendmask_lite.course.checking import first_difference, judge
from blendmask_lite.course.definition import Exercise, WrongAnswer
from blendmask_lite.course.exercises import all_exercises
from blendmask_lite.course.progress import load_progress
from blendmask_lite.course.source import is_bare_stub, stub_source

EXERCISES = {exercise.id: exercise for exercise in all_exercises()}
WRONG = [(e.id, wrong) for e in EXERCISES.values() for wrong in e.wrong_answers]


@pytest.fixture(autouse=True)
def fresh_student(tmp_path, monkeypatch):
    """No test sees another's answers, nor the progress file of whoever runs the tests."""
    monkeypatch.setenv("BLENDMASK_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.chdir(tmp_path)  # away from the notebooks
    monkeypatch.setattr(checking, "_hints_given", {})
    student.forget_students()
    yield
    student.forget_students()


def cases_of(exercise: Exercise, seed: int = 1):
    return exercise.make_cases(torch.Generator().manual_seed(seed))


# Every exercise of the course


@pytest.mark.parametrize("exercise_id", EXERCISES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_solution_is_green(exercise_id, seed):
    exercise = EXERCISES[exercise_id]
    result = judge(exercise, exercise.solution, seed=seed)
    assert result.status == "green", result.lines


def test_what_stands_in_for_an_unsolved_piece_also_works_where_its_cases_do_not_go(tmp_path):
    stub = run_cell(EXERCISES["07.2"].stub_cell, tmp_path)["bin_centers"]
    outside = torch.tensor([[-8.0, 4.0, 28.0, 50.0]])
    assert stub(outside, 4, 4)[0, 0, 0].tolist() == [-0.875, 2.4375]


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_stub_is_amber_and_the_package_stands_in(exercise_id, tmp_path, capsys):
    exercise = EXERCISES[exercise_id]
    stub = run_cell(exercise.stub_cell, tmp_path)[exercise.name]
    assert course.check(exercise_id).status == "amber"
    case = cases_of(exercise)[0]
    results = exercise.reference(*case.arguments), exercise.called(stub)(*case.arguments)
    assert first_difference(*results, tolerance=exercise.tolerance) == ()
    assert "stands in" in capsys.readouterr().out
    assert load_progress() == {}  # nothing was tried


@pytest.mark.parametrize(("exercise_id", "wrong"), WRONG)
def test_wrong_answer_is_plausible_yet_red_with_its_own_message(exercise_id, wrong):
    exercise = EXERCISES[exercise_id]
    answer = wrong.function(exercise.solution)
    result = judge(exercise, answer, seed=3)
    assert result.status == "red"
    assert result.lines[0] == wrong.message
    for case in cases_of(exercise):
        results = (exercise.called(answer)(*case.arguments), exercise.reference(*case.arguments))
        for own, expected in zip(*map(checking._tensors_in, results), strict=True):
            assert own.dtype == expected.dtype
            assert own.isfinite().all()
            assert own.shape == expected.shape or "N" in exercise.result_axes


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_definition_is_fit_to_show(exercise_id):
    exercise = EXERCISES[exercise_id]
    assert exercise.solution.__doc__
    assert 1 <= exercise.minutes <= 60
    assert len({wrong.message for wrong in exercise.wrong_answers}) >= 2
    first = cases_of(exercise)[0]
    # The weights of a module are too many to look at; what goes in and out is small.
    arguments = first.arguments[1:] if isinstance(exercise.solution, type) else first.arguments
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    assert all(tensor.numel() <= 64 for tensor in tensors), "case 1 is to be checked by hand"
    assert is_bare_stub(stub_source(exercise.solution))


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_nothing_is_asked_for_only_if_the_stub_allows_it(exercise_id):
    """A right answer may fail without any object if nobody said that there may be none."""
    exercise = EXERCISES[exercise_id]
    tensors = [a for c in cases_of(exercise) for a in c.arguments if isinstance(a, Tensor)]
    if any(tensor.numel() == 0 for tensor in tensors):
        assert "may be 0" in " ".join(exercise.solution.__doc__.split())


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_cases_depend_on_the_seed_and_repeat_with_it(exercise_id):
    def tensors(seed):
        cases = cases_of(EXERCISES[exercise_id], seed)
        return torch.cat([a.flatten().double() for c in cases for a in tensors_in(c.arguments)])

    assert tensors(1).equal(tensors(1))
    assert not tensors(1).equal(tensors(2))


# The verdict


def test_green_check_is_kept_and_says_the_seed(capsys):
    @course.exercise("09.3")
    def blend(crops, scores):
        return (crops * scores).sum(1)

    result = course.check("09.3", seed=5)
    assert result.status == "green"
    assert "seed 5" in capsys.readouterr().out
    assert load_progress()["09.3"].is_solved


def test_every_check_draws_a_new_seed():
    seeds = {course.check("09.1").seed for _ in range(8)}
    assert len(seeds) > 1


def test_check_leaves_the_global_random_state_alone():
    course.exercise("09.1")(EXERCISES["09.1"].solution)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    course.check("09.1")
    assert torch.rand(3).equal(expected)


def test_red_shows_the_first_difference_and_keeps_the_arguments():
    # By hand: crops [[1, 2], [3, 4]] and [[-10, -20], [10, 20]] with weights 1, .5 / .5, 0:
    # the mask is [[1, -9], [6.5, 20]], so a changed last cell is the first difference.
    def blend(crops, scores):
        mask = (crops * scores).sum(1)
        mask[..., -1, -1] += 1
        return mask

    result = judge(EXERCISES["09.3"], blend, seed=0)
    text = "\n".join(result.lines)
    assert result.status == "red"
    assert "object 0, row 1, column 1: [0, 1, 1]" in text
    assert "expected 20\nyours    21\n1 of 4 values differ" in text
    assert result.arguments[0].shape == (1, 2, 2, 2)


def test_exception_is_red_with_the_students_line():
    def enlarge(attentions, size):
        return attentions.no_such_method()

    result = judge(EXERCISES["09.1"], enlarge, seed=0)
    assert result.status == "red"
    assert "return attentions.no_such_method()" in "\n".join(result.lines)


def test_name_of_a_cell_that_did_not_run_is_red_and_says_what_to_run():
    def enlarge(attentions, size):
        return enlarge_rows(attentions, size)  # noqa: F821

    def misspelt(attentions, size):
        if size < 0:
            maps = attentions
        return maps

    def told(answer):
        return "\n".join(judge(EXERCISES["09.1"], answer, seed=0).lines)

    assert "If a cell above defines enlarge_rows, run it first" in told(enlarge)
    assert "UnboundLocalError" in told(misspelt)
    assert "If a cell above" not in told(misspelt)


def test_part_of_a_result_of_several_is_named():
    def flip(image, boxes, masks):
        return image.flip(2), boxes, masks.flip(2)

    text = "\n".join(judge(EXERCISES["12.5"], flip, seed=0).lines)
    assert "result 2 of 3, boxes:\nfirst difference at index" in text


def test_beginning_of_the_head_is_compared_by_the_names_of_its_layers():
    answer = WrongAnswer(
        {"nn.init.zeros_(bias)": "nn.init.constant_(bias, 0.1)"}, "the biases are not 0"
    ).function(EXERCISES["05.5"].solution)
    text = "\n".join(judge(EXERCISES["05.5"], answer, seed=0).lines)
    assert "entry 'bias of ltrb':" in text


def test_verdict_other_than_green_says_how_to_get_a_hint(tmp_path):
    exercise = EXERCISES["09.1"]
    run_cell(exercise.stub_cell, tmp_path)
    for lines in (
        course.check("09.1").lines,
        judge(exercise, lambda attentions, size: attentions, seed=0).lines,
    ):
        assert lines[-1] == 'stuck? course.hint("09.1") helps in three steps'


def test_torch_without_a_kernel_is_red_and_not_taken_for_unwritten():
    def enlarge(attentions, size):
        return attentions.long().softmax(1)

    assert judge(EXERCISES["09.1"], enlarge, seed=0).status == "red"


def test_half_written_answer_is_amber():
    def enlarge(attentions, size):
        first = attentions + 1
        raise NotImplementedError(f"{first.shape}")

    assert judge(EXERCISES["09.1"], enlarge, seed=0).status == "amber"


def test_changing_the_arguments_is_red():
    def blend(crops, scores):
        return crops.mul_(scores).sum(1)

    result = judge(EXERCISES["09.3"], blend, seed=0)
    assert "changes its arguments" in "\n".join(result.lines)


def test_first_failing_case_is_reported_whatever_a_later_one_raises():
    def enlarge(attentions, size):
        if len(attentions) != 1:
            raise RuntimeError("later")
        return torch.zeros(len(attentions), attentions.shape[1], size, size)

    result = judge(EXERCISES["09.1"], enlarge, seed=0)
    text = "\n".join(result.lines)
    assert result.status == "red"
    assert "case 1, one object" in text
    assert "later" not in text


def test_mistake_is_recognised_although_it_raises_in_a_case():
    """The stored mistake "nearest", made with a loop that cannot join nothing."""

    def enlarge(attentions, size):
        maps = [F.interpolate(one[None], size=(size, size)) for one in attentions]
        return torch.cat(maps)

    exercise = EXERCISES["09.1"]
    changes = {
        "F.interpolate(attentions, size=(size, size), "
        'mode="bilinear", align_corners=False)': "torch.cat([F.interpolate(one[None], size=size) "
        "for one in attentions])",
    }
    stored = WrongAnswer(changes, "You copied every cell.")
    known = replace_wrong_answers(exercise, stored)
    assert judge(known, enlarge, seed=0).lines[0] == "You copied every cell."
    assert judge(exercise, enlarge, seed=0).lines[0].startswith("case 1")


def replace_wrong_answers(exercise: Exercise, stored: WrongAnswer) -> Exercise:
    changed = copy.copy(exercise)
    object.__setattr__(changed, "wrong_answers", (stored, stored))
    return changed


def test_answer_without_a_gradient_is_red():
    def blend(crops, scores):
        return (crops * scores.detach()).sum(1)

    result = judge(EXERCISES["09.3"], blend, seed=0)
    text = "\n".join(result.lines)
    assert result.status == "red"
    assert "no gradient reaches scores" in text


def test_answer_with_another_gradient_is_red():
    def enlarge(attentions, size):
        right = F.interpolate(attentions, size=(size, size), mode="bilinear")
        return 2 * right - right.detach()

    result = judge(EXERCISES["09.1"], enlarge, seed=0)
    assert result.status == "red"
    assert "the gradient for attentions is not:" in "\n".join(result.lines)


# References that copy their weights into a layer, which has no gradient for the arguments.
FROZEN_REFERENCES = {"02.3", "02.4", "06.1", "06.3", "08.3", "08.5"}


@pytest.mark.parametrize("exercise_id", [e.id for e in EXERCISES.values() if e.gradients])
def test_gradients_of_solutions_are_the_packages(exercise_id):
    exercise = EXERCISES[exercise_id]
    solution = exercise.called(exercise.solution)
    names = list(inspect.signature(solution).parameters)
    places = [names.index(name) for name in exercise.gradients]
    for case in cases_of(exercise):
        ours = checking._gradients(solution, case, places)
        theirs = checking._gradients(exercise.reference, case, places)
        if exercise_id not in FROZEN_REFERENCES:
            assert first_difference(theirs, ours, tolerance=1e-3) == ()


def test_unknown_exercise_names_those_there_are():
    with pytest.raises(ValueError, match=r"'09\.99'.*09\.1, 09\.2"):
        course.check("09.99")
    with pytest.raises(ValueError, match=r"no such chapter.*09"):
        course.exercise("77.1")


def test_check_before_the_cell_ran_is_amber_and_says_what_the_cell_needs():
    result = course.check("10.1")
    assert result.status == "amber"
    assert 'the line @exercise("10.1") above "def weighted_sum"' in result.lines[0]
    assert 'above "class Head"' in course.check("05.5").lines[0]


# Standing in


def test_written_answer_is_used_before_any_check():
    @course.exercise("09.3")
    def blend(crops, scores):
        return torch.full((1,), 7.0)

    assert blend(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)).item() == 7


def test_refused_answer_is_replaced_until_its_cell_runs_again():
    zeros = torch.zeros(1, 2, 2, 2)

    def seven(crops, scores):
        return torch.full((1,), 7.0)

    blend = course.exercise("09.3")(seven)
    course.check("09.3")
    assert blend(zeros, zeros).shape == (1, 2, 2)
    blend = course.exercise("09.3")(seven)
    assert blend(zeros, zeros).item() == 7


def test_raising_answer_is_replaced_and_said_once(capsys):
    @course.exercise("09.3")
    def blend(crops, scores):
        return crops / scores.nothing

    for _ in range(3):
        assert blend(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 2)).sum() == 8
    assert capsys.readouterr().out.count("Exercise 09.3") == 1


def tensors_in(value: object) -> list[Tensor]:
    """All tensors of nested lists and tuples."""
    if isinstance(value, Tensor):
        return [value]
    parts = value if isinstance(value, list | tuple) else ()
    return [tensor for each in parts for tensor in tensors_in(each)]


def run_cell(cell: str, folder: Path) -> dict[str, object]:
    """Run a cell as a notebook does, with a file behind it that `inspect` can read."""
    path = folder / "cell.py"
    source = f"from torch import Tensor, nn\nfrom blendmask_lite.course import exercise\n{cell}\n"
    path.write_text(source)
    names: dict[str, object] = {}
    exec(compile(source, str(path), "exec"), names)
    return names
