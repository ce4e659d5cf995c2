"""Finding the files of a COCO folder: the annotation files of its splits, and their images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from blendmask_lite.files import require_local
from blendmask_lite.terminal import printable

__all__ = ["find_picture", "find_split", "image_folders", "list_splits"]

PREFIX = "instances_"
# Annotation files have one of these prefixes before the split's name.
PREFIXES = (
    *(PREFIX, "image_info_", "lvis_", "panoptic_"),
    *("captions_", "person_keypoints_", "stuff_"),
)
NO_PICTURES = (".", "annotations", "panoptic_", "stuff_")  # prefixes of folders without images
SPLIT_WORDS = ("train", "val", "test", "dev", "unlabeled")
# COCO's splits whose images are in another split's folder.
COCO_FOLDERS = {
    **{"test-dev2015": "test2015", "test-dev2017": "test2017"},
    **{"minival2014": "val2014", "valminusminival2014": "val2014"},
}


def find_split(root: Path, split: str | None, prefix: str = PREFIX) -> tuple[str, Path]:
    """Name and annotation file of a split; `split` may be None if there is only one.

    Names of annotation files begin with `prefix`.

    Raises:
        ValueError: the folder is not in COCO's layout, there is no such split, or there are several
            and `split` is None.
    """
    require_local(root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    names = list_splits(root, prefix)
    shown = ", ".join(map(printable, names))
    if not names:
        hint = "; labelme's files become one by `data labelme`" if any(root.glob("*.json")) else ""
        raise ValueError(f"{root}: not a COCO folder, there is no annotations/{prefix}*.json{hint}")
    if split is None and len(names) > 1:
        raise ValueError(f"{root}: has several splits, choose one of {shown}")
    chosen = names[0] if split is None else split
    if chosen not in names:
        raise ValueError(f"{root}: no split {chosen!r}, there are {shown}")
    return chosen, root / "annotations" / f"{prefix}{chosen}.json"


def list_splits(root: Path, prefix: str = PREFIX) -> list[str]:
    """Names of the splits with an annotation file of this prefix, by default an instances file."""
    files = (root / "annotations").glob(f"{prefix}*.json")
    return sorted(path.stem.removeprefix(prefix) for path in files)


def image_folders(root: Path, split: str) -> list[Path]:
    """Folders in which the images of a split may be, in the order in which to search them.

    First come the split's own folders, in ROOT and in ROOT/images. They have its name or, if there
    are none, the longest name that its name begins with: `val2017_from_panoptic` finds `val2017`.
    Then come ROOT/images and ROOT, and then the other folders in them that belong to no split. File
    names repeat between splits, so another split's folder is never searched. A folder belongs to
    another split if that split has an annotation file, or if the folder is named like a split (such
    as `test`) and the wanted split has its own folder.
    """
    parents = [root, root / "images"]
    beside = [
        folder
        for parent in parents
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and not folder.name.startswith(NO_PICTURES) and folder not in parents
    ]
    names = {folder.name for folder in beside}
    own = _own_name(split, names)
    known = {name for prefix in PREFIXES for name in list_splits(root, prefix)}
    others = {_own_name(other, names) for other in known if other != split}
    free = [
        folder
        for folder in beside
        if folder.name not in {own, *others}
        and (own is None or not folder.name.lower().startswith(SPLIT_WORDS))
    ]
    place = split if own is None else own
    return [*(parent / place for parent in parents), *parents[::-1], *free]


def _own_name(split: str, names: Iterable[str]) -> str | None:
    """The name of the split's own folder, which is one of `names`; None if it has no folder."""
    wanted = COCO_FOLDERS.get(split, split).lower()
    beginning = [name for name in names if wanted.startswith(name.lower())]
    return max(beginning, key=lambda name: (len(name), name == split), default=None)


def find_picture(folders: Sequence[Path], name: str) -> Path | None:
    """The path of the file in the first folder that has it, or None."""
    for folder in folders:
        try:
            if (folder / name).is_file():
                return folder / name
        except OSError:  # a name that is too long for the system
            continue
    return None
