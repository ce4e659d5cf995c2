"""A folder of labelme's JSON files and their images, turned into a folder in COCO's layout.

Objects are labelme's own instances: each shape is an object, and shapes with the same label and the
same group id are one object. `polygons.labelme_file` does the reverse.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from blendmask_lite.datasets.coco_entries import (
    TEXT,
    index_entries,
    is_id,
    is_number,
    read_annotations,
    read_lists,
    refuse_in,
    shortened,
)
from blendmask_lite.datasets.coco_format import (
    category_records,
    completed,
    decode_masks,
    encode_masks,
    image_record,
    run_length,
)
from blendmask_lite.files import (
    require_apart,
    require_local,
    require_writable,
    write_atomically,
)
from blendmask_lite.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    decode_image,
    exif_orientation,
    open_image,
)
from blendmask_lite.polygons import DRAFT
from blendmask_lite.terminal import counted, listed, printable

__all__ = ["LabelmeFolder", "convert_labelme"]

Progress = Callable[[str], Callable[[int, int], None]]

MARK = "converted from labelme's files by blendmask_lite"  # marks annotation files that we wrote
SPLITS = ("train", "val")
ROUNDNESS = 0.1  # largest distance in pixels between a circle and its polygon
FARTHEST = 1e6  # pixels; largest distance of a point from the image's corner
NO_AREA = ("line", "linestrip", "point", "points")
QUALITY = 95  # JPEG quality of images that are stored again


@dataclass(frozen=True)
class LabelmeFolder:
    """The result of `convert_labelme`.

    Attributes:
        root: the folder in COCO's layout.
        classes: number of objects by class name, in the order of the labels, which is alphabetical.
        num_images, num_objects: numbers by split.
        num_drafts: label files whose flag "draft" is set; they are left out.
        num_unlabelled: images in the folder that no label file names; they are left out.
        num_other: JSON files without shapes; they are left out.
    """

    root: Path
    classes: dict[str, int]
    num_images: dict[str, int]
    num_objects: dict[str, int]
    num_drafts: int
    num_unlabelled: int
    num_other: int


@dataclass(frozen=True)
class _Labelled:
    """A label file: its image, and the objects in it.

    Attributes:
        path: path of the label file.
        name: name of the image in the new folder: its path below the folder of the label files, or
            the label file's path there if the image lies elsewhere or inside the label file.
        picture: the image's file; None if the label file itself holds the image.
        size: (H, W) of the image as labelme shows it, upright.
        objects: label of each object, and its segmentation in COCO's form.
    """

    path: Path
    name: str
    picture: Path | None
    size: tuple[int, int]
    objects: list[tuple[str, Any]]


def convert_labelme(
    folder: str | Path,
    root: str | Path,
    *,
    val_share: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LabelmeFolder:
    """Write ROOT/annotations/instances_train.json and the images, from labelme's files.

    All files are read and checked before anything is written, and the annotation files are written
    last. Images are copied unchanged, unless they are stored lying on their side: these are stored
    again, upright, as labelme shows them.

    Args:
        folder: folder with the label files, also in subfolders.
        root: folder to write; it is made if it is missing. A second call replaces what the first
            has written, and removes images that no longer have a label file.
        val_share: between 0 and 1; about this share of the images becomes the split "val", at least
            one. Whether an image is chosen depends on its name and the seed, so images that
            are added later do not change this. If the first call had a share, a second call needs
            the same share and seed: others would move images that a model may have learned
            from into "val", or the reverse.
        seed: seed of this choice.
        progress: called with the name of what is counted; returns a callback (done, total).

    Raises:
        ValueError: a label file or its image is damaged or missing, or a shape is invalid; the
            message names file and shape, and further such files. Or there is no label file or no
            shape, or the share or the seed is out of range.
        OSError: the root cannot be written to, or has files of the same names that we did not
            write.
    """
    folder, root = Path(folder), Path(root)
    if val_share is not None and not 0 < val_share < 1:
        raise ValueError(f"--val {val_share:g}: must be between 0 and 1")
    if seed < 0:
        raise ValueError(f"--seed {seed}: must be at least 0")
    require_local(folder)
    if not folder.is_dir():
        raise ValueError(f"{printable(folder)}: no such folder")
    inside = Path(os.path.realpath(root))
    if inside.is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{printable(root)}: is in the folder of the label files; choose another")
    for split in SPLITS:
        require_writable(_annotation_file(root, split))
    _require_same_split(root, val_share, seed)
    report = progress or (lambda what: lambda done, total: None)
    labelled, drafts, num_other = _read_all(folder, report("label files"))
    counts = Counter(label for each in labelled for label, _ in each.objects)
    names = sorted(counts)
    if not names:
        aside = ", drafts aside" if drafts else ""
        raise ValueError(f"{printable(folder)}: no label file with a shape{aside}")
    chosen = set() if val_share is None else _validation(labelled, val_share, seed)
    splits = {"train": [each for each in labelled if each.name not in chosen]}
    if chosen:
        splits["val"] = [each for each in labelled if each.name in chosen]
    info = {"description": MARK, "val": val_share, "seed": seed}
    contents = {
        split: _content(members, names) | {"info": info} for split, members in splits.items()
    }
    for content in contents.values():
        index_entries(content, refuse_in(folder))  # refuses what `CocoDataset` would refuse
    _write(root, splits, contents, report("images"))
    return LabelmeFolder(
        root=root,
        classes={name: counts[name] for name in names},
        num_images={split: len(content["images"]) for split, content in contents.items()},
        num_objects={split: len(content["annotations"]) for split, content in contents.items()},
        num_drafts=len(drafts),
        num_unlabelled=_count_unlabelled(folder, [each.picture for each in labelled] + drafts),
        num_other=num_other,
    )


# ------------------------------------------------------------------ reading


def _read_all(
    folder: Path, report: Callable[[int, int], None]
) -> tuple[list[_Labelled], list[Path | None], int]:
    """The label files of a folder, in the order of their names, without drafts.

    It also returns the images of the drafts, and the number of JSON files of other programs.

    Raises:
        ValueError: files are damaged; the message explains the first one and names the others.
    """
    paths = [path for path in _files(folder) if path.suffix.lower() == ".json"]
    found: list[_Labelled] = []
    drafts: list[Path | None] = []
    damaged: dict[Path, ValueError] = {}
    owners: dict[str, Path] = {}  # label file of each image, by its file and by its new name
    for done, path in enumerate(paths, start=1):
        report(done, len(paths))
        try:
            content = _read(path)
            if content is None:
                continue
            if _is_draft(content):
                drafts.append(_picture(path, content))
                continue
            labelled = _labelled(path, content, folder)
        except ValueError as error:
            damaged[path] = error
            continue
        found.append(labelled)
        files = [] if labelled.picture is None else [os.path.realpath(labelled.picture)]
        for key in (labelled.name, *files):
            if key in owners:
                both = f"{printable(owners[key])} and {printable(path)}"
                raise ValueError(f"{both}: name the same image, {printable(key)}")
            owners[key] = path
    if damaged:
        first, *others = damaged
        names = listed([printable(path) for path in others])
        raise ValueError(f"{damaged[first]}" + (f"; damaged as well: {names}" if others else ""))
    return found, drafts, len(paths) - len(found) - len(drafts)


def _files(folder: Path) -> list[Path]:
    """All files of a folder except hidden files, such as macOS' "._1.json"."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )


def _count_unlabelled(folder: Path, pictures: Sequence[Path | None]) -> int:
    used = {os.path.realpath(picture) for picture in pictures if picture is not None}
    images = {os.path.realpath(p) for p in _files(folder) if p.suffix.lower() in IMAGE_SUFFIXES}
    return len(images - used)


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a label file; None if it has no shapes, so another program wrote it.

    Raises:
        ValueError: it is damaged; the message names the file.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{printable(path)}: is damaged or not JSON ({error})") from None
    return content if isinstance(content, dict) and "shapes" in content else None


def _is_draft(content: dict[str, Any]) -> bool:
    flags = content.get("flags")
    return isinstance(flags, dict) and flags.get(DRAFT) is True


def _labelled(path: Path, content: dict[str, Any], folder: Path) -> _Labelled:
    """The checked content of a label file.

    Raises:
        ValueError: it is damaged; the message names file and shape.
    """
    if not isinstance(content["shapes"], list):
        raise ValueError(f"{printable(path)}: shapes = {shortened(content['shapes'])} is no list")
    picture, suffix, size = _find_image(path, content)
    given = (content.get("imageHeight"), content.get("imageWidth"))
    if None not in given and given != size:
        (height, width), said = size, f"{shortened(given[1])} x {shortened(given[0])}"
        raise ValueError(
            f"{printable(path)}: its labels are for {said} pixels, but its image is {width} x "
            f"{height} (upright, as labelme shows it)"
        )
    top = os.path.abspath(folder)
    place = Path(os.path.abspath(path.with_suffix(suffix) if picture is None else picture))
    if not place.is_relative_to(top):
        place = Path(os.path.abspath(path.with_suffix(suffix)))
    return _Labelled(
        path=path,
        name=place.relative_to(top).as_posix(),
        picture=picture,
        size=size,
        objects=_objects(path, content["shapes"], size),
    )


def _picture(path: Path, content: dict[str, Any]) -> Path:
    """The file that a label file names as its image; if it is missing, one next to the label file.

    If a label file was moved next to its image, it still has the relative path from its old place.
    """
    name: Any = content.get("imagePath")
    if not TEXT.holds(name):
        raise ValueError(f"{printable(path)}: imagePath = {shortened(name)} is no file name")
    named = PureWindowsPath(name)
    picture, beside = path.parent / named.as_posix(), path.parent / named.name
    return beside if os.path.exists(beside) and not os.path.exists(picture) else picture


def _find_image(path: Path, content: dict[str, Any]) -> tuple[Path | None, str, tuple[int, int]]:
    """The image's file (None if imageData is the image), its suffix, and its size."""
    picture = _picture(path, content)
    if not os.path.exists(picture) and content.get("imageData") is not None:
        data, place = _image_data(path, content), f"{path}: imageData"
        height, width = decode_image(data, name=place, max_pixels=MAX_PIXELS).shape[1:]
        with Image.open(io.BytesIO(data)) as image:
            return None, f".{(image.format or 'png').lower()}", (height, width)
    try:
        with open_image(picture) as image:
            width, height = image.size
            is_lying = exif_orientation(image) > 4
    except (ValueError, OSError) as error:
        raise ValueError(f"{printable(path)}: imagePath: {error}") from None
    return picture, picture.suffix, (width, height) if is_lying else (height, width)


def _image_data(path: Path, content: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(content["imageData"], validate=True)
    except (TypeError, ValueError):
        raise ValueError(f"{printable(path)}: imageData is damaged") from None


def _objects(path: Path, shapes: list[Any], size: tuple[int, int]) -> list[tuple[str, Any]]:
    """Label and segmentation of each object: polygons, or run lengths if a part is a mask."""
    parts: dict[tuple[str, object], list[Any]] = defaultdict(list)  # parts by label and group
    for number, shape in enumerate(shapes):
        try:
            label, group = _label_and_group(shape)
            parts[label, ("alone", number) if group is None else group].append(_part(shape, size))
        except ValueError as error:
            raise ValueError(f"{printable(path)}: shapes[{number}]: {error}") from None
    objects: list[tuple[str, Any]] = []
    for (label, _), own in parts.items():
        if all(isinstance(part, list) for part in own):
            objects.append((label, [polygon for part in own for polygon in part]))
        else:
            masks = decode_masks([run_length(part, size) for part in own], size)
            objects.append((label, encode_masks(masks.any(dim=0, keepdim=True))[0]))
    return objects


def _label_and_group(shape: object) -> tuple[str, int | None]:
    if not isinstance(shape, dict):
        raise ValueError(f"is {shortened(shape)}, which is no shape")
    label: Any = shape.get("label")
    group = shape.get("group_id")
    if not TEXT.holds(label) or not label.strip():
        raise ValueError(f"label = {shortened(label)} is not text on one line")
    if group is not None and not is_id(group):
        raise ValueError(f"group_id = {shortened(group)} is not a whole number")
    return label.strip(), group


def _part(shape: dict[str, Any], size: tuple[int, int]) -> Any:
    """A shape's segmentation: one polygon, or run lengths if it is a mask."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise ValueError(f"points = {shortened(points)} is no list of x and y")
    part: Any
    if kind == "mask":
        part = _mask(shape.get("mask"), points, size)
    else:
        part = [[float(side) for point in _outline(kind, points) for side in point]]
    if coco_mask.area(run_length(part, size)) == 0:
        raise ValueError(f"the {kind} covers no pixel of the image")
    return part


def _is_point(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(is_number(side) and abs(side) < FARTHEST for side in value)


def _outline(kind: object, points: list[list[float]]) -> Sequence[Sequence[float]]:
    """The corners of a shape."""
    corners = {"rectangle": 2, "circle": 2, "oriented_rectangle": 4, "polygon": len(points)}
    if not isinstance(kind, str) or kind not in corners:
        why = "has no area; draw its outline" if kind in NO_AREA else "is of no known type"
        raise ValueError(f"shape_type = {shortened(kind)}: {why}, or remove it")
    if len(points) != corners[kind] or (kind == "polygon" and len(points) < 3):
        wanted = "at least 3" if kind == "polygon" else corners[kind]
        raise ValueError(f"a {kind} with {counted(len(points), 'point')}, expected {wanted}")
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        num = max(12, math.ceil(math.pi / math.acos(1 - min(ROUNDNESS / max(radius, 1), 1))))
        turns = [2 * math.pi * step / num for step in range(num)]
        return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
    return points


def _mask(text: object, points: list[list[float]], size: tuple[int, int]) -> dict[str, Any]:
    """A mask in PNG, in base64, whose upper left pixel is the first point."""
    if not isinstance(text, str) or not points:
        raise ValueError("a mask without an image of it, or without points")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("mask is damaged") from None
    pixels = decode_image(data, name="mask", max_pixels=MAX_PIXELS).amax(dim=0) > 0
    x, y = (round(side) for side in points[0])
    (height, width), (rows, columns) = size, pixels.shape
    whole = torch.zeros(size, dtype=torch.bool)
    inside = pixels[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
    whole[max(y, 0) : max(y + rows, 0), max(x, 0) : max(x + columns, 0)] = inside
    return encode_masks(whole[None])[0]


# ------------------------------------------------------------------ writing


def _validation(labelled: Sequence[_Labelled], share: float, seed: int) -> set[str]:
    """Names of the images for validation: their place, 0 to 1, is below the share."""
    if len(labelled) < 2:
        raise ValueError(f"--val {share:g}: there is only one labelled image")
    places = {}
    for each in labelled:
        digest = hashlib.sha256(f"{seed} {each.name}".encode()).digest()
        places[each.name] = int.from_bytes(digest[:8], "big") / 2**64
    num = sum(place < share for place in places.values())
    return set(sorted(places, key=places.__getitem__)[: min(max(num, 1), len(places) - 1)])


def _content(labelled: Sequence[_Labelled], class_names: Sequence[str]) -> dict[str, Any]:
    """The content of an instances file."""
    ids = {name: number for number, name in enumerate(class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, each in enumerate(labelled, start=1):
        images.append(image_record(image_id, each.size, each.name))
        for label, segmentation in each.objects:
            annotation = {"id": len(annotations) + 1, "image_id": image_id}
            annotation |= {"category_id": ids[label], "segmentation": segmentation}
            annotations.append(completed(annotation, run_length(segmentation, each.size)))
    categories = category_records(class_names, list(ids.values()))
    return {"images": images, "annotations": annotations, "categories": categories}


def _write(
    root: Path,
    splits: dict[str, list[_Labelled]],
    contents: dict[str, dict[str, Any]],
    report: Callable[[int, int], None],
) -> None:
    """Write images and annotation files, and remove images of an earlier call.

    Before that, refuse to replace files that we did not write.
    """
    files = {split: _annotation_file(root, split) for split in SPLITS}
    own = {root / split / name for split, file in files.items() for name in _earlier(file)}
    targets = {root / split / each.name: each for split in splits for each in splits[split]}
    inputs = [path for each in targets.values() for path in (each.path, each.picture) if path]
    require_apart([*files.values(), *targets, *own], inputs, "one of labelme's files")
    for target, each in targets.items():
        if target not in own and target.exists() and target.read_bytes() != _stored(each):
            raise FileExistsError(f"{printable(target)}: another image is there; choose another -o")
    for file in files.values():  # old annotation files must not describe images of two calls
        file.resolve().unlink(missing_ok=True)
    for file in own - set(targets):
        file.unlink(missing_ok=True)
    for done, (target, each) in enumerate(targets.items(), start=1):
        write_atomically(target, _stored(each), is_durable=False)
        report(done, len(targets))
    for split, content in contents.items():
        write_atomically(files[split], json.dumps(content).encode())


def _annotation_file(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _earlier(file: Path) -> list[str]:
    """Names of the images that an earlier call described in an annotation file."""
    if _earlier_info(file) is None:
        return []
    return [image["file_name"] for image in read_annotations(file).images.values()]


def _earlier_info(file: Path) -> dict[str, Any] | None:
    """The info that an earlier call wrote into an annotation file; None if there is no file."""
    if not file.exists():
        return None
    info = read_lists(file).get("info")
    if not isinstance(info, dict) or info.get("description") != MARK:
        raise FileExistsError(f"{printable(file)}: is there, from elsewhere; choose another -o")
    return info


def _require_same_split(root: Path, val_share: float | None, seed: int) -> None:
    earlier = _earlier_info(_annotation_file(root, "val"))
    if earlier is not None and (earlier.get("val"), earlier.get("seed")) != (val_share, seed):
        raise ValueError(
            f"{printable(root)}: was made with --val {earlier.get('val')} --seed "
            f"{earlier.get('seed')}, and another choice would move images between train and val; "
            "give the same, or choose another -o"
        )


def _stored(labelled: _Labelled) -> bytes:
    """The bytes of an image, upright."""
    if labelled.picture is None:
        data = _image_data(labelled.path, json.loads(labelled.path.read_bytes()))
    else:
        data = labelled.picture.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        if exif_orientation(image) == 1:
            return data
        buffer, kind = io.BytesIO(), "JPEG" if image.format == "MPO" else image.format
        ImageOps.exif_transpose(image).save(buffer, kind, quality=QUALITY)
        return buffer.getvalue()
