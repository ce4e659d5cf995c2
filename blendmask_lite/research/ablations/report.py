"""A table of toy results next to the paper's, as JSON and Markdown, with intervals."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.research.ablations.run import Regime
from blendmask_lite.research.ablations.tables import PAPER_COLUMNS, PAPER_ROWS, PAPER_TITLES, TABLES

__all__ = [
    "Estimate",
    "TableReport",
    "Verdict",
    "bootstrap_interval",
    "compare_orders",
    "estimate",
    "make_report",
    "signed",
    "table_lines",
]


# Our columns -> their keys in a run's scores.json.
COLUMNS: dict[str, tuple[str, str]] = {
    "box AP": ("box", "AP"),
    "AP": ("mask", "AP"),
    "AP50": ("mask", "AP50"),
    "AP75": ("mask", "AP75"),
    "APS": ("mask", "APS"),
    "APM": ("mask", "APM"),
    "APL": ("mask", "APL"),
    "IoU": ("true_boxes", "all"),
    "IoU isolated": ("true_boxes", "isolated"),
    "IoU overlapping": ("true_boxes", "overlapping"),
    "IoU one center": ("true_boxes", "one center"),
}


@dataclass(frozen=True)
class TableReport:
    """One of the paper's tables, and our table.

    Attributes:
        number: number of the table.
        regime: data and schedule.
        seeds: seeds of the runs.
        settings: settings of each toy row, by name.
        ours: column -> row -> estimate; columns without data are left out.
        milliseconds: row -> CPU time per picture on one thread.
        versions: versions of the software.
    """

    number: int
    regime: Regime
    seeds: tuple[int, ...]
    settings: dict[str, str]
    ours: dict[str, dict[str, Estimate]]
    milliseconds: dict[str, float]
    versions: dict[str, str]

    @property
    def title(self) -> str:
        """Number and subject of the table."""
        return f"Table {self.number}: {PAPER_TITLES[self.number]}"

    def paper(self, column: str) -> dict[str, float]:
        """Row -> value in a column of the paper's table; empty if there is no such column."""
        columns = PAPER_COLUMNS[self.number]
        if column not in columns:
            return {}
        place = columns.index(column)
        return {name: row[place] for name, row in PAPER_ROWS[self.number].items()}

    def verdicts(self, column: str) -> list[Verdict]:
        """Pairs of rows that the paper's AP tells apart, and their order in one of our columns."""
        values = {name: each.values for name, each in self.ours[column].items()}
        return compare_orders(self.paper("AP"), values)

    def to_json(self) -> str:
        """All numbers, including the values of every seed."""
        content = {
            "table": self.number,
            "title": PAPER_TITLES[self.number],
            "regime": asdict(self.regime),
            "seeds": self.seeds,
            "rows": [
                {
                    "name": name,
                    "settings": self.settings[name],
                    "paper": {c: self.paper(c)[name] for c in PAPER_COLUMNS[self.number]},
                    "ours": {c: asdict(rows[name]) for c, rows in self.ours.items()},
                    "ms": self.milliseconds[name],
                }
                for name in self.settings
            ],
            "versions": self.versions,
        }
        return json.dumps(content, indent=1) + "\n"

    def markdown(self) -> str:
        """Both tables and the comparison of their orders."""
        columns = PAPER_COLUMNS[self.number]
        head = ["row", *(f"paper {each}" for each in columns), "ours", "ms", *self.ours]
        rows = [
            [
                name,
                *(f"{self.paper(c)[name]:.1f}" for c in columns),
                settings,
                f"{self.milliseconds[name]:.1f}",
                *(str(self.ours[c][name]) for c in self.ours),
            ]
            for name, settings in self.settings.items()
        ]
        lines = [
            f"# {self.title}",
            "",
            self._about(),
            "",
            *table_lines(head, rows),
            "",
            *self._order("AP", "Mask AP"),
            *self._order("IoU overlapping", "IoU of overlapping objects over their true boxes"),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _about(self) -> str:
        regime, number = self.regime, len(self.seeds)
        interval = (
            "one seed, no interval" if number == 1 else f"{number} seeds, mean ± 95 % interval"
        )
        return (
            f"Paper: COCO val2017, ms on a GTX 1080 Ti. Ours: generated shapes ({regime.name}), "
            f"{regime.iterations} iterations of 8 pictures of {regime.shapes.size} px, "
            f"{regime.num_test} held-out pictures; {interval}. ms is CPU time of one thread. "
            "IoU is that of the masks over true boxes, of all objects and of overlapping ones."
        )

    def _order(self, column: str, title: str) -> list[str]:
        lines = [f"{title}, for every two rows that the paper's AP tells apart:", ""]
        for each in self.verdicts(column):
            lines.append(
                f"- {each.better} over {each.worse}: paper +{each.paper:.1f}, "
                f"ours {signed(each.ours)}: {each.word}"
            )
        return [*lines, ""]


def make_report(
    number: int,
    regime: Regime,
    seeds: Sequence[int],
    results: Mapping[tuple[Any, int], Mapping[str, Any]],
    milliseconds: Mapping[str, float],
) -> TableReport:
    """Collect the runs of a table in a report.

    Args:
        number: number of the table.
        regime: regime of the runs.
        seeds: seeds that every row was trained with.
        results: scores by (model, seed), as `run_models` returns them.
        milliseconds: row -> CPU time per picture.
    """
    rows = TABLES[number]
    ours = {}
    for column, (kind, key) in COLUMNS.items():
        values = {row.name: [results[row.model, seed][kind][key] for seed in seeds] for row in rows}
        if all(value is not None for each in values.values() for value in each):
            ours[column] = {name: estimate(each) for name, each in values.items()}
    return TableReport(
        number=number,
        regime=regime,
        seeds=tuple(seeds),
        settings={row.name: row.settings for row in rows},
        ours=ours,
        milliseconds=dict(milliseconds),
        versions=dict(results[rows[0].model, seeds[0]]["versions"]),
    )


def signed(value: Estimate) -> str:
    """The estimate as text, with a plus sign if it is not negative."""
    return f"{'+' if value.mean >= 0 else ''}{value}"


# 97.5 % quantile of Student's t by the number of values, which is the degrees of freedom plus one.
T_VALUES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
# The paper has one run per row: smaller differences between two rows are taken for noise.
PAPER_NOISE = 0.2  # percentage points of AP


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: mean of the values.
        half_width: half width of the mean's 95 % interval by Student's t; None for a single value.
        values: one per seed.
    """

    mean: float
    half_width: float | None
    values: tuple[float, ...]

    def __str__(self) -> str:
        around = "" if self.half_width is None else f" ± {self.half_width:.1f}"
        return f"{self.mean:.1f}{around}"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of at least one value and its interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, tuple(values))
    t = T_VALUES.get(len(values), 2.262)
    return Estimate(mean, t * statistics.stdev(values) / math.sqrt(len(values)), tuple(values))


@dataclass(frozen=True)
class Verdict:
    """The result of the toy runs for one pair of rows that the paper tells apart.

    Attributes:
        better, worse: names of the rows, in the paper's order.
        paper: their difference in the paper, above 0.
        ours: our difference, seed by seed; negative if our order is the opposite.
    """

    better: str
    worse: str
    paper: float
    ours: Estimate

    @property
    def is_decided(self) -> bool:
        """Whether the interval of `ours` excludes 0."""
        half = self.ours.half_width
        return half is not None and abs(self.ours.mean) > half

    @property
    def word(self) -> str:
        """The verdict in words: "agrees", "differs", or a tendency if the seeds do not decide."""
        is_same = self.ours.mean > 0
        if self.is_decided:
            return "agrees" if is_same else "differs"
        seeds = "one seed" if self.ours.half_width is None else "undecided"
        return f"{seeds}, {'as' if is_same else 'unlike'} the paper"


def compare_orders(
    paper: Mapping[str, float], ours: Mapping[str, Sequence[float]]
) -> list[Verdict]:
    """Every pair of rows that the paper tells apart by at least `PAPER_NOISE`.

    Args:
        paper: row -> AP.
        ours: row -> one value per seed, with the same seeds in the same order for every row. Runs
            with the same seed see the same pictures in the same order, so differences are taken
            seed by seed.
    """
    verdicts = []
    for first, second in combinations(paper, 2):
        better, worse = sorted((first, second), key=lambda name: -paper[name])
        difference = round(paper[better] - paper[worse], 6)
        if difference >= PAPER_NOISE:
            pairs = zip(ours[better], ours[worse], strict=True)
            verdicts.append(Verdict(better, worse, difference, estimate([a - b for a, b in pairs])))
    return verdicts


ENDS = (0.025, 0.975)  # quantiles that enclose the middle 95 %


def bootstrap_interval(values: Tensor, draws: Tensor) -> Tensor:
    """The middle 95 % of the means of images drawn with replacement.

    Args:
        values: (I,) float, one per picture.
        draws: (B, I) int64, B draws of I pictures.

    Returns:
        (2,) lower and upper end of the interval.

    Raises:
        ValueError: there are no draws.
    """
    if len(draws) == 0:
        raise ValueError("draws: at least one is needed")
    means = values[draws].mean(dim=1)
    return torch.quantile(means, torch.tensor(ENDS, dtype=means.dtype))


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines: its head, the rule below it, and the rows."""
    return [_line(each) for each in (head, ["---"] * len(head), *rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
