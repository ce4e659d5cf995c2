"""Time machine and training monitor in a real JupyterLab and browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_lab_time import write_moments

from blendmask_lite.lab.blender.view import mask_overlay
from blendmask_lite.lab.run_process import RunProcess
from blendmask_lite.lab.time import TimeMachine
from blendmask_lite.lab.time import view as view

from .jupyter import ERROR_OUTPUT, JupyterLab, eventually, is_near, notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "time.ipynb"
SHOW_TIME = """from blendmask_lite.lab.time import TimeMachine
TimeMachine(snapshots="snapshots")"""
OPTIONS = "shapes --iterations 500 --batch-size 1 --size 64 --threads 1 --workers 0"
SHOW_RUN = f"""from blendmask_lite.lab.training_monitor import TrainingMonitor
TrainingMonitor(folder="run", options="{OPTIONS}", interval=0.5)"""
SECONDS_TO_TRAIN = 240
BUTTON = "button.jupyter-button"
HANDLE = '.widget-slider [role="slider"]'


@pytest.fixture(scope="module")
def home(folder: Path) -> Iterator[Path]:
    """A folder with snapshots, and a notebook that shows them and follows a run."""
    made = folder / "time"
    (made / "snapshots").mkdir(parents=True)
    write_moments(made / "snapshots")
    (made / NAME).write_text(notebook(SHOW_TIME, SHOW_RUN))
    yield made
    left = RunProcess(made / "run")  # a training outlives the kernel, also that of a failed test
    if left.can_stop:
        left.ask_to_stop()


@pytest.fixture(scope="module")
def opened(lab: JupyterLab, home: Path) -> Iterator[JupyterLab]:
    with lab.opened(f"{home.name}/{NAME}", height=1500):
        lab.run_all()
        lab.page.wait_for_selector('[data-panel="mask"]')
        lab.page.locator(BUTTON, has_text="Start").wait_for()
        yield lab


@pytest.fixture(scope="module")
def twin(home: Path) -> TimeMachine:
    """The same machine in this process: it computes what the page has to show."""
    return TimeMachine(snapshots=home / "snapshots")


def shows(opened: JupyterLab, twin: TimeMachine, index: int) -> bool:
    """The page shows the pixels and the IoU of this moment."""
    twin.go_to(index)
    cells = view.pixels(twin.moment, twin.limits)
    colors = {
        name: np.frombuffer(each, np.uint8).reshape(256, 4) for name, each in view.PALETTES.items()
    }

    def is_right() -> bool:
        return all(
            is_near(opened.pixels(key), colors["grey" if key == "mask" else "signed"][list(bytes_)])
            for key, bytes_ in cells.items()
        )

    words = opened.page.locator('[data-bars="moment"]')
    told = f"IoU now {twin.moment.mask_iou:.2f}"
    return eventually(is_right) and eventually(
        lambda: told in str(words.get_attribute("aria-label"))
    )


def test_the_keyboard_scrubs_through_the_moments(opened: JupyterLab, twin: TimeMachine) -> None:
    assert shows(opened, twin, 3)
    opened.page.locator(HANDLE).first.focus()
    for index in (2, 1, 0, 1):
        opened.page.keyboard.press("ArrowRight" if index == 1 and twin.index == 0 else "ArrowLeft")
        assert shows(opened, twin, index), index
    layer = opened.pixels("picture", "bm-over")[:, 3] > 0
    overlay = mask_overlay(twin.moment.mask, twin.reel.snapshots.samples[0].target.masks[0])
    assert layer.sum() == np.count_nonzero(np.frombuffer(overlay.pixels, np.uint8))


def test_pointing_at_the_curve_shows_that_moment(opened: JupyterLab, twin: TimeMachine) -> None:
    columns = len(twin.reel) + view.margin_cells(len(twin.reel))
    opened.page.mouse.move(*opened.place("curve", (columns - 1.5) / columns, 0.4))
    assert shows(opened, twin, 2)
    handle = opened.page.locator(HANDLE).first
    assert eventually(lambda: float(handle.get_attribute("aria-valuenow")) == 2)


def test_playing_runs_to_the_last_moment(opened: JupyterLab, twin: TimeMachine) -> None:
    opened.page.locator(".widget-play button").first.click()
    assert shows(opened, twin, 3)


def test_a_training_is_started_and_stopped(opened: JupyterLab, home: Path) -> None:
    page = opened.page
    words = page.locator(
        ".widget-label", has_text=re.compile("^(running|stopped).* of 500 iterations")
    )
    page.locator(BUTTON, has_text="Start").click()
    words.wait_for(timeout=SECONDS_TO_TRAIN * 1000)
    assert "running" in str(words.text_content())
    curves = page.locator('img[alt^="Curves of run"]').last
    curves.wait_for(timeout=SECONDS_TO_TRAIN * 1000)
    page.locator(BUTTON, has_text="Stop").click()
    stopped = page.locator(".blendmask-lab-message", has_text="The training stopped")
    stopped.wait_for(timeout=SECONDS_TO_TRAIN * 1000)
    session = json.loads((home / "run" / "run.json").read_text())["sessions"][-1]
    assert session["state"] == "stopped" and (home / "run" / "last.pt").exists()
    assert f"stopped: {session['until_iteration']} of 500" in str(words.text_content())
    assert page.locator(BUTTON, has_text="Resume").is_enabled()


def test_nothing_went_wrong_in_the_console_and_nothing_left_the_machine(
    opened: JupyterLab,
) -> None:
    assert opened.page.locator(ERROR_OUTPUT).count() == 0
    assert opened.new_errors() == set()
    assert opened.foreign_requests() == []
