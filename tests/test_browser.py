"""The first notebook in a real JupyterLab and a real browser, as a student meets it."""

from __future__ import annotations

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install 'blendmask_lite[test]'"
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TOKEN = "a-token-for-this-test"
SECONDS_TO_START, SECONDS_TO_RUN, SECONDS_TO_STOP = 120, 180, 20
SECONDS_LATE = 3
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LAB_OPTIONS = [
    "--no-browser",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",  # for IS_READY
]
LAB_SETTINGS = {
    # Otherwise cells out of sight are not in the page, and cannot be looked at.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
LOCAL_HOSTS = {"127.0.0.1", "localhost"}

# JupyterLab shows a traceback as it shows stderr; a warning to students counts as an error, too.
ERROR_OUTPUT = ", ".join(
    f'.jp-OutputArea [data-mime-type="application/vnd.jupyter.{kind}"]'
    for kind in ("error", "stderr")
)
# Widgets of the lab, and what their message lines say when something failed in them.
WIDGET_TITLES = ".blendmask-lab .blendmask-lab-title"
WIDGET_ERROR = '.blendmask-lab-message[data-kind="error"]'
PROMPTS = ".jp-Notebook .jp-CodeCell .jp-InputPrompt"
# True when the kernel rests and either all cells have a number, or one raised and stopped the rest.
HAS_FINISHED = """([prompts, error]) => {
    const numbers = [...document.querySelectorAll(prompts)].map(prompt => prompt.textContent);
    const status = document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status;
    const isDone = numbers.every(number => /^\\[\\d+\\]:$/.test(number));
    const isStopped = document.querySelector(error) && !numbers.some(n => n.includes('*'));
    return status === 'idle' && numbers.length > 0 && Boolean(isDone || isStopped);
}"""
# True once the notebook has a kernel that answers. The page shows an idle kernel before there is
# any; to run cells by then opens a dialog that asks for a kernel, or does nothing at all.
IS_READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    const kernel = session?.session?.kernel;
    return Boolean(session?.isReady)
        && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
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


@dataclass
class Visit:
    """What a notebook left in the browser after all its cells ran."""

    prompts: list[str]
    errors: list[str]
    images: int
    widgets: list[str]
    too_wide: list[str]
    silent: list[str]
    console_errors: set[str] = field(default_factory=set)
    foreign_requests: list[str] = field(default_factory=list)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path) -> dict[str, str]:
    """This process' environment, with all that Jupyter remembers moved to a fresh folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
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


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(CHROMIUM_NAMES)})")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of notebooks/: neither outputs nor checkpoints of the run reach the real ones."""
    made = Path(shutil.copytree(NOTEBOOKS, tmp_path_factory.mktemp("lab") / "notebooks"))
    (made / "nothing.ipynb").write_text(notebook("pass"))
    return made


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab that serves the folder; what it remembers lies beside it."""
    home = folder.parent
    for name, values in LAB_SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))
    port, log = free_port(), home / "server.log"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}", *LAB_OPTIONS]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(home), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(address, server, log)
        yield address
    finally:
        server.terminate()  # stops its kernels, too
        try:
            server.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def lab(chromium: str, folder: Path) -> Iterator[str]:
    """The address of a JupyterLab that serves the folder."""
    with serving(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        try:
            yield started
        finally:
            started.close()


def without_numbers(message: str) -> str:
    """A console message whose ports, ids and times do not tell two runs apart."""
    return re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d+", "#", message)


def is_foreign(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in {"data", "blob"} and parts.hostname not in LOCAL_HOSTS


def visit(browser: playwright.Browser, lab: str, name: str) -> Visit:
    """Open a notebook, choose Run > Run All Cells, wait for the end, and tell what is there."""
    requests: list[str] = []
    console_errors: set[str] = set()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.on("websocket", lambda websocket: requests.append(websocket.url))
        page.on("pageerror", lambda error: console_errors.add(without_numbers(str(error))))
        page.on(
            "console",
            lambda message: (
                console_errors.add(without_numbers(message.text))
                if message.type == "error"
                else None
            ),
        )
        page.set_default_timeout(SECONDS_TO_START * 1000)
        open_notebook(page, lab, name)
        run_all(page)
        page.wait_for_function(
            HAS_FINISHED, arg=[PROMPTS, ERROR_OUTPUT], timeout=SECONDS_TO_RUN * 1000
        )
        return Visit(
            prompts=page.locator(PROMPTS).all_text_contents(),
            errors=page.locator(f"{ERROR_OUTPUT}, {WIDGET_ERROR}").all_text_contents(),
            images=page.evaluate(COUNT_IMAGES),
            widgets=page.locator(WIDGET_TITLES).all_text_contents(),
            too_wide=[each for width in WIDTHS for each in wide_outputs(page, width)],
            silent=page.evaluate(FIND_SILENT),
            console_errors=console_errors,
            foreign_requests=[address for address in requests if is_foreign(address)],
        )
    finally:
        context.close()


def wide_outputs(page: playwright.Page, width: int) -> list[str]:
    """Outputs that do not fit a window of this width; the file browser is closed for it."""
    if page.locator("#filebrowser").is_visible():
        page.keyboard.press("Control+b")
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(1500)  # canvases follow the window
    return list(page.evaluate(FIND_WIDE))


@pytest.fixture(scope="module")
def usual_errors(browser: playwright.Browser, lab: str) -> set[str]:
    """What the console says of a notebook without widgets."""
    return visit(browser, lab, "nothing.ipynb").console_errors


def open_notebook(page: playwright.Page, lab: str, name: str) -> None:
    """Go to a notebook and wait for its kernel."""
    page.goto(f"{lab}/lab/tree/{name}?reset&token={TOKEN}")
    page.wait_for_function(IS_READY)


def run_all(page: playwright.Page) -> None:
    """Run > Run All Cells, of a notebook that is ready."""
    page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()


@pytest.mark.parametrize(
    ("name", "widgets"),
    [
        ("00_start_here", ["Explorer"]),
        ("02_backbone_and_pyramid", ["Receptive field explorer"]),
        ("04_fcos_losses", ["Loss playground"]),
        ("05_detector_and_ap", ["NMS stepper"]),
        ("07_roi_align", ["RoIAlign sample points"]),
        ("10_yolact_and_fcis", ["Blender lab", "Each on its own bases"]),
        ("appendix_published_weights", ["Explorer"]),
    ],
)
def test_a_notebook_runs_in_the_browser_and_stays_on_this_machine(
    browser: playwright.Browser,
    lab: str,
    folder: Path,
    usual_errors: set[str],
    name: str,
    widgets: list[str],
) -> None:
    cells = json.loads((folder / f"{name}.ipynb").read_text())["cells"]
    count = sum(cell["cell_type"] == "code" for cell in cells)

    seen = visit(browser, lab, f"{name}.ipynb")

    assert seen.errors == []
    assert seen.prompts == [f"[{number + 1}]:" for number in range(count)]
    assert seen.images > 0
    assert seen.widgets == widgets
    assert seen.too_wide == []
    assert seen.silent == []
    assert seen.foreign_requests == []
    assert seen.console_errors - usual_errors == set()


def test_a_wide_or_silent_output_is_noticed_in_the_browser(
    browser: playwright.Browser, lab: str, folder: Path
) -> None:
    show = "from IPython.display import HTML\nHTML({!r})"
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    (folder / "wide.ipynb").write_text(
        notebook(
            show.format('<div style="width: 900px">900</div>'),
            show.format(f'<img src="{pixel}" width="50">'),
        )
    )

    seen = visit(browser, lab, "wide.ipynb")

    assert [each.split()[0] for each in seen.too_wide] == ["[1]:"]  # in the narrow window alone
    assert seen.silent == ["[2]:"]


def test_a_cell_that_raises_is_noticed_in_the_browser(
    browser: playwright.Browser, lab: str, folder: Path
) -> None:
    (folder / "raises.ipynb").write_text(notebook("pass", "1 / 0", "pass"))

    seen = visit(browser, lab, "raises.ipynb")

    assert seen.widgets == []
    assert len(seen.errors) == 1 and "ZeroDivisionError" in seen.errors[0]
    assert seen.prompts == ["[1]:", "[2]:", "[ ]:"]
    assert seen.images == 0


def test_a_notebook_whose_kernel_comes_late_runs_at_the_first_click(
    browser: playwright.Browser, lab: str, folder: Path
) -> None:
    (folder / "late.ipynb").write_text(notebook("pass"))
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(SECONDS_TO_START * 1000)

        def wait(route: playwright.Route) -> None:
            page.wait_for_timeout(SECONDS_LATE * 1000)
            route.continue_()

        # The last thing that JupyterLab asks for before it starts the kernel.
        page.route("**/api/contents/late.ipynb/checkpoints?*", wait)
        open_notebook(page, lab, "late.ipynb")
        run_all(page)

        page.wait_for_function(HAS_FINISHED, arg=[PROMPTS, ERROR_OUTPUT])
        assert page.locator("dialog").count() == 0
        assert page.locator(PROMPTS).all_text_contents() == ["[1]:"]
