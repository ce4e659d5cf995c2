"""A check for what the course needs on this machine, and the amount that notebooks compute.

Chapter 00 shows the table in its first cell. BLENDMASK_BUDGET = smoke | laptop | gpu sets the
amount.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import torch

from blendmask_lite.course.display import Table
from blendmask_lite.course.pictures import PHOTOGRAPHS_VARIABLE
from blendmask_lite.course.progress import progress_path
from blendmask_lite.files import SHIPPED_MODELS, shipped_checkpoint

__all__ = ["BUDGETS", "Environment", "budget", "current_budget", "environment"]


BUDGETS = ("smoke", "laptop", "gpu")
BUDGET_VARIABLE = "BLENDMASK_BUDGET"
T = TypeVar("T")


def current_budget() -> str:
    """The budget that BLENDMASK_BUDGET names; laptop by default.

    Raises:
        ValueError: there is no such budget.
    """
    name = os.environ.get(BUDGET_VARIABLE, "") or "laptop"
    if name not in BUDGETS:
        raise ValueError(f"{BUDGET_VARIABLE} = {name!r}: must be one of {', '.join(BUDGETS)}")
    return name


def budget(*, smoke: T, laptop: T, gpu: T) -> T:
    """The value for the current budget, as in `steps = budget(smoke=5, laptop=200, gpu=2000)`.

    smoke only shows that a cell runs, laptop is for students, gpu is for a graphics card.
    """
    return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[current_budget()]


@dataclass(frozen=True, repr=False)
class Environment(Table):
    """A table of the requirements, and of what was found."""

    header = ("", "what", "found")
    findings: tuple[tuple[bool, str, str], ...]  # (is it fine, what was sought, what was found)

    @property
    def is_ready(self) -> bool:
        """Whether every chapter can run."""
        return all(is_fine for is_fine, _, _ in self.findings)

    def rows(self) -> list[tuple[str, ...]]:
        """One row of texts per finding."""
        return [("✔" if is_fine else "✘ missing", *texts) for is_fine, *texts in self.findings]

    def caption(self) -> str:
        """The verdict."""
        return "All is ready." if self.is_ready else "Something is missing; see the README."


def environment() -> Environment:
    """Look for Python, the libraries, the shipped checkpoints, a graphics card and settings."""
    libraries = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets")
    findings = [(True, "Python", platform.python_version())]
    findings += [_library(name) for name in libraries]
    findings += [_trained_model(name) for name in SHIPPED_MODELS]
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none (not needed)"
    photographs = os.environ.get(PHOTOGRAPHS_VARIABLE, "")
    found = {
        "graphics card": card,
        "budget": current_budget(),
        "photographs": photographs or f"none ({PHOTOGRAPHS_VARIABLE} is not set)",
        "your progress": str(progress_path() or "not kept"),
    }
    findings += [(True, what, value) for what, value in found.items()]
    return Environment(tuple(findings))


def _trained_model(name: str) -> tuple[bool, str, str]:
    what = f"trained model {name}"
    try:
        path = shipped_checkpoint(name)
        return True, what, f"{path.name}, {path.stat().st_size / 1e6:.1f} MB"
    except FileNotFoundError as error:
        return False, what, str(error)


def _library(name: str) -> tuple[bool, str, str]:
    try:
        return True, name, version(name)
    except PackageNotFoundError:
        return False, name, "not installed"
