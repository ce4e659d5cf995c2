"""A file from the web that is fetched once: resumed where it broke off, and checked ever after.

Beside the file lies its SHA-256, recorded on first use. What is still incomplete ends in `.part`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from blendmask_lite.files import write_atomically
from blendmask_lite.web.attempts import DownloadError, is_offline
from blendmask_lite.web.whole import receive

__all__ = ["fetch", "require_unchanged"]


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
        advice = f"fetch {url} in another way and put it at {path}"
        if is_offline():
            raise DownloadError(f"BLENDMASK_OFFLINE is set: {advice}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A second process waits, and then finds the file.
        with filelock.FileLock(f"{path}.lock"):
            if not path.exists():
                _admit(receive(url, path, advice=advice), path, url, check)
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
    try:
        check(part)
    except ValueError as error:
        part.unlink()
        reason = str(error).removeprefix(f"{part}: ")
        raise ValueError(f"{url}: what the server sent is refused: {reason}") from None
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
