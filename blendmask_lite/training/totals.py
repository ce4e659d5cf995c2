"""What the losses are divided by: counts over all images of one optimizer step.

A step may take its images in parts, and several processes may share them. Divided by the counts of
its own part, each object would weigh more in a part that has few. So the counts come first. They
depend on the targets alone, and are added up over parts and processes before any loss is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from blendmask_lite.boxes import centerness
from blendmask_lite.structures import UNLABELLED, Target
from blendmask_lite.training.targets import Assignment

__all__ = ["Totals"]


@dataclass(frozen=True)
class Totals:
    """Four scalars, float64 (float32 on MPS, which has no other): sums over any number of images.

    Attributes:
        num_positive: positive locations; of class and centerness loss.
        centerness: sum of their centerness targets; of box and mask loss.
        num_cells: of the padded semantic maps, stride 8; of the semantic loss.
        num_labelled: pixels that are things or stuff; of the panoptic loss.
    """

    num_positive: Tensor
    centerness: Tensor
    num_cells: Tensor
    num_labelled: Tensor

    @staticmethod
    def of(assignment: Assignment, targets: Sequence[Target], *, num_cells: int) -> Totals:
        """The counts of one batch of padded images with `num_cells` semantic cells."""
        weight = centerness(assignment.ltrb)
        exact = torch.float32 if weight.device.type == "mps" else torch.float64
        stuff = [target.stuff for target in targets if target.stuff is not None]
        labelled = [(each != UNLABELLED).sum() for each in stuff]
        return Totals(
            num_positive=torch.ones_like(weight).sum(dtype=exact),
            centerness=weight.sum(dtype=exact),
            num_cells=weight.new_full((), float(num_cells), dtype=exact),
            num_labelled=sum(labelled, weight.new_zeros((), dtype=exact)),
        )

    def stacked(self) -> Tensor:
        """(4,) for adding up; `Totals(*stacked)` is the way back."""
        return torch.stack(astuple(self))
