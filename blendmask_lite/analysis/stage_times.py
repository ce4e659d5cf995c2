"""How long the stages of one picture take by the number of objects found in it.

Chapter 14 of the course. BlendMask, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blendmask_lite.ablations.times import interleaved_times
from blendmask_lite.model.blendmask import BlendMask, finish_detections

__all__ = ["stage_times"]


@torch.no_grad()
def stage_times(
    model: BlendMask, image: Tensor, counts: Sequence[int], *, rounds: int = 9
) -> dict[int, dict[str, float]]:
    """CPU milliseconds of each stage, one thread, medians; all of them take turns.

    Args:
        model: in evaluation mode.
        image: (3, H, W), not resized.
        counts: of objects.
        rounds: of everything.

    Returns:
        Count -> "picture" (network without masks), "boxes" (decoding and suppression), "masks"
        (attentions, crops, blender), "paste" -> milliseconds.

    Raises:
        ValueError: the picture does not have so many boxes, even without a least score.
    """
    jobs: dict[str, Callable[[], object]] = {}
    for count in counts:
        for name, job in _stages(model, image, count).items():
            jobs[f"{count} {name}"] = job
    times = interleaved_times(jobs, rounds=rounds)
    return {
        count: {name: times[f"{count} {name}"] for name in ("picture", "boxes", "masks", "paste")}
        for count in counts
    }


def _stages(model: BlendMask, image: Tensor, count: int) -> dict[str, Callable[[], object]]:
    output = model([image])

    def find() -> object:
        return model.detect(output, score_threshold=0.0, max_detections=count)

    [boxes] = model.detect(output, score_threshold=0.0, max_detections=count)
    if len(boxes) != count:
        raise ValueError(f"count = {count}: only {len(boxes)} boxes are found in this picture")
    index = torch.stack([torch.zeros_like(boxes.location_index), boxes.location_index], dim=1)
    logits = model.masks_at(output, index, boxes.boxes)
    size, threshold = output.image_sizes[0], model.inference.mask_threshold
    return {
        "picture": lambda: model([image]),
        "boxes": find,
        "masks": lambda: model.masks_at(output, index, boxes.boxes),
        "paste": lambda: finish_detections(boxes, logits, size, size, mask_threshold=threshold),
    }
