"""Trains and scores the rows of a table, one folder a model and seed; what is done is kept.

Scores are AP, the masks over true boxes, and the CPU time of one thread, all candidates in turns.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from blendmask_lite.config import PRESET_INFERENCE, ModelConfig
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.files import write_atomically
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import Target
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, TrainConfig, rescale
from blendmask_lite.training.session import versions
from blendmask_lite.training.targets import object_locations
from blendmask_lite.weights.checkpoint import load_model

__all__ = [
    "HELD_OUT_SEED",
    "OVERLAP",
    "REGIMES",
    "Regime",
    "TrueBoxScores",
    "interleaved_times",
    "model_folder",
    "plain_scores",
    "run_model",
    "run_models",
    "score_true_boxes",
    "settings_digest",
    "true_box_masks",
]


HELD_OUT_SEED = 1_000_000  # of pictures that no training has seen


@dataclass(frozen=True)
class Regime:
    """What the rows learn from and for how long, equal for all rows.

    Attributes:
        name: of the regime.
        shapes: size and difficulty of the pictures.
        iterations: of 8 pictures, with the settings of preset nano, no averaging of weights.
        num_train: pictures in a pass.
        num_test: held-out pictures that are scored.
    """

    name: str
    shapes: ShapesConfig
    iterations: int = 800
    num_train: int = 20_000
    num_test: int = 200

    def train_config(self, seed: int) -> TrainConfig:
        """The schedule for one seed."""
        config = rescale(TRAIN_PRESETS["nano"], iterations=self.iterations)
        return replace(config, seed=seed, checkpoint_every=200)


REGIMES: dict[str, Regime] = {
    each.name: each
    for each in (
        Regime("default", ShapesConfig()),
        # Every scene a crowd of one class, and more of it hidden.
        Regime("crowds", ShapesConfig(crowd_share=1.0, min_objects=4, min_visible=0.25)),
    )
}


def run_models(
    models: Sequence[ModelConfig],
    regime: Regime,
    seeds: Sequence[int],
    folder: Path,
    *,
    note: Callable[[str], None] = lambda text: None,
) -> dict[tuple[ModelConfig, int], dict[str, Any]] | None:
    """Train and score every model with every seed; see `run_model`.

    Returns:
        The results by (model, seed); None when it was stopped on request.
    """
    jobs = [(model, seed) for seed in seeds for model in dict.fromkeys(models)]
    results = {}
    for place, (model, seed) in enumerate(jobs):
        note(f"{place + 1} of {len(jobs)}: {model_folder(model, regime, seed, folder)}")
        result = run_model(model, regime, seed, folder)
        if result is None:
            return None
        results[model, seed] = result
    return results


def run_model(model: ModelConfig, regime: Regime, seed: int, folder: Path) -> dict[str, Any] | None:
    """Train one model and score it, or read the scores that are there.

    A training that was stopped continues where it was.

    Args:
        model: architecture.
        regime: data and schedule.
        seed: of initial weights, order and augmentation; the pictures are the same for all.
        folder: that holds a folder for every run.

    Returns:
        Scores, settings and versions as plain values; None when stopped on request.
    """
    run = model_folder(model, regime, seed, folder)
    scores = run / "scores.json"
    if scores.exists():
        content: dict[str, Any] = json.loads(scores.read_text())
        return content
    recipe = Recipe(model, PRESET_INFERENCE["nano"], regime.train_config(seed))
    dataset = ShapesDataset(regime.num_train, config=regime.shapes)
    if not train_model(dataset, run, recipe, is_resumed=True):
        return None
    trained = load_model(run / "model.pt")
    held_out = ShapesDataset(regime.num_test, seed=HELD_OUT_SEED, config=regime.shapes)
    found = evaluate_model(trained, held_out)
    true_boxes = score_true_boxes(trained, held_out)
    content = {
        "mask": plain_scores(found.mask),
        "box": plain_scores(found.box),
        "true_boxes": plain_scores(asdict(true_boxes)),
        "model": asdict(model),
        "regime": asdict(regime),
        "seed": seed,
        "versions": versions(),
    }
    write_atomically(scores, (json.dumps(content, indent=1) + "\n").encode())
    (run / "last.pt").unlink(missing_ok=True)
    return content


def model_folder(model: ModelConfig, regime: Regime, seed: int, folder: Path) -> Path:
    """The folder of one run; its name differs where anything that matters does."""
    digest = settings_digest(asdict(model), asdict(regime))
    return folder / f"{regime.name}-{model.merger}-{digest}-seed{seed}"


def settings_digest(*settings: dict[str, Any]) -> str:
    """Ten letters that differ where any of the plain values does."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def plain_scores(numbers: dict[str, float]) -> dict[str, float | None]:
    """NaN, which JSON does not have, becomes null."""
    return {name: value if value == value else None for name, value in numbers.items()}


OVERLAP = 0.2  # IoU of two boxes from which their objects count as overlapping


@dataclass(frozen=True)
class TrueBoxScores:
    """Mean IoU of masks predicted over true boxes, percent.

    Attributes:
        iou: over all objects that some location learns.
        overlapping_iou: over those whose box overlaps another one by an IoU of `OVERLAP` or more;
            NaN if there are none.
        num_objects, num_overlapping: how many these are.
    """

    iou: float
    overlapping_iou: float
    num_objects: int
    num_overlapping: int


@torch.no_grad()
def score_true_boxes(
    model: BlendMask,
    dataset: InstanceDataset,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TrueBoxScores:
    """Compare masks over true boxes with the true masks, in every picture at its own size.

    Args:
        model: in evaluation mode.
        dataset: with masks.
        progress: called with (done, total).
    """
    ious, overlaps = [], []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        place, masks = true_box_masks(model, sample.image, sample.target)
        truth = sample.target.masks
        assert truth is not None
        ious.append(mask_iou(masks, truth[place]))
        boxes = sample.target.boxes.float()
        between = box_iou(boxes, boxes).fill_diagonal_(0)
        overlaps.append((between.amax(dim=1) >= OVERLAP)[place] if len(boxes) else place.bool())
        if progress is not None:
            progress(index + 1, len(dataset))
    iou = torch.cat(ious).double() if ious else torch.zeros(0, dtype=torch.float64)
    is_overlapping = torch.cat(overlaps) if overlaps else torch.zeros(0, dtype=torch.bool)
    return TrueBoxScores(
        iou=100 * iou.mean().item(),
        overlapping_iou=100 * iou[is_overlapping].mean().item(),
        num_objects=len(iou),
        num_overlapping=int(is_overlapping.sum()),
    )


@torch.no_grad()
def true_box_masks(model: BlendMask, image: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Masks over the true boxes, by the attentions of the locations that learn these objects.

    Args:
        model: in evaluation mode.
        image: (3, H, W).
        target: N objects in pixels of `image`.

    Returns:
        On the CPU (n,) int64 positions of the objects that a location learns, ascending, and their
        (n, H, W) bool masks. Of an object's locations the most central one is taken.
    """
    target = target.to(model.device)
    output = model([image.to(model.device)])
    location, is_learned = object_locations(output, target, model.config)
    place = is_learned.nonzero()[:, 0]
    index = F.pad(location[place, None], (1, 0))  # (n, 2), image 0
    boxes = target.boxes.float()[place]
    logits = model.masks_at(output, index, boxes)
    height, width = image.shape[-2:]
    return place.cpu(), paste_masks(logits, boxes, (height, width)).cpu()


def interleaved_times(
    jobs: Mapping[str, Callable[[], object]], *, rounds: int = 9
) -> dict[str, float]:
    """Median CPU milliseconds of every job on one thread.

    The jobs take turns, so that a machine which slows down slows all of them; the first round
    warms up and does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in range(rounds + 1):
            for name, job in jobs.items():
                start = time.process_time()
                job()
                if number:
                    times[name].append(1000 * (time.process_time() - start))
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(each) for name, each in times.items()}
