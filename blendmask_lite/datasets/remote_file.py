"""A file on the web that can be read in parts, like a file on the disk, and in advance."""

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

WORKERS = 8  # simultaneous requests
LONGEST_READ = 1 << 29  # bytes in memory at a time; no directory or span is that long


class RemoteFile:
    """A file on the web or a stretch of it, always of one version; `zipfile` can read it.

    Args:
        url: an http or https address; one byte is fetched, to test the server.
        advice: how else to get the file; part of the errors.

    Attributes:
        url: address of the file.
        length: length of the file or stretch, in bytes.

    Raises:
        RangesRefusedError: the server sends only whole files.
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
        """Let `read` use `content`, as far as it reaches; it starts at the file's byte `begin`."""
        self._held = (begin, content)

    def fetch(self, begin: int, end: int, tell: Callable[[int], None] = lambda _: None) -> bytes:
        """Fetch the bytes [begin, end); `tell` is called with the length of each arriving piece.

        Raises:
            ValueError: the file does not have these bytes, or they are too many for one request.
            DownloadError: see `receive_range`.
        """
        if end - begin > LONGEST_READ:
            text = f"{end - begin} bytes in one piece, {LONGEST_READ} are the most"
            raise ValueError(f"{self.url}: {text}")
        sink = io.BytesIO()
        self._receive(sink, begin, end, tell)
        return sink.getvalue()

    def save(self, path: Path, begin: int, end: int, tell: Callable[[int], None]) -> None:
        """Append the bytes of [begin, end) that a file lacks; errors as in `fetch`."""
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

    # The methods that zipfile needs.

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next byte to read."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, as in any file.

        Raises:
            OSError: the position is before the first byte.
        """
        place = (0, self._place, self.length)[whence] + offset
        if place < 0:
            raise OSError(f"{self.url}: has no byte {place}")
        self._place = place
        return place

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer at the end; bytes that `hold` did not give are fetched."""
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
    """The reader no longer waits for these bytes."""


def read_ahead(file: RemoteFile, spans: Iterable[tuple[int, int]]) -> Generator[bytes, None, None]:
    """Yield the bytes of each span (begin, end) in order; the next spans are fetched meanwhile."""
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

    # Daemon threads, unlike an executor's: after Ctrl-C, Python does not wait for a silent server.
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
