"""Parts of a file, asked for by HTTP's ranges and never mixed from two versions of it."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from blendmask_lite.web.attempts import (
    CHUNK,
    NO_RANGES,
    DownloadError,
    content_length,
    content_range,
    insist,
    open_url,
)

__all__ = ["RangesRefusedError", "Version", "receive_range"]


class RangesRefusedError(DownloadError):
    """The server sends a file as a whole only.

    Attributes:
        length: of the file, bytes, where the server said it.
    """

    def __init__(self, url: str, length: int | None) -> None:
        super().__init__(f"{url}: the server does not send parts of the file")
        self.length = length


@dataclass(frozen=True)
class Version:
    """What answers have in common that are parts of one file.

    Attributes:
        length: of the whole file, bytes.
        tag: its ETag, or else its time of change.
    """

    length: int
    tag: str | None


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
    """Append the bytes [begin, end) of a file, less those that `sink` holds already.

    Args:
        url: http or https.
        sink: open at its end; its position is the number of bytes that it holds.
        begin: of the range.
        end: of the range, larger than `begin`.
        advice: what to do where there is no way to fetch it.
        version: of the bytes fetched so far; None takes any.
        tell: called with the number of bytes of each piece that arrives.

    Returns:
        The version that the bytes are of.

    Raises:
        RangesRefusedError: the server sends whole files only.
        DownloadError: no network, no such file, another version, or a server that keeps failing.
    """
    found = version

    def step() -> bool:
        nonlocal found
        asked = begin + sink.tell()
        try:
            with open_url(url, {"Range": f"bytes={asked}-{end - 1}"}) as response:
                if response.status != 206:
                    raise RangesRefusedError(url, content_length(response))
                place = content_range(response)
                if place is None or place[0] != asked:
                    return False
                tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
                here = Version(place[1], tag)
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

    insist(url, step, sink.tell, advice)
    assert found is not None
    return found
