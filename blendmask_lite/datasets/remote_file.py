"""A file on the web that is read like one on the disk, in parts and ahead of their use."""

from __future__ import annotations

import copy
import io
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from blendmask_lite.web import RangesRefusedError, receive_range

__all__ = ["RemoteFile", "read_ahead"]

WORKERS = 8  # requests at a time
LONGEST_READ = 1 << 29  # bytes at a time in memory: no directory or span is as long


class RemoteFile:
    """A file on the web, or a stretch of it, of one version; `zipfile` reads it as a file.

    Args:
        url: http or https; the server is asked for one byte, to see what it does.
        advice: how else to get the file; part of the errors.

    Attributes:
        url: of the file.
        length: of the file or stretch, bytes.

    Raises:
        RangesRefusedError: the server sends whole files only.
        DownloadError: no network, no such file, or a server that keeps failing.
    """

    def __init__(self, url: str, *, advice: str) -> None:
        self.url = url
        self._advice = advice
        self._version = receive_range(url, io.BytesIO(), 0, 1, advice=advice)
        self.length = self._version[0]
        if self.length < 0:
            raise RangesRefusedError(url, None)
        self._begin = self._place = 0
        self.hold(0, io.BytesIO())

    def stretch(self, begin: int, length: int) -> RemoteFile:
        """A part of the file as a file of its own."""
        part = copy.copy(self)
        part._begin, part._place, part.length = self._begin + begin, 0, length
        part.hold(0, io.BytesIO())
        return part

    def hold(self, begin: int, content: BinaryIO) -> None:
        """Let `read` take the bytes from `begin` on out of `content`, as far as that reaches."""
        self._held = (begin, content)

    def fetch(self, begin: int, end: int, tell: Callable[[int], None] = lambda _: None) -> bytes:
        """The bytes [begin, end) by one request; `tell` gets the length of each piece that arrives.

        Raises:
            ValueError: the file has no such bytes, or they are too many at a time.
            DownloadError: see `receive_range`.
        """
        if end - begin > LONGEST_READ:
            text = f"{end - begin} bytes in one piece, {LONGEST_READ} are the most"
            raise ValueError(f"{self.url}: {text}")
        sink = io.BytesIO()
        self._receive(sink, begin, end, tell)
        return sink.getvalue()

    def save(self, path: Path, begin: int, end: int, tell: Callable[[int], None]) -> None:
        """Append to a file what it lacks of the bytes [begin, end); raises as `fetch` does."""
        with path.open("ab") as sink:
            tell(sink.tell())
            self._receive(sink, begin, end, tell)

    def _receive(self, sink: BinaryIO, begin: int, end: int, tell: Callable[[int], None]) -> None:
        if not 0 <= begin < end <= self.length:
            text = f"no bytes {begin} to {end} in a file of {self.length}"
            raise ValueError(f"{self.url}: is damaged, {text}")
        if sink.tell() < end - begin:
            receive_range(
                self.url,
                sink,
                self._begin + begin,
                self._begin + end,
                advice=self._advice,
                version=self._version,
                tell=tell,
            )

    # What zipfile asks of a file.

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The place of the next byte to read."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted as in any file.

        Raises:
            OSError: the place is before the first byte.
        """
        place = (0, self._place, self.length)[whence] + offset
        if place < 0:
            raise OSError(f"{self.url}: has no byte {place}")
        self._place = place
        return place

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer at the end; what is not held is fetched."""
        begin, end = self._place, self.length
        if size >= 0:
            end = min(begin + size, end)
        if begin >= end:
            return b""
        content, (first, held) = b"", self._held
        if first <= begin:
            held.seek(begin - first)
            content = held.read(end - begin)
        if len(content) < end - begin:
            content += self.fetch(begin + len(content), end)
        self._place = end
        return content


class _GivenUpError(Exception):
    """Nobody waits for these bytes any more."""


def read_ahead(file: RemoteFile, spans: Iterable[tuple[int, int]]) -> Generator[bytes, None, None]:
    """The bytes of each span (begin, end), in order; those that follow are fetched meanwhile."""
    is_over = threading.Event()
    tasks: SimpleQueue[tuple[Future[bytes], int, int] | None] = SimpleQueue()

    def tell(_: int) -> None:
        if is_over.is_set():
            raise _GivenUpError

    def work() -> None:
        while (task := tasks.get()) is not None and not is_over.is_set():
            future, begin, end = task
            try:
                future.set_result(file.fetch(begin, end, tell))
            except Exception as error:
                future.set_exception(error)

    # Daemons, unlike an executor's threads: after Ctrl-C nobody waits for a silent server.
    for _ in range(WORKERS):
        threading.Thread(target=work, daemon=True).start()
    pending: deque[Future[bytes]] = deque()
    try:
        for begin, end in spans:
            pending.append(Future())
            tasks.put((pending[-1], begin, end))
            if len(pending) > WORKERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        is_over.set()
        for _ in range(WORKERS):
            tasks.put(None)
