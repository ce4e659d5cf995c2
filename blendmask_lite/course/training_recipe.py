"""The training of chapter 12: its command, and what is measured of the bases that it learned.

The notebook and `benchmarks/training_course.py` take both from here, so that the numbers in the
text are those of the very training that a student starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from blendmask_lite.analysis import BasisScores, score_bases
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.model.blendmask import BlendMask

__all__ = ["ITERATIONS", "LearnedBases", "held_out_pictures", "learned_bases", "training_options"]

ITERATIONS = 2000  # of 8 pictures: minutes on a laptop, where the full schedule takes 6,800
HELD_OUT_SEED = 2_000_000  # of pictures that neither training nor its evaluation has seen


def training_options(*, seed: int, iterations: int = ITERATIONS) -> tuple[str, ...]:
    """The options of `blendmask-lite train`, without the folder.

    The preset's own settings for a laptop, over fewer iterations; one thread, so that the same
    seed gives the same weights anywhere.

    Args:
        seed: of the pictures, the initial weights, and the order.
        iterations: optimizer steps.
    """
    return (
        *("shapes", "--preset", "nano"),
        *("--iterations", str(iterations), "--seed", str(seed)),
        *("--threads", "1", "--snapshots", "20"),
    )


def held_out_pictures(num_images: int = 200) -> ShapesDataset:
    """Pictures to score bases on, the same for all seeds of the training."""
    return ShapesDataset(num_images, seed=HELD_OUT_SEED)


@dataclass(frozen=True)
class LearnedBases:
    """Whether some base tells objects from background, and some base where in a box one is.

    Attributes:
        scores: of every base.
    """

    scores: BasisScores

    @property
    def object_auc(self) -> float:
        """Of the base that tells best; one that is small on objects serves as well as a large."""
        auc = self.scores.object_auc
        return float(torch.maximum(auc, 1 - auc).max())

    @property
    def position(self) -> float:
        """The largest magnitude of the correlations with x or y in the box, over all bases."""
        return self.scores.strongest_position


def learned_bases(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LearnedBases:
    """Score the bases of a model; see `blendmask_lite.analysis.score_bases`."""
    return LearnedBases(score_bases(model, dataset, progress=progress))
