"""Fetching COCO or a part of it, from its official archives into a folder for `CocoDataset`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendmask_lite.datasets.archives import (
    Archive,
    Progress,
    is_member,
    open_archive,
    require_space,
)
from blendmask_lite.datasets.coco_entries import (
    AnnotationFile,
    index_entries,
    index_segments,
    read_annotations,
    read_lists,
    refuse_in,
    thing_categories,
)
from blendmask_lite.files import require_folder, write_atomically
from blendmask_lite.terminal import counted, counter
from blendmask_lite.web import DownloadError, is_offline, require_url

__all__ = [
    "COCO_URL",
    "SPLITS",
    "CocoDownload",
    "CocoSplit",
    "choose_images",
    "download_coco",
    "read_split",
]


COCO_URL = "http://images.cocodataset.org"  # not https, because its certificate is for another name
STORE = ".download"
PANOPTIC = "panoptic_annotations_trainval2017"


@dataclass(frozen=True)
class CocoSplit:
    """The names of a split's folders and archives.

    Attributes:
        pictures: name of the images' folder, and of their archive zips/NAME.zip.
        archive: name of annotations/NAME.zip, which describes the images.
        has_objects: whether there are annotations, including panoptic annotations.
    """

    pictures: str
    archive: str
    has_objects: bool = False


SPLITS = {
    "train2017": CocoSplit("train2017", "annotations_trainval2017", has_objects=True),
    "val2017": CocoSplit("val2017", "annotations_trainval2017", has_objects=True),
    "test2017": CocoSplit("test2017", "image_info_test2017"),
    "test-dev2017": CocoSplit("test2017", "image_info_test2017"),
    "unlabeled2017": CocoSplit("unlabeled2017", "image_info_unlabeled2017"),
}


@dataclass(frozen=True)
class CocoDownload:
    """The content of the folder after a download.

    Attributes:
        root: the folder.
        split: the name that `CocoDataset` and `PanopticDataset` take.
        num_images: number of images in the annotation file, all of which are in the folder.
        num_fetched: number of newly fetched images.
        num_all: number of images in the whole split.
        num_objects: number of annotations.
    """

    root: Path
    split: str
    num_images: int
    num_fetched: int
    num_all: int
    num_objects: int


def download_coco(
    root: str | Path,
    split: str,
    *,
    num_images: int | None = None,
    categories: Sequence[str] = (),
    seed: int = 0,
    panoptic: bool = False,
    url: str = COCO_URL,
    progress: Progress = counter,
) -> CocoDownload:
    """Fetch images of a split and describe them in ROOT/annotations/instances_SPLIT.json.

    Images that are already there, with the right size and CRC-32, are not fetched again. Images
    of an earlier call stay, so a second call adds to them. The annotation file is written last, so
    it never describes an image that is missing.

    Args:
        root: the folder; it is made if it is missing.
        split: a key of `SPLITS`. For splits without annotations, the list of annotations is empty.
        num_images: number of images to choose at random; by default all.
        categories: choose only images with an object of one of these names; all objects in these
            images are kept.
        seed: seed of the random choice; a larger choice with the same seed includes the smaller
            one.
        panoptic: also fetch panoptic_SPLIT.json and the segment images.
        url: address that has COCO's folders `zips` and `annotations`.
        progress: called with the name of what is counted; returns a callback (done, total).

    Raises:
        ValueError: an option makes no sense, the disk has no room, an archive is damaged, or the
            folder holds something else.
        DownloadError: no network, no such file, or a server that keeps failing.
        OSError: the folder cannot be written into.
    """
    root = Path(root)
    if split not in SPLITS:
        raise ValueError(f"--split {split}: COCO's splits are {', '.join(SPLITS)}")
    if num_images is not None and num_images < 1:
        raise ValueError(f"--images {num_images}: must be at least 1")
    for option, is_given in (("--categories", categories), ("--panoptic", panoptic)):
        if is_given and not SPLITS[split].has_objects:
            raise ValueError(f"{option}: {split} has no annotations")
    if seed < 0:
        raise ValueError(f"--seed {seed}: must be at least 0")
    require_url(url)
    if is_offline():
        raise DownloadError(f"BLENDMASK_OFFLINE is set: nothing is fetched from {url}")
    require_folder(root)
    with _alone(root):
        job = _Job(root, split, url.rstrip("/"), progress)
        chosen = job.choose(num_images, categories, seed)
        num_fetched = job.fetch_pictures(chosen)
        if panoptic:
            job.fetch_panoptic(chosen)
        num_objects = job.describe(chosen)
    return CocoDownload(root, split, len(chosen), num_fetched, len(job.names), num_objects)


class _Job:
    """One call of `download_coco`: its paths, and the content of the complete annotation file."""

    def __init__(self, root: Path, split: str, url: str, progress: Progress) -> None:
        self.root = root
        self.split = split
        self.url = url
        self.progress = progress
        self.store = root / STORE
        self.spec = SPLITS[split]
        self.pictures = root / self.spec.pictures
        self.file = root / "annotations" / f"instances_{split}.json"
        annotations = self.file.parent
        for folder in (self.store, self.pictures, annotations, annotations / f"panoptic_{split}"):
            for left in folder.glob(".*.*.tmp"):  # left by a call that was killed
                left.unlink()
        archive = open_archive(f"{url}/annotations/{self.spec.archive}.zip", self.store)
        kind = "instances" if self.spec.has_objects else "image_info"
        self.listing = self._complete(archive, f"annotations/{kind}_{split}.json", self.file)
        self.content, self.index = read_split(self.listing, has_objects=self.spec.has_objects)
        self.names = {each: image["file_name"] for each, image in self.index.images.items()}

    def choose(
        self, num_images: int | None, categories: Sequence[str], seed: int
    ) -> dict[int, str]:
        """File names of the wanted images and of earlier calls' images, by id."""
        chosen = choose_images(self.index, num_images=num_images, categories=categories, seed=seed)
        earlier = self._described()
        missing = [i for i in earlier - chosen if not (self.pictures / self.names[i]).is_file()]
        if missing and len(earlier) == len(self.names):
            raise ValueError(
                f"{self.file}: describes the whole split, but {len(missing)} of its pictures are "
                f"not in {self.pictures}; name another --root for a part, or fetch the whole split"
            )
        return {each: self.names[each] for each in sorted(chosen | earlier)}

    def fetch_pictures(self, chosen: dict[int, str]) -> int:
        """Fetch the images that are missing or damaged; returns their number."""
        archive = open_archive(f"{self.url}/zips/{self.spec.pictures}.zip", self.store)
        wanted = {f"{self.spec.pictures}/{name}": self.pictures / name for name in chosen.values()}
        return self._unpack(archive, wanted, "pictures")

    def fetch_panoptic(self, chosen: dict[int, str]) -> None:
        """Fetch the panoptic annotations of the images."""
        name = f"panoptic_{self.split}"
        target = self.root / "annotations" / f"{name}.json"
        archive = open_archive(f"{self.url}/annotations/{PANOPTIC}.zip", self.store)
        listing = self._complete(archive, f"annotations/{name}.json", target)
        content = read_lists(listing, "images", "annotations", "categories")
        categories = thing_categories(content["categories"], refuse_in(listing))
        index_segments(content["annotations"], set(categories), refuse_in(listing))
        kept = _restricted(content, chosen)
        inner = archive.member(f"annotations/{name}.zip")
        segments = archive.inner(inner, self.store / f"{name}.zip", self.progress)
        wanted = {}
        for each in kept["annotations"]:
            picture = f"{Path(chosen[each['image_id']]).stem}.png"
            if each["file_name"] != picture:
                raise ValueError(f"{listing}: image {each['image_id']}: expected {picture}")
            wanted[f"{name}/{picture}"] = target.with_suffix("") / picture
        self._unpack(segments, wanted, "pictures of segments")
        self._write(target, kept, listing, is_whole=len(chosen) == len(self.names))

    def describe(self, chosen: dict[int, str]) -> int:
        """Write the annotation file of the images; returns the number of its annotations."""
        kept = _restricted(self.content, chosen)
        is_whole = self.spec.has_objects and len(chosen) == len(self.names)
        self._write(self.file, kept, self.listing, is_whole=is_whole)
        return len(kept["annotations"])

    def _complete(self, archive: Archive, member: str, target: Path) -> Path:
        """The path of the official file: `target` if it is that file, or a copy in the store."""
        info = archive.member(member)
        kept = self.store / Path(member).name
        if is_member(target, info):
            return target
        if not is_member(kept, info):
            # Room for the member, its unpacked copy, and a selection from the copy.
            needed = info.compress_size + 2 * info.file_size
            require_space(self.root, needed, kept.name)
            archive.save(info, kept, self.progress)
        return kept

    def _described(self) -> set[int]:
        """Ids of the images that earlier calls fetched."""
        if not self.file.exists():
            return set()
        described = read_annotations(self.file).images
        for image_id, image in described.items():
            if self.names.get(image_id) != image["file_name"]:
                raise ValueError(
                    f"{self.file}: describes image {image_id} ({image['file_name']}), which COCO's "
                    f"{self.split} does not have; name another --root"
                )
        return set(described)

    def _unpack(self, archive: Archive, wanted: dict[str, Path], what: str) -> int:
        """Write the members that are missing or damaged, each atomically; returns their number."""
        paths = {archive.member(name).filename: path for name, path in wanted.items()}
        infos = [archive.members[name] for name in paths]
        infos = [info for info in infos if not is_member(paths[info.filename], info)]
        needed = sum(info.file_size for info in infos)
        require_space(self.root, needed, f"{self.split} ({counted(len(infos), 'file')})")
        report = self.progress(what)
        for done, (info, content) in enumerate(archive.contents(infos), start=1):
            write_atomically(paths[info.filename], content)
            report(done, len(infos))
        return len(infos)

    def _write(self, path: Path, kept: dict[str, Any], listing: Path, *, is_whole: bool) -> None:
        """Write a part of an official file, or the whole file as a copy byte for byte."""
        if listing == path:
            return
        content = listing.read_bytes() if is_whole else json.dumps(kept).encode()
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)
        if is_whole:
            listing.unlink()


def read_split(path: Path, *, has_objects: bool) -> tuple[dict[str, Any], AnnotationFile]:
    """The content of an annotation file, as read and as indexed; it may have no objects.

    Raises:
        ValueError: the file is damaged or inconsistent, or an image's file name is a path.
    """
    lists = ["annotations", "categories"] if has_objects else []
    content = {"annotations": [], "categories": [], **read_lists(path, "images", *lists)}
    index = index_entries(content, refuse_in(path))
    for image_id, image in index.images.items():
        # The name becomes a path: it must not lead out of the folder.
        if image["file_name"] in (".", "..") or set(image["file_name"]) & set("/\\:\0"):
            text = f"{image['file_name']!r} is no plain file name"
            raise ValueError(f"{path}: image {image_id}: {text}")
    return content, index


def choose_images(
    index: AnnotationFile, *, num_images: int | None, categories: Sequence[str], seed: int
) -> set[int]:
    """Choose ids of images at random; a larger choice includes every smaller one.

    Args:
        index: index of the whole split.
        num_images: number of images; None, or more than there are, chooses all.
        categories: names; choose only images with an object of one of them. If empty, any image.
        seed: seed of the choice.

    Raises:
        ValueError: a category is unknown, or no image has one of them.
    """
    candidates = set(index.images)
    if categories:
        unknown = sorted(set(categories) - set(index.categories.values()))
        if unknown:
            known = ", ".join(index.categories.values())
            raise ValueError(f"--categories: no category {', '.join(unknown)}; there are {known}")
        wanted = {number for number, name in index.categories.items() if name in categories}
        candidates = {
            image_id
            for image_id, annotations in index.annotations.items()
            if any(each["category_id"] in wanted for each in annotations)
        }
        if not candidates:
            raise ValueError(f"--categories: no image has {' or '.join(categories)}")

    def place(image_id: int) -> bytes:
        # This does not depend on the other images or on the version of Python.
        return hashlib.sha256(f"{seed} {image_id}".encode()).digest()

    return set(sorted(candidates, key=place)[:num_images])


def _restricted(content: dict[str, Any], chosen: dict[int, str]) -> dict[str, Any]:
    """The content with only the chosen images and their annotations."""
    return content | {
        "images": [each for each in content["images"] if each["id"] in chosen],
        "annotations": [each for each in content["annotations"] if each["image_id"] in chosen],
    }


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder's lock, or refuse to work if another process holds it."""
    import filelock

    (root / STORE).mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(root / STORE / "lock", timeout=0):
            yield
    except filelock.Timeout:
        raise ValueError(f"{root}: another download into this folder is running") from None
