"""Files that `segment` writes (per image, results.json, results.csv) and those it may replace.

results.json also records the files that earlier calls wrote. Only these files are replaced, and
only if nobody has changed them since.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blendmask_lite.datasets.coco_format import category_records
from blendmask_lite.evaluation.formats import TABLE_COLUMNS, label_map
from blendmask_lite.figures.detections import draw_detections
from blendmask_lite.figures.style import object_color, rgb255
from blendmask_lite.files import (
    is_stream,
    read_text,
    require_apart,
    require_folder,
    require_writable,
    write_atomically,
)
from blendmask_lite.images import encode_image
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.structures import AnyDetections

__all__ = ["FORMATS", "Results", "image_contents", "image_files", "require_free"]

# The formats with a file for each image: the folder inside --out, and the suffix.
PLACES = {
    "pictures": ("", ".png"),
    "masks": ("masks", ".png"),
    "yolo": ("labels", ".txt"),
    "labelme": ("labelme", ".json"),
}
RESULTS = "results.json"
TABLE = "results.csv"
FORMATS = ("pictures", "coco", "csv", *list(PLACES)[1:])
WRITING_SHARE = 0.05  # fraction of the time that may go into rewriting the results
LONGEST = 200  # bytes of an image's name that are kept in a result's name; file systems allow 255


def image_files(out: Path, paths: Sequence[Path], formats: Iterable[str]) -> list[dict[str, Path]]:
    """The files for each image by format; their names begin with its number, then its own name.

    labelme finds a label file by the image's own name, so the number is left out there, unless
    several images have the same name.
    """
    places = {name: PLACES[name] for name in formats if name in PLACES}
    stems = [
        path.stem.encode(errors="surrogateescape")[:LONGEST].decode(errors="ignore")
        for path in paths
    ]
    is_alone = len({stem.casefold() for stem in stems}) == len(stems)
    return [
        {
            name: out / folder / f"{stem if name == 'labelme' and is_alone else numbered}{suffix}"
            for name, (folder, suffix) in places.items()
        }
        for stem, numbered in ((s, f"{i:04}_{s}") for i, s in enumerate(stems, start=1))
    ]


def image_contents(files: dict[str, Path], path: Path, found: AnyDetections) -> dict[Path, bytes]:
    """The contents of the `image_files` of the image at `path`; `found` holds the image."""
    contents = {}
    for name, file in files.items():
        if name == "pictures":
            assert found.image is not None
            contents[file] = encode_image(draw_detections(found.image, found))
        elif name == "masks":
            contents[file] = encode_image(_label_picture(found))
        elif name == "yolo":
            contents[file] = "".join(f"{line}\n" for line in found.to_yolo()).encode()
        else:
            content = found.to_labelme(os.path.relpath(path, file.parent))
            contents[file] = json.dumps(content, indent=1).encode()
    return contents


def _label_picture(found: AnyDetections) -> Image.Image:
    """The `label_map`: a palette of colours shows it, unless there are too many objects."""
    owners = label_map(found)
    if len(found) > 255:
        return Image.fromarray(owners)
    picture = Image.fromarray(owners.astype(np.uint8))
    colors = [rgb255(object_color(index)) for index in range(len(found))]
    picture.putpalette([value for color in [(0, 0, 0), *colors] for value in color])
    return picture


def require_free(
    out: Path,
    paths: Sequence[Path],
    formats: Sequence[str],
    weights: str | Path,
) -> dict[str, str]:
    """Refuse to replace images, the checkpoint, or files that are not as an earlier call left them.

    Args:
        out: the folder for all results; nothing is written yet.
        paths: paths of all images; their ids are 1-based positions.
        formats: some of `FORMATS`.
        weights: the checkpoint.

    Returns:
        Digest of the content by name, for each file that earlier calls wrote into `out`.

    Raises:
        ValueError: a file would be lost.
    """
    targets = [out / TABLE] if "csv" in formats else []
    for files in image_files(out, paths, formats):
        targets += files.values()
    for inputs, what in ((paths, "one of the images"), ([weights], "the checkpoint")):
        require_apart([*targets, out / RESULTS], inputs, what)
    earlier = _written_before(out)
    for target in filter(Path.is_file, targets):
        digest = earlier.get(_name(target, out))
        if digest is None:
            raise ValueError(
                f"{target}: is there already, and {RESULTS} names no earlier call that wrote it; "
                "choose another --out, or remove it"
            )
        if digest != _digest(target.read_bytes()):
            raise ValueError(
                f"{target}: was changed after segment wrote it, and would be lost; choose another "
                "--out, or move it away"
            )
    return earlier


def _written_before(out: Path) -> dict[str, str]:
    """The result of `require_free`; ValueError if `segment` did not write results.json."""
    results = out / RESULTS
    if not results.is_file():
        return {}
    try:
        files = json.loads(read_text(results))["info"]["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(
            f"{results}: is there already and was not written by segment; choose another --out"
        ) from None


def _name(file: Path, out: Path) -> str:
    return file.relative_to(out).as_posix()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Results:
    """results.json and results.csv, which grow image by image.

    They are rewritten when that takes little time compared to the work, and at the end of the
    `with` block, unless no image was processed.

    Args:
        out: the folder.
        model: its classes are listed.
        formats: some of `FORMATS`.
        earlier: the result of `require_free`; the record keeps these files.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(
        self, out: Path, model: BlendMask, formats: Sequence[str], earlier: Mapping[str, str]
    ) -> None:
        for folder in {"", *(PLACES[name][0] for name in formats if name in PLACES)}:
            require_folder(out / folder)
        self.out, self.files = out, dict(earlier)
        self.path, self.table_path = out / RESULTS, out / TABLE if "csv" in formats else None
        for path in filter(None, (self.path, self.table_path)):
            require_writable(path)
        self.categories = json.dumps(category_records(model.class_names, model.category_ids))
        self.images: list[str] = []
        self.annotations: list[str] = []
        self.table = io.StringIO(newline="")
        csv.writer(self.table).writerow(["image_id", "file_name", *TABLE_COLUMNS])
        # Bytes that were sent to a pipe cannot be rewritten.
        self._due = math.inf if is_stream(self.path) else 0.0

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: object) -> None:
        if self.images:
            self._write()

    def add(
        self,
        image: dict[str, Any],
        entries: list[dict[str, Any]],
        rows: list[list[Any]],
        contents: Mapping[Path, bytes],
    ) -> None:
        """Write an image's `contents`; add its record, objects and `table_rows` to the results."""
        for file, content in contents.items():
            write_atomically(file, content)
            self.files[_name(file, self.out)] = _digest(content)
        self.images.append(json.dumps(image))
        for number, entry in enumerate(entries, start=len(self.annotations) + 1):
            self.annotations.append(json.dumps(entry | {"id": number}))
        head = [image["id"], image["file_name"]]
        csv.writer(self.table).writerows(head + row for row in rows)
        if time.monotonic() >= self._due:
            self._write()

    def _write(self) -> None:
        start = time.monotonic()
        if self.table_path is not None:
            table = self.table.getvalue().encode(errors="surrogateescape")
            write_atomically(self.table_path, table)
            self.files[TABLE] = _digest(table)
        info = {"description": "written by blendmask-lite segment", "files": self.files}
        content = (
            f'{{"images": [{", ".join(self.images)}], '
            f'"annotations": [{", ".join(self.annotations)}], '
            f'"categories": {self.categories}, "info": {json.dumps(info)}}}'
        )
        write_atomically(self.path, content.encode())
        end = time.monotonic()
        self._due = end + (end - start) / WRITING_SHARE
