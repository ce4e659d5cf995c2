"""A table of toy results beside the paper's: as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blendmask_lite.ablations.estimates import Estimate, Verdict, compare_orders, estimate
from blendmask_lite.ablations.markdown import table_lines
from blendmask_lite.ablations.paper import PAPER_COLUMNS, PAPER_ROWS, PAPER_TITLES
from blendmask_lite.ablations.run import Regime
from blendmask_lite.ablations.tables import TABLES

__all__ = ["TableReport", "make_report"]

# Our columns and where a run's scores.json has them.
COLUMNS: dict[str, tuple[str, str]] = {
    "box AP": ("box", "AP"),
    "AP": ("mask", "AP"),
    "AP50": ("mask", "AP50"),
    "AP75": ("mask", "AP75"),
    "APS": ("mask", "APS"),
    "APM": ("mask", "APM"),
    "APL": ("mask", "APL"),
    "IoU": ("true_boxes", "iou"),
    "IoU overlapping": ("true_boxes", "overlapping_iou"),
}


@dataclass(frozen=True)
class TableReport:
    """One of the paper's tables, and ours.

    Attributes:
        number: of the table.
        regime: data and schedule.
        seeds: of the runs.
        settings: of the toy rows, by name.
        ours: column -> row -> estimate; columns that the data does not have are left out.
        milliseconds: CPU time a picture by row, one thread.
        versions: of the software.
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
        """A column of the paper's table by row; empty if it has no such column."""
        columns = PAPER_COLUMNS[self.number]
        if column not in columns:
            return {}
        place = columns.index(column)
        return {name: row[place] for name, row in PAPER_ROWS[self.number].items()}

    def verdicts(self, column: str) -> list[Verdict]:
        """Pairs of rows that the paper's AP tells apart, and what a column of ours says."""
        values = {name: each.values for name, each in self.ours[column].items()}
        return compare_orders(self.paper("AP"), values)

    def to_json(self) -> str:
        """All numbers, those of every seed, too."""
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
                f"ours {_signed(each.ours)}: {each.word}"
            )
        return [*lines, ""]


def make_report(
    number: int,
    regime: Regime,
    seeds: Sequence[int],
    results: Mapping[tuple[Any, int], Mapping[str, Any]],
    milliseconds: Mapping[str, float],
) -> TableReport:
    """Put the runs of a table together.

    Args:
        number: of the table.
        regime: of the runs.
        seeds: that every row was trained with.
        results: scores by (model, seed), as `run_models` gives them.
        milliseconds: by row.
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


def _signed(value: Estimate) -> str:
    return f"{'+' if value.mean >= 0 else ''}{value}"
