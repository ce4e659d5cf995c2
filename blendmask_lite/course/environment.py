"""What this machine has of what the course needs, and how much the notebooks compute on it.

Chapter 00 shows the table in its first cell. BLENDMASK_BUDGET = smoke | laptop | gpu is the switch.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import torch

from blendmask_lite.course.display import html_table, text_table
from blendmask_lite.course.pictures import PHOTOGRAPHS_VARIABLE
from blendmask_lite.course.progress import progress_path
from blendmask_lite.files import shipped_checkpoint

__all__ = ["BUDGETS", "Environment", "budget", "current_budget", "environment"]


BUDGETS = ("smoke", "laptop", "gpu")
BUDGET_VARIABLE = "BLENDMASK_BUDGET"
T = TypeVar("T")


def current_budget() -> str:
    """The budget that the environment asks for; laptop if it says nothing.

    Raises:
        ValueError: the environment names a budget that does not exist.
    """
    name = os.environ.get(BUDGET_VARIABLE, "") or "laptop"
    if name not in BUDGETS:
        raise ValueError(f"{BUDGET_VARIABLE} = {name!r}: must be one of {', '.join(BUDGETS)}")
    return name


def budget(*, smoke: T, laptop: T, gpu: T) -> T:
    """The value for the current budget: `steps = budget(smoke=5, laptop=200, gpu=2000)`.

    smoke only proves that the cell runs, laptop is what students see, gpu is for a graphics card.
    """
    return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[current_budget()]


HEADER = ("", "what", "found")


@dataclass(frozen=True)
class Environment:
    """The verdicts; a notebook shows them as a table.

    Attributes:
        findings: (is fine, what was looked for, what was found).
    """

    findings: tuple[tuple[bool, str, str], ...]

    @property
    def is_ready(self) -> bool:
        """Whether every chapter can run."""
        return all(is_fine for is_fine, _, _ in self.findings)

    def rows(self) -> list[tuple[str, str, str]]:
        """One row of texts per finding, in the order of the header."""
        return [
            ("✔" if is_fine else "✘ missing", what, found) for is_fine, what, found in self.findings
        ]

    def __str__(self) -> str:
        return text_table(HEADER, self.rows(), self._verdict())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(HEADER, self.rows(), self._verdict())

    def _verdict(self) -> str:
        return "All is ready." if self.is_ready else "Something is missing; see the README."


def environment() -> Environment:
    """Look at Python, the libraries, the shipped checkpoint, graphics card and settings."""
    libraries = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets")
    findings = [(True, "Python", platform.python_version())]
    findings += [_library(name) for name in libraries]
    try:
        path = shipped_checkpoint()
        findings.append((True, "trained model", f"{path.name}, {path.stat().st_size / 1e6:.1f} MB"))
    except FileNotFoundError as error:
        findings.append((False, "trained model", str(error)))
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, none is needed"
    where = progress_path()
    findings += [
        (True, "graphics card", card),
        (True, "budget", current_budget()),
        (
            True,
            "photographs",
            os.environ.get(PHOTOGRAPHS_VARIABLE, "") or f"none ({PHOTOGRAPHS_VARIABLE} is not set)",
        ),
        (True, "your progress", str(where) if where else "not kept"),
    ]
    return Environment(tuple(findings))


def _library(name: str) -> tuple[bool, str, str]:
    try:
        return True, name, version(name)
    except PackageNotFoundError:
        return False, name, "not installed"
