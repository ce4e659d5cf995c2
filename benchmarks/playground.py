"""Times the playground in Chromium: what is loaded, the first masks, the network, the hand.

    make playground
    .venv/bin/python benchmarks/playground.py

Bytes are those of the requests until the first masks, compressed with gzip where serve.py does it.
Drags and strokes are timed from the event of the pointer until the frame has its new pixels; events
come at any moment between two frames.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright import sync_api as playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser.jupyter import CHROMIUM_OPTIONS, find_chromium  # noqa: E402

SCENES = ("paws", "twins", "fish", "rings", "mugs")
FIRST_FRAME = """new MutationObserver((_, observer) => {
    if (!document.body?.dataset.frames) return;
    observer.disconnect();
    window.firstMasks = performance.now();
}).observe(document, {subtree: true, attributes: true, attributeFilter: ['data-frames']});"""
# Moves the pointer and waits each time for the frame that it causes.
STEPS = """async ([selector, moved, places]) => {
    const target = document.querySelector(selector);
    const listener = document.querySelector(moved);
    listener.setPointerCapture = () => {};
    const frame = target.getBoundingClientRect();
    const send = (element, type, [x, y]) => element.dispatchEvent(new PointerEvent(type, {
        bubbles: true, pointerId: 1, isPrimary: true, buttons: 1,
        clientX: frame.left + x * frame.width, clientY: frame.top + y * frame.height}));
    const drawn = () => new Promise(resolve => {
        const observer = new MutationObserver(() => { observer.disconnect(); resolve(); });
        observer.observe(document.body, {attributeFilter: ['data-frames']});
    });
    const times = [];
    send(target, 'pointerdown', places[0]);
    for (const place of places.slice(1)) {
        await new Promise(done => setTimeout(done, 20 + 17 * Math.random()));
        const answered = drawn();
        const start = performance.now();
        send(listener, 'pointermove', place);
        await answered;
        times.push(performance.now() - start);
    }
    send(listener, 'pointerup', places.at(-1));
    return times;
}"""


def load_server() -> Any:
    spec = importlib.util.spec_from_file_location("serve", ROOT / "playground" / "serve.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving(serve: Any, folder: Path, *, is_isolated: bool) -> Iterator[str]:
    """The page's address; without isolation, the browser gives it one thread."""
    server = serve.make_server(folder, "127.0.0.1", 0)
    if not is_isolated:

        class OneThread(serve.Handler):
            def send_header(self, keyword: str, value: str) -> None:
                if not keyword.startswith("Cross-Origin"):
                    super().send_header(keyword, value)

        server.RequestHandlerClass = lambda *given: OneThread(*given, directory=str(folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def compressed_bytes(serve: Any, folder: Path, addresses: list[str]) -> int:
    """What the requests have sent, each address once."""
    total = 0
    for address in {urlsplit(each).path for each in addresses if each.startswith("http")}:
        path = folder / (address.lstrip("/") or "index.html")
        if path.suffix in serve.COMPRESSED:
            total += len(serve.compressed(path, path.stat().st_mtime))
        elif path.is_file():
            total += path.stat().st_size
    return total


def opened(browser: Any, address: str) -> tuple[Any, list[str]]:
    """A fresh page that shows its first masks, and what it asked for until then."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.add_init_script(FIRST_FRAME)
    page.goto(address)
    page.wait_for_function("() => window.firstMasks > 0")
    return page, list(asked)


def network_seconds(page: Any, model: str) -> tuple[list[float], int]:
    """Of several pictures after the first, and the number of threads."""
    times = []
    for picture in SCENES:
        before = page.evaluate("() => document.body.dataset.ready")
        page.evaluate("hash => { location.hash = hash; }", f"m={model}&p={picture}&x=1")
        page.wait_for_function("before => document.body.dataset.ready !== before", arg=before)
        times.append(
            page.evaluate("() => Number(document.getElementById('busy').dataset.milliseconds)")
        )
    threads = page.evaluate("() => Number(document.getElementById('busy').dataset.threads)")
    return [time / 1000 for time in times[1:]], threads


def say(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    late = ordered[int(0.95 * len(ordered))]
    print(f"{name}: median {statistics.median(times):.1f} ms, 95 % {late:.1f} ms, n = {len(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--page", type=Path, default=ROOT / "build" / "playground")
    folder = parser.parse_args().page
    if not (folder / "index.html").exists():
        raise SystemExit(f"{folder}: no playground there; build it with `make playground`")
    serve = load_server()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_OPTIONS)
        with serving(serve, folder, is_isolated=True) as address:
            opened(browser, address)[0].context.close()  # the server compresses once
            page, asked = opened(browser, address)
            first = page.evaluate("() => window.firstMasks") / 1000
            megabytes = compressed_bytes(serve, folder, asked) / 1e6
            print(f"until the first masks: {megabytes:.1f} MB, {first:.1f} s")
            seconds, threads = network_seconds(page, "small")
            print(f"small, 192 px, {threads} threads: {statistics.median(seconds):.2f} s")
            there = [
                (0.5 + 0.04 * i, 0.5) for i in range(13)
            ]  # a press that hardly moves is a click
            round_trip = [*there, *reversed(there[:-1])]
            page.evaluate(STEPS, ["#box", "#stage", round_trip])
            drags = page.evaluate(STEPS, ["#box", "#stage", round_trip * 4])
            say("drag", drags)
            cells = [((i % 14 + 0.5) / 14, (i // 14 % 14 + 0.5) / 14) for i in range(101)]
            face = ".tile.attention .face"
            say("stroke", page.evaluate(STEPS, [face, face, cells]))
            page.context.close()
        with serving(serve, folder, is_isolated=False) as address:
            page, _ = opened(browser, address)
            seconds, threads = network_seconds(page, "small")
            print(f"small, 192 px, {threads} thread: {statistics.median(seconds):.2f} s")
        browser.close()


if __name__ == "__main__":
    main()
