"""The dashboard in a real Voila and browser: a picture, an object, a base changed by hand."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_browser
from PIL import Image
from test_browser import free_port, is_foreign, notebook, without_numbers

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures import figure_file
from blendmask_lite.lab.explorer import views as figures
from blendmask_lite.lab.explorer.sources import read_upload
from blendmask_lite.lab.explorer.views import change_masks, look_at_picture

playwright = test_browser.playwright
pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium, browser = test_browser.chromium, test_browser.browser

TOOLS = Path(__file__).parents[1] / "tools"
SECONDS_TO_SHOW, SECONDS_TO_ANSWER, SECONDS_TO_SETTLE = 240, 60, 3
READ_IMAGE = """image => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const drawing = canvas.getContext('2d');
    drawing.drawImage(image, 0, 0);
    const {data} = drawing.getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, [...data]];
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
    port, log = free_port(), home / "server.log"
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
    environment = test_browser.environment(home) | {"JUPYTER_PATH": jupyter_path}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(address, server, log)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(test_browser.SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + test_browser.SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"Voila did not start:\n{log.read_text()[-3000:]}")


class Visit:
    """A page of the dashboard, what went wrong in it and where it asked for something."""

    def __init__(self, browser: Any, address: str, name: str) -> None:
        self.errors: set[str] = set()
        self.requests: list[str] = []
        self.context = browser.new_context(viewport={"width": 1280, "height": 1100})
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS_TO_SHOW * 1000)
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.add(without_numbers(str(error))))
        self.page.on("console", self._note)
        self.page.goto(f"{address}/voila/render/{name}.ipynb")

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.add(without_numbers(message.text))

    def turn_to(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def figure(self) -> Any:
        return self.page.locator(".blendmask-figure img:visible").first

    def shows(self, png: bytes) -> bool:
        """The figure in front has these pixels."""
        expected = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))

        def is_right() -> bool:
            if self.figure().count() == 0:
                return False
            height, width, data = self.figure().evaluate(READ_IMAGE)
            shown = np.array(data, np.uint8).reshape(height, width, 4)
            # Python's own figure may differ by a rounding; another picture differs by far more.
            return shown.shape == expected.shape and bool(
                np.abs(shown.astype(int) - expected).mean() < 0.05
            )

        return eventually(is_right)


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.2)
    return False


def test_a_visitor_uploads_a_picture_chooses_an_object_and_changes_a_base(
    browser: Any, dashboard: str
) -> None:
    empty = Visit(browser, dashboard, "nothing")
    empty.page.wait_for_timeout(SECONDS_TO_SETTLE * 1000)
    usual = empty.errors
    empty.context.close()
    model = load_model(shipped_checkpoint())
    buffer = io.BytesIO()
    pixels = ShapesDataset(22, seed=7).load(20).image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, "png")
    content = buffer.getvalue()
    look = look_at_picture(model, read_upload("mine.png", content), least_score=0.5)

    visit = Visit(browser, dashboard, "dashboard")
    page = visit.page
    page.wait_for_selector(".blendmask-figure img[src]")
    page.locator(".widget-toggle-button", has_text=re.compile("^own picture$")).click()
    page.locator(".blendmask-upload input").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": content}
    )
    assert visit.shows(figure_file(figures.found_view(model, look), ".png", dpi=110))
    assert (
        "generated shapes only" in page.locator(".blendmask-lab-message:visible").first.inner_text()
    )

    visit.turn_to("Figure 1")
    page.get_by_label("object", exact=True).select_option(label=look.objects[2].name)
    figure = figures.blending_view(model, look, 2)
    assert visit.shows(figure_file(figure, ".png", dpi=110))
    assert visit.figure().get_attribute("alt") == figure.get_label()

    visit.turn_to("Change a base")
    knocked_out = figures.change_view(model, look, base=0, factor=0.0)
    assert visit.shows(figure_file(knocked_out, ".png", dpi=110))
    handle = page.locator('.widget-slider:visible [role="slider"], .noUi-handle:visible').last
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    boosted = figures.change_view(model, look, base=0, factor=0.3)
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

    visit.turn_to("Blender lab")
    page.wait_for_selector('[data-panel="mask"] canvas')
    visit.turn_to("Time machine")
    page.wait_for_selector(".bm-canvas:visible canvas")
    assert visit.errors - usual == set()
    assert len(visit.requests) > 10
    assert [address for address in visit.requests if is_foreign(address)] == []
    visit.context.close()
