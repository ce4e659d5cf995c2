"""Chapter 12's training: its command, and measurements of the bases that it learns.

The notebook and `benchmarks/training_course.py` both use this module: the package's numbers in the
text come from the recipe with which the student's own model is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from blendmask_lite.config import PRESETS
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesDataset
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research import BasisScores, score_bases

__all__ = [
    "ITERATIONS",
    "HeldOutPictures",
    "LearnedBases",
    "learned_bases",
    "training_options",
    "untrained_model",
]

ITERATIONS = 2000  # batches of 8 images: minutes on a laptop; the full schedule has 6,800
HELD_OUT_SEED = 2_000_000  # seed of images used neither in training nor in its evaluation


def training_options(*, seed: int, iterations: int = ITERATIONS) -> tuple[str, ...]:
    """The options of `blendmask-lite train`, without the folder.

    These are the preset's settings for a laptop, with fewer iterations and a single thread, with
    which a seed gives the same weights anywhere.

    Args:
        seed: seed of the images, of the initial weights, and of the order of the images.
        iterations: number of optimizer steps.
    """
    return (
        *("shapes", "--preset", "nano"),
        *("--iterations", str(iterations), "--seed", str(seed)),
        *("--threads", "1", "--snapshots", "20"),
    )


def untrained_model(seed: int) -> BlendMask:
    """The network with which a training of this seed starts; the caller's random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BlendMask(PRESETS["nano"], class_names=SHAPE_CLASSES)


class HeldOutPictures(ShapesDataset):
    """Images to score bases on, the same for all seeds of the training.

    Light comes from above: the upper part of an object is brighter, and a base can tell up
    from down by brightness alone. In the upside-down images, light comes from below.

    Args:
        num_images: number of images.
        is_upside_down: whether images and objects are mirrored from top to bottom.
    """

    def __init__(self, num_images: int = 200, *, is_upside_down: bool = False) -> None:
        super().__init__(num_images, seed=HELD_OUT_SEED)
        self.is_upside_down = is_upside_down

    def load(self, index: int) -> Sample:
        """The image at a position of `image_ids`."""
        sample = super().load(index)
        if not self.is_upside_down:
            return sample
        target, height = sample.target, sample.image.shape[1]
        assert target.masks is not None and target.stuff is not None
        x0, y0, x1, y1 = target.boxes.unbind(dim=1)
        turned = replace(
            target,
            boxes=torch.stack([x0, height - y1, x1, height - y0], dim=1),
            masks=target.masks.flip(1),
            stuff=target.stuff.flip(0),
        )
        return replace(sample, image=sample.image.flip(1), target=turned)


@dataclass(frozen=True)
class LearnedBases:
    """Scores that show if a base tells objects from background or shows position in the box."""

    scores: BasisScores  # scores of all bases
    upside_down_y: torch.Tensor  # (K,) correlations with y in the upside-down images

    @property
    def object_auc(self) -> float:
        """The best base's AUC, counting low values on objects as much as high ones."""
        auc = self.scores.object_auc
        return float(torch.maximum(auc, 1 - auc).max())

    @property
    def position(self) -> float:
        """The largest magnitude of all correlations with x or y in the box."""
        return self.scores.strongest_position

    @property
    def typical_position(self) -> float:
        """The mean magnitude of all correlations with x or y in the box."""
        return self.scores.typical_position


def learned_bases(
    model: BlendMask,
    num_images: int = 200,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LearnedBases:
    """Score the bases of a model on held-out images with `score_bases`.

    Args:
        model: a model from this course's training, or an untrained one.
        num_images: number of images, each used both upright and upside down.
        progress: called with (done, total) for the upright ones.
    """
    upright = score_bases(model, HeldOutPictures(num_images), progress=progress)
    turned = score_bases(model, HeldOutPictures(num_images, is_upside_down=True))
    return LearnedBases(upright, turned.y)
