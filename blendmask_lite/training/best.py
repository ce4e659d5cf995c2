"""best.pt: the model with the best mask AP, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import torch

from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.engine import TrainingState
from blendmask_lite.training.observers import Observer
from blendmask_lite.training.recipe import Recipe
from blendmask_lite.training.runlog import RunFolder, complete_rows
from blendmask_lite.training.session import versions
from blendmask_lite.weights.checkpoint import read_checkpoint, save_model

__all__ = ["BestModel"]

SCORE = "mask AP"


class BestModel(Observer):
    """Keeps the best of the evaluated models, the first of equal ones.

    What came before, in a run that continues, is read from its folder. So a run that was killed
    keeps the same model, and stops at the same evaluation, as one that was not.

    Args:
        run: its folder.
        recipe: `recipe.train.patience` evaluations without a better one are enough.
        iteration: where this process begins; evaluations of later ones come again.
        half: write the weights in half precision.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, *, iteration: int, half: bool) -> None:
        self.path = run.best
        self.recipe = recipe
        self.dtype = torch.float16 if half else None
        self.score = -math.inf
        self.iteration = 0
        self.num_since = 0  # evaluations after the best
        self.last_iteration = 0  # of an evaluation
        if iteration == 0:
            self.path.unlink(missing_ok=True)  # of a run that was lost before its first checkpoint
        elif run.evaluation.exists():
            for row in complete_rows(run.evaluation, iteration):
                self._count(int(row["iteration"]), float(row.get(SCORE, math.nan)))
        self.stored_score = self._read_score()

    @property
    def is_enough(self) -> bool:
        """Whether `patience` evaluations in a row were no better."""
        patience = self.recipe.train.patience
        return patience is not None and self.num_since >= patience

    def lacks(self, iteration: int) -> bool:
        """Whether an evaluation was due there and is not known: whoever asks a run to stop does
        not wait for it.
        """
        every = self.recipe.train.evaluate_every
        is_due = every is not None and iteration > 0 and iteration % every == 0
        return is_due and self.last_iteration != iteration

    def on_evaluate(self, state: TrainingState, scores: Mapping[str, float]) -> None:
        """Replace the file in one step if the model is better than the one in it."""
        score = scores[SCORE]
        self._count(state.iteration, score)
        if not score > self.stored_score:
            return
        model = state.best_model
        assert isinstance(model, BlendMask)
        about = {
            "iterations": state.iteration,
            SCORE: score,
            "train": asdict(self.recipe.train),
            "versions": versions(),
        }
        save_model(model, self.path, metadata=about, dtype=self.dtype)
        self.stored_score = score

    def told(self) -> str:
        """A sentence about why it is enough."""
        return (
            f"no better mask AP than {self.score:.1f}, at iteration {self.iteration}, in "
            f"{self.num_since} evaluations"
        )

    def _count(self, iteration: int, score: float) -> None:
        self.last_iteration = iteration
        if score > self.score:
            self.score, self.iteration, self.num_since = score, iteration, 0
        else:
            self.num_since += 1

    def _read_score(self) -> float:
        try:
            return float(read_checkpoint(self.path).metadata[SCORE])
        except (OSError, ValueError, KeyError, TypeError):
            return -math.inf  # nothing that is worth keeping
