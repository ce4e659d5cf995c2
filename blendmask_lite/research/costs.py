"""The cost of an image and of each object in it: multiply-adds, and times of the stages.

Chapter 14.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from blendmask_lite.config import ModelConfig
from blendmask_lite.model.blendmask import BlendMask, place_detections
from blendmask_lite.research.ablations.run import interleaved_times

__all__ = ["count_parameters", "mask_head_cost", "object_cost", "picture_cost", "stage_times"]

TAPS = 4  # values that bilinear sampling combines into one


def picture_cost(config: ModelConfig, size: tuple[int, int]) -> dict[str, int]:
    """Multiply-adds of the convolutions that every image needs, whatever it shows.

    PyTorch counts them while the layers run on tensors that have shapes but no values.

    Args:
        config: architecture.
        size: (height, width) of the image, multiples of the size divisor.

    Returns:
        Multiply-adds for "backbone", "pyramid", "detector" and "bottom module".
    """
    network = _without_values(config)
    counted: dict[str, int] = {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:

        def note(name: str) -> None:
            # The counter counts two operations per multiply-add.
            counted[name] = counter.get_total_flops() // 2 - sum(counted.values())

        features = network.backbone(torch.zeros(1, 3, *size, device="meta"))
        note("backbone")
        features = features | network.fpn(features)
        note("pyramid")
        network.head([features[name] for name in config.levels])
        note("detector")
        network.bottom(features)
        note("bottom module")
    return counted


def object_cost(config: ModelConfig) -> dict[str, int]:
    """Multiply-adds that one more object costs BlendMask.

    Args:
        config: architecture with the blender.

    Returns:
        Multiply-adds for "attentions" (the top layer at one location) and "blender" (at each of
        K R R cells four to crop, four to upsample, one to weight: equations 1, 2 and 4).
    """
    cells = config.num_bases * config.mask_size**2
    cells_of_attention = config.num_bases * config.attention_size**2
    return {
        "attentions": cells_of_attention * config.pyramid_channels * 9,
        "blender": cells * (2 * TAPS + 1),
    }


def mask_head_cost(
    num_objects: int, *, channels: int = 256, num_convs: int = 4, size: int = 14, classes: int = 80
) -> int:
    """Multiply-adds of Mask R-CNN's mask head: 3 x 3 convolutions, then upsampling and a predictor.

    Torchvision's layers are run without values and counted (Mask R-CNN, figure 4).

    Args:
        num_objects: N; 0 costs nothing.
        channels: channels of the crops and of all layers.
        num_convs: number of convolutions before the upsampling.
        size: side of the crops, in cells; masks are twice as large.
        classes: C; each class has a mask.
    """
    with torch.device("meta"):
        head = nn.Sequential(
            MaskRCNNHeads(channels, (channels,) * num_convs, 1),
            MaskRCNNPredictor(channels, channels, classes),
        )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        head(torch.zeros(num_objects, channels, size, size, device="meta"))
    return counter.get_total_flops() // 2


def count_parameters(config: ModelConfig) -> int:
    """Number of parameters of a model of this architecture, learned and frozen."""
    return sum(parameter.numel() for parameter in _without_values(config).parameters())


def _without_values(config: ModelConfig) -> BlendMask:
    with torch.device("meta"):
        return BlendMask(config).eval()


@torch.no_grad()
def stage_times(
    model: BlendMask, image: Tensor, counts: Sequence[int], *, rounds: int = 9
) -> dict[int, dict[str, float]]:
    """Median CPU milliseconds of each stage on one thread; the stages take turns.

    Args:
        model: a model in evaluation mode.
        image: (3, H, W); it is not resized.
        counts: numbers of objects.
        rounds: number of rounds; every stage is timed once per round.

    Returns:
        Count -> "picture" (network without masks), "boxes" (decoding and suppression), "masks"
        (attentions, crops, blender), "paste" -> milliseconds.

    Raises:
        ValueError: the image has fewer boxes, even at a score threshold of 0.
    """
    stages = {count: _stages(model, image, count) for count in counts}
    jobs = {f"{count} {name}": job for count in counts for name, job in stages[count].items()}
    times = interleaved_times(jobs, rounds=rounds)
    return {count: {name: times[f"{count} {name}"] for name in stages[count]} for count in counts}


def _stages(model: BlendMask, image: Tensor, count: int) -> dict[str, Callable[[], object]]:
    output = model([image])
    find = partial(model.detect, output, score_threshold=0.0, max_detections=count)
    [boxes] = find()
    if len(boxes) != count:
        raise ValueError(f"count = {count}: only {len(boxes)} boxes are found in this picture")
    index = torch.stack([torch.zeros_like(boxes.location_index), boxes.location_index], dim=1)
    logits = model.masks_at(output, index, boxes.boxes)
    size, threshold = output.image_sizes[0], model.inference.mask_threshold
    return {
        "picture": lambda: model([image]),
        "boxes": find,
        "masks": lambda: model.masks_at(output, index, boxes.boxes),
        "paste": lambda: place_detections(
            boxes, logits, size, size, mask_threshold=threshold
        ).pasted(),
    }
