"""The list that `make gpu-check` runs, in miniature on the CPU."""

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.syspath_prepend(TOOLS)
    import gpu_check

    return gpu_check


@pytest.mark.slow
def test_without_a_gpu_the_list_runs_in_miniature_and_says_so(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_check, "EVERY_PRESET", ["nano", "nano_panoptic"])
    parts = ["ceilings", "agreement", "waits", "evaluation", "runs", "norms", "blender", "steps"]
    assert gpu_check.main(["--only", ",".join(parts), "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["name"] for part in content["parts"]] == parts
    assert content["environment"]["gpu"] is None
    by_name = {part["name"]: part["rows"] for part in content["parts"]}
    for row in by_name["agreement"]:
        assert (row["gradient"] == 0) == (row["precision"] == "float32")
    # On one thread of a CPU a continued run has the very weights of a whole one.
    for row in by_name["runs"]:
        assert [value for name, value in row.items() if "relative" in name] == [0, 0]
    page = (tmp_path / "gpu.md").read_text()
    assert "in miniature: there was no CUDA device" in page and "**0 problems.**" in page


def test_what_is_wrong_is_said_and_the_rest_still_runs(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_check, "EVERY_PRESET", ["nano"])
    # Tighter than bfloat16 can be.
    monkeypatch.setitem(gpu_check.ALLOWED, "bfloat16", 1e-6)
    monkeypatch.setattr(gpu_check.PARTS["blender"][1], "__code__", fails.__code__)
    assert gpu_check.main(["--only", "blender,agreement", "--out", str(tmp_path)]) == 1
    page = (tmp_path / "gpu.md").read_text()
    assert "- blender: RuntimeError: no such kernel" in page
    assert "- agreement: nano, bfloat16: gradient is off by" in page


def fails(part):
    raise RuntimeError("no such kernel\nand a long tail")
