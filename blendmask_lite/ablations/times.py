"""How long a picture takes: CPU time of one thread, all candidates in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["interleaved_times"]


def interleaved_times(
    jobs: Mapping[str, Callable[[], object]], *, rounds: int = 9
) -> dict[str, float]:
    """Median CPU milliseconds of every job on one thread.

    The jobs take turns, so that a machine which slows down slows all of them; the first round
    warms up and does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in range(rounds + 1):
            for name, job in jobs.items():
                start = time.process_time()
                job()
                if number:
                    times[name].append(1000 * (time.process_time() - start))
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(each) for name, each in times.items()}
