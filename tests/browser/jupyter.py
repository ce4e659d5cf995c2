"""A JupyterLab of its own and a browser's page of it, for tests, tools and benchmarks."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

TOKEN = "a-token-for-this-test"
SECONDS_TO_START, SECONDS_TO_RUN, SECONDS_TO_STOP = 120, 300, 20
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
]
LAB_OPTIONS = [
    "--no-browser",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",  # as window.jupyterapp
]
LAB_SETTINGS = {
    # Otherwise cells out of sight are not in the page, and cannot be looked at.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    # A saved notebook holds what its widgets show.
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
}
LOCAL_HOSTS = {"127.0.0.1", "localhost"}

# JupyterLab shows a traceback as it shows stderr; a warning to students counts as an error, too.
ERROR_OUTPUT = ", ".join(
    f'.jp-OutputArea [data-mime-type="application/vnd.jupyter.{kind}"]'
    for kind in ("error", "stderr")
)
PROMPTS = ".jp-Notebook .jp-CodeCell .jp-InputPrompt"
OPEN = """async path => {
    await jupyterapp.restored;
    await jupyterapp.commands.execute('docmanager:open', {path});
}"""
# True once the notebook has a kernel that answers. The page shows an idle kernel before there is
# any; to run cells by then opens a dialog that asks for a kernel, or does nothing at all.
IS_READY = """path => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const session = panel?.sessionContext;
    const kernel = session?.session?.kernel;
    return panel?.context?.path === path && Boolean(session?.isReady)
        && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
# True when the kernel rests and either all cells have a number, or one raised and stopped the rest;
# and when each widget has its view and each image its pixels.
HAS_FINISHED = """error => {
    const {content, node, sessionContext} = jupyterapp.shell.currentWidget;
    const find = selector => [...node.querySelectorAll(`.jp-OutputArea-output${selector}`)];
    const cells = content.widgets.map(cell => cell.model).filter(model => model.type === 'code');
    const isStopped = node.querySelector(error) !== null;
    return cells.length > 0 && sessionContext.session.kernel.status === 'idle'
        && cells.every(cell => cell.executionState === 'idle')
        && (isStopped || cells.every(cell => cell.executionCount !== null))
        && find('[data-mime-type="application/vnd.jupyter.widget-view+json"]')
            .every(output => output.querySelector('.jupyter-widgets'))
        && find(' img').every(image => image.complete);
}"""
WIDTHS = (1280, 700)  # of a laptop's window and of a narrow one, pixels
# Outputs that are wider than their place, and pictures without a description, by their cells;
# JupyterLab describes those that have none as "Image".
FIND_WIDE = """() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')]
    .filter(each => each.scrollWidth > each.clientWidth + 1)
    .map(each => each.closest('.jp-Cell').querySelector('.jp-InputPrompt').textContent
        + ` ${each.scrollWidth} of ${each.clientWidth} px`)"""
FIND_SILENT = """() => [...document.querySelectorAll('.jp-OutputArea-output img')]
    .filter(each => !each.alt || each.alt === 'Image')
    .map(each => each.closest('.jp-Cell').querySelector('.jp-InputPrompt').textContent)"""
# A picture that could not be decoded has no width.
COUNT_IMAGES = """() => [...document.querySelectorAll('.jp-OutputArea-output img')]
    .filter(image => image.naturalWidth > 1).length"""
# Comes back when the outputs have kept their widths for half a second of frames.
SETTLE = """() => new Promise(settled => {
    let before = '', frames = 0;
    function look() {
        const outputs = document.querySelectorAll('.jp-Notebook .jp-OutputArea-output');
        const widths = [...outputs].map(each => `${each.scrollWidth} ${each.clientWidth}`).join();
        frames = widths === before ? frames + 1 : 0;
        before = widths;
        if (frames < 30) requestAnimationFrame(look); else settled();
    }
    look();
})"""
# Of the panels of the lab's widgets.
READ_PIXELS = """([panel, layer]) => {
    const canvas = document.querySelector(`[data-panel="${panel}"] canvas.${layer}`);
    const {width, height} = canvas;
    const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
    return btoa(data.reduce((text, byte) => text + String.fromCharCode(byte), ''));
}"""
READ_BOX = """() => ['x', 'y', 'width', 'height'].map(name => parseFloat(
    document.querySelector('[data-panel="picture"] .bm-box').getAttribute(name)))"""
# Without a question about what is not saved; the kernel ends with it.
CLOSE = """async () => {
    const panel = jupyterapp.shell.currentWidget;
    await panel.sessionContext.shutdown();
    panel.dispose();
}"""


def notebook(*sources: str) -> str:
    """The text of a notebook with one code cell per source."""
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(sources)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4}
    return json.dumps(content | {"nbformat_minor": 5})


def find_chromium() -> str | None:
    """The path of the first Chromium there is."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """This process' environment, with all that Jupyter remembers moved to a fresh folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JUPYTER") or name == "JUPYTER_PATH"  # where kernels are found
    }
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    course = {"BLENDMASK_BUDGET": "smoke", "BLENDMASK_PROGRESS": "off", "OMP_NUM_THREADS": "1"}
    return kept | course | {name: str(home / folder) for name, folder in folders.items()}


@contextmanager
def running(
    command: list[str], address: str, *, cwd: Path, env: dict[str, str], log: Path
) -> Iterator[None]:
    """A server that answers at the address, until the block ends.

    Raises:
        RuntimeError: it ended, or did not answer in time; the message is the end of its log.
    """
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        if not answers(address, server):
            raise RuntimeError(f"{command[2]} did not start:\n{log.read_text()[-3000:]}")
        yield
    finally:
        server.terminate()  # stops its kernels, too
        try:
            server.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(address: str, server: subprocess.Popen[bytes]) -> bool:
    """Whether the server answers before the time is up."""
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
    return False


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab that serves the folder; what it remembers lies beside it."""
    home = folder.parent
    for name, values in LAB_SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}", *LAB_OPTIONS]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    address = f"http://127.0.0.1:{port}"
    status = f"{address}/api/status?token={TOKEN}"
    with running(command, status, cwd=folder, env=environment(home), log=home / "server.log"):
        yield address


def without_numbers(message: str) -> str:
    """A console message whose ports, ids and times do not tell two runs apart."""
    return re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d+", "#", message)


def is_foreign(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in {"data", "blob"} and parts.hostname not in LOCAL_HOSTS


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it holds before the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def is_near(shown: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for a step of the palette, where a number lay on a rounding's edge."""
    return shown.shape == expected.shape and int(np.abs(shown.astype(int) - expected).max()) <= 8


class Watched:
    """A browser's page with what went wrong in it and where it asked for something."""

    def __init__(self, browser: Any, seconds: float = SECONDS_TO_START) -> None:
        self.errors: set[str] = set()
        self.requests: list[str] = []
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page = self.context.new_page()
        self.page.set_default_timeout(seconds * 1000)
        self.page.on("websocket", lambda websocket: self.requests.append(websocket.url))
        self.page.on("pageerror", lambda error: self.errors.add(without_numbers(str(error))))
        self.page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.add(without_numbers(message.text))

    def foreign_requests(self) -> list[str]:
        return [address for address in self.requests if is_foreign(address)]

    def close(self) -> None:
        self.context.close()


class JupyterLab(Watched):
    """JupyterLab in a page. One notebook is open at a time."""

    def __init__(self, browser: Any, address: str) -> None:
        super().__init__(browser)
        self.usual_errors: set[str] = set()
        self.page.goto(f"{address}/lab?reset&token={TOKEN}")
        self.page.wait_for_function("() => Boolean(window.jupyterapp)", polling=100)

    def open(self, name: str, *, width: int = 1280, height: int = 900) -> None:
        """Open a notebook in a window of this size and wait for its kernel."""
        self.errors.clear()
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate(OPEN, name)
        self.page.wait_for_function(IS_READY, arg=name, polling=100)

    @contextmanager
    def opened(self, name: str, *, width: int = 1280, height: int = 900) -> Iterator[None]:
        """A notebook that is open until the block ends."""
        self.open(name, width=width, height=height)
        try:
            yield
        finally:
            self.page.evaluate(CLOSE)

    def new_errors(self) -> set[str]:
        """What the console said since the notebook was opened, and does not say of an empty one."""
        return self.errors - self.usual_errors

    def run_all(self) -> None:
        """Run > Run All Cells, of a notebook that is ready."""
        self.choose("Run", "runmenu:run-all")

    def choose(self, menu: str, command: str) -> None:
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{menu}$")).click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').click()

    def save(self) -> None:
        """File > Save Notebook, until it lies there."""
        self.choose("File", "docmanager:save")
        self.page.wait_for_function(
            "() => !jupyterapp.shell.currentWidget.context.model.dirty", polling=100
        )

    def wait_until_finished(self, seconds: float = SECONDS_TO_RUN) -> None:
        """Wait for all cells, or for the first that raises."""
        self.page.wait_for_function(
            HAS_FINISHED, arg=ERROR_OUTPUT, timeout=seconds * 1000, polling=100
        )

    def resize(self, width: int, height: int) -> None:
        """Change the window without the file browser, and wait until the outputs have followed."""
        if self.page.locator("#filebrowser").is_visible():
            self.page.keyboard.press("Control+b")
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate(SETTLE)

    def pixels(self, panel: str, layer: str = "bm-picture") -> np.ndarray:
        text = self.page.evaluate(READ_PIXELS, [panel, layer])
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 4)

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
