"""The report on BlendMask beside Mask R-CNN: mask AP of both, and time by number of objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from blendmask_lite.ablations.estimates import Estimate, estimate
from blendmask_lite.ablations.markdown import table_lines
from blendmask_lite.ablations.mask_rcnn import NanoMaskRCNN
from blendmask_lite.ablations.mask_rcnn_run import (
    mask_rcnn_folder,
    run_mask_rcnn,
    times_by_instances,
)
from blendmask_lite.ablations.run import HELD_OUT_SEED, Regime, model_folder, run_models
from blendmask_lite.config import PRESETS
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.weights.checkpoint import load_model

__all__ = ["LEARNING_RATES", "Headline", "run_headline"]

MODEL = PRESETS["nano"]
# Of AdamW, for Mask R-CNN: the one that BlendMask was tuned with, and a smaller one. Both are
# trained with the first seed, the better one with all; BlendMask has no second try.
LEARNING_RATES = (5e-3, 1e-3)


@dataclass(frozen=True)
class Headline:
    """What was measured.

    Attributes:
        regime: data and schedule of both.
        seeds: of the runs.
        scores: model -> "mask AP", "box AP" and so on -> estimate.
        tried: learning rate -> mask AP of Mask R-CNN with the first seed.
        parameters: model -> number of parameters.
        times: model -> objects in the picture -> CPU milliseconds.
    """

    regime: Regime
    seeds: tuple[int, ...]
    scores: dict[str, dict[str, Estimate]]
    tried: dict[float, float]
    parameters: dict[str, int]
    times: dict[str, dict[int, float]]

    def to_json(self) -> str:
        """All numbers."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def markdown(self) -> str:
        """Both tables, and what the paper has in their place."""
        names = list(next(iter(self.scores.values())))
        counts = list(next(iter(self.times.values())))
        lines = [
            "# BlendMask beside Mask R-CNN",
            "",
            f"Nano backbone and pyramid, generated shapes ({self.regime.name}), "
            f"{self.regime.iterations} iterations of 8 pictures, AdamW, {self.regime.num_test} "
            f"held-out pictures; {len(self.seeds)} seeds, mean ± 95 % interval. Mask R-CNN is "
            "torchvision's with narrower heads. Its learning rate is the better of "
            + " and ".join(f"{rate:g} (mask AP {ap:.1f})" for rate, ap in self.tried.items())
            + f" with seed {self.seeds[0]}.",
            "",
            "Paper, COCO test-dev, R-50, both with detectron2 and many epochs (table 8): BlendMask "
            "37.8 mask AP in 74.0 ms, Mask R-CNN 36.8 in 97 ms.",
            "",
            *table_lines(
                ["model", "parameters", *names],
                [
                    [model, f"{self.parameters[model]:,}", *(str(row[n]) for n in names)]
                    for model, row in self.scores.items()
                ],
            ),
            "",
            "CPU milliseconds, one thread, for a picture of "
            f"{self.regime.shapes.size} px in which so many objects are found:",
            "",
            *table_lines(
                ["model", *map(str, counts), "growth"],
                [
                    [model, *(f"{row[n]:.1f}" for n in counts), f"{_growth(row):+.0%}"]
                    for model, row in self.times.items()
                ],
            ),
        ]
        return "\n".join(lines) + "\n"


def run_headline(
    regime: Regime,
    seeds: Sequence[int],
    folder: Path,
    *,
    note: Callable[[str], None] = lambda text: None,
) -> Headline | None:
    """Train what is missing of both models and put the numbers together.

    Args:
        regime: data and schedule.
        seeds: at least one.
        folder: that holds a folder for every run.
        note: told what begins.

    Returns:
        None when it was stopped on request.
    """
    ours = run_models([MODEL], regime, seeds, folder, note=note)
    if ours is None:
        return None

    def peer(seed: int, rate: float) -> dict[str, Any]:
        note(f"Mask R-CNN: seed {seed}, learning rate {rate:g}")
        return run_mask_rcnn(MODEL, regime, seed, rate, folder)

    tried = {rate: peer(seeds[0], rate)["mask"]["AP"] for rate in LEARNING_RATES}
    rate = max(tried, key=tried.__getitem__)
    theirs = [peer(seed, rate) for seed in seeds]
    network = NanoMaskRCNN(MODEL, size=regime.shapes.size).eval()
    weights = mask_rcnn_folder(regime, seeds[0], rate, folder) / "model.pt"
    network.load_state_dict(torch.load(weights, weights_only=True))
    model = load_model(model_folder(MODEL, regime, seeds[0], folder) / "model.pt")
    image = ShapesDataset(1, seed=HELD_OUT_SEED, config=regime.shapes).load(0).image
    return Headline(
        regime=regime,
        seeds=tuple(seeds),
        scores={
            "BlendMask": _scores([ours[MODEL, seed] for seed in seeds]),
            "Mask R-CNN": _scores(theirs),
        },
        tried=tried,
        parameters={
            "BlendMask": sum(each.numel() for each in model.parameters()),
            "Mask R-CNN": sum(each.numel() for each in network.parameters()),
        },
        times=times_by_instances(model, network, image),
    )


def _scores(runs: Sequence[dict[str, Any]]) -> dict[str, Estimate]:
    columns = [("mask", name) for name in ("AP", "AP50", "AP75", "APS", "APM")] + [("box", "AP")]
    return {
        f"{kind} {name}": estimate([run[kind][name] for run in runs])
        for kind, name in columns
        if all(run[kind][name] is not None for run in runs)
    }


def _growth(times: dict[int, float]) -> float:
    counts = list(times)
    return times[counts[-1]] / times[counts[0]] - 1
