"""Torchvision's Mask R-CNN on the nano backbone, compared with BlendMask in AP and time.

BlendMask, table 8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from blendmask_lite.config import PRESETS, ModelConfig
from blendmask_lite.datasets.sample import SampleLoader, collate
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.files import write_atomically
from blendmask_lite.model.backbones import make_backbone
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.build import make_fpn
from blendmask_lite.research.ablations.report import Estimate, estimate, table_lines
from blendmask_lite.research.ablations.run import (
    Regime,
    interleaved_times,
    model_folder,
    plain_scores,
    run_models,
    settings_digest,
)
from blendmask_lite.structures import Target
from blendmask_lite.training.data import batches_from
from blendmask_lite.training.engine import StepRecord, TrainingState, train
from blendmask_lite.training.observers import ProgressLine
from blendmask_lite.training.run import train_transform
from blendmask_lite.training.schedule import HELD_OUT_SEED
from blendmask_lite.training.session import versions
from blendmask_lite.weights.checkpoint import load_model

__all__ = [
    "INSTANCES",
    "LEARNING_RATES",
    "FoundByMaskRCNN",
    "Headline",
    "NanoMaskRCNN",
    "mask_rcnn_folder",
    "run_headline",
    "run_mask_rcnn",
    "times_by_instances",
]

# In training: boxes that the heads learn from, and proposals from which these are chosen.
# Torchvision's 512 and 2000 are meant for large images full of objects; ours have at most six.
BOXES_PER_IMAGE, PROPOSALS = 32, 300
SMALLEST_ANCHOR = 16.0  # side at P2, pixels; doubles from level to level


class NanoMaskRCNN(nn.Module):
    """Torchvision's Mask R-CNN on the backbone and pyramid of a small `ModelConfig`.

    Args:
        config: config of the BlendMask to compare with; backbone, pyramid, levels and input are
            read.
        size: shorter side of the pictures, pixels; pictures with this side are not resized.
    """

    def __init__(self, config: ModelConfig, *, size: int) -> None:
        super().__init__()
        width, levels = config.pyramid_channels, list(config.levels)
        sides = tuple((SMALLEST_ANCHOR * 2**i,) for i in range(len(levels)))
        self.network = MaskRCNN(
            _BackboneWithPyramid(config),
            min_size=size,
            max_size=2 * size,
            image_mean=[value / 255 for value in config.pixel_mean],
            image_std=[value / 255 for value in config.pixel_std],
            rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(levels)),
            box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(width * 7**2, 4 * width),
            box_predictor=FastRCNNPredictor(4 * width, config.num_classes + 1),
            rpn_pre_nms_top_n_train=PROPOSALS,
            rpn_post_nms_top_n_train=PROPOSALS,
            box_batch_size_per_image=BOXES_PER_IMAGE,
            mask_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, config.num_classes + 1),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Losses of a batch, to be added up; needs training mode."""
        records = []
        for own in targets:
            if own.masks is None:
                raise ValueError("Mask R-CNN learns from masks; this target has none")
            labels, masks = own.labels + 1, own.masks.byte()
            records.append({"boxes": own.boxes.float(), "labels": labels, "masks": masks})
        return self.network([_as_float(image) for image in images], records)

    @torch.no_grad()
    def predict(self, image: Tensor) -> FoundByMaskRCNN:
        """The objects of one picture (3, H, W); needs evaluation mode."""
        [found] = self.network([_as_float(image)])
        return FoundByMaskRCNN(
            boxes=found["boxes"],
            labels=found["labels"] - 1,
            scores=found["scores"],
            masks=found["masks"][:, 0] >= 0.5,
        )


@dataclass(frozen=True)
class FoundByMaskRCNN:
    """The objects of one picture; see `structures.FoundObjects`."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.scores)


class _BackboneWithPyramid(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = make_backbone(config)
        self.fpn = make_fpn(config, self.backbone.channels)
        self.levels = config.levels
        self.out_channels = config.pyramid_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        levels: dict[str, Tensor] = self.fpn(self.backbone(x))
        return {name: levels[name] for name in self.levels}


def _as_float(image: Tensor) -> Tensor:
    return image if image.is_floating_point() else image.float() / 255


INSTANCES = (1, 5, 10, 20, 50, 100)  # detections per image for which times are measured


def run_mask_rcnn(
    model: ModelConfig, regime: Regime, seed: int, learning_rate: float, folder: Path
) -> dict[str, Any]:
    """Train and score one Mask R-CNN, or read existing scores.

    Args:
        model: see `NanoMaskRCNN`.
        regime: data and schedule.
        seed: as in `ablations.run.run_model`.
        learning_rate: learning rate of AdamW, instead of the regime's.
        folder: folder with one folder per run.
    """
    run = mask_rcnn_folder(regime, seed, learning_rate, folder)
    scores = run / "scores.json"
    if scores.exists():
        return json.loads(scores.read_text("utf-8"))
    config = replace(regime.train_config(seed), learning_rate=learning_rate)
    torch.manual_seed(seed)
    network = NanoMaskRCNN(model, size=regime.shapes.size)
    state = TrainingState(network, config)
    dataset = ShapesDataset(regime.num_train, config=regime.shapes)
    load = SampleLoader(dataset, train_transform(config))
    batches = batches_from(0, config, num_images=len(dataset), load=load, collate=collate)
    progress = ProgressLine(config.iterations)
    seconds: list[float] = []

    def on_step(record: StepRecord) -> None:
        progress.on_step(state, record)
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
        "parameters": _num_parameters(network),
        "training_seconds": sum(seconds),
        "regime": asdict(regime),
        "seed": seed,
        "versions": versions(),
    }
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomically(run / "model.safetensors", safetensors.torch.save(weights))
    write_atomically(scores, (json.dumps(content, indent=1) + "\n").encode())
    return content


def mask_rcnn_folder(regime: Regime, seed: int, learning_rate: float, folder: Path) -> Path:
    """The folder of one run: scores.json and the weights, model.safetensors."""
    digest = settings_digest(asdict(regime))
    return folder / f"{regime.name}-mask_rcnn-{digest}-lr{learning_rate:g}-seed{seed}"


@torch.no_grad()
def times_by_instances(
    model: BlendMask, peer: NanoMaskRCNN, image: Tensor, counts: Sequence[int] = INSTANCES
) -> dict[str, dict[int, float]]:
    """CPU milliseconds for one image, by the number of objects that are found in it.

    Args:
        model: a BlendMask in evaluation mode.
        peer: a Mask R-CNN in evaluation mode; its limit on detections is changed.
        image: (3, H, W).
        counts: numbers of detections.

    Raises:
        ValueError: one of the models finds fewer objects, even with a score threshold of 0.
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


MODEL = PRESETS["nano"]
# Learning rates of AdamW for Mask R-CNN: BlendMask's, and a smaller one. Both are tried with the
# first seed, and the better one is used for all seeds. BlendMask has only its own.
LEARNING_RATES = (5e-3, 1e-3)


@dataclass(frozen=True)
class Headline:
    """The measured comparison of BlendMask with Mask R-CNN.

    Attributes:
        regime: data and schedule of both models.
        seeds: seeds of the runs.
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
        """Both tables, and the paper's numbers."""
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
    """Train the missing runs of both models, and collect the numbers.

    Args:
        regime: data and schedule.
        seeds: one seed or more.
        folder: folder with one folder per run.
        note: called with a line of text when a run begins.

    Returns:
        The comparison; None if it was stopped on request.
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
    weights = mask_rcnn_folder(regime, seeds[0], rate, folder) / "model.safetensors"
    network.load_state_dict(safetensors.torch.load_file(weights))
    model = load_model(model_folder(MODEL, regime, seeds[0], folder) / "model.safetensors")
    image = ShapesDataset(1, seed=HELD_OUT_SEED, config=regime.shapes).load(0).image
    return Headline(
        regime=regime,
        seeds=tuple(seeds),
        scores={
            "BlendMask": _scores([ours[MODEL, seed] for seed in seeds]),
            "Mask R-CNN": _scores(theirs),
        },
        tried=tried,
        parameters={"BlendMask": _num_parameters(model), "Mask R-CNN": _num_parameters(network)},
        times=times_by_instances(model, network, image),
    )


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


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
