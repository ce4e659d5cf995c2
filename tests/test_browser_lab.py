"""The Blender lab in a real JupyterLab and browser: what the hand does reaches the pixels."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_browser
from test_browser import (
    ERROR_OUTPUT,
    TOKEN,
    is_foreign,
    notebook,
    open_notebook,
    run_all,
    without_numbers,
)

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab import BlenderLab
from blendmask_lite.lab.blender import view as view
from blendmask_lite.lab.blender.state import BlenderState, painted

playwright = test_browser.playwright
pytestmark = [pytest.mark.browser, pytest.mark.slow]

# One JupyterLab and one Chromium for all tests of this file.
chromium, lab, browser = test_browser.chromium, test_browser.lab, test_browser.browser
usual_errors = test_browser.usual_errors

NAME = "lab.ipynb"
SETUP = """import torch
_ = torch.set_grad_enabled(False)
from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab import BlenderLab
sample = ShapesDataset(22, seed=7).load(21)"""
SHOW = """BlenderLab(
    model=load_model(shipped_checkpoint()), image=sample.image, target=sample.target
)"""
SECONDS_TO_SHOW, SECONDS_TO_ANSWER = 240, 30
READ_PIXELS = """([panel, layer]) => {
    const canvas = document.querySelector(`[data-panel="${panel}"] canvas.${layer}`);
    const {width, height} = canvas;
    return [...canvas.getContext('2d').getImageData(0, 0, width, height).data];
}"""
READ_BOX = """() => ['x', 'y', 'width', 'height'].map(name => parseFloat(
    document.querySelector('[data-panel="picture"] .bm-box').getAttribute(name)))"""


class Page:
    """A browser's page with what went wrong in it and where it asked for something."""

    def __init__(self, context: Any) -> None:
        self.errors: set[str] = set()
        self.requests: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()
        self.page.set_default_timeout(SECONDS_TO_SHOW * 1000)
        self.page.on("websocket", lambda websocket: self.requests.append(websocket.url))
        self.page.on("pageerror", lambda error: self.errors.add(without_numbers(str(error))))
        self.page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.add(without_numbers(message.text))

    def open(self, lab: str, name: str) -> None:
        open_notebook(self.page, lab, name)

    def run(self) -> None:
        run_all(self.page)
        self.page.wait_for_selector('[data-panel="mask"]')

    def pixels(self, panel: str, layer: str = "bm-picture") -> np.ndarray:
        return np.array(self.page.evaluate(READ_PIXELS, [panel, layer]), np.uint8).reshape(-1, 4)

    def box(self) -> tuple[float, float, float, float]:
        x, y, width, height = self.page.evaluate(READ_BOX)
        return x, y, x + width, y + height

    def place(self, panel: str, across: float, down: float) -> tuple[float, float]:
        """A point of a panel on the screen, by its shares of width and height."""
        stage = self.page.locator(f'[data-panel="{panel}"]')
        stage.scroll_into_view_if_needed()
        frame = stage.bounding_box()
        return frame["x"] + across * frame["width"], frame["y"] + down * frame["height"]

    def drag(self, panel: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(panel, *start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(panel, *end), steps=5)
        self.page.mouse.up()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lab in a notebook, and settings that save what widgets show."""
    made = tmp_path_factory.mktemp("lab") / "notebooks"
    made.mkdir()
    (made / NAME).write_text(notebook(SETUP, SHOW))
    (made / "nothing.ipynb").write_text(notebook("pass"))
    manager = made.parent / "settings" / "@jupyter-widgets" / "jupyterlab-manager"
    manager.mkdir(parents=True)
    (manager / "plugin.jupyterlab-settings").write_text('{"saveState": true}')
    return made


@pytest.fixture(scope="module")
def opened(browser: Any, lab: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1200})
    page = Page(context)
    page.open(lab, NAME)
    page.run()
    yield page
    context.close()


@pytest.fixture(scope="module")
def twin() -> BlenderLab:
    """The same lab in this process: it computes what the page has to show."""
    sample = ShapesDataset(22, seed=7).load(21)
    model = load_model(shipped_checkpoint())
    return BlenderLab(model=model, image=sample.image, target=sample.target)


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def shows(opened: Page, twin: BlenderLab, state: BlenderState) -> bool:
    """The page shows in every live panel the pixels of this state, and its IoU in words."""
    limits = view.Limits(twin.scene, state, least=max(6.0, float(twin.own.attentions.abs().max())))
    result = twin.scene.blend(state)
    cells = view.pixels(state, result, limits)
    palettes = {
        name: np.frombuffer(each, np.uint8).reshape(256, 4)
        for name, each in view.palettes().items()
    }
    panels = [
        panel
        for column in view.columns(twin.scene, state, limits)
        for group in column
        for panel in group.panels
    ]

    def is_right() -> bool:
        shown = {panel.key: opened.pixels(panel.key) for panel in panels if panel.is_live}
        return cells.keys() == shown.keys() and all(
            is_near(shown[panel.key], palettes[panel.palette][list(cells[panel.key])])
            for panel in panels
            if panel.is_live
        )

    iou = twin.scene.iou(result.mask, twin.scene.truth_of(state))
    words = opened.page.locator('[data-bars="iou"]')
    return eventually(is_right) and eventually(
        lambda: iou is None or f"yours {iou:.2f}" in str(words.get_attribute("aria-label"))
    )


def is_near(shown: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for a step of the palette, where a number lay on a rounding's edge."""
    return shown.shape == expected.shape and int(np.abs(shown.astype(int) - expected).max()) <= 8


def test_the_lab_opens_with_the_networks_mask(opened: Page, twin: BlenderLab) -> None:
    assert shows(opened, twin, twin.own)
    picture = twin.scene.image.permute(1, 2, 0).reshape(-1, 3).numpy()
    assert eventually(lambda: np.array_equal(opened.pixels("picture")[:, :3], picture))
    layer = opened.pixels("picture", "bm-over")[:, 3].reshape(128, 128) > 0
    truth = twin.scene.true_masks[twin.scene.truth_of(twin.own)]
    overlay = view.mask_overlay(twin.blend.mask, truth)
    assert layer.sum() == np.count_nonzero(np.frombuffer(overlay.pixels, np.uint8))


def test_dragging_the_box_moves_crops_and_mask(opened: Page, twin: BlenderLab) -> None:
    before = opened.box()
    middle = (before[0] + before[2]) / 256, (before[1] + before[3]) / 256
    opened.drag("picture", middle, (middle[0] + 0.1, middle[1] + 0.2))
    moved = opened.box()

    assert moved[0] - before[0] == pytest.approx(12.8, abs=0.5)
    assert moved[3] - before[3] == pytest.approx(25.6, abs=0.5)
    assert shows(opened, twin, replace(twin.own, box=moved))

    corner = moved[2] / 128, moved[3] / 128
    opened.drag("picture", corner, (corner[0] + 0.1, corner[1] + 0.05))
    resized = opened.box()
    assert resized[:2] == moved[:2] and resized[2] - moved[2] == pytest.approx(12.8, abs=0.5)
    assert shows(opened, twin, replace(twin.own, box=resized))


def test_the_keyboard_alone_moves_the_box_and_undoes(opened: Page, twin: BlenderLab) -> None:
    before = opened.box()
    opened.page.locator('[data-panel="picture"]').focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("Shift+ArrowDown")
    x0, y0, x1, y1 = before

    assert shows(opened, twin, replace(twin.own, box=(x0 + 2, y0, x1 + 2, y1 + 2)))
    while opened.page.locator("button", has_text="Undo").is_enabled():
        opened.page.locator('[data-panel="picture"]').focus()
        opened.page.keyboard.press("Control+z")
        time.sleep(0.5)
    assert shows(opened, twin, twin.own)


def test_painting_a_cell_changes_scores_and_mask(opened: Page, twin: BlenderLab) -> None:
    opened.page.mouse.click(*opened.place("attention 2", 2.5 / 7, 4.5 / 7))
    once = painted(twin.own, 1, [(2, 4)], 6.0)
    assert shows(opened, twin, once)

    opened.page.locator('[data-panel="attention 2"]').focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("-")
    opened.page.keyboard.press("Space")
    assert shows(opened, twin, painted(once, 1, [(3, 4)], 5.5))


def test_switching_the_merger_shows_the_other_two(opened: Page, twin: BlenderLab) -> None:
    for name, kind in (("YOLACT", "weighted_sum"), ("FCIS", "assembler"), ("Blender", "blender")):
        state = painted(painted(twin.own, 1, [(2, 4)], 6.0), 1, [(3, 4)], 5.5)
        opened.page.locator("button", has_text=re.compile(f"^{name}$")).click()
        opened.page.wait_for_selector(f'.blendmask-lab-note b:has-text("{name}")')
        assert shows(opened, twin, replace(state, merger=kind)), name
    opened.page.locator("button", has_text="All as at first").click()
    assert shows(opened, twin, twin.own)


def test_pointing_at_a_cell_shows_its_weights(opened: Page, twin: BlenderLab) -> None:
    opened.page.mouse.move(*opened.place("mask", 11.5 / 28, 17.5 / 28))
    bars = opened.page.locator('[data-bars="weights"]')
    logit = f"logit {twin.blend.logits[17, 11]:+.2f}"

    assert eventually(lambda: logit in str(bars.get_attribute("aria-label")))
    texts = bars.locator(".bm-text").all_text_contents()
    weights = twin.blend.scores[:, 17, 11].tolist()
    assert [text.split(" · ")[0] for text in texts] == [f"{each:.2f}" for each in weights]
    expected = view.marks(twin.scene, twin.own, (11, 17))["attention 1"]
    drawn = opened.page.locator('[data-panel="attention 1"] rect.bm-weighed:not(.bm-under)')
    assert drawn.count() == len(expected)


def test_the_figure_and_the_state_can_be_downloaded(opened: Page, tmp_path: Path) -> None:
    for label, beginning in (("PNG", b"\x89PNG"), ("SVG", b"<?xml"), ("Save state", b"{")):
        with opened.page.expect_download() as waiting:
            opened.page.locator("button", has_text=label).click()
        waiting.value.save_as(tmp_path / label)
        assert (tmp_path / label).read_bytes().startswith(beginning)


def test_a_saved_notebook_opens_again_with_the_last_picture(
    opened: Page, browser: Any, lab: str, folder: Path, twin: BlenderLab, usual_errors: set[str]
) -> None:
    opened.page.mouse.click(*opened.place("attention 1", 0.5, 0.5))
    last = painted(twin.own, 0, [(3, 3)], 5.5)
    assert shows(opened, twin, last)
    opened.page.locator(".lm-MenuBar-item", has_text=re.compile("^File$")).click()
    opened.page.locator('.lm-Menu-item[data-command="docmanager:save"]').click()
    assert eventually(lambda: "widgets" in json.loads((folder / NAME).read_text())["metadata"])
    opened.page.context.close()
    stop_kernels(lab)

    context = browser.new_context(viewport={"width": 1280, "height": 1200})
    again = Page(context)
    again.open(lab, NAME)
    again.page.wait_for_selector('[data-panel="mask"]')
    assert shows(again, twin, last)
    again.drag("picture", (0.4, 0.2), (0.5, 0.4))
    again.page.wait_for_selector('.bm-note:has-text("No kernel answers")')
    assert again.page.locator(ERROR_OUTPUT).count() == 0
    assert again.errors - usual_errors == set()
    assert [address for address in again.requests if is_foreign(address)] == []
    context.close()


def test_nothing_went_wrong_in_the_console_and_nothing_left_the_machine(
    opened: Page, usual_errors: set[str]
) -> None:
    assert opened.errors - usual_errors == set()
    assert len(opened.requests) > 10
    assert [address for address in opened.requests if is_foreign(address)] == []


def stop_kernels(lab: str) -> None:
    headers = {"Authorization": f"token {TOKEN}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{lab}/api/sessions", headers=headers), timeout=30
    ) as answer:
        sessions = json.load(answer)
    for session in sessions:
        request = urllib.request.Request(
            f"{lab}/api/sessions/{session['id']}", headers=headers, method="DELETE"
        )
        urllib.request.urlopen(request, timeout=30).close()
