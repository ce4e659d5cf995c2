"""The dashboard in a real Voila and browser: a picture, an object, a base changed by hand."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import figure_file
from blendmask_lite.lab.explorer.image_pages import Figure1Page, PicturePage
from blendmask_lite.lab.explorer.measured_pages import ChangePage
from blendmask_lite.lab.explorer.page import Present
from blendmask_lite.lab.explorer.sources import read_upload
from blendmask_lite.lab.explorer.views import change_masks, look_at_picture

from .jupyter import Watched, environment, eventually, free_port, notebook, running

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOOLS = Path(__file__).parents[2] / "tools"
SECONDS_TO_SHOW, SECONDS_TO_SETTLE = 240, 3
READ_IMAGE = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ''));
}"""


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Voila that serves the dashboard, as `make dashboard` starts it."""
    home = tmp_path_factory.mktemp("dashboard")
    served = home / "served"
    served.mkdir()
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import dashboard;"
        "print(json.dumps([dashboard.command(int(sys.argv[2]), opens_browser=False),"
        "dashboard.environment()['JUPYTER_PATH'], str(dashboard.NOTEBOOK)]))"
    )
    port = free_port()
    told = subprocess.run(
        [sys.executable, "-c", code, str(TOOLS), str(port)],
        capture_output=True,
        text=True,
        check=True,
    )
    command, jupyter_path, source = json.loads(told.stdout)
    # A folder with the notebook and an empty one: what the page says by itself is not ours.
    (served / "dashboard.ipynb").write_text(Path(source).read_text())
    (served / "nothing.ipynb").write_text(notebook("pass"))
    command[command.index(source)] = str(served)
    address = f"http://127.0.0.1:{port}"
    env = environment(home) | {"JUPYTER_PATH": jupyter_path}
    with running(command, address, cwd=home, env=env, log=home / "server.log"):
        yield address


class Visit(Watched):
    """A page of the dashboard."""

    def __init__(self, browser: Any, address: str, name: str) -> None:
        super().__init__(browser, SECONDS_TO_SHOW)
        self.page.set_viewport_size({"width": 1280, "height": 1100})
        self.page.goto(f"{address}/voila/render/{name}.ipynb")

    def turn_to(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def figure(self) -> Any:
        return self.page.locator(".blendmask-figure img:visible").first

    def shows(self, png: bytes) -> bool:
        """The figure in front has these pixels."""
        expected = pixels_of(png)

        def is_right() -> bool:
            if self.figure().count() == 0:
                return False
            shown = pixels_of(base64.b64decode(self.figure().evaluate(READ_IMAGE)))
            # Python's own figure may differ by a rounding; another picture differs by far more.
            return shown.shape == expected.shape and bool(np.abs(shown - expected).mean() < 0.05)

        return eventually(is_right)


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


def test_a_visitor_uploads_a_picture_chooses_an_object_and_changes_a_base(
    browser: Any, dashboard: str
) -> None:
    empty = Visit(browser, dashboard, "nothing")
    empty.page.wait_for_timeout(SECONDS_TO_SETTLE * 1000)
    usual = empty.errors
    empty.close()
    model = load_model(shipped_checkpoint("small"))
    buffer = io.BytesIO()
    pixels = ShapesDataset(22, seed=7).load(20).image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, "png")
    content = buffer.getvalue()
    picture = read_upload("mine.png", content)
    look = look_at_picture(model, picture, least_score=0.5)
    present = Present(model, ShapesDataset(1, seed=7), picture, look, chosen=2)

    visit = Visit(browser, dashboard, "dashboard")
    page = visit.page
    assert "loads the network" in page.content()  # what the page says while it waits
    page.wait_for_selector('[data-panel="mask"] canvas')
    visit.turn_to("Explorer")
    assert page.get_by_text("Loading …").locator("visible=true").count() == 1
    page.wait_for_selector(".blendmask-figure img[src]")
    page.locator(".widget-toggle-button", has_text=re.compile("^your own$")).click()
    page.locator(".blendmask-upload input").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": content}
    )
    assert visit.shows(figure_file(PicturePage().figure(present), ".png", dpi=110))
    assert "generated shapes" in page.locator(".blendmask-lab-message:visible").first.inner_text()

    visit.turn_to("Figure 1")
    chosen = page.get_by_label("object", exact=True).locator("visible=true")
    chosen.select_option(label=look.objects[2].name)
    figure = Figure1Page().figure(present)
    assert visit.shows(figure_file(figure, ".png", dpi=110))
    assert visit.figure().get_attribute("alt") == figure.get_label()

    visit.turn_to("Change a base")
    page_of_changes = ChangePage()
    page_of_changes.follow(present)
    knocked_out = page_of_changes.figure(present)
    assert visit.shows(figure_file(knocked_out, ".png", dpi=110))
    handle = page.locator('.widget-slider:visible [role="slider"], .noUi-handle:visible').last
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page_of_changes.factor.value = 0.3
    boosted = page_of_changes.figure(present)
    assert visit.shows(figure_file(boosted, ".png", dpi=110))
    changed = change_masks(model, look, 0, 0.3)
    row = [
        look.objects[0].name,
        str(int(look.found.masks[0].sum())),
        str(int(changed.after[0].sum())),
        f"{changed.kept[0]:.2f}",
    ]
    cells = page.locator(".blendmask-table:visible tr").nth(1).locator("td")
    assert eventually(lambda: cells.all_inner_texts() == row)

    visit.turn_to("Time machine")
    page.wait_for_selector('[data-panel="curve"] canvas')
    assert visit.errors - usual == set()
    assert len(visit.requests) > 10
    assert visit.foreign_requests() == []
    visit.close()
