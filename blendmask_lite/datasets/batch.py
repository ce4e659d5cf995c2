"""Several samples together. The model pads images of different sizes, so nothing is padded here.

Chapter 12 of the course.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from blendmask_lite.datasets.sample import Sample
from blendmask_lite.structures import Target

__all__ = ["Batch", "collate"]


@dataclass(frozen=True)
class Batch:
    """B samples.

    Attributes:
        images: B images (3, H, W), uint8 RGB, of any sizes.
        targets: B targets.
        image_ids: B ids.
    """

    images: list[Tensor]
    targets: list[Target]
    image_ids: list[int]

    def __len__(self) -> int:
        return len(self.images)


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of samples; an empty list gives an empty batch."""
    return Batch(
        images=[sample.image for sample in samples],
        targets=[sample.target for sample in samples],
        image_ids=[sample.image_id for sample in samples],
    )
