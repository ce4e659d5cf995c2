"""Train and score the rows of a table, one folder per model and seed; finished work is kept.

Scores are AP, IoU of masks over true boxes, and CPU time on one thread, measured in turns.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.config import PRESET_INFERENCE, ModelConfig
from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.shapes import ShapesConfig, ShapesDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.files import write_atomically
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.merge import Merger
from blendmask_lite.research.objects import kinds_of_boxes
from blendmask_lite.structures import Target
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import (
    HELD_OUT_SEED,
    NUM_SHAPES,
    TRAIN_PRESETS,
    TrainConfig,
    rescale,
)
from blendmask_lite.training.session import versions
from blendmask_lite.training.targets import object_locations
from blendmask_lite.weights.checkpoint import load_model

__all__ = [
    "REGIMES",
    "ObjectScores",
    "Regime",
    "interleaved_times",
    "model_folder",
    "plain_scores",
    "run_model",
    "run_models",
    "score_model",
    "score_true_boxes",
    "settings_digest",
    "true_box_masks",
]


MakeMerger = Callable[[ModelConfig], Merger]


@dataclass(frozen=True)
class Regime:
    """Data and schedule, the same for all rows of a table.

    Attributes:
        name: name of the regime.
        shapes: size and difficulty of the pictures.
        iterations: number of iterations of 8 pictures, with the settings of the preset nano, but
            without weight averaging.
        num_train: number of pictures in a pass.
        num_test: number of held-out pictures that are scored.
    """

    name: str
    shapes: ShapesConfig
    iterations: int = 800
    num_train: int = NUM_SHAPES
    num_test: int = 200

    def train_config(self, seed: int) -> TrainConfig:
        """The schedule for one seed."""
        config = rescale(TRAIN_PRESETS["nano"], iterations=self.iterations)
        return replace(config, seed=seed, checkpoint_every=200)


REGIMES: dict[str, Regime] = {
    each.name: each
    for each in (
        Regime("default", ShapesConfig()),
        # Every scene is a crowd of one class, and a larger part of each object may be hidden.
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
        The results by (model, seed); None if it was stopped on request.
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


def run_model(
    model: ModelConfig,
    regime: Regime,
    seed: int,
    folder: Path,
    *,
    make_merger: MakeMerger | None = None,
) -> dict[str, Any] | None:
    """Train one model and score it, or read existing scores.

    A training that was stopped continues where it left off.

    Args:
        model: architecture.
        regime: data and schedule.
        seed: seed of initial weights, image order and augmentation; all seeds have the same images.
        folder: folder with one folder per run.
        make_merger: function that makes the merger; by default the config's merger is used.

    Returns:
        Scores, settings and versions as plain values; None if stopped on request.
    """
    run = model_folder(model, regime, seed, folder, make_merger=make_merger)
    scores = run / "scores.json"
    if scores.exists():
        content: dict[str, Any] = json.loads(scores.read_text("utf-8"))
        return content
    recipe = Recipe(model, PRESET_INFERENCE["nano"], regime.train_config(seed))
    dataset = ShapesDataset(regime.num_train, config=regime.shapes)
    own: dict[str, Any] = {} if make_merger is None else {"merger": make_merger(model)}
    torch.manual_seed(seed)
    begun = BlendMask(model, **own) if own else None
    is_trained = (run / "model.safetensors").exists()  # only the scores may be missing
    if not is_trained and not train_model(dataset, run, recipe, model=begun, is_resumed=True):
        return None
    content = {
        **score_model(load_model(run / "model.safetensors", **own), regime),
        "model": asdict(model),
        "regime": asdict(regime),
        "seed": seed,
        "versions": versions(),
    }
    write_atomically(scores, (json.dumps(content, indent=1) + "\n").encode())
    (run / "last.pt").unlink(missing_ok=True)
    return content


def score_model(model: BlendMask, regime: Regime) -> dict[str, Any]:
    """Score a trained model on its regime's held-out scenes, and on as many scenes of crowds only.

    Returns:
        "mask" and "box": AP. "true_boxes": IoU of masks over true boxes by kind of object, see
        `ObjectScores`. "objects": these IoUs for each object. "crowds": the same four entries for
        the scenes of crowds.
    """
    scores: dict[str, Any] = {}
    for part, shapes in (("", regime.shapes), ("crowds", REGIMES["crowds"].shapes)):
        shapes = replace(shapes, size=regime.shapes.size)
        held_out = ShapesDataset(regime.num_test, seed=HELD_OUT_SEED, config=shapes)
        found = evaluate_model(model, held_out)
        objects = score_true_boxes(model, held_out)
        content = {
            "mask": plain_scores(found.mask),
            "box": plain_scores(found.box),
            "true_boxes": plain_scores(objects.means()),
            "objects": objects.plain(),
        }
        scores |= {part: content} if part else content
    return scores


def model_folder(
    model: ModelConfig,
    regime: Regime,
    seed: int,
    folder: Path,
    *,
    make_merger: MakeMerger | None = None,
) -> Path:
    """The folder of one run; runs with different settings have different names."""
    digest = settings_digest(asdict(model), asdict(regime))
    merger = model.merger if make_merger is None else make_merger.__name__
    return folder / f"{regime.name}-{merger}-{digest}-seed{seed}"


def settings_digest(*settings: dict[str, Any]) -> str:
    """Ten characters that differ if any of the plain values differs."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def plain_scores(numbers: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN, which JSON does not have, by null."""
    return {name: value if value == value else None for name, value in numbers.items()}


@dataclass(frozen=True)
class ObjectScores:
    """Masks predicted over true boxes, one entry for every object that some location learns.

    Attributes:
        image: (n,) int64, position of the object's image in the data set.
        iou: (n,) float64, IoU of predicted and true mask, 0 to 1.
        is_isolated: (n,) bool, no other box touches its own.
        is_overlapping: (n,) bool, another box has a large IoU with its own; see `kinds_of_boxes`.
        shares_center: (n,) bool, another box has nearly the same center.
    """

    image: Tensor
    iou: Tensor
    is_isolated: Tensor
    is_overlapping: Tensor
    shares_center: Tensor

    def groups(self) -> dict[str, Tensor]:
        """(n,) bool by name of the group: whether each object belongs to it."""
        return {
            "all": torch.ones_like(self.is_isolated),
            "isolated": self.is_isolated,
            "overlapping": self.is_overlapping,
            "one center": self.shares_center,
        }

    def means(self) -> dict[str, float]:
        """Mean IoU of every group, percent; NaN if it has no object."""
        groups = self.groups().items()
        return {name: 100 * self.iou[members].mean().item() for name, members in groups}

    def plain(self) -> dict[str, list[Any]]:
        """All values as lists, for JSON."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        own["iou"] = own["iou"].mul(1e4).round().div(1e4)
        return {
            name: (value.int() if value.dtype == torch.bool else value).tolist()
            for name, value in own.items()
        }

    @staticmethod
    def from_plain(content: Mapping[str, list[Any]]) -> ObjectScores:
        """The scores from the result of `plain`."""
        kinds = {"image": torch.int64, "iou": torch.float64}
        return ObjectScores(
            **{
                name: torch.tensor(v, dtype=kinds.get(name, torch.bool))
                for name, v in content.items()
            }
        )


@torch.no_grad()
def score_true_boxes(model: BlendMask, dataset: InstanceDataset) -> ObjectScores:
    """Compare masks over true boxes with the true masks, in every image at its own size.

    Args:
        model: a model in evaluation mode.
        dataset: data set with masks.
    """
    rows: list[tuple[Tensor, ...]] = []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        place, masks = true_box_masks(model, sample.image, sample.target)
        truth = sample.target.masks
        assert truth is not None
        kinds = kinds_of_boxes(sample.target.boxes.float())
        rows.append(
            (
                torch.full_like(place, index),
                mask_iou(masks, truth[place]).double(),
                *(members[place] for members in kinds),
            )
        )
    return ObjectScores(*(torch.cat(column) for column in zip(*rows, strict=True)))


@torch.no_grad()
def true_box_masks(model: BlendMask, image: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Masks over the true boxes, with the attentions of the locations that learn the objects.

    Args:
        model: a model in evaluation mode.
        image: (3, H, W).
        target: N objects in pixels of `image`.

    Returns:
        (n,) int64 indices of the objects that a location learns, ascending, and their (n, H, W)
        bool masks, both on the CPU. The most central location of each object is used.
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

    The jobs take turns, so if the machine slows down, it slows all of them. The first round is a
    warm-up and does not count.
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
