"""Means of a few seeds, how sure they are, and whether two orders agree."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["Estimate", "Verdict", "compare_orders", "estimate"]

# Student's t, 97.5 %, by the number of values: one more than its degrees of freedom.
T_VALUES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
# Smaller differences between two rows of the paper, one run each, say nothing.
PAPER_NOISE = 0.2  # percentage points of AP


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half_width: of the 95 % interval of the mean by Student's t; None with a single value.
        values: one a seed.
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
    """What the toy runs say about one pair of rows that the paper tells apart.

    Attributes:
        better, worse: names of the rows, in the paper's order.
        paper: their difference there, above 0.
        ours: the difference here, seed by seed: its sign is negative where the order is another.
    """

    better: str
    worse: str
    paper: float
    ours: Estimate

    @property
    def is_decided(self) -> bool:
        """Whether the interval of `ours` leaves out 0."""
        half = self.ours.half_width
        return half is not None and abs(self.ours.mean) > half

    @property
    def word(self) -> str:
        """agrees, differs, or what it looks like where the seeds do not decide."""
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
        paper: AP by row.
        ours: values by row, one a seed, the same seeds in the same order for every row; equal
            seeds mean equal pictures in equal order, so that differences are taken seed by seed.
    """
    verdicts = []
    for first, second in combinations(paper, 2):
        better, worse = sorted((first, second), key=lambda name: -paper[name])
        difference = round(paper[better] - paper[worse], 6)
        if difference >= PAPER_NOISE:
            pairs = zip(ours[better], ours[worse], strict=True)
            verdicts.append(Verdict(better, worse, difference, estimate([a - b for a, b in pairs])))
    return verdicts
