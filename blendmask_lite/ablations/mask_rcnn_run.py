"""Trains and scores Mask R-CNN as the ablations' rows are, and times both models.

The same pictures in the same order, the same engine and schedule; see `ablations.mask_rcnn`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blendmask_lite.ablations.mask_rcnn import NanoMaskRCNN
from blendmask_lite.ablations.run import HELD_OUT_SEED, Regime, plain_scores, settings_digest
from blendmask_lite.ablations.times import interleaved_times
from blendmask_lite.config import ModelConfig
from blendmask_lite.datasets.sample import collate, load_sample
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.files import write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.training.data import batches_from
from blendmask_lite.training.engine import StepRecord, TrainingState, train
from blendmask_lite.training.observers import ProgressLine
from blendmask_lite.training.run import train_transform
from blendmask_lite.training.run_folder import versions

__all__ = ["INSTANCES", "mask_rcnn_folder", "run_mask_rcnn", "times_by_instances"]

INSTANCES = (1, 5, 10, 20, 50, 100)  # detections a picture that times are measured for


def run_mask_rcnn(
    model: ModelConfig, regime: Regime, seed: int, learning_rate: float, folder: Path
) -> dict[str, Any]:
    """Train and score one Mask R-CNN, or read the scores that are there.

    Args:
        model: see `NanoMaskRCNN`.
        regime: data and schedule.
        seed: as in `ablations.run.run_model`.
        learning_rate: of AdamW in place of the regime's.
        folder: that holds a folder for every run.
    """
    run = mask_rcnn_folder(regime, seed, learning_rate, folder)
    scores = run / "scores.json"
    if scores.exists():
        content: dict[str, Any] = json.loads(scores.read_text())
        return content
    config = replace(regime.train_config(seed), learning_rate=learning_rate)
    torch.manual_seed(seed)
    network = NanoMaskRCNN(model, size=regime.shapes.size)
    state = TrainingState(network, config)
    dataset = ShapesDataset(regime.num_train, config=regime.shapes)
    load = load_sample(dataset, train_transform(config))
    batches = batches_from(0, config, num_images=len(dataset), load=load, collate=collate)
    progress = ProgressLine(config.iterations)
    seconds: list[float] = []

    def on_step(record: StepRecord) -> None:
        progress.update(record)
        seconds.append(record.seconds)

    train(state, network, batches, config, on_step=on_step, on_checkpoint=lambda state: None)
    network.eval()
    held_out = ShapesDataset(regime.num_test, seed=HELD_OUT_SEED, config=regime.shapes)
    evaluator = InstanceEvaluator(held_out)
    for sample in held_out:
        evaluator.add(sample.image_id, network.predict(sample.image))
    found = evaluator.finish()
    content = {
        "mask": plain_scores(found.mask),
        "box": plain_scores(found.box),
        "learning_rate": learning_rate,
        "parameters": sum(each.numel() for each in network.parameters()),
        "training_seconds": sum(seconds),
        "regime": asdict(regime),
        "seed": seed,
        "versions": versions(),
    }
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    write_atomically(run / "model.pt", weights.getvalue())
    write_atomically(scores, (json.dumps(content, indent=1) + "\n").encode())
    return content


def mask_rcnn_folder(regime: Regime, seed: int, learning_rate: float, folder: Path) -> Path:
    """The folder of one run: scores.json and the weights, model.pt."""
    digest = settings_digest(asdict(regime))
    return folder / f"{regime.name}-mask_rcnn-{digest}-lr{learning_rate:g}-seed{seed}"


@torch.no_grad()
def times_by_instances(
    model: BlendMask, peer: NanoMaskRCNN, image: Tensor, counts: Sequence[int] = INSTANCES
) -> dict[str, dict[int, float]]:
    """CPU milliseconds for one picture when exactly so many objects are found in it.

    Args:
        model: in evaluation mode.
        peer: in evaluation mode; its limit of detections is changed.
        image: (3, H, W).
        counts: of detections.

    Raises:
        ValueError: one of the models does not find that many even without score threshold.
    """
    peer.network.roi_heads.score_thresh = 0.0

    def ours(count: int) -> Callable[[], int]:
        return lambda: len(model.predict([image], score_threshold=0.0, max_detections=count)[0])

    def theirs(count: int) -> Callable[[], int]:
        def job() -> int:
            peer.network.roi_heads.detections_per_img = count
            return len(peer.predict(image))

        return job

    jobs: dict[str, Callable[[], int]] = {}
    for count in counts:
        for name, job in (("BlendMask", ours(count)), ("Mask R-CNN", theirs(count))):
            if job() != count:
                raise ValueError(f"{name}: does not find {count} objects in this picture")
            jobs[f"{name} {count}"] = job
    times = interleaved_times(jobs)
    return {
        name: {count: times[f"{name} {count}"] for count in counts}
        for name in ("BlendMask", "Mask R-CNN")
    }
