"""The equations in JavaScript (lab/static/equations.js) against the package, in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from equations_cases import TOLERANCE, drawn_cases

MODULE = Path(__file__).parents[1] / "blendmask_lite" / "lab" / "static" / "equations.js"
RUNNER = Path(__file__).with_name("equations_runner.mjs")


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node is missing: apt-get install nodejs")
    return found


@pytest.fixture(scope="module")
def errors(node: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The largest difference to the package by method and by what was compared."""
    folder = tmp_path_factory.mktemp("equations")
    module = shutil.copy(MODULE, folder / "equations.mjs")  # the ending says that it is a module
    cases = folder / "cases.json"
    cases.write_text(json.dumps(drawn_cases()))
    done = subprocess.run([node, RUNNER, module, cases], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_every_step_of_every_method_equals_the_package(errors: dict[str, float]) -> None:
    steps = ("crops", "scores", "products", "logits", "probabilities", "pasted")
    methods = ("blender", "weighted_sum", "assembler")
    assert {f"{method} {step}" for method in methods for step in steps} == errors.keys()
    assert max(errors.values()) <= TOLERANCE, errors


def run_in_node(node: str, folder: Path, code: str) -> Any:
    """What the expression `code` gives, where `equations` is the module."""
    module = shutil.copy(MODULE, folder / "equations.mjs")
    script = folder / "script.mjs"
    script.write_text(
        f"import * as equations from {json.dumps(Path(module).as_uri())};\n"
        f"console.log(JSON.stringify({code}));\n"
    )
    done = subprocess.run([node, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_numbers_of_a_cell_add_up_by_hand(node: str, tmp_path: Path) -> None:
    # Two bases 8 and -4 with attentions ln 3 and 0: 8 * 3/4 - 4 * 1/4 = 5.
    code = """(() => {
      const problem = { method: "blender", bases: new Float32Array([8, 8, 8, 8, -4, -4, -4, -4]),
        K: 2, H: 2, W: 2, stride: 4, box: [0, 0, 8, 8], R: 2, M: 1,
        numbers: new Float32Array([Math.log(3), 0]) };
      const cell = equations.explain(equations.compute(problem), problem, [1, 0]);
      return { ...cell, r: [...cell.r], s: [...cell.s], products: [...cell.products] };
    })()"""
    cell = run_in_node(node, tmp_path, code)
    assert cell["r"] == [8, -4]
    assert cell["s"] == pytest.approx([0.75, 0.25])
    assert cell["products"] == pytest.approx([6, -1])
    assert cell["sum"] == pytest.approx(5)
    assert cell["probability"] == pytest.approx(1 / (1 + 2.718281828**-5))


def test_the_sources_of_a_cell_are_its_bilinear_neighbours_by_hand(
    node: str, tmp_path: Path
) -> None:
    # A box of 8 x 8 pixels is 2 x 2 cells of stride 4. With R = 4 a bin is half a cell, and its
    # centres lie at -0.25, 0.25, 0.75, 1.25 cells from the centre of the first cell.
    code = """[
      equations.cropSources({ H: 2, W: 2 }, 4, [0, 0, 8, 8], 4, [1, 0]),
      equations.cropSources({ H: 2, W: 2 }, 4, [20, 0, 28, 8], 4, [1, 0]),
      equations.attentionSources(2, 4, "bilinear", [1, 1]),
      equations.attentionSources(2, 4, "nearest", [1, 2]),
    ]"""
    crop, outside, attention, nearest = run_in_node(node, tmp_path, code)
    assert crop == [{"x": 0, "y": 0, "weight": 0.75}, {"x": 1, "y": 0, "weight": 0.25}]
    assert outside == []
    assert {(each["x"], each["y"]): each["weight"] for each in attention} == {
        (0, 0): 0.5625,
        (1, 0): 0.1875,
        (0, 1): 0.1875,
        (1, 1): 0.0625,
    }
    assert nearest == [{"x": 0, "y": 1, "weight": 1}]
