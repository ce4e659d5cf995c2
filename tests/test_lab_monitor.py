"""The training monitor: runs are followed, started, stopped and resumed; errors are shown."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import sys
import time

import pytest
from test_lab_time import write_moments

from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab import run_process, training_monitor
from blendmask_lite.lab.run_process import RunProcess, own_options
from blendmask_lite.lab.training_monitor import TrainingMonitor, look_at_run
from blendmask_lite.training.run_folder import RunFolder, read_run
from blendmask_lite.training.session import RunSession

ABOUT = {"command": "blendmask-lite train shapes -o x --iterations 8", "train": {"iterations": 8}}
COLUMNS = "iteration,learning_rate,loss,class,mask,gradient_norm,images_per_second,seconds"

# Trains nothing, but holds the folder, logs and obeys as a training does; quick to start.
STAND_IN = """
import json, signal, sys, time
from pathlib import Path
from filelock import FileLock
words = sys.argv[1:]
folder = Path(words[words.index("--out") + 1])
if "--wrong" in words:
    sys.exit("train: error: unrecognized arguments: --wrong")
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
def tell(state, **more):
    sessions[-1] |= {"state": state, **more}
    (folder / "run.json").write_text(json.dumps({**about, "sessions": sessions}))
about = {"command": "blendmask-lite train shapes", "train": {"iterations": 400}}
file = folder / "run.json"
sessions = json.loads(file.read_text())["sessions"] if file.exists() else []
sessions.append({})
with FileLock(folder / ".lock"):
    tell("running")
    done = 0
    with (folder / "metrics.csv").open("w") as log:
        log.write("iteration,learning_rate,loss,class,gradient_norm,images_per_second,seconds\\n")
        for done in range(1, 401):
            log.write(f"{done},0.1,{1 / done},{1 / done},1,8.0,0.5\\n")
            log.flush()
            if stop:
                break
            time.sleep(0.05)
            if done == 3 and "--fails" in words:
                tell("failed", reason="NonFiniteLossError: mask is nan after 3 iterations")
                sys.exit(1)
    tell("stopped" if stop else "finished")
    (folder / "last.pt").touch()
sys.exit(130 if stop else 0)
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(run_process, "COMMAND", (sys.executable, str(script)))


@pytest.fixture
def monitor(tmp_path):
    made = TrainingMonitor(folder=tmp_path / "run")
    yield made
    process = made.process if not made.is_closed else None
    if process is not None and process.can_stop:
        process.ask_to_stop()
        assert eventually(lambda: not process.is_alive)
    made.close()


def eventually(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def seen(monitor, state):
    """Whether the monitor, when it looks, sees this state."""
    monitor.refresh()
    return monitor.view.state == state


def write_run(path, rows=3, ending="finished", reason=None):
    """A folder as a training leaves it after some iterations."""
    run = RunFolder(path)
    session = RunSession(run)
    with session:
        session.begin(ABOUT, iteration=0)
        lines = [f"{i},0.1,{3 / i},{1 / i},{2 / i},1,16.0,0.5" for i in range(1, rows + 1)]
        run.metrics.write_text("\n".join([COLUMNS, *lines, ""]))
        if ending in ("finished", "stopped"):
            session.finish(is_finished=ending == "finished", iteration=rows)
    if reason is not None:
        content = json.loads(run.description.read_text())
        content["sessions"][-1] |= {"state": "failed", "reason": reason}
        run.describe(content)
    return run


# ------------------------------------------------------------------ following


def test_a_run_that_exists_is_followed_with_its_numbers(tmp_path):
    run = write_run(tmp_path / "run")
    run.evaluation.write_text("iteration,mask AP,box AP\n3,12.5,14.25\n")
    monitor = TrainingMonitor(folder=run.path)
    record = read_run(run.path)
    assert monitor.view.state == "finished"
    words = monitor.controls.words.value
    assert "3 of 8 iterations" in words and f"loss {record.last_losses['loss']:.3f}" in words
    assert "16.0 images/s" in words and "mask AP 12.5" in words and "left" not in words
    assert (monitor.controls.bar.value, monitor.controls.bar.max) == (3, 8)
    pictures = re.findall('alt="(.*?)"', monitor.controls.curves.value)
    assert pictures == [  # two, for a window in which only one has room
        "Curves of run: loss, class, mask, learning_rate over the iterations.",
        "Curves of run: AP over the iterations.",
    ]
    assert monitor.controls.stop.disabled and monitor.controls.resume.disabled
    monitor.close()


def test_the_time_left_is_told_while_it_runs(tmp_path):
    run = RunFolder(tmp_path / "run")
    session = RunSession(run)
    with session:
        session.begin(ABOUT, iteration=0)
        run.metrics.write_text(f"{COLUMNS}\n1,0.1,1,1,1,1,8,30\n2,0.1,1,1,1,1,8,40\n3,0.1,1,1")
        view = look_at_run(RunProcess(run.path))
        assert view.state == "running" and view.num_done == 2  # the third row is on its way
        assert view.words.endswith("3:30 left")  # 6 steps of 35 seconds
        assert not view.can_stop  # this process holds it, and the lab did not start it
        session.finish(is_finished=False, iteration=2)
    assert look_at_run(RunProcess(run.path)).can_resume


def test_curves_are_drawn_again_only_for_new_steps(tmp_path, monkeypatch):
    drawn = []
    curves_of = training_monitor.curves_of
    monkeypatch.setattr(
        training_monitor, "curves_of", lambda record: drawn.append(1) or curves_of(record)
    )
    run = write_run(tmp_path / "run", ending="stopped")
    monitor = TrainingMonitor(folder=run.path)
    monitor.refresh()
    assert len(drawn) == 1
    with run.metrics.open("a") as file:
        file.write("4,0.1,1,1,1,1,8,30\n")
    monitor.refresh()
    assert len(drawn) == 2 and monitor.controls.bar.value == 4
    monitor.close()


def test_masks_of_the_newest_snapshot_come_along(tmp_path):
    run = write_run(tmp_path / "run", ending="stopped")
    monitor = TrainingMonitor(folder=run.path)
    assert monitor.machine is None
    run.snapshots.mkdir()
    write_moments(run.snapshots, iterations=(0, 3))
    monitor.refresh()
    assert monitor.machine.reel.iterations == (0, 3) and monitor.machine.index == 1
    (run.snapshots / "step-00000005.npz").write_bytes(
        (run.snapshots / "step-00000003.npz").read_bytes()
    )
    monitor.refresh()
    assert monitor.machine.index == 2
    machine = monitor.machine
    monitor.close()
    assert machine.is_closed and not hasattr(machine, "reel")


@pytest.mark.parametrize(
    ("ending", "reason", "words"),
    [
        ("none", "NonFiniteLossError: mask is nan", "failed: NonFiniteLossError: mask is nan"),
        ("none", "OSError: no space left on the disk", "no space left on the disk"),
        ("none", None, "killed"),
    ],
)
def test_what_went_wrong_in_a_run_is_shown(tmp_path, ending, reason, words):
    run = write_run(tmp_path / "run", ending=ending, reason=reason)
    (run.path / "output.txt").write_text("1/8  loss 3.0\nTraceback\nKeyError: 'mask'\n")
    monitor = TrainingMonitor(folder=run.path)
    assert words in monitor.message.text and monitor.message.kind == "error"
    assert not monitor.controls.resume.disabled
    if reason is None:
        assert "KeyError: 'mask'" in monitor.message.text
    monitor.close()


def test_a_damaged_folder_is_told_and_the_old_run_stays(tmp_path):
    run = write_run(tmp_path / "run")
    monitor = TrainingMonitor(folder=run.path)
    before = monitor.controls.curves.value
    monitor.controls.folder.value = str(tmp_path / "nowhere")
    monitor.controls.follow.click()
    assert "no such folder" in monitor.message.text and monitor.message.kind == "error"
    assert monitor.process.folder == run.path and monitor.controls.curves.value == before
    run.description.write_text("{")
    monitor.refresh()
    assert monitor.view.num_done == 3  # what can be read is shown
    monitor.close()


def test_it_follows_by_itself_in_a_notebook_and_the_kernel_stays_free(tmp_path):
    run = write_run(tmp_path / "run", ending="stopped")

    async def notebook():
        monitor = TrainingMonitor(folder=run.path, interval=0.02)
        with run.metrics.open("a") as file:
            file.write("4,0.1,1,1,1,1,8,30\n")
        beats = 0
        while monitor.controls.bar.value != 4 and beats < 2000:
            await asyncio.sleep(0.01)
            beats += 1
        task = monitor._task
        monitor.close()
        await asyncio.sleep(0.05)
        return beats, task

    beats, task = asyncio.run(notebook())
    assert 0 < beats < 2000 and task.done()


# ------------------------------------------------------------------ starting and stopping


@pytest.mark.slow
def test_a_training_is_started_stopped_and_resumed(monitor, stand_in):
    monitor.controls.options.value = "shapes --iterations 400"
    monitor.controls.start.click()
    assert eventually(lambda: seen(monitor, "running") and monitor.view.num_done > 0)
    assert monitor.controls.start.disabled and not monitor.controls.stop.disabled
    monitor.controls.start.click()
    assert "trains here already" in monitor.message.text

    monitor.controls.stop.click()
    assert eventually(lambda: seen(monitor, "stopped"))
    assert monitor.process.exit_code == 130 and "“Resume” continues it" in monitor.message.text
    monitor.controls.start.click()
    assert "holds a run already" in monitor.message.text and monitor.message.kind == "error"

    monitor.controls.resume.click()
    assert eventually(lambda: seen(monitor, "running"))
    assert len(monitor.view.record.sessions) == 2
    started = json.loads((monitor.process.folder / "process.json").read_text())
    assert started["options"] == ["shapes", "--iterations", "400"] and started["session"] == 1


@pytest.mark.slow
def test_another_kernel_finds_the_training_and_stops_it(monitor, stand_in):
    monitor.start()
    assert eventually(lambda: seen(monitor, "running"))
    other = TrainingMonitor(folder=monitor.process.folder)
    assert other.view.state == "running" and not other.controls.stop.disabled
    other.controls.stop.click()
    assert eventually(lambda: seen(other, "stopped"))
    other.close()


def test_closing_the_monitor_leaves_the_training_alone(monitor, stand_in):
    monitor.start()
    assert eventually(lambda: seen(monitor, "running"))
    process = monitor.process
    number = process._process.pid
    monitor.close()
    os.kill(number, 0)  # still there
    process.ask_to_stop()
    assert eventually(lambda: not process.is_alive)
    assert not hasattr(monitor, "process")


def test_a_loss_that_is_not_finite_is_shown(monitor, stand_in):
    monitor.controls.options.value = "shapes --fails"
    monitor.controls.start.click()
    assert eventually(lambda: seen(monitor, "failed"))
    assert "NonFiniteLossError: mask is nan after 3 iterations" in monitor.message.text
    assert monitor.message.kind == "error" and "3 of 400" in monitor.controls.words.value


def test_wrong_options_are_shown(monitor, stand_in):
    monitor.controls.options.value = "shapes --wrong"
    monitor.controls.start.click()
    assert eventually(lambda: seen(monitor, "failed"))
    assert "unrecognized arguments: --wrong" in monitor.message.text
    for text, words in (("shapes 'open", "No closing"), ("shapes --out=x", "leave out --out")):
        monitor.controls.options.value = text
        monitor.controls.start.click()
        assert words in monitor.message.text


def test_what_was_started_elsewhere_is_not_stopped_from_here(tmp_path):
    run = RunFolder(tmp_path / "run")
    session = RunSession(run)
    with session:
        session.begin(ABOUT, iteration=0)
        stale = {
            "process": os.getpid(),
            "machine": platform.node(),
            "session": 5,
            "options": [],
            "working_directory": ".",
        }
        (run.path / "process.json").write_text(json.dumps(stale))
        process = RunProcess(run.path)
        assert process.is_alive and not process.can_stop
        with pytest.raises(ValueError, match="started elsewhere"):
            process.ask_to_stop()
        with pytest.raises(ValueError, match="trains here already"):
            process.begin(["shapes"])
        session.finish(is_finished=False, iteration=0)
    with pytest.raises(ValueError, match="nothing runs here"):
        process.ask_to_stop()


def test_options_are_taken_from_the_command_of_a_terminal():
    command = "blendmask-lite train 'my data' -o runs/a --resume --iterations 8 --out=x"
    assert own_options(command) == ("my data", "--iterations", "8")
    assert own_options("rm -rf train") == own_options("blendmask-lite 'open") == ()


@pytest.mark.slow
def test_a_real_training_is_stopped_with_its_work_saved(tmp_path):
    options = "shapes --iterations 500 --batch-size 1 --size 64 --snapshots 12"
    monitor = TrainingMonitor(folder=tmp_path / "run", options=f"{options} --threads 1 --workers 0")
    monitor.start()
    assert eventually(lambda: seen(monitor, "running") and monitor.view.num_done >= 2, 300)
    monitor.stop()
    assert eventually(lambda: seen(monitor, "stopped"), 300)
    run = monitor.process.run
    assert run.last.exists() and not run.model.exists()
    assert read_run(run.path).state == "stopped"
    assert monitor.machine is not None and monitor.machine.reel.iterations[0] == 0
    assert monitor.machine.reel.snapshots.class_names == ShapesDataset.class_names
    monitor.close()
