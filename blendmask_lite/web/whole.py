"""A whole file, which grows on the disk as NAME.part."""

from __future__ import annotations

import http.client
import urllib.error
from pathlib import Path

from blendmask_lite.countdown import counter, in_megabytes
from blendmask_lite.files import write_atomically
from blendmask_lite.web.attempts import (
    CHUNK,
    NO_RANGES,
    content_length,
    content_range,
    insist,
    open_url,
)

__all__ = ["part_of", "receive"]


def part_of(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(f"{path.name}.part")


def receive(url: str, path: Path, *, advice: str) -> Path:
    """Fetch a whole file into `part_of(path)`, whose beginning may be there already.

    Args:
        url: http or https.
        path: of the file in the end.
        advice: what to do where there is no way to fetch it.

    Returns:
        `part_of(path)`, as long as the server said. It is for the caller to check and to rename.

    Raises:
        DownloadError: no network, no such file, or a server that keeps failing.
    """
    part = part_of(path)
    part.parent.mkdir(parents=True, exist_ok=True)
    insist(url, lambda: _receive_more(url, part), lambda: _size(part), advice)
    _tag_of(part).unlink(missing_ok=True)
    return part


def _receive_more(url: str, part: Path) -> bool:
    """Append what is missing, or begin again where the server insists; whether it is complete."""
    begun = _size(part)
    headers = {}
    if begun > 0:
        headers["Range"] = f"bytes={begun}-"
        if _tag_of(part).exists():
            # The rest of another version is of no use: then the server sends all of it.
            headers["If-Range"] = _tag_of(part).read_text(encoding="utf-8")
    try:
        response = open_url(url, headers)
    except urllib.error.HTTPError as error:
        if begun > 0 and error.code in NO_RANGES:
            part.unlink()  # from the beginning, then
            return False
        raise
    with response:
        is_rest = response.status == 206
        place = content_range(response)
        if is_rest and (place is None or place[0] != begun):
            part.unlink()
            return False
        if not is_rest:
            begun = 0
            _note_tag(response, part)
        length = content_length(response)
        total = None if length is None else begun + length
        progress = in_megabytes(counter("MB", begun=begun // 1_000_000))
        with part.open("ab" if is_rest else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                if total is not None:
                    progress(file.tell(), total)
    return total is None or _size(part) == total


def _note_tag(response: http.client.HTTPResponse, part: Path) -> None:
    tag = response.headers.get("ETag")
    _tag_of(part).unlink(missing_ok=True)
    if tag is not None and not tag.startswith("W/"):
        write_atomically(_tag_of(part), tag.encode())


def _tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
