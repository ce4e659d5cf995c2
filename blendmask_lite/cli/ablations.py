"""`blendmask-lite ablations`."""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendmask_lite.cli.options import apply_threads, integers
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import require_folder, write_atomically
from blendmask_lite.research.ablations.mask_rcnn import run_headline
from blendmask_lite.research.ablations.report import TableReport, make_report
from blendmask_lite.research.ablations.run import (
    REGIMES,
    Regime,
    interleaved_times,
    model_folder,
    run_models,
)
from blendmask_lite.research.ablations.tables import find_table
from blendmask_lite.weights.checkpoint import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["add_parser"]

HEADLINE = "mask-rcnn"

EPILOG = """examples:
  blendmask-lite ablations 1 --threads 1
      the paper's table 1 with three seeds, about 20 minutes on one CPU core
  blendmask-lite ablations 3 --seeds 0 --iterations 4000
      table 3 with one seed and a longer training
  blendmask-lite ablations mask-rcnn --threads 1
      both models on the same backbone, data and schedule, about an hour on one CPU core
A table that was stopped goes on where it was; runs that tables share are trained once.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ablations",
        description="Train every row of one of the paper's tables 1 to 7 on generated shapes, or "
        "BlendMask and Mask R-CNN, and write the results beside the paper's: JSON, Markdown and a "
        "figure.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="TABLE", help=f'1 to 7, or "{HEADLINE}"')
    parser.add_argument(
        "--seeds", type=integers, default=(0, 1, 2), metavar="N,N,...", help="default 0,1,2"
    )
    parser.add_argument("--regime", choices=list(REGIMES), default="default", help="of the data")
    parser.add_argument("--iterations", type=int, metavar="N", help="default the regime's")
    parser.add_argument(
        "--runs", default="runs/ablations", metavar="DIR", help="of the trainings; %(default)s"
    )
    parser.add_argument(
        "-o", "--out", default="runs/ablations", metavar="DIR", help="of the report; %(default)s"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train what is missing, then write the report; 130 when stopped on request."""
    apply_threads(options)
    regime = REGIMES[options.regime]
    if options.iterations is not None:
        regime = replace(regime, iterations=options.iterations)
    number = None if options.table == HEADLINE else _number(options.table)
    models = [] if number is None else [row.model for row in find_table(number)]
    for seed in options.seeds:
        regime.train_config(seed)  # refuses what cannot be
    folder = Path(options.runs)
    for each in (folder, options.out):
        require_folder(each)
    if number is None:
        return _run_headline(options, regime)
    results = run_models(models, regime, options.seeds, folder, note=_say)
    if results is None:
        return 130
    seed = options.seeds[0]
    times = row_times(number, regime, seed, folder)
    report = make_report(number, regime, options.seeds, results, times)
    write_report(report, Path(options.out))
    print(report.markdown())
    return 0


def _run_headline(options: argparse.Namespace, regime: Regime) -> int:
    from blendmask_lite.figures.research import growth_figure

    report = run_headline(regime, options.seeds, Path(options.runs), note=_say)
    if report is None:
        return 130
    title = "One picture, by the number of objects found in it"
    figure = growth_figure(report.times, label="CPU time, ms", title=title)
    _write(Path(options.out), "mask_rcnn", report.to_json(), report.markdown(), figure)
    print(report.markdown())
    return 0


def _number(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f'TABLE {text!r}: a number from 1 to 7, or "{HEADLINE}"')
    return int(text)


def row_times(table: int, regime: Regime, seed: int, folder: Path) -> dict[str, float]:
    """CPU milliseconds that each row's trained model takes for a held-out picture."""
    images = [sample.image for sample in ShapesDataset(4, seed=1, config=regime.shapes)]
    models = {
        row.name: load_model(model_folder(row.model, regime, seed, folder) / "model.pt")
        for row in find_table(table)
    }
    jobs = {
        name: lambda model=model: [model.predict([image]) for image in images]
        for name, model in models.items()
    }
    return {name: each / len(images) for name, each in interleaved_times(jobs).items()}


def write_report(report: TableReport, folder: Path) -> None:
    """table1.json, table1.md and table1.png."""
    from blendmask_lite.figures.plots import Column, compare_rows

    columns = [Column("paper: COCO mask AP, %", _single(report.paper("AP")), {})]
    for column, title in (
        ("AP", "ours: shapes mask AP, %"),
        ("IoU overlapping", "ours: IoU over true boxes, overlapping, %"),
    ):
        estimates = report.ours[column]
        values = {name: each.values for name, each in estimates.items()}
        half_widths = {name: each.half_width for name, each in estimates.items()}
        columns.append(Column(title, values, half_widths))
    figure = compare_rows(columns, title=report.title)
    _write(folder, f"table{report.number}", report.to_json(), report.markdown(), figure)


def _write(folder: Path, stem: str, numbers: str, text: str, figure: Figure) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_atomically(folder / f"{stem}.json", numbers.encode())
    write_atomically(folder / f"{stem}.md", text.encode())
    write_atomically(folder / f"{stem}.png", picture.getvalue())


def _single(values: dict[str, float]) -> dict[str, list[float]]:
    return {name: [value] for name, value in values.items()}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
