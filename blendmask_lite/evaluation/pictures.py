"""The images of an evaluation: resized, in batches, shared between processes.

Chapter 05.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.images import resize_for_test
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.inputs import padded_size
from blendmask_lite.model.layers import evaluating
from blendmask_lite.structures import Detections, PanopticResult
from blendmask_lite.terminal import listed, printable

__all__ = [
    "Gather",
    "Picture",
    "in_batches",
    "made_by_first",
    "picture_for",
    "predictions",
    "require_same_names",
]

GPU_BATCH = 8  # images that a GPU gets at once by default
NUM_READERS = 4  # threads that read images for a GPU
MOST_WAITING = 4  # batches; images for this many may wait for others of their size
T = TypeVar("T")
FoundT = TypeVar("FoundT", Detections, PanopticResult)
Gather = Callable[[list[Any]], list[list[Any]]]  # this process's values -> those of all processes


@dataclass(frozen=True)
class Picture:
    """One image of a data set."""

    index: int  # position in the data set
    image: Tensor  # (3, H, W) at the model's test size, on the model's device
    stored_size: tuple[int, int]  # (height, width) before resizing


def in_batches(
    model: BlendMask,
    dataset: InstanceDataset,
    indices: Iterable[int],
    batch_size: int | None = None,
) -> Iterator[list[Picture]]:
    """Batches of some images of a data set, for the model.

    All images of a batch have the same padded size, so no image gets more padding than in a batch
    of its own, and up to rounding the model finds the same objects. Some batches are therefore
    smaller than others. For a GPU, threads read the images ahead of time.

    Args:
        model: gives test size, padding and device.
        dataset: data set to read from.
        indices: positions in the data set. Batches follow their order as far as sizes allow.
        batch_size: largest number of images in a batch, at least 1; by default 1 on the CPU, 8 on a
            GPU.
    """
    is_on_cpu = model.device.type == "cpu"
    if batch_size is None:
        batch_size = 1 if is_on_cpu else GPU_BATCH
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: must be at least 1")

    def read(index: int) -> Picture:
        image = dataset.load_image(index)
        height, width = image.shape[-2:]
        return Picture(index, _resized(model, image), (height, width))

    pictures = map(read, indices) if is_on_cpu else _read_ahead(read, indices)
    for batch in _of_one_size(pictures, batch_size, model.config.size_divisor):
        yield [replace(picture, image=picture.image.to(model.device)) for picture in batch]


def _of_one_size(
    pictures: Iterable[Picture], batch_size: int, divisor: int
) -> Iterator[list[Picture]]:
    """Batches of one padded size; if too many images wait, the fullest batch goes early."""
    waiting: dict[tuple[int, int], list[Picture]] = {}
    for picture in pictures:
        height, width = picture.image.shape[-2:]
        size = padded_size([(height, width)], divisor)
        waiting.setdefault(size, []).append(picture)
        if sum(map(len, waiting.values())) >= MOST_WAITING * batch_size:
            size = max(waiting, key=lambda each: len(waiting[each]))
        elif len(waiting[size]) < batch_size:
            continue
        yield waiting.pop(size)
    yield from waiting.values()


def _read_ahead(read: Callable[[int], Picture], indices: Iterable[int]) -> Iterator[Picture]:
    """The results of `read` for every index, in order; threads work a few images ahead."""
    remaining = iter(indices)
    with ThreadPoolExecutor(NUM_READERS) as pool:
        started: deque[Future[Picture]] = deque(
            pool.submit(read, index) for index in islice(remaining, 2 * NUM_READERS)
        )
        while started:
            picture = started.popleft().result()
            started.extend(pool.submit(read, index) for index in islice(remaining, 1))
            yield picture


def picture_for(model: BlendMask, image: Tensor) -> Tensor:
    """(3, H, W) image, uint8 or float -> the same at the model's test size, on its device.

    It is resized before it is moved. Images of data sets start on the CPU, so the same kernel
    resizes them in uint8 whatever device the model is on.
    """
    return _resized(model, image).to(model.device)


def _resized(model: BlendMask, image: Tensor) -> Tensor:
    return resize_for_test(image, model.inference.test_size, model.inference.max_size)


def predictions(
    model: BlendMask,
    dataset: InstanceDataset,
    predict: Callable[..., Sequence[FoundT]],
    *,
    progress: Callable[[int, int], None] | None,
    max_images: int | None,
    batch_size: int | None,
    share: tuple[int, int],
    gather: Gather | None,
) -> Iterator[tuple[int, FoundT]]:
    """Positions in the data set and the results of `predict`, on the CPU; see `detect_all`."""
    rank, num_processes = share
    if not 0 <= rank < num_processes:
        raise ValueError(f"share = {share}: the rank must be from 0 to {num_processes - 1}")
    if num_processes > 1 and gather is None:
        raise ValueError(f"share = {share}: needs gather, or parts of the images would be missing")
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    if total < 1:
        raise ValueError("there are no images to evaluate")
    mine = range(rank, total, num_processes)
    done = 0
    with evaluating(model):
        for batch in in_batches(model, dataset, mine, batch_size):
            sizes = [picture.stored_size for picture in batch]
            images = [picture.image for picture in batch]
            found = predict(images, output_sizes=sizes, batch_size=len(images))
            for picture, result in zip(batch, found, strict=True):
                yield picture.index, result.to("cpu")
                done += 1
                if progress is not None:
                    progress(done, len(mine))


def made_by_first(make: Callable[[], T], rank: int, gather: Gather | None) -> T:
    """The result of `make` in the first of several processes, or its error, in every process.

    Args:
        make: only the first process calls it. Its result or its error must be picklable.
        rank: rank of this process, 0-based.
        gather: see `detect_all`; None if this process is alone.
    """
    if gather is None:
        return make()
    made: list[T | Exception] = []
    if rank == 0:
        try:
            made.append(make())
        except Exception as error:  # the others are waiting for an answer
            made.append(error)
    [answer] = gather(made)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


def require_same_names(what: str, known: Sequence[str], present: Sequence[str]) -> None:
    """Refuse data with other names than the model knows; `what` is "classes" or similar."""
    if tuple(known) != tuple(present):
        raise ValueError(
            f"the model knows {_listed(what, known)}, the data has {_listed(what, present)}"
        )


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{len(names)} {what} ({listed(list(map(printable, names)), limit=4)})"
