"""Notebooks in a real JupyterLab and a real browser, as a student meets them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .jupyter import (
    COUNT_IMAGES,
    ERROR_OUTPUT,
    FIND_SILENT,
    FIND_WIDE,
    PROMPTS,
    WIDTHS,
    JupyterLab,
    notebook,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SECONDS_LATE = 1
# Widgets of the lab, and what their message lines say when something failed in them.
WIDGET_TITLES = ".blendmask-lab .blendmask-lab-title"
WIDGET_ERROR = '.blendmask-lab-message[data-kind="error"]'


@dataclass
class Visit:
    """What a notebook left in the browser after all its cells ran."""

    prompts: list[str]
    errors: list[str]
    images: int
    widgets: list[str]
    too_wide: list[str]
    silent: list[str]
    console_errors: set[str]
    foreign_requests: list[str]


def visit(lab: JupyterLab, name: str) -> Visit:
    """Open a notebook, choose Run > Run All Cells, wait for the end, and tell what is there."""
    page = lab.page
    with lab.opened(name):
        lab.run_all()
        lab.wait_until_finished()
        return Visit(
            prompts=page.locator(PROMPTS).all_text_contents(),
            errors=page.locator(f"{ERROR_OUTPUT}, {WIDGET_ERROR}").all_text_contents(),
            images=page.evaluate(COUNT_IMAGES),
            widgets=page.locator(WIDGET_TITLES).all_text_contents(),
            too_wide=[each for width in WIDTHS for each in wide_outputs(lab, width)],
            silent=page.evaluate(FIND_SILENT),
            console_errors=lab.new_errors(),
            foreign_requests=lab.foreign_requests(),
        )


def wide_outputs(lab: JupyterLab, width: int) -> list[str]:
    """Outputs that do not fit a window of this width."""
    lab.resize(width, 900)
    return list(lab.page.evaluate(FIND_WIDE))


@pytest.mark.parametrize(
    ("stem", "widgets"),
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
    lab: JupyterLab, folder: Path, stem: str, widgets: list[str]
) -> None:
    cells = json.loads((folder / f"{stem}.ipynb").read_text())["cells"]
    code = [cell["metadata"] for cell in cells if cell["cell_type"] == "code"]
    is_hidden = [about.get("jupyter", {}).get("source_hidden", False) for about in code]

    seen = visit(lab, f"{stem}.ipynb")

    assert seen.errors == []
    # JupyterLab shows no number beside a hidden cell.
    numbers = [f"[{number}]:" for number in range(1, len(code) + 1)]
    assert seen.prompts == ["" if h else n for n, h in zip(numbers, is_hidden, strict=True)]
    assert seen.images > 0
    assert seen.widgets == widgets
    assert seen.too_wide == []
    assert seen.silent == []
    assert seen.foreign_requests == []
    assert seen.console_errors == set()


def test_a_wide_or_silent_output_is_noticed_in_the_browser(lab: JupyterLab, folder: Path) -> None:
    show = "from IPython.display import HTML\nHTML({!r})"
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    (folder / "wide.ipynb").write_text(
        notebook(
            show.format('<div style="width: 900px">900</div>'),
            show.format(f'<img src="{pixel}" width="50">'),
        )
    )

    seen = visit(lab, "wide.ipynb")

    assert [each.split()[0] for each in seen.too_wide] == ["[1]:"]  # in the narrow window alone
    assert seen.silent == ["[2]:"]


def test_a_cell_that_raises_is_noticed_in_the_browser(lab: JupyterLab, folder: Path) -> None:
    (folder / "raises.ipynb").write_text(notebook("pass", "1 / 0", "pass"))

    seen = visit(lab, "raises.ipynb")

    assert seen.widgets == []
    assert len(seen.errors) == 1 and "ZeroDivisionError" in seen.errors[0]
    assert seen.prompts == ["[1]:", "[2]:", "[ ]:"]
    assert seen.images == 0


def test_what_the_console_says_and_the_page_asks_for_is_noticed(
    lab: JupyterLab, folder: Path
) -> None:
    script = "console.error('a fault'); new Image().src = 'https://example.invalid/a.png'"
    (folder / "asks.ipynb").write_text(
        notebook(f"from IPython.display import Javascript\nJavascript({script!r})")
    )

    seen = visit(lab, "asks.ipynb")
    lab.requests.clear()

    assert "a fault" in seen.console_errors
    assert seen.foreign_requests == ["https://example.invalid/a.png"]


def test_a_notebook_whose_kernel_comes_late_runs_at_the_first_click(
    lab: JupyterLab, folder: Path
) -> None:
    (folder / "late.ipynb").write_text(notebook("pass"))
    page, held = lab.page, []

    def wait(route: Any) -> None:
        held.append(route.request.url)
        page.wait_for_timeout(SECONDS_LATE * 1000)
        route.continue_()

    # The last thing that JupyterLab asks for before it starts the kernel.
    page.route("**/api/contents/late.ipynb/checkpoints?*", wait)
    with lab.opened("late.ipynb"):
        lab.run_all()
        lab.wait_until_finished()
        assert held
        assert page.locator("dialog").count() == 0
        assert page.locator(PROMPTS).all_text_contents() == ["[1]:"]
    page.unroute_all()
