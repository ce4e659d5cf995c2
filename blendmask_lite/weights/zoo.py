"""The table of the published checkpoints, and where a file of weights comes from."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from blendmask_lite.config import PRESETS
from blendmask_lite.files import cache_dir
from blendmask_lite.web import DownloadError, fetch, require_unchanged, require_url
from blendmask_lite.weights.pickles import read_weights

__all__ = [
    "COCO_STUFF",
    "COCO_THINGS",
    "COCO_THING_IDS",
    "PUBLISHED",
    "STAND_IN_CONFIG",
    "Published",
    "find_cached",
    "find_file",
    "find_published",
    "stand_in_weights",
]


FOLDER = "https://huggingface.co/ZjuCv/AdelaiDet/resolve/main"


@dataclass(frozen=True)
class Published:
    """A row of the released code's model zoo, or of its panoptic table.

    Attributes:
        name: the name in the table.
        preset: our preset of this model.
        file: its file name in the cache.
        url: the download link; None if no working link is left.
        box_ap, mask_ap: AP on COCO val2017 (for the person model, on another set), per cent.
        pq: panoptic quality on val2017, per cent.
        fps: images per second on a GTX 1080 Ti, one at a time.
    """

    name: str
    preset: str
    file: str
    url: str | None
    box_ap: float | None = None
    mask_ap: float | None = None
    pq: float | None = None
    fps: int | None = None

    @property
    def twins(self) -> list[str]:
        """Other names in the table with the same link."""
        return [
            each.name
            for each in PUBLISHED.values()
            if each.url is not None and each.url == self.url and each.name != self.name
        ]


def _instance(
    name: str, preset: str, box_ap: float, mask_ap: float, fps: int, file: str | None = None
) -> Published:
    file = f"{file or name}.pth"
    return Published(name, preset, file, f"{FOLDER}/{file}", box_ap, mask_ap, fps=fps)


def _panoptic(name: str, preset: str, pq: float) -> Published:
    # The table links to the files of the instance models here.
    return Published(
        f"Panoptic/{name}", preset, f"Panoptic_{name}.pth", f"{FOLDER}/{name}.pth", pq=pq
    )


PUBLISHED: dict[str, Published] = {
    each.name: each
    for each in (
        _instance("R_50_1x", "r50", 39.9, 35.8, 14),
        _instance("R_50_3x", "r50", 42.7, 37.8, 14),
        _instance("R_101_3x", "r101", 44.8, 39.5, 11),
        _instance("R_101_dcni3_5x", "r101_dcni3", 46.8, 41.1, 10),
        _instance("550_R_50_3x", "r50_550", 38.7, 34.5, 28),
        _instance("RT_R_50_4x_syncbn_shtw", "rt_r50", 39.3, 35.1, 31),
        _instance("RT_R_50_4x_bn-head_syncbn_shtw", "rt_r50_bn_head", 39.3, 35.1, 31),
        _instance("DLA_34_4x", "dla34", 40.8, 36.3, 32, file="DLA_34_syncbn_4x"),
        _panoptic("R_50_3x", "panoptic_r50", 42.5),
        _panoptic("R_101_3x", "panoptic_r101", 44.3),
        _panoptic("R_101_dcni3_5x", "panoptic_r101_dcni3", 46.0),
        Published("Person/R_50_1x", "person_r50", "Person_R_50_1x.pth", None, 70.6, 66.7),
    )
}


def find_published(source: str | os.PathLike[str]) -> Published | None:
    """The row of a name, or of a file name without its suffix; None for other sources."""
    if not isinstance(source, str):
        return None
    files = {Path(each.file).stem: each for each in PUBLISHED.values()}
    return PUBLISHED.get(source) or files.get(source)


def find_file(source: str | os.PathLike[str]) -> Path:
    """The file of a source; if it is not on this machine, it is fetched into the cache.

    Args:
        source: a name of the table (which wins over a file of the same name), an http or https
            URL, or a file.

    Raises:
        FileNotFoundError: there is neither such a name nor such a file.
        DownloadError, ValueError: see `fetch`.
    """
    published = find_published(source)
    if published is not None:
        return _find_published_file(published)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        require_url(source)
        url = _direct(source)
        return fetch(url, cache_dir() / _file_name(url), check=read_weights)
    path = Path(source)
    if not path.exists():
        near = difflib.get_close_matches(str(source), PUBLISHED, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise FileNotFoundError(
            f"{source}: no such file, nor the name of a published checkpoint{hint}"
        )
    return path


def find_cached(published: Published) -> Path | None:
    """The file in the cache, under its own name or under the name in its link."""
    names = [published.file] + ([] if published.url is None else [_file_name(published.url)])
    return next((path for name in names if (path := cache_dir() / name).exists()), None)


def _find_published_file(published: Published) -> Path:
    cached = find_cached(published)
    if cached is not None:
        require_unchanged(cached)
        return cached
    if published.url is None:
        raise DownloadError(
            f"{published.name}: no link to the file is left; "
            f"if you have it, put it at {cache_dir() / published.file}"
        )
    return fetch(published.url, cache_dir() / _file_name(published.url), check=read_weights)


def _direct(url: str) -> str:
    """The address of the file itself, if a link leads to its page."""
    is_page = url.startswith("https://huggingface.co/") and "/blob/" in url
    return url.replace("/blob/", "/resolve/", 1) if is_page else url


def _file_name(url: str) -> str:
    """The file's name in the cache; if it is not from the model zoo, with a hash of the URL."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "weights"
    if url.startswith(FOLDER):
        return name
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}_{name}"


# COCO's category ids go up to 90, with gaps.
_CATEGORIES = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
COCO_THING_IDS: tuple[int, ...] = tuple(
    i for i, name in enumerate(_CATEGORIES) if name not in ("__background__", "N/A")
)
COCO_THINGS: tuple[str, ...] = tuple(_CATEGORIES[i] for i in COCO_THING_IDS)

_STUFF = """
banner, blanket, bridge, cardboard, counter, curtain, door-stuff, floor-wood, flower, fruit, gravel,
house, light, mirror-stuff, net, pillow, platform, playingfield, railroad, river, road, roof, sand,
sea, shelf, snow, stairs, tent, towel, wall-brick, wall-stone, wall-tile, wall-wood, water-other,
window-blind, window-other, tree-merged, fence-merged, ceiling-merged, sky-other-merged,
cabinet-merged, table-merged, floor-other-merged, pavement-merged, mountain-merged, grass-merged,
dirt-merged, paper-merged, food-other-merged, building-other-merged, rock-merged,
wall-other-merged, rug-merged
"""

COCO_STUFF: tuple[str, ...] = tuple(_STUFF.strip().replace(",\n", ", ").split(", "))


STAND_IN_CONFIG = replace(
    PRESETS["rt_r50"],
    stem_channels=16,
    stage_width=16,
    stage_channels=64,
    pyramid_channels=64,
    bottom_channels=32,
    semantic_channels=32,
    num_classes=8,
    size_limits=(32, 64),
)


def stand_in_weights() -> Path:
    """A file with RT_R_50_4x_syncbn_shtw's tensors by name, a quarter as wide, half precision."""
    return Path(str(files("blendmask_lite"))) / "data" / "stand_in_released.pth"
