"""Reading single members of zip archives, on the disk or on the web."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path

from blendmask_lite.datasets.remote_file import RemoteFile, read_ahead
from blendmask_lite.terminal import in_megabytes, printable
from blendmask_lite.web import RangesRefusedError, receive

__all__ = ["Archive", "Progress", "is_member", "open_archive", "require_space"]


LONGEST = 1 << 26  # bytes; longest member that is unpacked in memory
CHUNK = 1 << 20  # bytes
SPAN = 4 << 20  # bytes; neighbours are fetched together up to this length
GAP = 64 << 10  # bytes; a gap up to this length is fetched, too, and dropped
TAIL = 64 << 10  # bytes at the end, fetched first: the directory or a part of it
FRAME = 30 + 2 * 65535 + 24  # bytes at most around a member's content: header and descriptor
ATTEMPTS = 3  # number of attempts if a member arrives damaged
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    UnicodeDecodeError,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # encrypted
    ValueError,
)
Progress = Callable[[str], Callable[[int, int], None]]  # what is counted -> (done, total)


def open_archive(url: str, folder: Path) -> Archive:
    """Open an archive on the web; if the server does not send parts, fetch all of it to `folder`.

    Raises:
        ValueError: it is not a zip archive, or the disk has no room for it.
        DownloadError: it cannot be fetched.
    """
    path = folder / url.rpartition("/")[2]
    advice = f"fetch {url} in another way and put it at {path}"
    if path.exists():
        return Archive(path)
    try:
        return RemoteArchive(RemoteFile(url, advice=advice))
    except RangesRefusedError as refusal:
        require_space(folder, refusal.length or 0, path.name)
        part = receive(url, path, advice=advice)
    try:
        Archive(part)
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)
    return Archive(path)


class Archive:
    """A zip archive on the disk.

    Attributes:
        name: file or URL, for errors.
        members: entries of the members, by name.

    Raises:
        ValueError: it is damaged, or not a zip archive.
    """

    def __init__(self, file: Path | RemoteFile, name: str | None = None) -> None:
        self.name = name or str(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGE as error:
            raise ValueError(f"{self.name}: is damaged or no zip archive ({error})") from None
        self.members = {info.filename: info for info in self._zip.infolist()}

    def member(self, name: str) -> zipfile.ZipInfo:
        """The entry of a member.

        Raises:
            ValueError: the archive has no such member.
        """
        if name not in self.members:
            raise ValueError(f"{self.name}: has no {name}")
        return self.members[name]

    def contents(self, infos: Iterable[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
        """Members with their verified content (size and CRC-32), in the archive's order.

        Raises:
            ValueError: a member is damaged, or too long to be unpacked in memory.
            DownloadError: it cannot be fetched.
        """
        for info in self._in_order(infos):
            yield info, self._insist(info, partial(self._read, info))

    def save(self, info: zipfile.ZipInfo, path: Path, progress: Progress) -> None:
        """Write a member to a file, unless the file already holds it.

        Raises:
            ValueError: the member is damaged.
            DownloadError: it cannot be fetched.
        """
        if not is_member(path, info):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._insist(info, partial(self._unpack, info, path, progress))

    def inner(self, info: zipfile.ZipInfo, path: Path, progress: Progress) -> Archive:
        """Open a member that is itself an archive; it is saved as `path` if necessary."""
        self.save(info, path, progress)
        return Archive(path)

    def _in_order(self, infos: Iterable[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
        """The members in the archive's order."""
        ordered = sorted(infos, key=lambda each: each.header_offset)
        for info in ordered:
            if max(info.file_size, info.compress_size) > LONGEST:
                name = printable(info.filename)
                text = f"{name} has {info.file_size} bytes, {LONGEST} are the most"
                raise ValueError(f"{self.name}: {text}")
        return ordered

    def _insist(self, info: zipfile.ZipInfo, step: Callable[[int], bytes]) -> bytes:
        """The result of `step`, called with the number of the attempt; errors name the member."""
        try:
            return step(0)
        except DAMAGE as error:
            raise self._damaged(info, f"({error}); delete the archive and try again") from None

    def _damaged(self, info: zipfile.ZipInfo, reason: str) -> ValueError:
        return ValueError(f"{self.name}: {printable(info.filename)} is damaged {reason}")

    def _read(self, info: zipfile.ZipInfo, attempt: int) -> bytes:
        # Piece by piece, which limits the memory whatever size the entry claims.
        with self._zip.open(info) as file:
            content = b"".join(iter(lambda: file.read(CHUNK), b""))
        if len(content) != info.file_size:
            raise ValueError(f"{len(content)} bytes instead of {info.file_size}")
        return content

    def _unpack(self, info: zipfile.ZipInfo, path: Path, progress: Progress, attempt: int) -> bytes:
        """Write the file in one step; the returned content is empty."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as out:
                with self._zip.open(info) as file:
                    shutil.copyfileobj(file, out, CHUNK)
                out.flush()
                os.fsync(out.fileno())
            if not is_member(temporary, info):
                raise ValueError("not as long as its entry says")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return b""


class RemoteArchive(Archive):
    """An archive on the web; see `Archive` for its methods."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        tail = max(0, file.length - TAIL)
        file.hold(tail, io.BytesIO(file.fetch(tail, file.length)))
        super().__init__(file, file.url)
        places = sorted({info.header_offset for info in self.members.values()})
        self._ends = dict(pairwise([*places, self._zip.start_dir]))

    def contents(self, infos: Iterable[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
        """See `Archive`; neighbouring files are fetched together, before they are needed."""
        groups = self._grouped(infos)
        spans = [(group[0].header_offset, self._end(group[-1])) for group in groups]
        with closing(read_ahead(self._file, spans)) as pieces:
            for group, (begin, _), piece in zip(groups, spans, pieces, strict=True):
                for info in group:
                    self._file.hold(begin, io.BytesIO(piece))
                    yield info, self._insist(info, partial(self._read, info))

    def inner(self, info: zipfile.ZipInfo, path: Path, progress: Progress) -> Archive:
        """See `Archive`; a member that is stored uncompressed stays on the web."""
        if info.compress_type != zipfile.ZIP_STORED or is_member(path, info):
            return super().inner(info, path, progress)
        header = self._file.fetch(info.header_offset, info.header_offset + 30)
        lengths = struct.unpack("<HH", header[26:])  # lengths of name and extra field
        begin = info.header_offset + 30 + sum(lengths)
        return RemoteArchive(self._file.stretch(begin, info.file_size))

    def _insist(self, info: zipfile.ZipInfo, step: Callable[[int], bytes]) -> bytes:
        for attempt in range(ATTEMPTS):
            try:
                return step(attempt)
            except DAMAGE as error:
                reason = error
        raise self._damaged(info, f"({reason}), {ATTEMPTS} times in a row")

    def _read(self, info: zipfile.ZipInfo, attempt: int) -> bytes:
        if attempt > 0:
            begin = info.header_offset
            self._file.hold(begin, io.BytesIO(self._file.fetch(begin, self._end(info))))
        return super()._read(info, attempt)

    def _unpack(self, info: zipfile.ZipInfo, path: Path, progress: Progress, attempt: int) -> bytes:
        """See `Archive`; bytes that an earlier call fetched, even a killed one, are reused."""
        begin, end = info.header_offset, self._end(info)
        part = path.with_name(f"{path.name}.{info.CRC:08x}.part")
        report = in_megabytes(progress(f"MB of {path.name}"))
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            report(done, end - begin)

        self._file.save(part, begin, end, tell)
        try:
            with part.open("rb") as content:
                self._file.hold(begin, content)
                return super()._unpack(info, path, progress, attempt)
        finally:
            self._file.hold(0, io.BytesIO())
            part.unlink()

    def _end(self, info: zipfile.ZipInfo) -> int:
        """End of a member: the start of the next one, unless that is implausibly far away."""
        return min(self._ends[info.header_offset], info.header_offset + info.compress_size + FRAME)

    def _grouped(self, infos: Iterable[zipfile.ZipInfo]) -> list[list[zipfile.ZipInfo]]:
        """Groups of members, each fetched by one request."""
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


def is_member(path: Path, info: zipfile.ZipInfo) -> bool:
    """Whether a file has the size and CRC-32 of a member."""
    if not path.is_file() or path.stat().st_size != info.file_size:
        return False
    code = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            code = zlib.crc32(chunk, code)
    return code == info.CRC


def require_space(folder: Path, num_bytes: int, what: str) -> None:
    """Refuse a file that the disk has no room for.

    Raises:
        ValueError: there is too little room; the message says how much is needed and free.
    """
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise ValueError(
            f"{folder}: {what} needs {_in_words(num_bytes)} of room, {_in_words(free)} are free"
        )


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
