"""The gradient of one optimizer step: of a whole batch, of its parts, of shares of processes.

However the batch is divided, the sum of the gradients is the same, up to rounding and padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from blendmask_lite.structures import Target
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.totals import Totals

__all__ = ["Losses", "TrainingBatch", "add_gradients"]

Images = Sequence[Tensor]
Targets = Sequence[Target]
TotalsOf = Callable[[Images, Targets], Totals]


class TrainingBatch(Protocol):
    """What the loop needs of a batch; `datasets` makes it."""

    @property
    def images(self) -> Images:
        """B images (3, H, W)."""
        ...

    @property
    def targets(self) -> Targets:
        """B targets."""
        ...

    @property
    def image_ids(self) -> Sequence[int]:
        """B ids."""
        ...


@dataclass(frozen=True)
class Losses:
    """Of this process' share of a step.

    Attributes:
        names: n of them.
        of_parts: (parts, n) each part's, divided by the counts of the whole step.
    """

    names: tuple[str, ...]
    of_parts: Tensor

    def bad_parts(self) -> list[int]:
        """The parts with a loss that is not finite."""
        is_bad = ~self.of_parts.isfinite().all(dim=1)
        return is_bad.nonzero()[:, 0].tolist()


def add_gradients(
    step: Callable[..., dict[str, Tensor]],
    batch: TrainingBatch,
    *,
    num_parts: int,
    precision: str,
    ranks: Ranks,
    totals_of: TotalsOf | None = None,
) -> Losses:
    """Add the gradients of a batch to the parameters' `grad`.

    Args:
        step: (images, targets) or (images, targets, totals) -> losses to be added up; as
            `Ranks.wrap` gives it.
        batch: this process' share.
        num_parts: that it is taken in, one after the other; a divisor of its number of images.
        precision: of the network, "float32" or "bfloat16".
        ranks: whose shares make up the batch.
        totals_of: counts of some images, `Criterion.totals`; needed for several parts or processes.
    """
    images = [image.to(ranks.device, non_blocking=True) for image in batch.images]
    targets = [target.to(ranks.device, non_blocking=True) for target in batch.targets]
    length = len(images) // num_parts
    places = [slice(i * length, (i + 1) * length) for i in range(num_parts)]
    known: tuple[Totals, ...] = ()  # one part of one process: the criterion counts for itself
    if num_parts > 1 or ranks.size > 1:
        assert totals_of is not None
        counts = [totals_of(images[place], targets[place]).stacked() for place in places]
        known = (Totals(*ranks.sum(torch.stack(counts).sum(dim=0))),)
    names: tuple[str, ...] = ()
    of_parts = []
    for number, place in enumerate(places):
        is_last = number == num_parts - 1
        with contextlib.nullcontext() if is_last else ranks.without_exchange(step):
            with _autocast(ranks.device, precision):
                losses = step(images[place], targets[place], *known)
            values = torch.stack(list(losses.values()))
            # The exchange takes the mean of the processes' gradients; the sum is wanted.
            (values.sum() * ranks.size).backward()
        names = tuple(losses)
        of_parts.append(values.detach())
    return Losses(names, torch.stack(of_parts))


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
