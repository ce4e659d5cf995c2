"""Checks of the picture files of a split, each by its header, or decoded in full."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blendmask_lite.datasets.coco_files import find_picture
from blendmask_lite.datasets.entries import Problem, Report
from blendmask_lite.images import (
    DEEP_MODES,
    exif_orientation,
    open_image,
    read_stored_image,
)

__all__ = ["PictureCheck", "unlisted_pictures"]

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class PictureCheck:
    """Checks one picture after the other.

    Args:
        folders: in which to look, in this order.
        report: of the problems.
        decode: read all pixels, too.

    Attributes:
        paths: file -> image id, of the pictures that were found.
        digests: SHA-256 of the content -> image id; with `decode` only.
    """

    def __init__(self, folders: list[Path], report: Report, *, decode: bool) -> None:
        self.folders = folders
        self.report = report
        self.decode = decode
        self.paths: dict[Path, int] = {}
        self.digests: dict[bytes, int] = {}

    def check(self, record: dict[str, Any]) -> None:
        """Look for the file of an image's record and compare it with that."""
        entry, name = f"image {record['id']}", record["file_name"]
        path = find_picture(self.folders, name)
        if path is None:
            text = f"{name} is in none of the split's folders"
            self.report(Problem("missing picture", entry, text))
            return
        if path in self.paths:
            text = f"{name} is the file of image {self.paths[path]}, too"
            self.report(Problem("file listed twice", entry, text))
        self.paths.setdefault(path, record["id"])
        size = (record["height"], record["width"])
        try:
            if self._fits(entry, path, size) and self.decode:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of depth, which is a finding here
                    read_stored_image(path, size)
                self._compare_content(entry, path, record["id"])
        except (ValueError, OSError) as error:
            self.report(Problem("damaged picture", entry, str(error)))

    def _fits(self, entry: str, path: Path, size: tuple[int, int]) -> bool:
        """Check what the header says; whether the size is right."""
        with open_image(path) as picture:
            orientation = exif_orientation(picture)
            if orientation != 1:
                text = f"{path.name} has the EXIF orientation {orientation}"
                self.report(Problem("rotated picture", entry, text))
            if picture.mode in DEEP_MODES:
                text = f"{path.name} has Pillow's mode {picture.mode}"
                self.report(Problem("deep picture", entry, text))
            width, height = picture.size
        if (height, width) == size:
            return True
        text = f"{path.name} is {width} x {height} pixels, the entry says {size[1]} x {size[0]}"
        self.report(Problem("size mismatch", entry, text))
        return False

    def _compare_content(self, entry: str, path: Path, image_id: int) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        other = self.digests.setdefault(digest, image_id)
        if other != image_id:
            text = f"{path.name} has the content of image {other}"
            self.report(Problem("same picture twice", entry, text))


def unlisted_pictures(folder: Path, listed: Sequence[Path], report: Report) -> None:
    """Report the pictures of a split's own folder that no entry names."""
    if folder.is_dir():
        known = set(listed)
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES and path not in known:
                report(Problem("unlisted picture", folder.name, f"{path.name} has no entry"))
