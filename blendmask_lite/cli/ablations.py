"""Train every row of one of the paper's tables 1 to 7, the ways of merging step by step, or
BlendMask and Mask R-CNN, on generated shapes, and report the results beside the paper's as JSON,
Markdown and a figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blendmask_lite.cli.options import add_threads_option, apply_threads, integers
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.files import require_folder, write_atomically
from blendmask_lite.research.ablations.mask_rcnn import Headline, run_headline
from blendmask_lite.research.ablations.merging import MergingReport, run_plan
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

__all__ = ["EPILOG", "add_options", "run"]

HEADLINE = "mask-rcnn"
MERGING = "merging"

EPILOG = """examples:
  blendmask-lite ablations 1 --threads 1
      the paper's table 1 with three seeds, about 20 minutes on one CPU core
  blendmask-lite ablations 3 --seeds 0 --iterations 4000
      table 3 with one seed and a longer training
  blendmask-lite ablations merging --threads 1
      table 1 at two lengths, the ladder below it and pairs of other tables: most of a day on one
      CPU core
  blendmask-lite ablations merging --finished
      the same from the finished runs, with marks where one is missing; rows of an earlier report in
      the folder of --out that have more runs are kept
  blendmask-lite ablations mask-rcnn --threads 1
      both models on the same backbone, data and schedule, about an hour on one CPU core
A table that was stopped continues where it was; runs that tables share are trained once.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "table",
        metavar="TABLE",
        help=f'a table of the paper, 1 to 7, or "{MERGING}" or "{HEADLINE}"',
    )
    parser.add_argument(
        "--seeds", type=integers, metavar="N,N,...", help="seeds of every row; default: 0,1,2"
    )
    parser.add_argument(
        "--regime", choices=list(REGIMES), default="default", help="data to train on"
    )
    parser.add_argument("--iterations", type=int, help="steps of 8 images; default: the regime's")
    parser.add_argument(
        "--finished",
        action="store_true",
        help=f"with {MERGING}: train nothing, report the finished runs",
    )
    parser.add_argument(
        "--runs",
        default="runs/ablations",
        metavar="DIR",
        help="folder of the trainings; default: %(default)s",
    )
    parser.add_argument(
        "-o",
        "--out",
        default="runs/ablations",
        metavar="DIR",
        help="folder of the report; default: %(default)s",
    )
    add_threads_option(parser)


def run(options: argparse.Namespace) -> int:
    """Train what is missing, then write the report; returns 130 if stopped on request."""
    apply_threads(options)
    regime = REGIMES[options.regime]
    folder = Path(options.runs)
    if options.table == MERGING:
        return _run_merging(options, regime)
    if options.finished:
        raise ValueError(f"--finished: is for {MERGING}, not for {options.table}")
    if options.iterations is not None:
        regime = replace(regime, iterations=options.iterations)
    seeds = options.seeds or (0, 1, 2)
    number = None if options.table == HEADLINE else _number(options.table)
    models = [] if number is None else [row.model for row in find_table(number)]
    for seed in seeds:
        regime.train_config(seed)  # refuses impossible settings
    _require_folders(options)
    if number is None:
        return _run_headline(options, regime, seeds)
    results = run_models(models, regime, seeds, folder, note=_say)
    if results is None:
        return 130
    times = _row_times(number, regime, seeds[0], folder)
    report = make_report(number, regime, seeds, results, times)
    _write(options, f"table{number}", report, table_figure(report))
    return 0


def _require_folders(options: argparse.Namespace) -> None:
    for folder in (options.runs, options.out):
        require_folder(folder)


def _run_merging(options: argparse.Namespace, regime: Regime) -> int:
    for name in ("seeds", "iterations"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: {MERGING} has its own for every row")
    _require_folders(options)
    report = run_plan(
        Path(options.runs), regime=regime, is_training=not options.finished, note=_say
    )
    if report is None:
        return 130
    if not any(step.num_runs for step in report.steps):
        raise ValueError(f"--finished: {options.runs} holds no finished run of {MERGING}")
    report = report.with_earlier(Path(options.out) / f"{MERGING}.json")
    _write(options, MERGING, report, merging_figure(report))
    return 0


def merging_figure(report: MergingReport) -> Figure:
    """A figure of the step that has the most finished rows."""
    from blendmask_lite.figures.plots import Column, compare_rows

    most = max(report.steps, key=lambda each: sum(map(bool, each.rows.values())))
    rows = {name: found for name in most.rows if (found := most.estimates(name))}
    columns = []
    for name in ("mask AP", "overlapping", "one center", "crowds: mask AP"):
        if all(name in found for found in rows.values()):
            values = {row: found[name].values for row, found in rows.items()}
            half_widths = {row: found[name].half_width for row, found in rows.items()}
            title = f"{name}, %" if "AP" in name else f"IoU, {name}, %"
            columns.append(Column(title, values, half_widths))
    return compare_rows(columns, title=f"{most.step.title}: {most.step.iterations:,} iterations")


def _run_headline(options: argparse.Namespace, regime: Regime, seeds: Sequence[int]) -> int:
    from blendmask_lite.figures.research import growth_figure

    report = run_headline(regime, seeds, Path(options.runs), note=_say)
    if report is None:
        return 130
    title = "One picture, by the number of objects found in it"
    figure = growth_figure(report.times, label="CPU time, ms", title=title)
    _write(options, "mask_rcnn", report, figure)
    return 0


def _number(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f'TABLE {text!r}: a number from 1 to 7, "{MERGING}" or "{HEADLINE}"')
    return int(text)


def _row_times(table: int, regime: Regime, seed: int, folder: Path) -> dict[str, float]:
    """CPU milliseconds that each row's trained model takes per held-out image."""
    images = [sample.image for sample in ShapesDataset(4, seed=1, config=regime.shapes)]
    models = {
        row.name: load_model(model_folder(row.model, regime, seed, folder) / "model.safetensors")
        for row in find_table(table)
    }
    jobs = {
        name: lambda model=model: [model.predict([image]) for image in images]
        for name, model in models.items()
    }
    return {name: time / len(images) for name, time in interleaved_times(jobs).items()}


def table_figure(report: TableReport) -> Figure:
    """The paper's AP of the rows, and ours."""
    from blendmask_lite.figures.plots import Column, compare_rows

    paper = {name: [value] for name, value in report.paper("AP").items()}
    columns = [Column("paper: COCO mask AP, %", paper, {})]
    for column, title in (
        ("AP", "ours: shapes mask AP, %"),
        ("IoU overlapping", "ours: IoU over true boxes, overlapping, %"),
    ):
        estimates = report.ours[column]
        values = {name: estimate.values for name, estimate in estimates.items()}
        half_widths = {name: estimate.half_width for name, estimate in estimates.items()}
        columns.append(Column(title, values, half_widths))
    return compare_rows(columns, title=report.title)


def _write(
    options: argparse.Namespace,
    stem: str,
    report: TableReport | MergingReport | Headline,
    figure: Figure,
) -> None:
    """Write STEM.json, STEM.md and STEM.png, and print the text."""
    from blendmask_lite.figures.style import save_figure

    place, text = Path(options.out) / stem, report.markdown()
    write_atomically(place.with_suffix(".json"), report.to_json().encode())
    write_atomically(place.with_suffix(".md"), text.encode())
    save_figure(figure, place.with_suffix(".png"), dpi=150)
    print(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
