"""The set-up check: every step says what it found, and a step that fails says what to do."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from blendmask_lite.course import ready
from blendmask_lite.course.ready import Step


def test_failing_step_is_named_with_its_remedy_and_the_others_still_run(monkeypatch, capsys):
    def fail():
        raise RuntimeError("no such thing")

    steps = (Step("first", fail, "Mend it."), Step("second", lambda: "a thing", "Never."))
    monkeypatch.setattr(ready, "STEPS", steps)
    assert ready.main() == 1
    said = capsys.readouterr().out
    assert "first ... ✘ RuntimeError: no such thing\n    Mend it." in said
    assert "second ... ✔ a thing" in said and "Never." not in said
    assert "1 of 2 steps failed" in said


def test_missing_library_is_named(monkeypatch):
    def no_version(name):
        raise PackageNotFoundError(name)

    module = sys.modules["blendmask_lite.course.environment"]  # the package names its function so
    monkeypatch.setattr(module, "version", no_version)
    with pytest.raises(RuntimeError, match="torch: not installed"):
        ready.look_at_libraries()


def test_full_disk_is_named(monkeypatch):
    monkeypatch.setattr(ready, "FREE_GIGABYTES", 1e9)
    with pytest.raises(RuntimeError, match="GB of disk free"):
        ready.look_at_space()


@pytest.mark.slow
def test_machine_that_runs_the_tests_is_ready(capsys):
    assert ready.main() == 0, capsys.readouterr().out
    assert "4 objects" in capsys.readouterr().out


@pytest.mark.slow
def test_lab_that_does_not_start_is_said_at_once(monkeypatch):
    start = subprocess.Popen
    monkeypatch.setattr(
        ready.subprocess, "Popen", lambda command, **kw: start([*command[:1], "-c", "1 / 0"], **kw)
    )
    with pytest.raises(RuntimeError, match="ended with status 1"):
        ready.open_lab()
