"""Times the Blender lab under the hand, in a real JupyterLab and Chromium, and watches its memory.

From an event of the pointer to the frame with the new pixels, which the page computes itself, and
to the kernel's answer, over 100 steps of drags and 100 of strokes; then the growth of kernel and
page over 200 drags and 50 pictures after a warm-up.

    .venv/bin/python benchmarks/lab.py
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright import sync_api as playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser.jupyter import CHROMIUM_OPTIONS, JupyterLab, find_chromium, notebook, serving

SETUP = """import torch
_ = torch.set_grad_enabled(False)
import ipywidgets
from dataclasses import replace
from IPython.display import display
from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset
from blendmask_lite.lab import BlenderLab
from blendmask_lite.lab.blender.state import resized
scenes = ShapesDataset(2, seed=7, config=ShapesConfig(size=512))
samples = [scenes.load(0), scenes.load(1)]
model = load_model(shipped_checkpoint())"""
SHOW = """lab = BlenderLab(model=model, image=samples[0].image, target=samples[0].target)
shown = 0
def enlarge():
    state = lab.state  # to M = 14 and R = 56
    lab.apply(replace(state, attentions=resized(state.attentions, 14), mask_size=56))
def show_next(_button):
    global shown
    shown += 1
    sample = samples[shown % 2]
    lab.show(sample.image, sample.target)
    enlarge()
    button.description = f"picture {shown}"
enlarge()
button = ipywidgets.Button(description="picture 0")
button.on_click(show_next)
display(lab, button)"""

# Moves the pointer from place to place, and waits each time for the frame with the new pixels, and
# for the kernel's answer.
STEPS = """async ([panel, places]) => {
    const stage = document.querySelector(`[data-panel="${panel}"]`);
    const root = stage.closest('.bm-canvas');
    const frame = stage.getBoundingClientRect();
    const times = [];
    for (const [x, y] of places) {
        const answered = new Promise(resolve => {
            const observer = new MutationObserver(() => {
                observer.disconnect();
                resolve(performance.now());
            });
            observer.observe(root, {attributeFilter: ['data-done']});
        });
        const start = performance.now();
        stage.dispatchEvent(new PointerEvent('pointermove', {
            bubbles: true, pointerId: 1, isPrimary: true, buttons: 1,
            clientX: frame.left + x * frame.width, clientY: frame.top + y * frame.height,
        }));
        const computed = performance.now();
        const drawn = await new Promise(resolve =>
            requestAnimationFrame(() => resolve(performance.now())));
        times.push([computed - start, drawn - start, await answered - start]);
    }
    return times;
}"""


Times = tuple[float, float, float]  # until computed, in a frame, answered by the kernel; ms


def steps(page: JupyterLab, panel: str, places: list[tuple[float, float]]) -> list[Times]:
    """Milliseconds of every step of one drag or stroke."""
    page.page.mouse.move(*page.place(panel, *places[0]))
    page.page.mouse.down()
    times = page.page.evaluate(STEPS, [panel, places[1:]])
    page.page.mouse.up()
    return times


def drags(page: JupyterLab, count: int) -> list[Times]:
    x0, y0, x1, y1 = (side / 512 for side in page.box())
    start = (x0 + x1) / 2, (y0 + y1) / 2
    way = 0.1 if start[0] < 0.5 else -0.1
    there = [(start[0] + way * i / 25, start[1]) for i in range(26)]
    round_trip = [*there, *reversed(there[:-1])]  # 50 steps, back to where it began
    return [each for _ in range(count // 50) for each in steps(page, "picture", round_trip)]


def strokes(page: JupyterLab, count: int) -> list[Times]:
    times: list[Times] = []
    for number in range(count // 10):
        row = (number % 14 + 0.5) / 14
        places = [((i + 0.5) / 14, row) for i in range(11)]
        times += steps(page, f"attention {number % 4 + 1}", places)
    return times


def megabytes(page: JupyterLab, kernel: psutil.Process) -> tuple[float, float]:
    """Of the kernel's own pages and of the page's JavaScript heap."""
    session = page.page.context.new_cdp_session(page.page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {
        each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]
    }
    session.detach()
    return kernel.memory_full_info().uss / 1e6, metrics["JSHeapUsedSize"] / 1e6


def find_kernel() -> psutil.Process:
    """The one kernel that this process' JupyterLab runs."""
    children = psutil.Process().children(recursive=True)
    return next(each for each in children if "ipykernel_launcher" in " ".join(each.cmdline()))


def show_pictures(page: JupyterLab, count: int) -> None:
    for _ in range(count):
        button = page.page.locator("button", has_text="picture ")
        number = int(button.text_content().split()[1]) + 1
        button.click()
        page.page.wait_for_selector(f'button:has-text("picture {number}")')


def say(name: str, times: list[Times]) -> None:
    parts = ("computed", "in a frame", "answered by the kernel")
    for part, values in zip(parts, zip(*times, strict=True), strict=True):
        late = sorted(values)[int(0.95 * len(values))]
        median = statistics.median(values)
        print(f"{name}, {part}: median {median:.1f} ms, 95 % {late:.1f} ms, n = {len(values)}")


def main() -> None:
    home = Path(tempfile.mkdtemp())
    folder = home / "notebooks"
    folder.mkdir()
    (folder / "lab.ipynb").write_text(notebook(SETUP, SHOW))
    load = os.getloadavg()[0]
    with serving(folder) as address, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_OPTIONS)
        page = JupyterLab(browser, address)
        page.open("lab.ipynb", height=1200)
        page.run_all()
        page.page.wait_for_selector('[data-panel="mask"]')
        page.page.wait_for_selector('button:has-text("picture 0")')
        time.sleep(2)
        drags(page, 50)
        say("drag", drags(page, 100))
        say("stroke", strokes(page, 100))
        print(f"512 px, M = 14, R = 56, K = 4; {os.cpu_count()} cores, load {load:.1f} before it")
        kernel = find_kernel()
        show_pictures(page, 4)
        before = megabytes(page, kernel)
        drags(page, 200)
        middle = megabytes(page, kernel)
        show_pictures(page, 50)
        after = megabytes(page, kernel)
        for name, *sizes in zip(("kernel", "page"), before, middle, after, strict=True):
            grown = ", ".join(f"{size - sizes[0]:+.1f} MB" for size in sizes[1:])
            print(f"{name}: {sizes[0]:.1f} MB; after 200 drags and 50 pictures {grown}")
        browser.close()
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
