"""What explorer and time machine leave behind: memory of kernel and page in a real browser.

50 pictures in the explorer, its pages in turns, and 200 moves of the time machine's slider, both
after a warm-up; with the seconds that one change takes.

    .venv/bin/python benchmarks/explorer.py
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from lab import find_kernel, megabytes
from playwright import sync_api as playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser.jupyter import CHROMIUM_OPTIONS, JupyterLab, find_chromium, notebook, serving

SETUP = """import ipywidgets
from IPython.display import display
from blendmask_lite.datasets.shapes import draw_shapes
from blendmask_lite.lab import Explorer, TimeMachine
explorer = Explorer(dataset=draw_shapes(200, seed=7, size=192))
machine = TimeMachine()
pages = ("Bases", "Figure 1", "Picture", "Attentions")
done = {"change": 0, "scrub": 0}
def change(what):
    done[what] += 1
    if what == "change":
        explorer.turn_to(pages[done[what] % len(pages)])
        explorer.controls.number.value = done[what]
    else:
        machine.go_to(done[what] % len(machine.reel))
    message = explorer.message if what == "change" else machine.message
    assert message.kind != "error", message.text
    buttons[what].description = f"{what} {done[what]}"
buttons = {what: ipywidgets.Button(description=f"{what} 0") for what in done}
for what, button in buttons.items():
    button.on_click(lambda _, what=what: change(what))"""
SHOW = "display(explorer, machine, *buttons.values())"
CHANGES = {"change": 50, "scrub": 200}  # of the picture, of the moment
WARM_UP = {"change": 100, "scrub": 60}  # the allocator settles late: +6 to +12 MB after 40
MOST_MB = 5.0


def change(page: JupyterLab, what: str, count: int) -> None:
    """Press the button so often, waiting each time for its answer."""
    button = page.page.locator("button", has_text=f"{what} ")
    begun = int(button.text_content().split()[1])
    for number in range(begun + 1, begun + count + 1):
        button.click()
        page.page.wait_for_selector(f'button:has-text("{what} {number}")')


def main() -> int:
    home = Path(tempfile.mkdtemp())
    folder = home / "notebooks"
    folder.mkdir()
    (folder / "lab.ipynb").write_text(notebook(SETUP, SHOW))
    load, most = os.getloadavg()[0], 0.0
    with serving(folder) as address, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_OPTIONS)
        page = JupyterLab(browser, address)
        page.open("lab.ipynb", height=1600)
        page.run_all()
        page.page.wait_for_selector('[data-panel="mask"]')
        page.page.wait_for_selector('button:has-text("scrub 0")')
        kernel = find_kernel()
        for what, count in CHANGES.items():
            change(page, what, WARM_UP[what])
            before, start = megabytes(page, kernel), time.perf_counter()
            change(page, what, count)
            seconds = (time.perf_counter() - start) / count
            grown = [b - a for a, b in zip(before, megabytes(page, kernel), strict=True)]
            most = max(most, *grown)
            print(
                f"{count} x {what}: kernel {grown[0]:+.1f} MB, page {grown[1]:+.1f} MB, "
                f"{1000 * seconds:.0f} ms each, load {load:.1f}"
            )
        browser.close()
    shutil.rmtree(home)
    return 0 if most < MOST_MB else 1


if __name__ == "__main__":
    sys.exit(main())
