"""How large the package is, and how many of its files a reader crosses on four walks.

    python tools/measure_house.py                  this checkout
    python tools/measure_house.py OTHER_CHECKOUT   another one, with this one's packages

A walk is traced: a file counts if one of its functions is called. The annotation's way from JSON to
loss is the part of a training on a COCO folder that passes data, targets and losses.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["main"]

ON_THE_WAY_TO_THE_LOSS = re.compile(
    r"datasets/|(images|structures|boxes|masks)\.py|training/(criterion|targets|losses|totals)"
)


def main() -> int:
    """Print the table."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    for name, value in {**sizes(root / "blendmask_lite"), **walks(root), **import_time()}.items():
        print(f"{name:48}{value}")
    return 0


def sizes(package: Path) -> dict[str, int]:
    """Files and lines of the package, and who imports whom."""
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    lengths = {path: text.count("\n") for path, text in texts.items()}
    importers: dict[str, set[Path]] = defaultdict(set)
    import_lines = 0
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                import_lines += (node.end_lineno or 0) - node.lineno + 1
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names)):
                    importers[name].add(path)
    modules = {
        path: ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in texts
        if path.name != "__init__.py"
    }
    return {
        "files": len(texts),
        "lines": sum(lengths.values()),
        "files under 100 lines": sum(length < 100 for length in lengths.values()),
        "files with one importer": sum(len(importers[each]) == 1 for each in modules.values()),
        "lines of imports": import_lines,
    }


def walks(root: Path) -> dict[str, int]:
    """Files whose functions are called on each walk."""
    import torch

    from blendmask_lite import load_model, shipped_checkpoint
    from blendmask_lite.cli import main as blendmask_lite

    model = load_model(shipped_checkpoint())
    predict = trace(root, lambda: model.predict([torch.rand(3, 128, 128)]))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        data, run = f"{folder}/data", f"{folder}/run"
        blendmask_lite(["shapes", data, "--images", "4"])
        words = ["train", data, "-o", run, "--iterations", "2", "--batch-size", "2", "--workers"]
        training = trace(root, lambda: blendmask_lite([*words, "0"]))
    return {
        "files that predict crosses": len(predict[""]),
        "files that the training loop crosses": len(training["training/engine.py:train"]),
        "files that train from the command line crosses": len(training[""]),
        "files from an annotation to the loss": sum(
            ON_THE_WAY_TO_THE_LOSS.match(each) is not None for each in training[""]
        ),
    }


def trace(root: Path, call: Callable[[], Any]) -> dict[str, set[str]]:
    """The files that a call enters: "" all of them, and those inside of the training loop."""
    prefix, loop = f"{root}/blendmask_lite/", "training/engine.py:train"
    entered: dict[str, set[str]] = {"": set(), loop: set()}
    inside = [0]

    def watch(frame: FrameType, event: str, _argument: Any) -> None:
        name = frame.f_code.co_filename
        if not name.startswith(prefix):
            return
        place = f"{name.removeprefix(prefix)}:{frame.f_code.co_name}"
        if place == loop:
            inside[0] += {"call": 1, "return": -1}.get(event, 0)
        if event == "call" and not place.endswith(">"):
            entered[""].add(name.removeprefix(prefix))
            if inside[0]:
                entered[loop].add(name.removeprefix(prefix))

    with _profiled(watch):
        call()
    return entered


@contextlib.contextmanager
def _profiled(watch: Any) -> Iterator[None]:
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def import_time() -> dict[str, str]:
    """Seconds of `import blendmask_lite` in a new process, the least of five."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import blendmask_lite"], check=True)
        seconds.append(time.perf_counter() - started)
    return {"seconds of `import blendmask_lite`": f"{min(seconds):.2f}"}


if __name__ == "__main__":
    sys.exit(main())
