"""Fetching files from the web, whole or in parts, with checks, and retries if a server fails.

A whole file grows on the disk as NAME.part, so a broken connection loses only what was in transit.
The parts of a file never come from two versions of it.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from blendmask_lite.files import write_atomically
from blendmask_lite.terminal import counter, in_megabytes

__all__ = [
    "DownloadError",
    "RangesRefusedError",
    "Version",
    "fetch",
    "is_offline",
    "receive",
    "receive_bytes",
    "receive_range",
    "require_unchanged",
    "require_url",
]


ATTEMPTS = 5  # attempts in a row without new bytes before giving up
PAUSE = 0.5  # seconds before the second attempt; doubles
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18  # bytes
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP errors that may pass
OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # not the server's fault
NO_RANGES = (400, 403, 405, 416, 501)  # HTTP errors of servers that refuse to send a part of a file


class DownloadError(OSError):
    """A missing file could not be fetched; the message says what to do about it."""


class RangesRefusedError(DownloadError):
    """The server sends a file only as a whole.

    Attributes:
        length: length of the file in bytes; None if the server does not tell.
    """

    def __init__(self, url: str, length: int | None) -> None:
        super().__init__(f"{url}: the server does not send parts of the file")
        self.length = length


def is_offline() -> bool:
    """Whether `BLENDMASK_OFFLINE` forbids downloads."""
    return os.environ.get("BLENDMASK_OFFLINE", "") not in ("", "0")


def require_url(url: str) -> None:
    """Refuse a text that is not the address of a file on the web.

    Raises:
        ValueError: it is not http or https, names no server, or is malformed.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"{url}: is no address that begins with http:// or https:// and a server")


def fetch(url: str, path: Path, *, check: Callable[[Path], object]) -> Path:
    """The file `path`, fetched from `url` if it is missing.

    Args:
        url: http or https.
        path: where the file is in the cache; its folder is made.
        check: reads a newly fetched file, and raises ValueError if it is not the wanted one.

    Returns:
        `path`, whose content has not changed since its first use.

    Raises:
        DownloadError: offline, no network, no such file, or a server that keeps failing.
        ValueError: the file is not the wanted one, or has changed since its first use.
    """
    import filelock

    if not path.exists():
        advice = f"fetch {url} in another way and put it at {path}"
        if is_offline():
            raise DownloadError(f"BLENDMASK_OFFLINE is set: {advice}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            if not path.exists():  # another process may have fetched it meanwhile
                part = receive(url, path, advice=advice)
                try:
                    check(part)
                except ValueError as error:
                    part.unlink()
                    reason = f"refused: {str(error).removeprefix(f'{part}: ')}"
                    raise ValueError(f"{url}: what the server sent is {reason}") from None
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                # The record comes first: whoever sees the file must find its record.
                write_atomically(_record_of(path), _sha256(part, path.name).encode())
                os.replace(part, path)
    require_unchanged(path)
    return path


def require_unchanged(path: Path) -> None:
    """Compare a file with the SHA-256 stored next to it, which is recorded at the first use.

    Raises:
        ValueError: the file has changed.
    """
    record, found = _record_of(path), _sha256(path, path.name)
    if not record.exists():
        write_atomically(record, found.encode())
    elif record.read_text(encoding="utf-8").split()[:1] != found.split()[:1]:
        raise ValueError(
            f"{path}: not the file of its first use, its SHA-256 differs from {record.name}; "
            "delete both files to fetch it again"
        )


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path, name: str) -> str:
    """The line that `sha256sum --check` reads."""
    with path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n"


def receive(url: str, path: Path, *, advice: str) -> Path:
    """Fetch a whole file into PATH.part, which may already hold its beginning.

    Args:
        url: http or https.
        path: where the complete file will be.
        advice: how else to get the file; part of the errors.

    Returns:
        PATH.part, of the length that the server announced. The caller checks and renames it.

    Raises:
        DownloadError: no network, no such file, or a server that keeps failing.
    """
    part, tag = (path.with_name(f"{path.name}.{end}") for end in ("part", "part.etag"))
    part.parent.mkdir(parents=True, exist_ok=True)
    _insist(url, lambda: _receive_more(url, part, tag), lambda: _size(part), advice)
    tag.unlink(missing_ok=True)
    return part


def _receive_more(url: str, part: Path, tag: Path) -> bool:
    """Append what is missing, or start over if the server insists; returns whether all is there."""
    begun = _size(part)
    headers = {}
    if begun > 0:
        headers["Range"] = f"bytes={begun}-"
        if tag.exists():  # if the version changed, the server sends the whole file, not the rest
            headers["If-Range"] = tag.read_text(encoding="utf-8")
    try:
        response = _open_url(url, headers)
    except urllib.error.HTTPError as error:
        if begun > 0 and error.code in NO_RANGES:
            part.unlink()  # start over
            return False
        raise
    with response:
        is_rest = response.status == 206
        if is_rest and _content_range(response)[0] != begun:
            part.unlink()
            return False
        if not is_rest:
            begun = 0
            tag.unlink(missing_ok=True)
            found = response.headers.get("ETag", "W/")
            if not found.startswith("W/"):  # a weak tag says little about bytes
                write_atomically(tag, found.encode())
        length = _content_length(response)
        total = None if length is None else begun + length
        progress = in_megabytes(counter("MB", begun=begun // 1_000_000))
        with part.open("ab" if is_rest else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                if total is not None:
                    progress(file.tell(), total)
    return total is None or _size(part) == total


def receive_bytes(url: str, *, max_bytes: int, seconds: float, max_redirects: int) -> bytes:
    """The content of a small file, in one attempt and within limits; nothing is kept on the disk.

    Args:
        url: http or https.
        max_bytes: a larger file is refused before it is in memory.
        seconds: time limit for the whole download; a server that stops sending may take up to twice
            as long.
        max_redirects: how often the server may redirect to another address; from https only to
            https.

    Raises:
        DownloadError: offline, no network, no such file, or beyond one of the limits.
        ValueError: `url` is no address on the web.
    """
    require_url(url)
    if is_offline():
        raise DownloadError(f"{url}: BLENDMASK_OFFLINE is set")
    end = time.monotonic() + seconds
    content = bytearray()
    opener = urllib.request.build_opener(_FewRedirects(url, max_redirects))
    try:
        with opener.open(_request(url, {}), timeout=seconds) as response:
            length = _content_length(response) or 0
            while length <= max_bytes and (chunk := response.read1(CHUNK)):
                content += chunk
                length = max(length, len(content))
                if time.monotonic() > end:
                    raise TimeoutError
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from None
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            raise DownloadError(f"{url}: not all of it came in {seconds:g} seconds") from None
        raise DownloadError(f"{url}: {cause or type(cause).__name__}") from None
    if length > max_bytes:
        raise DownloadError(f"{url}: has more than {max_bytes} bytes, the most that are fetched")
    if len(content) < length:
        raise DownloadError(f"{url}: the connection ended after {len(content)} of {length} bytes")
    return bytes(content)


class _FewRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most `most` redirects from `url`, and none away from the web or from https."""

    def __init__(self, url: str, most: int) -> None:
        self.url, self.left = url, most

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """The next request; see urllib."""
        if urllib.parse.urlsplit(newurl).scheme not in ("https", req.type):
            raise DownloadError(f"{self.url}: redirects to {newurl}, which is not followed")
        self.left -= 1
        if self.left < 0:
            raise DownloadError(f"{self.url}: too many redirects, the last one to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


# What all parts of one file have in common: its length in bytes (-1 if the server does not tell),
# and its ETag or, failing that, the time of its last change.
Version = tuple[int, str | None]


def receive_range(
    url: str,
    sink: BinaryIO,
    begin: int,
    end: int,
    *,
    advice: str,
    version: Version | None = None,
    tell: Callable[[int], None] = lambda count: None,
) -> Version:
    """Append the bytes [begin, end) of a file, except those that `sink` already holds.

    Args:
        url: http or https.
        sink: open at its end; its position is the number of bytes that it holds.
        begin: first byte of the range.
        end: end of the range, larger than `begin`.
        advice: how else to get the file; part of the errors.
        version: version that the bytes fetched so far belong to; None accepts any.
        tell: called with the number of bytes in each piece that arrives.

    Returns:
        The version of the file that the bytes belong to.

    Raises:
        RangesRefusedError: the server sends only whole files.
        DownloadError: no network, no such file, another version, or a server that keeps failing.
    """
    found = version

    def step() -> bool:
        nonlocal found
        asked = begin + sink.tell()
        try:
            with _open_url(url, {"Range": f"bytes={asked}-{end - 1}"}) as response:
                if response.status != 206:
                    raise RangesRefusedError(url, _content_length(response))
                first, length = _content_range(response)
                if first != asked:
                    return False
                here = length, response.headers.get("ETag") or response.headers.get("Last-Modified")
                if found not in (None, here):
                    raise DownloadError(f"{url}: changed while it was read; start again")
                found = here
                while chunk := response.read(min(CHUNK, end - begin - sink.tell())):
                    sink.write(chunk)
                    tell(len(chunk))
        except urllib.error.HTTPError as error:
            if error.code in NO_RANGES:
                raise RangesRefusedError(url, None) from None
            raise
        return sink.tell() == end - begin

    _insist(url, step, sink.tell, advice)
    assert found is not None
    return found


def _insist(url: str, step: Callable[[], bool], received: Callable[[], int], advice: str) -> None:
    """Repeat `step` until it says that all is there, or until several in a row bring no bytes."""
    failures, furthest = 0, received()
    while True:
        try:
            if step():
                return
            reason = f"the connection ended after {received()} bytes, before the promised length"
        except DownloadError:
            raise
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code not in PASSING:
                raise DownloadError(f"{url}: {reason}; {advice}") from None
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in OUR_DISK:
                raise
            cause = getattr(error, "reason", error)
            reason = str(cause) or type(cause).__name__
            if isinstance(cause, socket.gaierror):
                raise DownloadError(f"no network ({reason}): {advice}") from None
        failures = 0 if received() > furthest else failures + 1
        furthest = max(furthest, received())
        if failures >= ATTEMPTS:
            raise DownloadError(f"{url}: {reason}, after {ATTEMPTS} attempts; {advice}")
        time.sleep(PAUSE * 2**failures)


def _open_url(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    response: http.client.HTTPResponse = urllib.request.urlopen(
        _request(url, headers), timeout=TIMEOUT
    )
    return response


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "blendmask_lite", **headers})


def _content_range(response: http.client.HTTPResponse) -> tuple[int, int]:
    """First byte of a part, and length of the whole; -1 for what the server does not tell."""
    value = response.headers.get("Content-Range", "")
    found = re.match(r"bytes (\d+)-\d*/(?:(\d+)|\*)", value)
    return (int(found[1]), int(found[2] or -1)) if found else (-1, -1)


def _content_length(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)
