"""Records of an annotation file in one buffer, which worker processes share.

Chapter 12 of the course. Python counts the references to an object inside the object, so a forked
worker that only reads a dictionary writes to its pages, and the system copies them: sooner or
later every worker has its own copy of all annotations, gigabytes for COCO's train2017. A buffer is
one object with one count.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np

__all__ = ["PackedRecords"]

RecordT = TypeVar("RecordT")


class PackedRecords(Mapping[int, RecordT], Generic[RecordT]):
    """A mapping that does not change, in ascending order; each look-up makes a new record.

    Args:
        records: id -> plain value.
    """

    def __init__(self, records: Mapping[int, RecordT]) -> None:
        ids = sorted(records)
        packed = [pickle.dumps(records[number], pickle.HIGHEST_PROTOCOL) for number in ids]
        self._ids = np.array(ids, dtype=np.int64)
        self._ends = np.array([*accumulate(map(len, packed), initial=0)], dtype=np.int64)
        self._buffer = b"".join(packed)

    def __getitem__(self, number: int) -> RecordT:
        place = self._place(number)
        if place is None:
            raise KeyError(number)
        begin, end = self._ends[place : place + 2]
        record: RecordT = pickle.loads(memoryview(self._buffer)[begin:end])
        return record

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._place(number) is not None

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._ids)

    def _place(self, number: int) -> int | None:
        place = int(np.searchsorted(self._ids, number))
        return place if place < len(self._ids) and self._ids[place] == number else None
