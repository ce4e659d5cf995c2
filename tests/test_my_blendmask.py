"""Green answers are kept, and become a model of the student's own."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from pretended_gpu import OnGPU, pretended_gpu, to_gpu

from blendmask_lite import course, load_model
from blendmask_lite.course import own_model, student
from blendmask_lite.course.answers import (
    Answer,
    answers_lock,
    answers_path,
    capture,
    keep_answer,
    load_answers,
)
from blendmask_lite.course.exercises import all_exercises, find_exercise
from blendmask_lite.course.my_training import MyTraining, package_losses, train_my_model
from blendmask_lite.course.own_model import (
    PARTS,
    compose,
    load_file,
    my_blendmask,
    my_model,
    my_parts,
    my_path,
    own_name,
    parts_that_raised,
)
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.lab import TimeMachine
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.run_folder import read_run

ROOT = Path(__file__).resolve().parent.parent
FORK = multiprocessing.get_context("fork")  # with all imports done


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
    other = FORK.Process(target=keep_many, args=[["09.3"]])  # only its file tells this process
    other.start()
    other.join()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_answers()["09.3"].name == "f"


def keep_many(names):
    for name in names:
        with answers_lock():
            keep_answer(name, Answer(name="f", source=f"def f(): return {os.getpid()}"))


def test_two_notebooks_at_once_keep_the_answers_of_both():
    groups = [[f"0{n}.{i}" for i in range(10)] for n in (1, 2)]
    with FORK.Pool(2) as pool:
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


def test_lambda_is_green_but_not_kept_and_says_what_to_write(capsys):
    answer = 'exercise("09.3")(lambda crops, scores: (crops * scores).sum(1))'
    run_cell(f"{START}blend = {answer}\n")
    assert course.check("09.3").status == "green"
    assert "it is a lambda; write it as a function, with def" in capsys.readouterr().out
    assert load_answers() == {}


def test_nothing_is_kept_without_progress(monkeypatch):
    monkeypatch.setenv("BLENDMASK_PROGRESS", "off")
    run_cell(START + BLEND)
    assert course.check("09.3").status == "green"
    assert answers_path() is None and load_answers() == {}


# Classes and generators as exercises

LAYERS = "from torch import Tensor, nn\nfrom torch.nn import functional as F\n\n"
BLOCK = START + LAYERS + find_exercise("02.5").solution_cell
LATE = "        shortcut = x if"


def test_class_of_a_cell_is_judged_and_kept():
    run_cell(BLOCK)
    assert course.check("02.5").status == "green"
    assert load_answers()["02.5"].source.startswith("class ResidualBlock(nn.Module):")


def test_class_that_lacks_a_parameter_is_red_and_its_name_is_told():
    run_cell(BLOCK.replace("bn2", "norm2"))
    result = course.check("02.5")
    assert result.status == "red"
    assert any("no parameter bn2.weight" in line for line in result.lines)


def test_module_that_raises_is_replaced_with_the_same_weights_and_learns(capsys):
    names = run_cell(BLOCK.replace(LATE, "        raise IndexError('late')\n" + LATE))
    block = names["ResidualBlock"](3, 5, 2)
    x = torch.randn(2, 3, 6, 6)
    right = find_exercise("02.5").solution(3, 5, 2)
    right.load_state_dict(block.state_dict())
    out = block(x)
    assert out.equal(right(x))
    out.sum().backward()
    assert block.conv1.weight.grad is not None
    assert "IndexError: late in line" in capsys.readouterr().out


def test_module_whose_class_is_not_written_is_the_package_s(capsys):
    names = run_cell(START + LAYERS + find_exercise("02.5").stub_cell)
    assert names["ResidualBlock"](3, 5, 2)(torch.randn(2, 3, 6, 6)).shape == (2, 5, 3, 3)
    assert course.check("02.5").status == "amber"


def test_solution_of_every_exercise_can_be_kept():
    for exercise in all_exercises():
        assert capture(exercise.solution).problem == "", exercise.id
    assert capture(find_exercise("09.2").solution).answers == {"enlarge": "09.1"}


# The file


@pytest.fixture(scope="module")
def solutions():
    return {each: capture(find_exercise(each).solution) for each in PARTS}


def lint(text: str, *ignored: str) -> None:
    for command in (["check", *ignored], ["format", "--check"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *command,
                "--stdin-filename",
                "blendmask_lite/my.py",
                "-",
            ],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_file_of_all_solutions_is_readable_and_passes_ruff(solutions):
    text = compose(solutions)
    lint(text)
    assert 450 <= sum(bool(line.strip()) for line in text.splitlines()) <= 600
    assert "stand_in" not in text
    docstrings = [ast.get_docstring(node) for node in ast.walk(ast.parse(text)) if is_defined(node)]
    assert all(doc and len(doc.splitlines()) == 1 for doc in docstrings if doc)


def is_defined(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def test_file_without_any_answer_imports_all_parts_and_passes_ruff():
    text = compose({})
    lint(text)
    assert text.count('= stand_in("') == len(PARTS)


def test_file_says_which_parts_are_whose(solutions):
    text = compose({"09.3": solutions["09.3"]})
    assert f"Mine, 1 of {len(PARTS)} parts: 09.3 blend." in text
    assert 'focal_loss = stand_in("04.1")' in text


def test_file_grows_with_every_green_check(capsys):
    run_cell(START + BLEND)
    course.check("09.3")
    assert f"1 of {len(PARTS)} parts are yours" in capsys.readouterr().out
    assert "return (crops * scores).sum(1)" in my_path().read_text()
    run_cell(START + BLEND.replace(".sum(1)", ".mean(1)"))
    course.check("09.3")
    assert "return (crops * scores).sum(1)" in my_path().read_text()


@pytest.mark.parametrize("here", ["clone/notebooks", "clone", "clone/runs/one"])
def test_file_lies_beside_the_notebooks_from_wherever_in_the_clone_they_run(
    here, tmp_path, monkeypatch, capsys
):
    for folder in (tmp_path / "clone" / "notebooks", tmp_path / here):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "clone" / "notebooks" / "09_blender.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path / here)
    run_cell(START + BLEND)
    course.check("09.3")
    file = tmp_path / "clone" / "notebooks" / "my_blendmask.py"
    assert my_path() == file and "def blend(" in file.read_text()
    said = capsys.readouterr().out
    assert f"now in {file.name if here == 'clone/notebooks' else file}: 1 of" in said
    assert my_blendmask().__dict__["blend"].function.__code__.co_filename == str(file)
    assert not (tmp_path / "home" / "my_blendmask.py").exists()


@pytest.mark.parametrize("why", ["no notebooks", "a folder that cannot be written to"])
def test_file_lies_beside_the_answers_if_it_cannot_lie_beside_the_notebooks(
    why, tmp_path, monkeypatch, capsys
):
    def refuse(folder):
        raise PermissionError(folder)

    if why != "no notebooks":
        (tmp_path / "09_blender.ipynb").write_text("{}")
        monkeypatch.setattr(own_model, "require_folder", refuse)
    run_cell(START + BLEND)
    course.check("09.3")
    file = tmp_path / "home" / "my_blendmask.py"
    assert my_path() == file and "def blend(" in file.read_text()
    assert f"now in {file}: 1 of {len(PARTS)} parts are yours" in capsys.readouterr().out


@pytest.mark.parametrize("is_edited", [False, True])
def test_file_of_the_other_place_does_not_stay_behind_and_changes_in_it_are_kept(
    is_edited, tmp_path, capsys
):
    run_cell(START + BLEND)
    course.check("09.3")
    old = my_path()
    if is_edited:
        old.write_text(f"{old.read_text()}MINE = 1\n")
    (tmp_path / "09_blender.ipynb").write_text("{}")
    assert my_blendmask().blend(torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 1)).item() == 2
    assert my_path() == tmp_path / "my_blendmask.py" != old
    assert my_path().exists() and not old.exists()
    aside = tmp_path / "my_blendmask_edited_1.py"
    assert aside.exists() == is_edited
    assert not is_edited or aside.read_text().endswith("MINE = 1\n")
    assert ("kept in my_blendmask_edited_1.py" in capsys.readouterr().out) == is_edited


def test_model_without_progress_leaves_no_file_and_has_its_source(monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDMASK_PROGRESS", "off")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module = my_blendmask()
    assert list(tmp_path.iterdir()) == []
    assert "def detect(" in inspect.getsource(module.MyBlendMask.detect)


def test_file_changed_by_hand_is_moved_aside_and_used_until_then(capsys):
    run_cell(START + BLEND)
    course.check("09.3")
    edited = my_path().read_text().replace(".sum(1)", ".sum(1) * 1")
    my_path().write_text(edited)
    assert my_blendmask().blend(torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 1)).item() == 2
    assert "changes of yours" in capsys.readouterr().out
    assert my_path().read_text() == edited
    run_cell(START + BLEND.replace("(1)", "(dim=1)"))
    course.check("09.3")
    assert "kept in my_blendmask_edited_1.py" in capsys.readouterr().out
    assert my_path().with_name("my_blendmask_edited_1.py").read_text() == edited
    assert ".sum(dim=1)" in my_path().read_text()


def test_helpers_of_two_cells_with_one_name_do_not_meet():
    first = """
def part(x):
    return x.softmax(dim=1)


@exercise("09.2")
def my_scores(attentions, size):
    return part(torch.nn.functional.interpolate(attentions, (size, size), mode="bilinear"))
"""
    second = """
def part(x, y):
    return x * y


@exercise("09.3")
def blend(crops, scores):
    return part(crops, scores).sum(dim=1)
"""
    names = run_cell(START + first)
    assert course.check("09.2").status == "green"
    run_cell(second, names)
    assert course.check("09.3").status == "green"
    text = my_path().read_text()
    lint(text, "--ignore=D103")
    assert "def part(x):" in text and "def part_09_3(x, y):" in text
    module = my_blendmask()
    scores = module.score_maps(torch.zeros(1, 2, 1, 1), 2)
    assert module.blend(torch.ones(1, 2, 2, 2), scores).equal(torch.ones(1, 2, 2))


def test_answer_that_uses_an_exercise_outside_the_model_gets_it_from_the_package():
    cell = """
@exercise("05.3")
def keep_fast(boxes, scores, labels, iou_threshold):
    raise NotImplementedError


@exercise("09.3")
def blend(crops, scores):
    keep_fast(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5)
    return (crops * scores).sum(1)
"""
    run_cell(START + cell)
    assert course.check("09.3").status == "green"
    assert 'keep_fast = stand_in("05.3")' in my_path().read_text()
    assert my_blendmask().blend(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item() == 1


def test_answer_that_uses_another_green_exercise_outside_the_model_takes_it_along():
    cell = """
FACTOR = 1.0


@exercise("10.1")
def weighted_sum(crops, coefficients):
    return FACTOR * torch.einsum("nk,nkyx->nyx", coefficients.tanh(), crops.relu())


@exercise("09.3")
def blend(crops, scores):
    weighted_sum(crops, crops[:, :, 0, 0])
    return (crops * scores).sum(1)
"""
    run_cell(START + cell)
    for each in ("10.1", "09.3"):
        assert course.check(each).status == "green"
    text = my_path().read_text()
    assert "FACTOR = 1.0\n\n\ndef weighted_sum(" in text
    assert my_blendmask().blend(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item() == 1


def test_answer_with_a_name_of_unknown_origin_leaves_the_package_s_in_the_file(capsys):
    names = run_cell(START)
    names["other"] = torch.zeros(1)
    run_cell(BLEND.replace("return (", "return other + ("), names)
    assert course.check("09.3").status == "green"
    assert "still has the package's blend: where does other come from?" in capsys.readouterr().out
    assert 'blend = stand_in("09.3")' in my_path().read_text()
    assert "the package's: where does your other come from?" in str(my_parts())


def test_answer_with_a_name_of_unknown_origin_does_not_displace_an_earlier_one(capsys):
    names = run_cell(START + BLEND)
    course.check("09.3")
    whole = my_path().read_text()
    names["other"] = torch.zeros(1)
    for _ in range(2):
        run_cell(BLEND.replace("return (", "return other + ("), names)
        assert course.check("09.3").status == "green"
        assert "still has your earlier blend" in capsys.readouterr().out
        assert my_path().read_text() == whole
    [other] = load_answers()["09.3"].earlier
    assert "other + " in other


@pytest.mark.parametrize(
    "helper",
    [
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Helper:\n    x: int = 0\n",
        "from typing import NamedTuple\n\n\nclass Helper(NamedTuple):\n    x: int = 0\n",
        "from enum import Enum\n\n\nclass Helper(Enum):\n    ONE = 1\n",
        "from functools import lru_cache\n\n\n@lru_cache\ndef Helper():\n    return 0\n",
    ],
)
def test_helper_whose_source_python_does_not_find_is_taken_from_its_cell(helper):
    cell = BLEND.replace("    return", "    assert Helper is not None\n    return")
    run_cell(f"{START}{helper}\n\n{cell}")
    assert course.check("09.3").status == "green"
    text = my_path().read_text()
    assert helper.partition("\n\n\n")[2] in text and helper.partition("\n")[0] in text
    assert my_parts().num_own == 1


def test_part_that_raises_later_is_replaced_with_a_message(capsys):
    cell = BLEND.replace(
        "    return",
        "    if crops.shape[2] == 3:\n"
        "        raise ValueError(f'{crops.shape[1]} of three')\n"
        "    return",
    )
    run_cell(START + cell)
    assert course.check("09.3").status == "green"
    module = my_blendmask()
    capsys.readouterr()
    for number in (1, 2):
        crops = torch.full((1, number, 3, 3), 1.0)
        assert module.blend(crops, crops).equal(crops.sum(1))
    said = capsys.readouterr().out
    assert said.count("ValueError: ") == 1  # although the numbers in it differ
    assert re.search(r"ValueError: 1 of three in line \d+ of my_blendmask.py: raise", said)
    [line] = parts_that_raised(module)
    assert line.startswith("09.3 blend (ValueError: 2 of three")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("def blend(:", ", line 2: SyntaxError: invalid syntax"),
        ("SCALE = 1 / 0", ", line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_file_that_cannot_be_imported_is_replaced_by_the_package_s_and_stays(
    mistake, words, capsys
):
    run_cell(START + BLEND)
    course.check("09.3")
    assert my_parts().num_own == 1
    my_path().write_text(f"import torch\n{mistake}\n")
    assert my_blendmask().blend(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item() == 1
    capsys.readouterr()
    parts = my_parts()
    said = capsys.readouterr().out
    assert f"{my_path()}{words}" in said
    assert f"All {len(PARTS)} parts are the package's" in said
    assert "If you delete the file" in said
    assert "used as it is" not in said
    assert parts.num_own == 0 and "✔" not in str(parts)
    assert my_path().read_text() == f"import torch\n{mistake}\n"


def test_part_deleted_from_the_file_is_the_package_s_and_shown_so():
    run_cell(START + BLEND)
    course.check("09.3")
    my_path().write_text(my_path().read_text().replace("def blend(", "def my_own_blend("))
    assert my_parts().num_own == 0
    assert my_blendmask().blend is find_exercise("09.3").solution


def test_without_progress_all_parts_are_the_package_s(monkeypatch):
    monkeypatch.setenv("BLENDMASK_PROGRESS", "off")
    assert my_path() is None
    assert my_blendmask().assign is find_exercise("03.4").solution
    assert my_parts().num_own == 0


# The model


@pytest.fixture(scope="module")
def pictures():
    dataset = ShapesDataset(3, seed=5)
    samples = [dataset.load(i) for i in range(3)]
    cut = replace(samples[2], image=samples[2].image[:, :100, :90])  # of another size
    bare = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    empty = replace(bare, masks=torch.zeros(0, 100, 90, dtype=torch.bool))
    return [each.image for each in samples[:2]] + [cut.image], [
        *(each.target for each in samples[:2]),
        empty,
    ]


@pytest.fixture(scope="module")
def nano():
    return load_model(shipped_checkpoint())


def module_of(text: str, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return load_file(path)


def gradients(model, losses):
    model.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.fixture(scope="module")
def expected(nano, pictures):
    """The package's losses, gradients and detections."""
    nano.train()
    with keeping_buffers(nano):
        losses = TrainingStep(nano)(*pictures)
        slopes = gradients(nano, losses)
    return losses, slopes, nano.eval().predict(pictures[0], batch_size=3)


@contextmanager
def keeping_buffers(model):
    before = {name: value.clone() for name, value in model.named_buffers()}
    yield
    for name, value in model.named_buffers():
        value.copy_(before[name])


def require_equal(module, nano, pictures, expected):
    losses, slopes, detections = expected
    mine = my_model(nano, module).train()
    with keeping_buffers(mine):
        own = mine(*pictures)
        assert list(own) == list(losses)
        for name, value in losses.items():
            assert torch.allclose(own[name], value, rtol=1e-4), name
        for name, slope in gradients(nano, own).items():
            assert (slope - slopes[name]).norm() <= 3e-3 * slopes[name].norm() + 1e-7, name
    for found, wanted in zip(mine.eval().detect(pictures[0]), detections, strict=True):
        assert torch.allclose(found.boxes, wanted.boxes, atol=1e-3)
        assert torch.allclose(found.scores, wanted.scores, atol=1e-5)
        assert found.labels.equal(wanted.labels)
        assert (found.masks != wanted.masks).float().mean() < 1e-4


def test_model_of_all_solutions_has_the_package_s_losses_gradients_and_detections(
    solutions, nano, pictures, expected, tmp_path
):
    assert sum(map(len, expected[2])) > 20
    require_equal(module_of(compose(solutions), tmp_path), nano, pictures, expected)


def test_model_on_a_gpu_has_the_same_losses_gradients_and_detections_there(
    solutions, pictures, expected, tmp_path
):
    losses, slopes, detections = expected
    mine = my_model(load_model(shipped_checkpoint()), module_of(compose(solutions), tmp_path))
    with pretended_gpu():
        to_gpu(mine)
        for found, wanted in zip(mine.eval().detect(pictures[0]), detections, strict=True):
            assert isinstance(found.boxes, OnGPU)
            assert torch.allclose(found.boxes.cpu(), wanted.boxes, atol=1e-3)
            assert (found.masks.cpu() != wanted.masks).float().mean() < 1e-4
        own = mine.train()(*pictures)
        for name, value in losses.items():
            assert torch.allclose(own[name].cpu(), value, rtol=1e-4), name
        there = gradients(mine, own)
        for name, slope in slopes.items():
            difference = (there[own_name(name)].cpu() - slope).norm()
            assert difference <= 3e-3 * slope.norm() + 1e-7, name


def test_batch_without_objects_has_the_package_s_losses(solutions, nano, pictures, tmp_path):
    alone = pictures[0][2:], pictures[1][2:]
    mine = my_model(nano, module_of(compose(solutions), tmp_path)).train()
    with keeping_buffers(nano):
        own, losses = mine(*alone), TrainingStep(nano.train())(*alone)
    nano.eval()
    assert all(torch.allclose(own[name], losses[name], rtol=1e-4) for name in losses)
    assert own["box"] == own["mask"] == 0


@pytest.mark.parametrize("missing", PARTS)
def test_model_is_the_same_with_any_part_missing(
    missing, solutions, nano, pictures, expected, tmp_path
):
    answers = {each: answer for each, answer in solutions.items() if each != missing}
    text = compose(answers)
    assert text.count("= stand_in(") == 1
    module = module_of(text, tmp_path)
    small = [each[:, :64, :64] for each in pictures[0][:1]]
    mine = my_model(nano, module).eval()
    [found], [wanted] = mine.detect(small), nano.eval().predict(small)
    assert torch.allclose(found.boxes, wanted.boxes, atol=1e-3)
    assert (found.masks != wanted.masks).float().mean() < 1e-4


@pytest.mark.parametrize("number", range(3))
def test_model_of_answers_in_other_styles_is_the_same(
    number, solutions, nano, pictures, expected, tmp_path
):
    """The n-th other style of every part; those without a gradient only detect."""
    answers = dict(solutions)
    for each in PARTS:
        name = find_exercise(each).name
        module = import_module(f"other_styles.ch{each[:2]}")
        styles = [f for n, f in vars(module).items() if n.startswith(f"{name}_")]
        answers[each] = capture(styles[number])
    require_equal(module_of(compose(answers), tmp_path), nano, pictures, expected)


def test_model_with_other_weights_than_the_package_s_is_refused(solutions, nano, tmp_path):
    text = compose(solutions).replace(
        "self.bn1 = nn.BatchNorm2d(stem_channels)", "self.bn1 = nn.ReLU()"
    )
    with pytest.raises(ValueError, match=r"it has no backbone\.bn1"):
        my_model(nano, module_of(text, tmp_path))


# The training


def rows_of(path) -> list[list[float]]:
    head, *lines = path.read_text().splitlines()
    until = head.split(",").index("gradient_norm")
    return [[float(value) for value in line.split(",")[:until]] for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training of three steps with the solutions, and the package's losses."""
    folder = tmp_path_factory.mktemp("run")
    solved = load_temporary(
        compose({each: capture(find_exercise(each).solution) for each in PARTS})
    )
    done = list(train_my_model(folder, seed=3, iterations=3, num_evaluated=2, module=solved))
    assert done[:3] == [1, 2, 3]
    return folder, package_losses(seed=3, iterations=3, num_steps=3)


def load_temporary(text: str):
    path = Path(tempfile.mkdtemp()) / "mine.py"
    path.write_text(text)
    return load_file(path)


@pytest.mark.slow
def test_own_training_begins_like_the_package_s_of_the_same_seed(trained):
    folder, expected = trained
    totals = [row[2] for row in rows_of(folder / "metrics.csv")]
    assert totals == pytest.approx(expected, rel=0.02)
    assert totals[0] == pytest.approx(expected[0], rel=1e-4)


@pytest.mark.slow
def test_trained_model_can_be_loaded_and_shown(trained):
    folder, _ = trained
    record = read_run(folder)
    assert record.state == "finished" and set(record.scores) == {"mask AP", "box AP"}
    assert load_model(folder / "model.safetensors").class_names == ShapesDataset.class_names
    assert len(TimeMachine(snapshots=folder / "snapshots").reel.snapshots.iterations) == 4


@pytest.mark.slow
def test_stopped_training_goes_on_to_the_same_end(trained, solutions, tmp_path):
    module = load_temporary(compose(solutions))
    options = {"seed": 3, "iterations": 3, "num_evaluated": 2, "module": module}
    assert list(train_my_model(tmp_path / "run", **options, should_stop=lambda: True)) == [1]
    assert read_run(tmp_path / "run").state == "stopped"
    assert list(train_my_model(tmp_path / "run", **options))[:2] == [2, 3]
    whole, parts = rows_of(trained[0] / "metrics.csv"), rows_of(tmp_path / "run" / "metrics.csv")
    assert all(a == pytest.approx(b, rel=1e-4) for a, b in zip(whole, parts, strict=True))


CRASHES = {
    "05.5": (
        "features = [self.tower",
        "raise RuntimeError('here')\n        features = [self.tower",
    ),
    "11.5": ("weight = centerness", "raise RuntimeError('here')\n    weight = centerness"),
    "12.3": ("        yield losses", "        yield losses\n        raise RuntimeError('here')"),
}


@pytest.mark.slow
@pytest.mark.parametrize("exercise_id", CRASHES)
def test_part_that_crashes_in_training_is_replaced_and_nothing_is_lost(
    exercise_id, trained, solutions, tmp_path, capsys
):
    old, new = CRASHES[exercise_id]
    source = solutions[exercise_id].source
    assert old in source
    crashing = replace(solutions[exercise_id], source=source.replace(old, new))
    module = load_temporary(compose({**solutions, exercise_id: crashing}))
    options = {"seed": 3, "iterations": 3, "num_evaluated": 2, "module": module}
    assert list(train_my_model(tmp_path / "run", **options))[:3] == [1, 2, 3]
    assert "RuntimeError: here" in capsys.readouterr().out
    whole, own = rows_of(trained[0] / "metrics.csv"), rows_of(tmp_path / "run" / "metrics.csv")
    assert [row[2] for row in own] == pytest.approx([row[2] for row in whole], rel=0.02)


@pytest.mark.slow
def test_loss_that_is_not_finite_ends_the_training_and_keeps_the_checkpoint(solutions, tmp_path):
    source = solutions["04.1"].source.replace("return (", "return torch.nan * (")
    bad = replace(solutions["04.1"], source=source)
    module = load_temporary(compose({**solutions, "04.1": bad}))
    with pytest.raises(ValueError, match="iteration 0: class is nan"):
        list(train_my_model(tmp_path / "run", seed=3, iterations=3, module=module))
    assert read_run(tmp_path / "run").state == "failed"


@pytest.mark.slow
def test_dashboard_trains_between_cells_and_stops_and_goes_on(tmp_path):
    raises = "    if len(locations) > 100:\n        raise ValueError('many')\n    return"
    cell = find_exercise("03.2").solution_cell.replace("    return", raises)
    run_cell(f"{START}from torch import Tensor\n\n\n{cell}")
    assert course.check("03.2").status == "green"  # the cases have fewer

    async def cells():
        training = MyTraining(tmp_path / "run", seed=3, iterations=8, num_evaluated=1)
        while training.process.read() is None or training.process.read().num_done == 0:
            await asyncio.sleep(0.01)  # other cells have their turn
        assert training.is_training
        training.stop()
        await training.finished()
        stopped = training.view.state, training.view.can_resume
        training.resume()
        await training.finished()
        state, said = training.view.state, training.message.text
        training.close()
        return *stopped, state, said

    *states, said = asyncio.run(cells())
    assert states == ["stopped", True, "finished"]
    assert "stood in where yours raised: 03.2 side_distances (ValueError: many" in said
