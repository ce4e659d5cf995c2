"""`blendmask-lite data coco`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from blendmask_lite.datasets.coco_download import COCO_URL, SPLITS, STORE, download_coco
from blendmask_lite.files import require_folder

__all__ = ["add_coco"]

EPILOG = """examples:
  blendmask-lite data coco --split val2017 --images 500 --root coco
      500 of the 5,000 validation images, at random
  blendmask-lite data coco --split train2017 --categories person,dog --images 2000 --root coco
      images with a person or a dog; all their objects are kept
  blendmask-lite data coco --split val2017 --root coco
      the whole split; what is there already is not fetched again
"""


def add_coco(subcommands: Any) -> None:
    """Add the subcommand to `blendmask-lite data`."""
    parser: argparse.ArgumentParser = subcommands.add_parser(
        "coco",
        help="fetch COCO, or a part of it, from its official archives",
        description="Fetch images of COCO and their annotations, and no more than is needed: the "
        "archives are read in parts. A call that broke off is continued by the same call, and a "
        "call for more images adds to those that are there.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--split", required=True, choices=list(SPLITS))
    parser.add_argument("--root", required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--images", type=int, metavar="N", help="at random; default all")
    parser.add_argument(
        "--categories",
        metavar="NAME,NAME,...",
        help="only images with an object of one of these; their other objects are kept, too",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the random choice; default 0"
    )
    parser.add_argument("--panoptic", action="store_true", help="panoptic annotations, too")
    parser.add_argument(
        "--url", default=COCO_URL, metavar="BASE", help=f"of a mirror; default {COCO_URL}"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fetch, and say what is there now."""
    require_folder(options.root)
    names = [name.strip() for name in (options.categories or "").split(",")]
    try:
        found = download_coco(
            options.root,
            options.split,
            num_images=options.images,
            categories=[name for name in names if name],
            seed=options.seed,
            panoptic=options.panoptic,
            url=options.url,
        )
    except KeyboardInterrupt:
        print("\nthe same command goes on from here", file=sys.stderr)
        raise
    print(
        f"{found.root}: {found.num_images} of {found.num_all} images of {found.split} "
        f"({found.num_fetched} fetched now), {found.num_objects} objects"
    )
    kept = sum(path.stat().st_size for path in (found.root / STORE).iterdir() if path.is_file())
    if kept > 1_000_000:
        print(
            f"{found.root / STORE} keeps {kept / 1e6:.0f} MB for a call for more images; "
            "delete it when there is none to come"
        )
    return 0
