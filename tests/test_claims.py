"""What the course claims stands beside the cell that shows it, and beside its control."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "notebooks"
CLAIMS = json.loads((HERE / "claims.json").read_text())
KEYS = ["notebook", "claim", "shown", "control"]


def flat(text: str) -> str:
    """The text in one line: lines may break anywhere."""
    return " ".join(text.split())


def problems_of(entry: dict[str, str], notebook: nbformat.NotebookNode) -> list[str]:
    """Whatever parts a claim from its notebook, one line each."""
    problems = []
    text = [flat(cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [flat(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    if list(entry) != KEYS or not all(flat(value) for value in entry.values()):
        return [f"must have {', '.join(KEYS)}, and none of them empty"]
    if not any(flat(entry["claim"]) in cell for cell in text):
        problems.append("no longer stands in the text")
    if not any(flat(entry["shown"]) in cell for cell in code):
        problems.append("is no longer shown by a cell")
    return problems


@pytest.mark.parametrize("name", sorted({entry["notebook"] for entry in CLAIMS}))
def test_every_claim_stands_in_the_text_and_is_shown_by_a_cell(name):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    own = [entry for entry in CLAIMS if entry["notebook"] == name]
    found = {entry["claim"]: problems_of(entry, notebook) for entry in own}
    assert not any(found.values()), {claim: each for claim, each in found.items() if each}


def test_claims_are_sorted_by_notebook_and_written_once():
    names = [entry["notebook"] for entry in CLAIMS]
    pairs = [(entry["notebook"], entry["claim"]) for entry in CLAIMS]
    assert names == sorted(names)
    assert len(pairs) == len(set(pairs))


def test_a_claim_that_leaves_its_text_or_its_cell_is_noticed():
    new = nbformat.v4
    text = new.new_markdown_cell("Seeds differ by\n1.7 points.")
    notebook = new.new_notebook(cells=[text, new.new_code_cell("assert spread < 2")])
    entry = dict(
        zip(KEYS, ("x", "differ by 1.7 points", "spread < 2", "another seed"), strict=True)
    )
    assert problems_of(entry, notebook) == []
    for key, value, problem in (
        ("claim", "differ by 3 points", "text"),
        ("claim", "assert spread", "text"),  # in a cell, but no text
        ("shown", "spread < 3", "cell"),
        ("control", " ", "none of them empty"),
    ):
        [found] = problems_of(entry | {key: value}, notebook)
        assert problem in found
