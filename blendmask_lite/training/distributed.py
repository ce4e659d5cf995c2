"""Several processes that train as one: their ranks, and the values that they exchange.

torchrun starts them, on one machine or on many, and gives each its rank in the environment:

    torchrun --nproc-per-node 4 -m blendmask_lite train ...

Each takes its share of every batch. The losses are divided by counts over all shares, so the
weights become the same as in a single process with the whole batch.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from blendmask_lite.model.layers import synchronize_norms

__all__ = ["ALONE", "Ranks", "join_ranks", "one_voice"]

T = TypeVar("T")

# `broadcast_buffers` was renamed in torch 2.14.
_NEW_NAME = "forward_sync_buffers"
_IS_RENAMED = _NEW_NAME in inspect.signature(DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {_NEW_NAME if _IS_RENAMED else "broadcast_buffers": False}


@dataclass(frozen=True)
class Ranks:
    """The processes that train together; with a single process, no method does anything.

    All of them have to call the methods that communicate, in the same order.

    Attributes:
        rank: rank of this process, 0-based.
        size: number of processes.
        device: device of this process.
        is_joined: whether there is a process group.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    is_joined: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints the progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, returned in every process."""
        if not self.is_joined:
            return values
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether `flag` is True in any process."""
        if not self.is_joined:
            return flag
        return bool(self.sum(torch.tensor(int(flag))).item())

    def gather(self, value: T) -> list[T]:
        """The values of all processes in order of rank, returned in every process."""
        if not self.is_joined:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def wrap(self, step: nn.Module) -> nn.Module:
        """The step, wrapped to average its gradients over all processes."""
        if not self.is_joined:
            return step
        # Statistics of norms are not sent at every step: frozen ones never change, and training
        # does not read the others. An evaluation does, so `same_buffers` sends them before it.
        return DistributedDataParallel(step, gradient_as_bucket_view=True, **_NO_BUFFERS)

    def without_exchange(self, step: object) -> contextlib.AbstractContextManager[None]:
        """Inside the `with` block, each process adds up its own gradients of `wrap`'s step."""
        if isinstance(step, DistributedDataParallel):
            return step.no_sync()
        return contextlib.nullcontext()

    def same_buffers(self, model: nn.Module) -> None:
        """Copy the norms' statistics of the first process to all others, in place."""
        if self.is_joined:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def synchronize_norms(self, model: nn.Module) -> None:
        """Share batch statistics, in place; only on GPUs, because gloo cannot do it."""
        if self.is_joined and self.device.type == "cuda":
            synchronize_norms(model)

    def is_first_to_say(self, message: str) -> bool:
        """Whether this is the first call with this message in any process."""
        if not self.is_joined:
            return True
        try:
            store = dist.distributed_c10d._get_default_store()
            return bool(store.add(f"said {message}", 1) == 1)
        except RuntimeError:  # the process that kept the store has left
            return True


ALONE = Ranks()


@contextlib.contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started, or this one alone.

    Args:
        device: "cpu", or "cuda", where each process of a machine takes its own GPU.

    Raises:
        ValueError: there are more processes than GPUs, or a particular GPU was asked for.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks(device=device)
        return
    if device.type == "cuda":
        device = _own_gpu(device)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield Ranks(dist.get_rank(), dist.get_world_size(), device, is_joined=True)
    dist.destroy_process_group()  # not after an error: it might wait for processes that have left


@contextlib.contextmanager
def one_voice(ranks: Ranks) -> Iterator[None]:
    """Let only one process report an error that all of them raise; the others exit silently.

    Raises:
        SystemExit: another process has raised the error.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        ranks.is_first_to_say("an error")
        if not ranks.is_first_to_say(str(error)):
            raise SystemExit(1) from None
        raise
    except RuntimeError:  # mostly a lost connection to a process that left
        if not ranks.is_first_to_say("an error"):
            raise SystemExit(1) from None
        raise


def _own_gpu(device: torch.device) -> torch.device:
    place, num_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if str(device) != "cuda":
        raise ValueError(f"--device {device}: under torchrun each process takes a GPU; say cuda")
    if place >= num_gpus:
        raise ValueError(
            f"process {place + 1} of this machine has no GPU: there are {num_gpus}; "
            f"use torchrun --nproc-per-node {num_gpus}"
        )
    return torch.device("cuda", place)
