"""The measured ablations that come with the package: every seed's numbers beside the paper's.

Chapter 13 of the course. `tools/make_ledger.py` collects them from the reports in docs/ablations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blendmask_lite.files import shipped_ledger

__all__ = [
    "LedgerRow",
    "LedgerStep",
    "LedgerTable",
    "collect_ledger",
    "read_ledger",
    "read_merging",
]

COLUMNS = ("box AP", "AP", "IoU", "IoU overlapping")  # the columns of our runs that are kept


@dataclass(frozen=True)
class LedgerRow:
    """One row of a table.

    Attributes:
        name: what differs from other rows, as in `ablations.tables.PAPER_ROWS`.
        settings: settings of our row: R_K_M and everything else that differs.
        paper: the paper's mask AP on COCO val2017, percent, from one run.
        ours: column -> one value per seed, percent, on generated shapes.
    """

    name: str
    settings: str
    paper: float
    ours: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class LedgerTable:
    """One of the paper's tables 1 to 7.

    Attributes:
        number: number of the table.
        title: subject of the table.
        seeds: seeds of our runs.
        iterations: iterations of every run, with 8 pictures each.
        rows: the rows, in the paper's order.
    """

    number: int
    title: str
    seeds: Sequence[int]
    iterations: int
    rows: Sequence[LedgerRow]

    def paper(self) -> dict[str, float]:
        """Row -> the paper's mask AP."""
        return {row.name: row.paper for row in self.rows}

    def ours(self, column: str = "AP") -> dict[str, Sequence[float]]:
        """Row -> our values, one per seed."""
        return {row.name: row.ours[column] for row in self.rows}


@dataclass(frozen=True)
class LedgerStep:
    """Ways of merging that were trained with the same settings; a step of `merging.PLAN`.

    Attributes:
        title: title of the step.
        iterations: iterations of every run, with 8 images each.
        rows: row -> column of `ablations.merging.COLUMNS` -> one value per seed, percent; a row
            without runs is left out.
    """

    title: str
    iterations: int
    rows: Mapping[str, Mapping[str, Sequence[float]]]


def collect_ledger(reports: Sequence[dict[str, Any]], merging: dict[str, Any]) -> str:
    """The ledger as JSON.

    Args:
        reports: the JSON of each `ablations.report.TableReport`.
        merging: the JSON of an `ablations.merging.MergingReport`.
    """
    tables = []
    for report in sorted(reports, key=lambda each: each["table"]):
        rows = [
            LedgerRow(
                name=row["name"],
                settings=row["settings"],
                paper=row["paper"]["AP"],
                ours={column: _rounded(row["ours"][column]["values"]) for column in COLUMNS},
            )
            for row in report["rows"]
        ]
        table = LedgerTable(
            number=report["table"],
            title=report["title"],
            seeds=report["seeds"],
            iterations=report["regime"]["iterations"],
            rows=rows,
        )
        tables.append(asdict(table))
    steps = []
    for step in merging["steps"]:
        found = {
            name: {column: _rounded(values) for column, values in own.items()}
            for name, own in step["rows"].items()
            if own
        }
        steps.append(asdict(LedgerStep(step["title"], step["iterations"], found)))
    return json.dumps({"tables": tables, "merging": steps}, indent=1) + "\n"


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def read_ledger() -> dict[int, LedgerTable]:
    """Number -> table, for the tables that come with the package."""
    tables = {}
    for table in _shipped()["tables"]:
        rows = [LedgerRow(**row) for row in table["rows"]]
        tables[table["number"]] = LedgerTable(**table | {"rows": rows})
    return tables


def read_merging() -> dict[str, LedgerStep]:
    """Title -> step, of the comparison of ways of merging."""
    return {step["title"]: LedgerStep(**step) for step in _shipped()["merging"]}


def _shipped() -> dict[str, Any]:
    return json.loads(shipped_ledger().read_text(encoding="utf-8"))
