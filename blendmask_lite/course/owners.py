"""Maps of owners, as chapter 14's merge makes them, in the words of figures and of evaluation.

At each pixel stands 0 for nobody, 1 to N for an object, N + s for the stuff s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blendmask_lite.structures import PanopticResult, Segment, Target

__all__ = ["owners_as_result", "owners_as_segments", "true_owners"]


def true_owners(target: Target) -> Tensor:
    """(H, W) int64 owners of a target with masks that do not overlap, and stuff.

    Raises:
        ValueError: no masks, or no stuff.
    """
    if target.masks is None or target.stuff is None:
        raise ValueError("a target without masks or without stuff has no owners")
    numbers = torch.arange(1, len(target) + 1)[:, None, None]
    owners = (target.masks * numbers).sum(dim=0)
    return torch.where(target.stuff > 0, len(target) + target.stuff.long(), owners)


def owners_as_result(owners: Tensor, labels: Tensor, scores: Sequence[float]) -> PanopticResult:
    """The result that figures draw.

    Args:
        owners: (H, W).
        labels: (N,) of the objects.
        scores: N of them.
    """
    segments = []
    for number in owners[owners > 0].unique().tolist():
        area, index = int((owners == number).sum()), number - 1
        if index < len(labels):
            segments.append(Segment(number, int(labels[index]), area, float(scores[index]), index))
        else:
            segments.append(Segment(number, number - len(labels), area))
    return PanopticResult(ids=owners.int(), segments=segments)


def owners_as_segments(
    owners: Tensor, labels: Tensor, num_classes: int, num_stuff: int
) -> tuple[Tensor, Tensor]:
    """Segments without gaps in their numbers, and one list of classes, stuff after things.

    Args:
        owners: (H, W).
        labels: (N,) of the objects, 0 to C-1.
        num_classes: C.
        num_stuff: S.

    Returns:
        (H, W) int64 ids, 0 for nobody and 1 to F; (F,) int64 classes, C + s - 1 for stuff s.
    """
    numbers = owners[owners > 0].unique()
    ids = torch.where(owners > 0, torch.searchsorted(numbers, owners) + 1, 0)
    classes = torch.cat([labels, num_classes + torch.arange(num_stuff)])
    return ids, classes[numbers - 1]
