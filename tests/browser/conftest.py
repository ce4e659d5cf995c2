"""One browser and one JupyterLab for all tests of this folder, which end with the last of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .jupyter import CHROMIUM_NAMES, CHROMIUM_OPTIONS, JupyterLab, find_chromium, notebook, serving

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A notebook that the browser runs as it is does not run a second time under nbval."""
    if find_chromium() is None:
        return
    params = [
        item.callspec.params
        for item in items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    stems = {each["stem"] for each in params if "stem" in each}
    again = tuple(f"notebooks/{stem}.ipynb::" for stem in stems)
    config.hook.pytest_deselected(items=[each for each in items if each.nodeid.startswith(again)])
    items[:] = [each for each in items if not each.nodeid.startswith(again)]


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install 'blendmask_lite[test]'"
    )
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(CHROMIUM_NAMES)})")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        try:
            yield started
        finally:
            started.close()


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of notebooks/: neither outputs nor checkpoints of the run reach the real ones."""
    made = Path(shutil.copytree(NOTEBOOKS, tmp_path_factory.mktemp("lab") / "notebooks"))
    (made / "nothing.ipynb").write_text(notebook("pass"))
    return made


@pytest.fixture(scope="package")
def address(browser: Any, folder: Path) -> Iterator[str]:
    """Where a JupyterLab serves the folder."""
    with serving(folder) as address:
        yield address


@pytest.fixture(scope="package")
def lab(browser: Any, address: str) -> Iterator[JupyterLab]:
    """This JupyterLab in a page, which has seen a notebook without widgets."""
    page = JupyterLab(browser, address)
    usual_errors = set(page.errors)
    with page.opened("nothing.ipynb"):
        page.run_all()
        page.wait_until_finished()
    page.usual_errors = usual_errors | page.errors
    yield page
    page.close()
