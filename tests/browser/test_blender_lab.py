"""The Blender lab in a real JupyterLab and browser: what the hand does reaches the pixels."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.lab import BlenderLab
from blendmask_lite.lab.blender import view as view
from blendmask_lite.lab.blender.state import BlenderState, painted
from blendmask_lite.lab.canvas import as_cells

from .jupyter import ERROR_OUTPUT, JupyterLab, eventually, is_near, notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

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


@pytest.fixture(scope="module")
def shown(lab: JupyterLab, folder: Path) -> Iterator[JupyterLab]:
    (folder / NAME).write_text(notebook(SETUP, SHOW))
    with lab.opened(NAME, height=1200):
        lab.run_all()
        lab.page.wait_for_selector('[data-panel="mask"]')
        yield lab


@pytest.fixture
def opened(shown: JupyterLab, twin: BlenderLab) -> JupyterLab:
    """The lab in the state in which it opens."""
    shown.page.locator("button", has_text="Start again").click()
    assert shows(shown, twin, twin.own)
    return shown


@pytest.fixture(scope="module")
def twin() -> BlenderLab:
    """The same lab in this process: it computes what the page has to show."""
    sample = ShapesDataset(22, seed=7).load(21)
    model = load_model(shipped_checkpoint())
    return BlenderLab(model=model, image=sample.image, target=sample.target)


def shows(opened: JupyterLab, twin: BlenderLab, state: BlenderState) -> bool:
    """The page shows in every live panel the pixels of this state, and its IoU in words."""
    lane = replace(twin._present_lanes()[0], state=state)
    limits = view.Limits(lane, least=max(10.0, float(twin.own.attentions.abs().max())))
    result = twin.scene.blend(state)
    cells = view.pixels(lane, result, limits)
    palettes = {
        name: np.frombuffer(each, np.uint8).reshape(256, 4)
        for name, each in view.palettes().items()
    }
    panels = [
        panel for column in view.columns(lane, limits) for group in column for panel in group.panels
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


def comparisons(opened: JupyterLab) -> tuple[int, int]:
    """How often the page compared its pixels with the kernel's, and how far they were apart last,
    in steps of the palette.
    """
    found = opened.page.locator(".bm-canvas").first.evaluate(
        "each => [each.dataset.compared ?? 0, each.dataset.apart ?? 0].map(Number)"
    )
    return found[0], found[1]


@contextmanager
def compared(opened: JupyterLab) -> Iterator[None]:
    """After the gesture in the block the page's own pixels equal those of the kernel."""
    before, _ = comparisons(opened)
    yield
    assert eventually(lambda: comparisons(opened)[0] > before)
    assert comparisons(opened)[1] <= 1  # a rounded half


def test_the_lab_opens_with_the_networks_mask(opened: JupyterLab, twin: BlenderLab) -> None:
    assert shows(opened, twin, twin.own)
    picture = twin.scene.image.permute(1, 2, 0).reshape(-1, 3).numpy()
    assert eventually(lambda: np.array_equal(opened.pixels("picture")[:, :3], picture))
    layer = opened.pixels("picture", "bm-over")[:, 3].reshape(128, 128) > 0
    truth = twin.scene.true_masks[twin.scene.truth_of(twin.own)]
    overlay = view.mask_overlay(twin.blend.mask, truth)
    assert layer.sum() == np.count_nonzero(np.frombuffer(overlay.pixels, np.uint8))


def test_dragging_the_box_moves_crops_and_mask(opened: JupyterLab, twin: BlenderLab) -> None:
    before = opened.box()
    middle = (before[0] + before[2]) / 256, (before[1] + before[3]) / 256
    with compared(opened):
        opened.drag("picture", middle, (middle[0] + 0.1, middle[1] - 0.2))
    moved = opened.box()

    assert moved[0] - before[0] == pytest.approx(12.8, abs=0.5)
    assert moved[3] - before[3] == pytest.approx(-25.6, abs=0.5)
    assert shows(opened, twin, replace(twin.own, box=moved))

    corner = moved[2] / 128, moved[3] / 128
    with compared(opened):
        opened.drag("picture", corner, (corner[0] - 0.1, corner[1] - 0.05))
    resized = opened.box()
    assert resized[:2] == moved[:2] and resized[2] - moved[2] == pytest.approx(-12.8, abs=0.5)
    assert shows(opened, twin, replace(twin.own, box=resized))

    with compared(opened):  # a new box, upwards
        opened.drag("picture", (0.05, 0.95), (0.25, 0.7))
    drawn = opened.box()
    assert drawn == pytest.approx((6.4, 89.6, 32, 121.6), abs=0.7)
    assert shows(opened, twin, replace(twin.own, box=drawn))


def test_the_keyboard_alone_moves_the_box_and_undoes(opened: JupyterLab, twin: BlenderLab) -> None:
    before = opened.box()
    opened.page.locator('[data-panel="picture"]').focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("Shift+ArrowDown")
    x0, y0, x1, y1 = before

    assert shows(opened, twin, replace(twin.own, box=(x0 + 2, y0, x1 + 2, y1 + 2)))
    while opened.box() != before:
        last = opened.box()
        opened.page.locator('[data-panel="picture"]').focus()
        opened.page.keyboard.press("Control+z")
        assert eventually(lambda last=last: opened.box() != last)
    assert shows(opened, twin, twin.own)


def test_painting_a_cell_changes_scores_and_mask(opened: JupyterLab, twin: BlenderLab) -> None:
    with compared(opened):
        opened.page.mouse.click(*opened.place("attention 2", 2.5 / 7, 4.5 / 7))
    once = painted(twin.own, 1, [(2, 4)], 6.0)
    assert shows(opened, twin, once)

    opened.page.locator('[data-panel="attention 2"]').focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("-")
    with compared(opened):
        opened.page.keyboard.press("Space")
    assert shows(opened, twin, painted(once, 1, [(3, 4)], 5.5))
    opened.page.keyboard.press("+")  # as the other tests find it


def test_switching_the_merger_shows_the_other_two(opened: JupyterLab, twin: BlenderLab) -> None:
    opened.page.mouse.click(*opened.place("attention 2", 2.5 / 7, 4.5 / 7))
    state = painted(twin.own, 1, [(2, 4)], 6.0)
    for name, kind in (("YOLACT", "weighted_sum"), ("FCIS", "assembler"), ("Blender", "blender")):
        opened.page.locator("button", has_text=re.compile(f"^{name}$")).click()
        opened.page.wait_for_selector(f'.blendmask-lab-note b:has-text("{name}")')
        state = replace(state, merger=kind)
        assert shows(opened, twin, state), name
        if kind == "weighted_sum":
            with compared(opened):
                opened.page.mouse.click(*opened.place("attention 1", 0.5, 0.5))
            state = painted(state, 0, [(0, 0)], 6.0)
        with compared(opened):
            opened.page.locator('[data-panel="picture"]').focus()
            opened.page.keyboard.press("ArrowDown")
        x0, y0, x1, y1 = state.box
        state = replace(state, box=(x0, y0 + 2, x1, y1 + 2))
        assert shows(opened, twin, state), name
    opened.page.locator("button", has_text="Start again").click()
    assert shows(opened, twin, twin.own)


def test_pointing_at_a_cell_shows_its_weights(opened: JupyterLab, twin: BlenderLab) -> None:
    opened.page.mouse.move(*opened.place("mask", 1.2, 0.5))
    before = opened.place("attention 1", 0, 0)
    opened.page.mouse.move(*opened.place("mask", 11.5 / 28, 17.5 / 28))
    bars = opened.page.locator('[data-bars="weights"]')
    logit = f"Σ = {twin.blend.logits[17, 11]:+.2f}"

    assert eventually(lambda: logit in str(bars.get_attribute("aria-label")))
    texts = bars.locator(".bm-text").all_text_contents()
    weights = twin.blend.scores[:, 17, 11].tolist()
    assert [text.split(" · ")[0] for text in texts] == [f"{each:.2f}" for each in weights]
    expected = view.marks(twin.scene, twin.own, (11, 17))["attention 1"]
    drawn = opened.page.locator('[data-panel="attention 1"] rect.bm-weighed:not(.bm-under)')
    assert drawn.count() == len(expected)
    assert opened.place("attention 1", 0, 0) == before  # nothing moves under the pointer


def test_the_numbers_of_the_pointed_cell_run_through_equation_4_until_the_pointer_leaves(
    opened: JupyterLab, twin: BlenderLab
) -> None:
    def told(panel: str) -> str:
        stage = opened.page.locator(f'[data-panel="{panel}"]')
        return str(stage.locator("xpath=following-sibling::div").text_content())

    opened.page.mouse.move(*opened.place("product 1", 11.5 / 28, 17.5 / 28))
    blend, logit = twin.blend, float(twin.blend.logits[17, 11])
    assert eventually(lambda: told("sum") == f"{logit:+.2f}")
    for k in range(4):
        assert told(f"crop {k + 1}") == f"{blend.crops[k, 17, 11]:+.2f}"
        assert told(f"score {k + 1}") == f"× {blend.scores[k, 17, 11]:.2f}"
        assert told(f"product {k + 1}") == f"= {blend.products[k, 17, 11]:+.2f}"
    assert told("mask") == f"{1 / (1 + np.exp(-logit)):.2f}"
    assert opened.page.locator(".bm-mark").count() > 0
    opened.page.mouse.move(2, 2)
    assert eventually(lambda: told("sum") == "Σ" and told("crop 1") == "r")
    assert opened.page.locator(".bm-mark").count() == 0


def test_one_box_is_dragged_in_three_methods_side_by_side(
    opened: JupyterLab, twin: BlenderLab
) -> None:
    button = opened.page.locator("button", has_text="side by side")
    button.click()
    opened.page.wait_for_selector('[data-panel="mask FCIS"]')
    twin.controls.side_by_side.value = True
    x0, y0, x1, y1 = twin.state.box
    middle = (x0 + x1) / 256, (y0 + y1) / 256
    with compared(opened):
        opened.drag("picture YOLACT", middle, (middle[0] + 0.1, middle[1] + 0.1))
    places = opened.page.evaluate(
        """() => [...document.querySelectorAll('rect.bm-box:not(.bm-under)')].map(each =>
            ['x', 'y', 'width', 'height'].map(name => parseFloat(each.getAttribute(name))))"""
    )
    x, y, width, height = places[0]
    assert len(places) == 3 and places[0] == places[1] == places[2]
    assert x - x0 == pytest.approx(12.8, abs=0.5)
    ramp = np.frombuffer(view.palettes()["grey"], np.uint8).reshape(256, 4)
    for lane in twin._present_lanes():
        mask = lane.with_box((x, y, x + width, y + height)).blend().logits.sigmoid()
        cells = ramp[list(as_cells(mask, 0, 1))]
        assert is_near(opened.pixels(f"mask {lane.name}"), cells)
    twin.controls.side_by_side.value = False
    button.click()
    opened.page.wait_for_selector('[data-panel="mask"]')


def test_the_figure_and_the_state_can_be_downloaded(opened: JupyterLab, tmp_path: Path) -> None:
    opened.page.locator(".jupyter-widget-Collapse-header", has_text="more").click()
    for label, beginning in (("PNG", b"\x89PNG"), ("SVG", b"<?xml"), ("Save state", b"{")):
        with opened.page.expect_download() as waiting:
            opened.page.locator("button", has_text=label).click()
        waiting.value.save_as(tmp_path / label)
        assert (tmp_path / label).read_bytes().startswith(beginning)


def test_nothing_went_wrong_in_the_console_and_nothing_left_the_machine(
    opened: JupyterLab,
) -> None:
    assert opened.new_errors() == set()
    assert len(opened.requests) > 10
    assert opened.foreign_requests() == []


def test_a_saved_notebook_opens_again_with_the_last_picture(
    opened: JupyterLab, browser: Any, address: str, folder: Path, twin: BlenderLab
) -> None:
    opened.page.mouse.click(*opened.place("attention 1", 0.5, 0.5))
    last = painted(twin.own, 0, [(3, 3)], 6.0)
    assert shows(opened, twin, last)
    opened.save()
    assert "widgets" in json.loads((folder / NAME).read_text())["metadata"]
    shutil.copy(folder / NAME, folder / "again.ipynb")  # has no kernel yet

    again = JupyterLab(browser, address)
    with again.opened("again.ipynb", height=1200):
        again.page.wait_for_selector('[data-panel="mask"]')
        assert shows(again, twin, last)
        before = again.box()
        middle = (before[0] + before[2]) / 256, (before[1] + before[3]) / 256
        again.drag("picture", middle, (middle[0] - 0.1, middle[1] - 0.1))
        assert shows(again, twin, replace(last, box=again.box()))  # the page computes by itself
        state = replace(last, box=again.box())
        truth = twin.scene.true_masks[twin.scene.truth_of(state)]
        overlay = view.mask_overlay(twin.scene.blend(state).mask, truth)
        layer = again.pixels("picture", "bm-over")[:, 3] > 0
        num_set = np.count_nonzero(np.frombuffer(overlay.pixels, np.uint8))
        assert abs(int(layer.sum()) - num_set) <= 2  # a rounded half
        again.page.wait_for_selector('.bm-note:has-text("No kernel answers")')
        assert again.page.locator(ERROR_OUTPUT).count() == 0
        assert again.errors - opened.usual_errors == set()
        assert again.foreign_requests() == []
    again.close()
