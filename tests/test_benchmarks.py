"""The benchmarks that need a GPU run in a small form everywhere."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_training_benchmark_measures_steps_and_blender(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("benchmark", BENCHMARKS / "training.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    words = "--preset nano --size 64x96 --batch-size 2 --accumulate 2 --steps 1"
    result = benchmark.main([*words.split(), "--json", str(tmp_path / "numbers.json")])
    assert json.loads((tmp_path / "numbers.json").read_text()) == result
    assert json.loads(capsys.readouterr().out) == result
    steps = result["plain norms"]
    assert steps["images_per_second"] > 0
    assert 0 < steps["peak_memory_gb"] < 100
    assert result["blender_ms"] > 0


def test_the_benchmark_of_a_step_compares_two_checkouts(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("benchmark", BENCHMARKS / "training_step.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    other = tmp_path / "other"
    other.symlink_to(BENCHMARKS.parent, target_is_directory=True)
    path = tmp_path / "numbers.json"
    words = ["--against", str(other), "--blocks", "1", "--steps", "1", "--json", str(path)]
    result = benchmark.main(words)
    assert json.loads(path.read_text()) == result == json.loads(capsys.readouterr().out)
    own = result[str(BENCHMARKS.parent)]
    assert 0 < own["of them drawing"] < own["milliseconds"]
    assert result["ratio"]["mean"] > 0
