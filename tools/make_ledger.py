"""Collect the reports of docs/ablations into the file that comes with the package.

    python tools/make_ledger.py

Run it after `blendmask-lite ablations` has written new reports there. Chapter 13 reads the result.
"""

from __future__ import annotations

import json
from pathlib import Path

from blendmask_lite.files import write_atomically
from blendmask_lite.research.ablations.ledger import collect_ledger

__all__ = ["ledger_text"]

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "blendmask_lite" / "data" / "ablations.json"


def ledger_text() -> str:
    """What the file must hold."""
    folder = ROOT / "docs" / "ablations"
    tables = [json.loads(each.read_text("utf-8")) for each in sorted(folder.glob("table*.json"))]
    return collect_ledger(tables, json.loads((folder / "merging.json").read_text("utf-8")))


if __name__ == "__main__":
    write_atomically(LEDGER, ledger_text().encode())
