"""What evaluations of instances and of segments have in common: the images of a process, checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from blendmask_lite.terminal import printable

__all__ = ["made_by_first", "own_images", "require_same_names"]

T = TypeVar("T")


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
    """What the first of several processes makes, in each of them; its error, too.

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
        what: they are names of: "classes", say.
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
