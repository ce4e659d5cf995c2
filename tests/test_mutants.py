"""The exercises' cases see small mistakes: a fixed sample of the mutants of their solutions."""

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "mutate_exercises.py"))
EQUIVALENT = TOOL["read_equivalent"]()
SAMPLE = 23  # every so many; `python tools/mutate_exercises.py` tries all of them


@pytest.fixture(scope="module")
def mutants():
    return [each for exercise in TOOL["all_exercises"]() for each in TOOL["mutants_of"](exercise)]


@pytest.mark.slow
def test_a_sample_of_all_mutants_is_judged_red(mutants):
    chosen = [each for each in mutants if each.key not in EQUIVALENT][::SAMPLE]
    assert len(chosen) > 50
    assert [each.key for each in chosen if TOOL["is_seen"](each) is False] == []


def test_every_kind_of_mistake_is_made(mutants):
    assert {each.kind for each in mutants} == set(TOOL["KINDS"])


def test_mutants_called_equivalent_exist_and_have_a_reason(mutants):
    keys = [each.key for each in mutants]
    assert all(keys.count(key) == 1 for key in EQUIVALENT)
    assert all(len(reason.split()) > 2 for reason in EQUIVALENT.values())


@pytest.mark.slow
def test_equivalent_mutants_are_not_seen(mutants):
    """Else the reason is wrong: whoever wrote it overlooked a case."""
    known = [each for each in mutants if each.key in EQUIVALENT]
    assert [each.key for each in known if TOOL["is_seen"](each)] == []


def test_mutant_that_never_ends_is_seen(mutants):
    [exercise] = [each for each in TOOL["all_exercises"]() if each.id == "09.1"]
    endless = f"def {exercise.name}(attentions, size):\n    while True:\n        pass\n"
    TOOL["is_seen"].__globals__["SECONDS"] = 0.2
    assert TOOL["is_seen"](TOOL["Mutant"]("09.1", "condition", "", endless))
