"""The benchmarks that need a GPU run in a small form everywhere."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.slow
def test_the_benchmark_of_a_step_compares_two_checkouts(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("benchmark", BENCHMARKS / "training_step.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    other = tmp_path / "other"
    other.symlink_to(BENCHMARKS.parent, target_is_directory=True)
    path = tmp_path / "numbers.json"
    words = ["--against", str(other), "--blocks", "1", "--steps", "1"]
    words += ["--warm-up", "1", "--json", str(path)]
    result = benchmark.main(words)
    assert json.loads(path.read_text()) == result == json.loads(capsys.readouterr().out)
    own = result[str(BENCHMARKS.parent)]
    assert 0 < own["of them drawing"] < own["milliseconds"]
    assert result["ratio"]["mean"] > 0


def test_the_inference_benchmark_gives_intervals_and_shares_of_the_peak(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("inference", BENCHMARKS / "inference.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    # Ratios 2, 2, 2, 4: the median of any draw lies between them.
    median, low, high = benchmark.ratio([2.0, 4, 6, 8], [1, 2, 3, 2])
    assert median == 2 and low == 2 and 2 < high <= 4
    # 2 x 2048^3 operations.
    product = benchmark.matrix_product()
    assert benchmark.operations(product) == 2 * 2048**3 / 1e9
    times = {benchmark.PEAK: [100.0, 200.0], "backbone": [50.0, 100.0], "paste": [1.0, 1.0]}
    gflops = {benchmark.PEAK: 10.0, "backbone": 4.0, "paste": 0.0}
    lines = benchmark.rows("Stages", times, gflops=gflops)
    # 4 in 50 ms against 10 in 100 ms: four fifths, in both rounds.
    assert "80% [80%, 80%] of the peak" in lines[2] and lines[3].endswith("1.0 ms")


def test_the_benchmark_of_exported_files_pairs_what_is_the_same(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("exported", BENCHMARKS / "exported.py")
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "exported", benchmark)  # its dataclass looks itself up
    spec.loader.exec_module(benchmark)

    def outputs(*found):  # left side of a box of 10 x 10 pixels, score, label, mask
        left, scores, labels, masks = (np.array(each) for each in zip(*found, strict=True))
        boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], axis=1)
        return boxes, scores, labels, np.broadcast_to(masks[:, None, None], (len(left), 2, 2))

    one = outputs((0.0, 0.9, 1, 0.5), (50.0, 0.6, 1, 0.5), (90.0, 0.4, 2, 0.5), (130.0, 0.2, 0, 0))
    # One pixel beside the first, another label, below the threshold, no longer there.
    other = outputs((1.0, 0.8, 1, 0.75), (50.0, 0.6, 0, 0.5), (90.0, 0.2, 2, 0.5))
    assert benchmark.partners(one, other).tolist() == [[0, 0], [2, 2]]
    found = benchmark.agreement([one], [other])
    # Of three clear ones here and two there, two here and one there have a partner.
    assert found.share == 3 / 5
    assert found.score == pytest.approx((0.15, 0.199, 0.2))
    assert found.box[2] == 1 and found.mask[2] == 0.25
    assert benchmark.agreement([one], [one]).share == 1
