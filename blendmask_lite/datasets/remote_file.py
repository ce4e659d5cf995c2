"""A file on the web that is read in parts, several at a time and ahead of their use."""

from __future__ import annotations

import copy
import io
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from remotezip import PartialBuffer

from blendmask_lite.web import RangesRefusedError, receive_range

__all__ = ["RemoteFile", "read_ahead"]

WORKERS = 8  # requests at a time
LONGEST_READ = 1 << 29  # bytes at a time in memory: no directory or span is as long


class RemoteFile:
    """A file on the web, or a stretch of it, of one version.

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
        self._begin = 0
        self._version = receive_range(url, io.BytesIO(), 0, 1, advice=advice)
        self.length = self._version.length
        if self.length < 0:
            raise RangesRefusedError(url, None)
        self._held: tuple[int, bytes | Path] = (0, b"")
        self._opened: BinaryIO | None = None

    def stretch(self, begin: int, length: int) -> RemoteFile:
        """A part of the file as a file of its own."""
        part = copy.copy(self)
        part._begin = self._begin + begin
        part._held, part._opened = (0, b""), None
        part.length = length
        return part

    def read(self, begin: int, end: int, tell: Callable[[int], None] = lambda _: None) -> bytes:
        """The bytes [begin, end); `tell` gets the length of each piece that arrives.

        Raises:
            ValueError: the file has no such bytes, or they are too many at a time.
            DownloadError: see `receive_range`.
        """
        self._require(begin, end)
        if end - begin > LONGEST_READ:
            text = f"{end - begin} bytes in one piece, {LONGEST_READ} are the most"
            raise ValueError(f"{self.url}: {text}")
        sink = io.BytesIO()
        self._receive(sink, begin, end, tell)
        return sink.getvalue()

    def save(self, path: Path, begin: int, end: int, tell: Callable[[int], None]) -> None:
        """Append to a file what it lacks of the bytes [begin, end).

        Raises:
            ValueError: the file on the web has no such bytes.
            DownloadError: see `receive_range`.
        """
        self._require(begin, end)
        with path.open("ab") as sink:
            tell(sink.tell())
            self._receive(sink, begin, end, tell)

    def hold(self, begin: int, content: bytes | Path) -> None:
        """Serve what lies in `content`, a stretch from `begin` on, without asking again."""
        if self._opened is not None:
            self._opened.close()
        self._held = (begin, content)

    def fetch(self, data_range: tuple[int, int | None], stream: bool = False) -> PartialBuffer:
        """Bytes as remotezip asks for them: (first, last), or (-number, None) from the end."""
        first, last = data_range
        if last is None:
            first, last = max(0, self.length + first), self.length - 1
        begin, content = self._held
        if isinstance(content, Path):
            if begin == first:
                self._opened = content.open("rb")
                return PartialBuffer(self._opened, first, last - first + 1, stream)
        elif begin <= first and last < begin + len(content):
            piece = io.BytesIO(content[first - begin : last + 1 - begin])
            return PartialBuffer(piece, first, last - first + 1, stream)
        piece = io.BytesIO(self.read(first, last + 1))
        return PartialBuffer(piece, first, last - first + 1, stream)

    def _require(self, begin: int, end: int) -> None:
        if not 0 <= begin < end <= self.length:
            text = f"no bytes {begin} to {end} in a file of {self.length}"
            raise ValueError(f"{self.url}: is damaged, {text}")

    def _receive(self, sink: BinaryIO, begin: int, end: int, tell: Callable[[int], None]) -> None:
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
                future.set_result(file.read(begin, end, tell))
            except Exception as error:
                future.set_exception(error)

    # Daemons, as an executor's threads are not: after Ctrl-C nobody waits for a silent server.
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
