"""What is written down of a run, and how runs are listed, compared and drawn."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import blendmask_lite
from blendmask_lite import PRESETS
from blendmask_lite.cli import main
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import curves_figure
from blendmask_lite.figures.training import smooth
from blendmask_lite.training import session as session_file
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.run_folder import (
    RunFolder,
    find_runs,
    flat_settings,
    is_held,
    read_run,
)
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale
from blendmask_lite.training.session import RunSession, commit

METRICS = """\
iteration,learning_rate,loss,class,mask,gradient_norm,images_per_second,data_seconds,seconds
1,0.001,4.0,3.0,1.0,9.0,10.0,0.1,0.2
2,0.002,2.0,1.5,0.5,8.0,30.0,0.1,0.2
"""
EVALUATION = "iteration,mask AP,mask AP50,box AP\n1,10.5,20,30\n2,12.25,24,36\n"


def make_run(folder, **description):
    """A run of two steps that was finished."""
    folder.mkdir(parents=True)
    content = {
        "command": "blendmask-lite train shapes -o here",
        "preset": "nano",
        "data": "shapes",
        "train": {"iterations": 2, "seed": 0, "train_sizes": [64]},
        "sessions": [{"state": "finished", "start": "2026-01-02T03:04:05+00:00"}],
    }
    (folder / "run.json").write_text(json.dumps({**content, **description}))
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "evaluation.csv").write_text(EVALUATION)
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def sessions_of(folder):
    return json.loads((folder / "run.json").read_text())["sessions"]


# What a process writes down


def test_a_session_says_what_it_ran_with_and_how_it_ended(tmp_path):
    run = RunFolder(tmp_path / "run")
    with RunSession(run) as session:
        session.begin({"command": "train", "train": {"seed": 3}}, iteration=0)
        assert sessions_of(run.path)[0]["state"] == "running"
        assert is_held(run)
        session.finish(is_finished=False, iteration=40)
    assert not is_held(run)
    with RunSession(run) as session:
        session.begin({"command": "train --resume", "train": {"seed": 4}}, iteration=40)
        session.finish(is_finished=True, iteration=90)
    content = json.loads(run.description.read_text())
    assert content["command"] == "train"  # that of the beginning, as its settings are
    assert content["train"] == {"seed": 3}
    first, second = content["sessions"]
    assert (first["state"], first["from_iteration"], first["until_iteration"]) == ("stopped", 0, 40)
    assert (second["state"], second["from_iteration"]) == ("finished", 40)
    assert second["command"] == "train --resume"
    assert first["start"] <= first["end"] <= second["start"]
    versions = second["versions"]
    assert versions["torch"] == torch.__version__
    assert versions["numpy"] == np.__version__
    assert versions["blendmask_lite"] == blendmask_lite.__version__
    assert second["host"]["threads"] == torch.get_num_threads()
    assert second["host"]["device"] == "cpu"


def test_an_error_is_written_down(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="loss"), RunSession(run) as session:
        session.begin({}, iteration=0)
        raise ValueError("the loss is nan")
    assert sessions_of(tmp_path)[0]["state"] == "failed"
    assert sessions_of(tmp_path)[0]["reason"] == "ValueError: the loss is nan"
    assert not is_held(run)


def test_a_refusal_before_the_beginning_changes_nothing(tmp_path):
    make_run(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(FileExistsError), RunSession(RunFolder(tmp_path / "run")):
        raise FileExistsError("holds a run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_second_process_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(session_file, "PATIENCE", 0.1)
    run = RunFolder(tmp_path)
    with RunSession(run) as session:
        session.begin({}, iteration=0)
        with pytest.raises(ValueError, match="another process trains in it"), RunSession(run):
            pass
        assert sessions_of(tmp_path)[0]["state"] == "running"
    with RunSession(run):
        pass


def hold_and_wait(folder):
    with RunSession(RunFolder(folder)) as session:
        session.begin({"train": {"iterations": 9}}, iteration=0)
        time.sleep(60)


def test_a_killed_process_is_seen_as_killed_and_noted_by_the_next(tmp_path, capsys):
    process = multiprocessing.get_context("fork").Process(target=hold_and_wait, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_run(tmp_path).state == "running"
    process.kill()
    process.join()
    assert read_run(tmp_path).state == "killed"
    with RunSession(RunFolder(tmp_path)) as session:
        session.begin({}, iteration=0)
    assert [each["state"] for each in sessions_of(tmp_path)] == ["killed", "running"]


def test_other_ranks_write_nothing(tmp_path):
    run = RunFolder(tmp_path / "run")
    with RunSession(run, is_recorded=False) as session:
        session.begin({}, iteration=0)
        session.finish(is_finished=True, iteration=3)
    assert not run.path.exists()


def test_the_commit_is_that_of_the_package(monkeypatch):
    found = commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", found)
    # Installed inside of somebody else's clone, or without git: no commit.
    monkeypatch.setattr(blendmask_lite, "__file__", os.devnull)
    assert commit() is None
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_training_keeps_the_exact_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("blendmask_lite.cli.train.VALIDATION_SHAPES", 2)
    out = tmp_path / "a run"
    command = ["train", "shapes", "-o", str(out), "--iterations", "1", "--batch-size", "1"]
    command += ["--evaluate-every", "9", "--size", "64", "--threads", "1", "--snapshots", "2"]
    assert main([*command, "--watched-pictures", "1"]) == 0
    content = json.loads((out / "run.json").read_text())
    assert content["command"].startswith(f"blendmask-lite train shapes -o '{out}' --iterations 1")
    assert content["command"].endswith("--watched-pictures 1")
    assert (content["preset"], content["data"]) == ("nano", "shapes")
    names = sorted(path.name for path in (out / "snapshots").iterdir())
    assert names == ["pictures.npz", "step-00000000.npz", "step-00000001.npz"]
    capsys.readouterr()
    assert main(["runs", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert re.search(r"nano +shapes +1/1 +finished", line)


def test_numbers_too_small_are_refused_with_their_option(tmp_path, capsys):
    for option in (["--snapshots", "1"], ["--tensorboard", "0"], ["--watched-pictures", "0"]):
        assert main(["train", "shapes", "-o", str(tmp_path / "run"), *option]) == 1
        assert f"{option[0]} {option[1]}: must be at least" in capsys.readouterr().err


# The list


def test_a_run_is_one_line_with_all_that_matters(tmp_path, capsys):
    make_run(tmp_path / "runs" / "first")
    later = [{"state": "stopped", "start": "2026-02-03T04:05:06+00:00"}]
    make_run(tmp_path / "runs" / "deeper" / "second", sessions=later, preset="r50")
    assert main(["runs", str(tmp_path / "runs")]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["run", "preset", "data", "iterations", "state"]
    fields = first.split()
    assert fields[0].endswith("first")
    # Means of both steps: losses 4 and 2, masks 1 and 0.5, 10 and 30 images a second.
    assert fields[1:12] == [
        *("nano", "shapes", "2/2", "finished", "3.000", "0.750", "12.2", "36.0", "12.2", "2"),
        "20.0",
    ]
    assert "2026-01-02 03:04  blendmask-lite train shapes -o here" in first
    assert "second" in second and "r50" in second and "stopped" in second


def test_the_best_mask_ap_and_why_a_run_ended_early_are_shown(tmp_path, capsys):
    early = {"state": "finished", "reason": "no better mask AP than 20.5, at iteration 2, ..."}
    run = make_run(tmp_path / "run", sessions=[early])
    rows = "iteration,mask AP\n1,10\n2,20.5\n3,20.5\n4,nan\n5,7\n"
    (run / "evaluation.csv").write_text(rows)
    assert read_run(run).best == (20.5, 2)
    assert main(["runs", str(run)]) == 0
    head, line, reason = capsys.readouterr().out.splitlines()
    assert head.split()[6:11] == ["mask", "mask", "AP", "box", "AP"]
    assert line.split()[7:11] == ["7.0", "-", "20.5", "2"]
    assert reason == f"    {early['reason']}"
    assert main(["runs", "compare", str(run), str(make_run(tmp_path / "other"))]) == 0
    assert "20.50 at iteration 2" in capsys.readouterr().out


def test_options_are_compared_where_nothing_else_says_the_same(tmp_path):
    options = {"learning_rate": 0.1, "split": "train", "threads": 1}
    settings = flat_settings(read_run(make_run(tmp_path / "run", options=options)))
    assert settings["split"] == "train"
    assert not any(name.startswith("options") for name in settings)


def test_no_runs_are_said_and_no_folder_is_an_error(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nothing")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_failed_run_says_why(tmp_path, capsys):
    failed = [{"state": "failed", "reason": "ValueError: iteration 7: box is nan\nmore"}]
    make_run(tmp_path / "run", sessions=failed)
    assert main(["runs", str(tmp_path)]) == 0
    assert "    ValueError: iteration 7: box is nan\n" in capsys.readouterr().out


def test_a_run_of_before_sessions_were_written_is_finished_where_its_model_is(tmp_path):
    make_run(tmp_path / "old", sessions=None)
    assert read_run(tmp_path / "old").state == "finished"
    (tmp_path / "old" / "model.safetensors").unlink()
    assert read_run(tmp_path / "old").state == "unknown"


DAMAGES = {
    "run.json": [
        *(b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00", b"[" * 5000, b'{"sessions": 3}'),
        *(b'{"sessions": [3, null]}', b'{"train": 7}', b'{"train": {"iterations": "x"}}'),
        *(b'{"sessions": [{"state": null, "start": 5}], "command": 3}', b'{"sessions": []}'),
    ],
    "metrics.csv": [
        *(
            b"",
            b"\n",
            b"iteration",
            b"\x00\x01",
            b"\xff\xff",
            b"a,b\n1,2\n",
            b"iteration,iteration\n",
        ),
        *(METRICS.encode()[:90], METRICS.encode()[:130], METRICS.encode()[:170]),
        METRICS.replace("2.0", "x").encode(),
        METRICS.replace("4.0", "nan").encode(),
        METRICS.replace("1,0.001,4.0", "1").encode(),
        b'iteration,loss\n"1,2',
    ],
    "evaluation.csv": [b"", b"iteration,mask AP\n", b"\x00", b"iteration,mask AP\n1,\n2", b"x\n"],
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_damaged_folders_have_a_line_and_never_a_traceback(tmp_path, capsys, name):
    for number, damage in enumerate(DAMAGES[name]):
        (make_run(tmp_path / f"{name}-{number:02}") / name).write_bytes(damage)
    (make_run(tmp_path / f"{name}-missing") / name).unlink()
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for number in range(len(DAMAGES[name])):
        assert f"{name}-{number:02}" in out
    assert main(["runs", "compare", str(tmp_path)]) == 0
    assert main(["runs", str(tmp_path), "--plot", str(tmp_path / "curves.png")]) == 0


def test_what_is_damaged_is_said(tmp_path, capsys):
    (make_run(tmp_path / "a") / "run.json").write_bytes(b"{")
    (make_run(tmp_path / "b") / "metrics.csv").write_bytes(b"\xff\xff")
    (make_run(tmp_path / "c") / "metrics.csv").write_text(METRICS.replace("1,0.001,4.0", "1"))
    (make_run(tmp_path / "d") / "metrics.csv").unlink()
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for problem in (
        *("run.json cannot be read", "metrics.csv cannot be read"),
        *("metrics.csv: 1 row of another length", "metrics.csv is missing"),
    ):
        assert f"    {problem}" in out


@pytest.mark.parametrize("cell", ["nan", "inf", "x"])
def test_a_loss_that_is_no_number_does_not_hide_the_others(tmp_path, cell):
    (make_run(tmp_path / "a") / "metrics.csv").write_text(METRICS.replace(",2.0,", f",{cell},"))
    record = read_run(tmp_path / "a")
    assert record.last_losses == {"loss": 4.0, "class": 2.25, "mask": 0.75}
    assert record.num_done == 2


def test_cut_files_of_any_length_are_read_or_told(tmp_path):
    generator = random.Random(0)
    folder = make_run(tmp_path / "run")
    contents = {name: (folder / name).read_bytes() for name in DAMAGES}
    for _ in range(60):
        for name, content in contents.items():
            (folder / name).write_bytes(content[: generator.randint(0, len(content))])
        record = read_run(folder)
        assert record.num_done in (0, 1, 2)
        assert record.state in ("finished", "unknown")


# The comparison


def test_settings_that_differ_and_results_stand_side_by_side(tmp_path, capsys):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", train={"iterations": 2, "seed": 1, "train_sizes": [64]}, extra="x")
    assert main(["runs", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train.seed", "0", "1"] in lines
    assert ["extra", "-", "x"] in lines
    assert ["mask", "AP", "12.25", "12.25"] in lines
    assert ["loss:", "mask", "0.7500", "0.7500"] in lines
    names = {line[0] for line in lines if line}
    assert "train.iterations" not in names and "preset" not in names


def test_a_comparison_needs_two_runs(tmp_path, capsys):
    make_run(tmp_path / "a")
    assert main(["runs", "compare", str(tmp_path)]) == 1
    assert "compare: needs two runs" in capsys.readouterr().err


def test_versions_and_host_of_the_last_process_are_settings(tmp_path):
    sessions = [{"versions": {"torch": "1"}}, {"versions": {"torch": "2"}, "commit": "abc"}]
    settings = flat_settings(read_run(make_run(tmp_path / "a", sessions=sessions)))
    assert settings["versions.torch"] == "2"
    assert settings["commit"] == "abc"
    assert settings["train.train_sizes"] == "[64]"


def test_runs_are_found_in_folders_of_folders(tmp_path):
    for name in ("x/1/a", "x/1/b", "c", "too/deep/for/us/d", ".hidden/e"):
        make_run(tmp_path / name)
    found = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    assert found == ["c", "x/1/a", "x/1/b"]
    assert find_runs(tmp_path / "c") == [tmp_path / "c"]


# The curves


def test_the_average_is_over_the_last_values():
    assert smooth([1, 3, 5, 7], 2).tolist() == [1, 2, 4, 6]
    assert smooth([1, 3], 5).tolist() == [1, 2]
    assert smooth([1, math.nan, 3, math.inf], 2).tolist() == [1, 1, 3, 3]
    assert math.isnan(smooth([math.nan, 1], 1)[0])
    assert len(smooth([], 3)) == 0


def test_every_run_has_its_line_in_every_panel():
    steps = {"iteration": [1, 2, 3, 4], "loss": [4.0, 2.0, 3.0, 1.0], "learning_rate": [1, 2, 3, 4]}
    scores = {"iteration": [2, 4], "mask AP": [1.0, 5.0], "box AP": [2.0, 8.0]}
    other = {"iteration": [1, 2], "loss": [1.0, 1.0], "mask": [5.0, 6.0]}
    names = ["loss", "mask", "learning_rate", "AP"]
    figure = curves_figure({"a": steps, "b": other}, {"a": scores}, names=names)
    panels = {ax.get_title(): ax for ax in figure.axes}
    assert list(panels) == ["loss", "mask", "learning rate", "AP: mask strong, box pale"]
    drawn = {title: [list(x.get_ydata()) for x in ax.lines] for title, ax in panels.items()}
    assert [4.0, 2.0, 3.0, 1.0] in drawn["loss"] and [1.0, 1.0] in drawn["loss"]
    assert drawn["mask"] == [[5.0, 6.0]]
    assert drawn["AP: mask strong, box pale"] == [[1.0, 5.0], [2.0, 8.0]]
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b"]
    colors = {line.get_color() for line in panels["loss"].lines}
    assert len(colors) == 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_curves_are_written_as_pictures(tmp_path, suffix, capsys):
    make_run(tmp_path / "run")
    file = tmp_path / f"curves.{suffix}"
    assert main(["runs", str(tmp_path / "run"), "--plot", str(file)]) == 0
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert file.read_bytes().startswith(start)
    if suffix == "png":
        pixels = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 20  # not a white page


def test_curves_that_cannot_be_are_refused(tmp_path, capsys):
    (make_run(tmp_path / "run") / "metrics.csv").unlink()
    assert main(["runs", str(tmp_path), "--plot", "curves.bmp"]) == 1
    assert ".png, .pdf, .svg" in capsys.readouterr().err
    assert main(["runs", str(tmp_path), "--plot", str(tmp_path / "curves.png")]) == 1
    assert "none of the runs" in capsys.readouterr().err


def test_a_real_run_is_read_while_it_goes_on_and_when_it_is_finished(tmp_path):
    train = replace(
        rescale(TRAIN_PRESETS["nano"], iterations=3, batch_size=1), train_sizes=(64,), max_size=107
    )
    small = {"stage_width": 8, "stem_channels": 8, "pyramid_channels": 16}
    recipe = Recipe(
        model=replace(PRESETS["nano"], **small), inference=PRESET_INFERENCE["nano"], train=train
    )
    seen = []

    class Looking(ShapesDataset):
        def load(self, index):
            seen.append(read_run(tmp_path))
            return super().load(index)

    train_model(Looking(3), tmp_path, recipe)
    assert [(each.state, each.num_done, each.problems) for each in seen] == [
        ("running", done, ()) for done in range(3)
    ]
    record = read_run(tmp_path)
    assert (record.state, record.num_done, record.num_iterations) == ("finished", 3, 3)
    assert list(record.last_losses) == ["loss", "class", "box", "centerness", "mask", "semantic"]
    total = sum(value for name, value in record.last_losses.items() if name != "loss")
    assert record.last_losses["loss"] == pytest.approx(total, rel=1e-4)


def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    os.mkfifo(tmp_path / "metrics.csv")
    assert "metrics.csv is no regular file" in read_run(tmp_path).problems
    (tmp_path / "run.json").unlink()
    os.mkfifo(tmp_path / "run.json")
    assert "run.json: is no regular file" in read_run(tmp_path).problems[0]
