"""A file from the web that is fetched once: resumed where it broke off, and checked ever after.

Beside the file lies its SHA-256, recorded on first use. What is still incomplete ends in `.part`.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from blendmask_lite.countdown import counter
from blendmask_lite.files import write_atomically

__all__ = ["DownloadError", "fetch", "is_offline", "require_unchanged"]

ATTEMPTS = 5  # in a row that bring nothing new
PAUSE = 0.5  # seconds before the second attempt; doubles
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18  # bytes
PASSING = (408, 425, 429, 500, 502, 503, 504)  # of HTTP's errors, those that may pass
NO_RANGES = (400, 403, 405, 416, 501)  # how servers refuse to send the rest only


class DownloadError(OSError):
    """A file that is not there and could not be fetched, with what to do about it."""


def is_offline() -> bool:
    """Whether `BLENDMASK_OFFLINE` forbids downloads."""
    return os.environ.get("BLENDMASK_OFFLINE", "") not in ("", "0")


def fetch(url: str, path: Path, *, check: Callable[[Path], object]) -> Path:
    """The file `path`, fetched from `url` where it is missing.

    Args:
        url: http or https.
        path: in the cache; its folder is made.
        check: reads a fresh file, raises ValueError where it is not what is wanted.

    Returns:
        `path`, unchanged since its first use.

    Raises:
        DownloadError: offline, no network, no such file, or a server that keeps failing.
        ValueError: the file is not what is wanted, or is not what it was at its first use.
    """
    import filelock

    if not path.exists():
        if is_offline():
            raise DownloadError(f"BLENDMASK_OFFLINE is set: {_by_hand(url, path)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A second process waits, and then finds the file.
        with filelock.FileLock(f"{path}.lock"):
            if not path.exists():
                part = path.with_name(f"{path.name}.part")
                _receive(url, part, path)
                _admit(part, path, url, check)
    require_unchanged(path)
    return path


def require_unchanged(path: Path) -> None:
    """Compare a file with the SHA-256 beside it; record that at first use.

    Raises:
        ValueError: the file is not what it was.
    """
    record = path.with_name(f"{path.name}.sha256")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not record.exists():
        write_atomically(record, f"{digest}  {path.name}\n".encode())
    elif record.read_text(encoding="utf-8").split()[:1] != [digest]:
        raise ValueError(
            f"{path}: not the file of its first use, its SHA-256 differs from {record.name}; "
            "delete both files to fetch it again"
        )


def _admit(part: Path, path: Path, url: str, check: Callable[[Path], object]) -> None:
    """Give a complete file its name if it is what is wanted."""
    _validator(part).unlink(missing_ok=True)
    try:
        check(part)
    except ValueError as error:
        part.unlink()
        reason = str(error).removeprefix(f"{part}: ")
        raise ValueError(f"{url}: what the server sent is refused: {reason}") from None
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _receive(url: str, part: Path, path: Path) -> None:
    """Fetch until the file is complete, or until several attempts brought nothing new."""
    failures = 0
    furthest = _size(part)
    while True:
        try:
            if _receive_more(url, part):
                return
            reason = f"the connection ended after {_size(part)} bytes, before the promised length"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code in NO_RANGES and _size(part) > 0:
                part.unlink()  # from the beginning, then
            elif error.code not in PASSING:
                raise DownloadError(f"{url}: {reason}; {_by_hand(url, path)}") from None
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            reason = str(cause) or type(cause).__name__
            if isinstance(cause, socket.gaierror):
                raise DownloadError(f"no network ({reason}): {_by_hand(url, path)}") from None
        failures = 0 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
        if failures >= ATTEMPTS:
            text = f"{url}: {reason}, after {ATTEMPTS} attempts; {_by_hand(url, path)}"
            raise DownloadError(text)
        time.sleep(PAUSE * 2**failures)


def _receive_more(url: str, part: Path) -> bool:
    """Append what is missing, or begin again where the server insists; whether it is complete."""
    begun = _size(part)
    headers = {"User-Agent": "blendmask_lite"}
    if begun > 0:
        headers["Range"] = f"bytes={begun}-"
        if _validator(part).exists():
            # The rest of another version is of no use: then the server sends all of it.
            headers["If-Range"] = _validator(part).read_text(encoding="utf-8")
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        is_rest = response.status == 206
        if is_rest and _first_byte(response) != begun:
            part.unlink()
            return False
        if not is_rest:
            begun = 0
            _note_version(response, part)
        length = response.headers.get("Content-Length")
        total = None if length is None else begun + int(length)
        progress = counter("MB", begun=_megabytes(begun))
        shown = -1
        with part.open("ab" if is_rest else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                if total is not None and shown != (shown := _megabytes(file.tell())):
                    progress(shown, _megabytes(total))
    return total is None or _size(part) == total


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _note_version(response: http.client.HTTPResponse, part: Path) -> None:
    tag = response.headers.get("ETag")
    _validator(part).unlink(missing_ok=True)
    if tag is not None and not tag.startswith("W/"):
        write_atomically(_validator(part), tag.encode())


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _megabytes(num_bytes: int) -> int:
    return -(-num_bytes // 1_000_000)  # a file that has begun counts


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _by_hand(url: str, path: Path) -> str:
    return f"fetch {url} in another way and put it at {path}"
