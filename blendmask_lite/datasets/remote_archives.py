"""Zip archives on the web, of which the wanted members are fetched and no more.

remotezip reads an archive's directory over HTTP's ranges and finds its members; what is fetched
together, and when, is said here.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import remotezip

from blendmask_lite.datasets.archives import (
    DAMAGE,
    Archive,
    LocalArchive,
    Progress,
    is_member,
    require_space,
)
from blendmask_lite.datasets.remote_file import RemoteFile, read_ahead
from blendmask_lite.terminal import in_megabytes, printable
from blendmask_lite.web import RangesRefusedError, receive

__all__ = ["RemoteArchive", "open_archive"]

SPAN = 4 << 20  # bytes: neighbours are fetched together up to this length
GAP = 64 << 10  # bytes that are fetched and dropped rather than asked around
TAIL = 64 << 10  # bytes at the end in which a directory is looked for first
FRAME = 30 + 2 * 65535 + 24  # bytes at most around a member's content: header and descriptor
ATTEMPTS = 3  # at a member that arrives damaged


class RemoteArchive(Archive):
    """An archive on the web."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        super().__init__(file.url)
        places = sorted({info.header_offset for info in self.members.values()})
        self._ends = dict(pairwise([*places, self._zip.start_dir]))

    def _open(self) -> zipfile.ZipFile:
        return remotezip.RemoteZip(
            self._file.url, initial_buffer_size=TAIL, fetcher=lambda *_, **__: self._file
        )

    def contents(self, infos: Iterable[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
        """See `Archive`; neighbours are fetched together, the next ones ahead of their use."""
        groups = self._grouped(infos)
        spans = [(group[0].header_offset, self._end(group[-1])) for group in groups]
        with closing(read_ahead(self._file, spans)) as pieces:
            for group, (begin, _), piece in zip(groups, spans, pieces, strict=True):
                self._file.hold(begin, piece)
                for info in group:
                    yield info, self._insist(info, partial(self._read, info))

    def save(self, info: zipfile.ZipInfo, path: Path, progress: Progress) -> None:
        """See `Archive`; what has been fetched before is not fetched again."""
        if is_member(path, info):
            return
        begin, end = info.header_offset, self._end(info)
        part = path.with_name(f"{path.name}.{info.CRC:08x}.part")
        part.parent.mkdir(parents=True, exist_ok=True)

        def step() -> bytes:
            report = in_megabytes(progress(f"MB of {path.name}"))
            done = 0

            def tell(count: int) -> None:
                nonlocal done
                done += count
                report(done, end - begin)

            self._file.save(part, begin, end, tell)
            self._file.hold(begin, part)
            try:
                self._unpack(info, path)
            finally:
                self._file.hold(0, b"")
                part.unlink()
            return b""

        self._insist(info, step)

    def inner(self, info: zipfile.ZipInfo, path: Path, progress: Progress) -> Archive:
        """See `Archive`; one that is stored uncompressed stays on the web."""
        if info.compress_type != zipfile.ZIP_STORED or is_member(path, info):
            self.save(info, path, progress)
            return LocalArchive(path)
        # Stored as it is: its members can be asked for like those of the outer one.
        header = self._file.read(info.header_offset, info.header_offset + 30)
        lengths = struct.unpack("<HH", header[26:])  # of name and extra field
        return RemoteArchive(
            self._file.stretch(info.header_offset + 30 + sum(lengths), info.file_size)
        )

    def _end(self, info: zipfile.ZipInfo) -> int:
        """Where a member ends: where the next begins, unless that is too far off to be true."""
        return min(self._ends[info.header_offset], info.header_offset + info.compress_size + FRAME)

    def _grouped(self, infos: Iterable[zipfile.ZipInfo]) -> list[list[zipfile.ZipInfo]]:
        """Members that are fetched by one request each."""
        groups: list[list[zipfile.ZipInfo]] = []
        for info in self._in_order(infos):
            if (
                groups
                and info.header_offset - self._end(groups[-1][-1]) <= GAP
                and self._end(info) - groups[-1][0].header_offset <= SPAN
            ):
                groups[-1].append(info)
            else:
                groups.append([info])
        return groups

    def _insist(self, info: zipfile.ZipInfo, step: Callable[[], bytes]) -> bytes:
        """The result of a step, which is repeated where the member arrived damaged."""
        for _ in range(ATTEMPTS):
            try:
                return step()
            except DAMAGE as error:
                reason = str(error)
                self._file.hold(0, b"")
                self._zip = self._opened()
        raise ValueError(
            f"{self.name}: {printable(info.filename)} is damaged ({reason}), "
            f"{ATTEMPTS} times in a row"
        )


def open_archive(url: str, folder: Path) -> Archive:
    """An archive on the web; where the server sends no parts, all of it, fetched to `folder`.

    Raises:
        ValueError: it is no zip archive, or the disk has no room for it.
        DownloadError: it cannot be fetched.
    """
    path = folder / url.rpartition("/")[2]
    advice = f"fetch {url} in another way and put it at {path}"
    if path.exists():
        return LocalArchive(path)
    try:
        return RemoteArchive(RemoteFile(url, advice=advice))
    except RangesRefusedError as refusal:
        require_space(folder, refusal.length or 0, path.name)
        part = receive(url, path, advice=advice)
    try:
        LocalArchive(part)
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)
    return LocalArchive(path)
