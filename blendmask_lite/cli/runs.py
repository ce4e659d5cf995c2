"""List trainings, compare their settings and results, draw their curves."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from blendmask_lite.files import require_apart, require_writable
from blendmask_lite.terminal import table
from blendmask_lite.training.run_folder import RunRecord, find_runs, flat_settings, read_run

__all__ = ["EPILOG", "add_options", "run"]

COMPARE = "compare"  # this word instead of the first folder compares runs
FORMATS = (".png", ".pdf", ".svg")
SCORES = ("mask AP", "box AP")
EPILOG = """examples:
  blendmask-lite runs
      the runs under runs/
  blendmask-lite runs runs/a runs/b --plot curves.png
      two of them, and their curves
  blendmask-lite runs compare runs/a runs/b
      settings that differ, and what came out
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="DIR",
        help='folders of runs, or folders that contain runs; default: runs. With "compare" in '
        "front, they are compared",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw losses, learning rate and AP: .png, .pdf or .svg"
    )


def run(options: argparse.Namespace) -> int:
    """List or compare runs; returns 0."""
    is_comparison = options.folders[:1] == [COMPARE]
    roots = options.folders[int(is_comparison) :] or ["runs"]
    if options.plot is not None and Path(options.plot).suffix not in FORMATS:
        raise ValueError(f"--plot {options.plot}: must end in {', '.join(FORMATS)}")
    paths = dict.fromkeys(path for root in roots for path in find_runs(Path(root)))
    records = [read_run(path) for path in paths]
    if not records:
        print(f"no runs in {', '.join(roots)}")
        return 0
    if is_comparison and len(records) < 2:
        raise ValueError(f"compare: needs two runs, {', '.join(roots)} has {len(records)}")
    if options.plot is not None:
        files = (file for path in paths for file in path.rglob("*"))
        require_apart([options.plot], files, "a file of one of the runs")
        require_writable(options.plot)
    print(_comparison(records) if is_comparison else _listing(records))
    if options.plot is not None:
        _plot(records, Path(options.plot))
        print(options.plot)
    return 0


def _listing(records: Sequence[RunRecord]) -> str:
    """One line per run, the newest last; problems with reading a run are below its line."""
    head = ["run", "preset", "data", "iterations", "state", "loss", "mask", *SCORES]
    head += ["best", "at", "images/s", "begun", "command"]
    ordered = sorted(records, key=lambda record: (_begun(record), str(record.path)))
    lines = table([head, *(_row(record) for record in ordered)])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    shown = [lines[0][:width]]
    for line, record in zip(lines[1:], ordered, strict=True):
        shown.append(line[:width])
        shown += [f"    {problem}" for problem in record.problems]
        reason = record.sessions[-1].get("reason") if record.sessions else None
        if record.state in ("failed", "finished") and reason:
            shown.append(f"    {str(reason).splitlines()[0]}")
    return "\n".join(shown)


def _comparison(records: Sequence[RunRecord]) -> str:
    """The settings that differ, and the results, in one column per run."""
    names = _names(records)
    settings = _side_by_side([flat_settings(record) for record in records])
    different = [row for row in settings if len(set(row[1:])) > 1]
    empty = [""] * len(names)
    lines = table(
        [
            ["settings that differ", *names],
            *(different or [["none", *empty]]),
            ["", *empty],
            ["results", *names],
            *_side_by_side([_results(record) for record in records]),
        ]
    )
    for name, record in zip(names, records, strict=True):
        lines += [f"{name}: {problem}" for problem in record.problems]
    return "\n".join(lines)


def _side_by_side(columns: Sequence[dict[str, str]]) -> list[list[str]]:
    """One row per name: the name, and its value in every column."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [[name, *(column.get(name, "-") for column in columns)] for name in names]


def _plot(records: Sequence[RunRecord], file: Path) -> None:
    """Write the curves of the runs that have any."""
    from blendmask_lite.figures import curves_figure, save_figure

    drawn = [record for record in records if record.loss_names]
    if not drawn:
        raise ValueError("--plot: none of the runs has a metrics.csv that can be read")
    names = _names(drawn)
    losses = dict.fromkeys(name for record in drawn for name in record.loss_names)
    figure = curves_figure(
        dict(zip(names, (record.steps for record in drawn), strict=True)),
        dict(zip(names, (record.evaluations for record in drawn), strict=True)),
        names=[*losses, "learning_rate", "AP"],
    )
    save_figure(figure, file, dpi=150)


def _row(record: RunRecord) -> tuple[str, ...]:
    losses, scores = record.last_losses, record.scores
    total = "?" if record.num_iterations is None else str(record.num_iterations)
    return (
        str(record.path),
        record.text("preset") or "-",
        record.text("data") or "-",
        f"{record.num_done}/{total}",
        record.state,
        *(_number(losses.get(name), 3) for name in ("loss", "mask")),
        *(_number(scores.get(name), 1) for name in SCORES),
        *(("-", "-") if record.best is None else (f"{record.best[0]:.1f}", str(record.best[1]))),
        _number(record.images_per_second, 1),
        _begun(record)[:16].replace("T", " ") or "-",
        record.text("command") or "-",
    )


def _results(record: RunRecord) -> dict[str, str]:
    results = {"state": record.state, "iterations": str(record.num_done)}
    results |= {
        name if name == "loss" else f"loss: {name}": _number(value, 4)
        for name, value in record.last_losses.items()
    }
    results |= {name: _number(value, 2) for name, value in record.scores.items()}
    if record.best is not None:
        results["best mask AP"] = f"{record.best[0]:.2f} at iteration {record.best[1]}"
    results["images/s"] = _number(record.images_per_second, 1)
    seconds = filter(math.isfinite, record.steps.get("seconds", []))
    results["hours of steps"] = f"{sum(seconds) / 3600:.2f}"
    return results


def _names(records: Sequence[RunRecord]) -> list[str]:
    """The folders' names if they all differ, otherwise their whole paths."""
    names = [record.path.resolve().name for record in records]
    return names if len(set(names)) == len(names) else [str(record.path) for record in records]


def _begun(record: RunRecord) -> str:
    return str(record.sessions[0].get("start", "")) if record.sessions else ""


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
