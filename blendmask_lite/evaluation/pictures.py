"""Images on their way to the model during evaluation: resized, in batches, and divided among
processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor

from blendmask_lite.datasets.sample import InstanceDataset
from blendmask_lite.datasets.transforms import resize_for_test
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.inputs import padded_size
from blendmask_lite.terminal import printable

__all__ = [
    "Picture",
    "in_batches",
    "made_by_first",
    "own_images",
    "picture_for",
    "require_same_names",
]


GPU_BATCH = 8  # pictures that a GPU gets at once by default
NUM_READERS = 4  # threads that read pictures for a GPU
MOST_WAITING = 4  # batches of pictures that wait for others of their size
T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """One picture of a data set.

    Attributes:
        index: its position in the data set.
        image: (3, H, W) at the model's test size, on the model's device.
        stored_size: (height, width) before resizing.
    """

    index: int
    image: Tensor
    stored_size: tuple[int, int]


def in_batches(
    model: BlendMask,
    dataset: InstanceDataset,
    indices: Iterable[int],
    batch_size: int | None = None,
) -> Iterator[list[Picture]]:
    """Some pictures of a data set, for the model.

    Only pictures of one padded size make up a batch. So none gets more padding than it would have
    alone, and the model finds in it what it finds alone, up to rounding. Some batches are
    therefore smaller than others. For a GPU the pictures are read by threads, ahead of time.

    Args:
        model: for its test size, padding and device.
        dataset: to read from.
        indices: positions in it. Batches follow their order as far as sizes allow.
        batch_size: pictures of a batch, at most; None: 1 on the CPU, 8 on a GPU.

    Raises:
        ValueError: `batch_size` is below 1, or what `dataset.load_image` refuses.
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
        yield [Picture(each.index, each.image.to(model.device), each.stored_size) for each in batch]


def _of_one_size(
    pictures: Iterable[Picture], batch_size: int, divisor: int
) -> Iterator[list[Picture]]:
    """Batches of one padded size; the largest one leaves early where too many are waiting."""
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
    """`read` of every index, in order, by threads that are a few pictures ahead."""
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

    It is resized where it lies, which is the CPU for pictures of data sets, before it moves: so
    uint8 is resized by the same kernel whatever device the model is on.
    """
    return _resized(model, image).to(model.device)


def _resized(model: BlendMask, image: Tensor) -> Tensor:
    return resize_for_test(image, model.inference.test_size, model.inference.max_size)


def own_images(total: int, share: tuple[int, int], *, can_gather: bool) -> range:
    """The positions that one of several processes evaluates: every n-th.

    Args:
        total: images to evaluate.
        share: (rank, number of processes).
        can_gather: the processes can send each other what they found.

    Raises:
        ValueError: no images, a rank out of range, or a share of several without gathering.
    """
    rank, num_processes = share
    if not 0 <= rank < num_processes:
        raise ValueError(f"share = {share}: the rank must be from 0 to {num_processes - 1}")
    if num_processes > 1 and not can_gather:
        raise ValueError(f"share = {share}: needs gather, or parts of the images would be missing")
    if total < 1:
        raise ValueError("there are no images to evaluate")
    return range(rank, total, num_processes)


def made_by_first(
    make: Callable[[], T], rank: int, gather: Callable[[list[Any]], list[list[Any]]] | None
) -> T:
    """What the first of several processes makes, or its error, in each of them.

    Args:
        make: called by the first one only. What it returns or raises can be pickled.
        rank: of this process, from 0.
        gather: see `evaluate_model`; None: this process is alone.
    """
    if gather is None:
        return make()
    made: list[T | Exception] = []
    if rank == 0:
        try:
            made.append(make())
        except Exception as error:  # the others wait for an answer
            made.append(error)
    [answer] = gather(made)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


def require_same_names(what: str, known: Sequence[str], present: Sequence[str]) -> None:
    """Refuse data whose names are not the model's.

    Args:
        what: the names are of, such as "classes".
        known: to the model.
        present: in the data.

    Raises:
        ValueError: they differ.
    """
    if tuple(known) != tuple(present):
        raise ValueError(
            f"the model knows {_listed(what, known)}, the data has {_listed(what, present)}"
        )


def _listed(what: str, names: Sequence[str], limit: int = 4) -> str:
    more = "" if len(names) <= limit else f" and {len(names) - limit} more"
    return f"{len(names)} {what} ({', '.join(map(printable, names[:limit]))}{more})"
