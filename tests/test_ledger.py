"""Chapter 13's numbers: the ledger is what was reported; intervals, bootstrap and their figure."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from blendmask_lite.figures.plots import intervals_figure
from blendmask_lite.files import shipped_ledger
from blendmask_lite.research.ablations.ledger import read_ledger, read_merging
from blendmask_lite.research.ablations.report import bootstrap_interval, estimate
from blendmask_lite.research.ablations.tables import PAPER_ROWS

ROOT = Path(__file__).resolve().parent.parent


def test_the_shipped_ledger_is_collected_from_the_reports_in_docs():
    spec = importlib.util.spec_from_file_location("make_ledger", ROOT / "tools/make_ledger.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert shipped_ledger().read_text(encoding="utf-8") == tool.ledger_text()


@pytest.mark.parametrize("number", PAPER_ROWS)
def test_every_row_of_the_paper_has_its_numbers(number):
    table = read_ledger()[number]
    report = json.loads((ROOT / f"docs/ablations/table{number}.json").read_text())
    assert list(table.paper()) == list(PAPER_ROWS[number])
    for row, reported in zip(table.rows, report["rows"], strict=True):
        assert row.paper == reported["paper"]["AP"]
        found = estimate(table.ours()[row.name])
        assert found.mean == pytest.approx(reported["ours"]["AP"]["mean"], abs=1e-3)
        assert len(found.values) == len(table.seeds) == len(report["seeds"])


def test_every_finished_way_of_merging_has_its_numbers():
    report = json.loads((ROOT / "docs/ablations/merging.json").read_text())
    steps = read_merging()
    assert list(steps) == [step["title"] for step in report["steps"]]
    for reported in report["steps"]:
        step = steps[reported["title"]]
        assert step.iterations == reported["iterations"]
        assert list(step.rows) == [name for name, own in reported["rows"].items() if own]
        for name, columns in step.rows.items():
            for column, values in columns.items():
                assert values == pytest.approx(reported["rows"][name][column], abs=1e-3)
    assert len(steps["Table 1"].rows["attentions 4 x 4"]["mask AP"]) >= 1


def test_bootstrap_leaves_out_both_ends():
    # By hand: 200 draws of one picture, half of each; the means are 0 and 10 in equal shares.
    values = torch.tensor([0.0, 10.0])
    draws = torch.arange(200)[:, None] % 2
    assert bootstrap_interval(values, draws).tolist() == [0, 10]
    # One of 200 is an outlier: it lies in the 2.5 % that are left out.
    draws = (torch.arange(200)[:, None] == 7).long()
    assert bootstrap_interval(values, draws).tolist() == [0, 0]
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(values, draws[:0])


def test_the_figure_counts_what_is_decided():
    estimates = {"sure": (2.0, 1.0), "open": (0.5, 1.0), "negative": (-3.0, 0.5)}
    figure = intervals_figure(estimates, label="AP", band=0.2, band_label="noise", truth=1.0)
    assert "2 of 3 apart from zero: sure +2.00 ± 1.00" in figure.get_label()
    assert (
        "1 of 2 apart"
        in intervals_figure({"a": (0.1, 0), "b": (0.3, 0)}, label="AP", band=0.2).get_label()
    )
    with pytest.raises(ValueError, match="nothing to draw"):
        intervals_figure({}, label="AP")
