"""One switch for how much the notebooks compute: BLENDMASK_BUDGET = smoke | laptop | gpu.

The same cells run under every budget, with other sizes: they shrink, they are never skipped.
"""

from __future__ import annotations

import os
from typing import TypeVar

__all__ = ["BUDGETS", "budget", "current_budget"]

BUDGETS = ("smoke", "laptop", "gpu")
VARIABLE = "BLENDMASK_BUDGET"
T = TypeVar("T")


def current_budget() -> str:
    """The budget that the environment asks for; laptop if it says nothing.

    Raises:
        ValueError: the environment names a budget that does not exist.
    """
    name = os.environ.get(VARIABLE, "") or "laptop"
    if name not in BUDGETS:
        raise ValueError(f"{VARIABLE} = {name!r}: must be one of {', '.join(BUDGETS)}")
    return name


def budget(*, smoke: T, laptop: T, gpu: T) -> T:
    """The value for the current budget: `steps = budget(smoke=5, laptop=200, gpu=2000)`.

    smoke only proves that the cell runs, laptop is what students see, gpu is for a graphics card.
    """
    return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[current_budget()]
