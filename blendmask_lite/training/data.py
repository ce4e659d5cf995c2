"""The images of every batch: a pure function of the seed and the iteration.

A killed run therefore continues with exactly the images that it would have seen, whatever the
number of worker processes.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from blendmask_lite.training.schedule import TrainConfig

__all__ = ["BatchSampler", "SampleKey", "SeededSamples", "batches_from"]


@dataclass(frozen=True)
class SampleKey:
    """One draw: image `index` in its `epoch`, which counts its earlier draws."""

    epoch: int
    index: int


@dataclass(frozen=True)
class BatchSampler:
    """The keys of every batch: endless passes over the images, each in a new order.

    Passes follow each other without a gap: a batch may hold the end of one and the start of the
    next, and no image is left out.

    Attributes:
        num_images: images to draw from, at least 1.
        batch_size: keys per batch.
        seed: seed of the order.
        start, stop: iterations to produce, `start` included, `stop` not.
        share: (rank, number of processes) picks one of the equal, consecutive parts of every batch.
            The batches themselves do not depend on it.
    """

    num_images: int
    batch_size: int
    seed: int
    start: int
    stop: int
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError("there are no images to train on")
        if self.batch_size % self.share[1]:
            raise ValueError(
                f"batch_size = {self.batch_size}: cannot be shared equally by "
                f"{self.share[1]} processes"
            )

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        rank, num_shares = self.share
        length = self.batch_size // num_shares
        for iteration in range(self.start, self.stop):
            yield self.keys_at(iteration)[rank * length : (rank + 1) * length]

    def keys_at(self, iteration: int) -> list[SampleKey]:
        """The keys of one iteration, for all shares together."""
        first = iteration * self.batch_size
        places = (divmod(first + i, self.num_images) for i in range(self.batch_size))
        return [
            SampleKey(epoch, _epoch_order(self.num_images, self.seed, epoch)[place])
            for epoch, place in places
        ]


@lru_cache(maxsize=2)
def _epoch_order(num_images: int, seed: int, epoch: int) -> Sequence[int]:
    order = list(range(num_images))
    random.Random(f"order {seed} {epoch}").shuffle(order)
    return order


class SeededSamples(Dataset[Any]):
    """Samples by key; each draw gets its own random generator.

    Args:
        load: (index, generator) -> one augmented sample. It takes all random numbers from the
            generator.
        seed: seed of the augmentation.
    """

    def __init__(self, load: Callable[[int, random.Random], Any], *, seed: int) -> None:
        self.load = load
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> Any:
        generator = random.Random(f"augment {self.seed} {key.epoch} {key.index}")
        return self.load(key.index, generator)


def batches_from(
    start: int,
    config: TrainConfig,
    *,
    num_images: int,
    load: Callable[[int, random.Random], Any],
    collate: Callable[[list[Any]], Any],
    share: tuple[int, int] = (0, 1),
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """The batches of iterations `start` to `config.iterations` - 1, in order.

    Args:
        start: first iteration.
        config: number of iterations, batch size, seed and number of worker processes.
        num_images: images to draw from.
        load: see `SeededSamples`.
        collate: list of samples -> batch.
        share: see `BatchSampler`.
        pin_memory: keep batches in memory that a GPU can read while the CPU goes on.
    """
    seed, stop = config.seed, config.iterations
    return DataLoader(
        SeededSamples(load, seed=seed),
        batch_sampler=BatchSampler(num_images, config.batch_size, seed, start, stop, share),
        collate_fn=collate,
        num_workers=config.num_workers,
        worker_init_fn=_leave_signals_to_the_main_process,
        pin_memory=pin_memory,
        # Its own generator: drawing the workers' seeds must not move the global one.
        generator=torch.Generator(),
    )


def _leave_signals_to_the_main_process(worker: int) -> None:
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
