"""Asking a server, and asking it again where it fails in a way that may pass."""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

__all__ = [
    "CHUNK",
    "NO_RANGES",
    "DownloadError",
    "content_length",
    "content_range",
    "insist",
    "is_offline",
    "open_url",
]

ATTEMPTS = 5  # in a row that bring nothing new
PAUSE = 0.5  # seconds before the second attempt; doubles
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18  # bytes
PASSING = (408, 425, 429, 500, 502, 503, 504)  # of HTTP's errors, those that may pass
OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # not the server's fault
NO_RANGES = (400, 403, 405, 416, 501)  # how servers refuse to send the rest only


class DownloadError(OSError):
    """A file that is not there and could not be fetched, with what to do about it."""


def is_offline() -> bool:
    """Whether `BLENDMASK_OFFLINE` forbids downloads."""
    return os.environ.get("BLENDMASK_OFFLINE", "") not in ("", "0")


def insist(url: str, step: Callable[[], bool], received: Callable[[], int], advice: str) -> None:
    """Repeat a step until it says that all is there, or until several brought nothing new.

    Args:
        url: for the errors.
        step: fetches more; whether all is there.
        received: the number of bytes that are there.
        advice: what to do where it fails, for the errors.

    Raises:
        DownloadError: no network, an answer that will not change, or no progress.
        OSError: the disk is full.
    """
    failures = 0
    furthest = received()
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


def open_url(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """The answer to a request, its body not read yet."""
    request = urllib.request.Request(url, headers={"User-Agent": "blendmask_lite", **headers})
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    return response


def content_range(response: http.client.HTTPResponse) -> tuple[int, int] | None:
    """First byte of a part and length of the whole, -1 where the server does not say it."""
    value = response.headers.get("Content-Range", "")
    found = re.match(r"bytes (\d+)-\d*/(\d+|\*)", value)
    if found is None:
        return None
    return int(found[1]), -1 if found[2] == "*" else int(found[2])


def content_length(response: http.client.HTTPResponse) -> int | None:
    """The promised number of bytes, where there is a promise."""
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)
