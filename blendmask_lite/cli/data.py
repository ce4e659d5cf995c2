"""Fetch, make and check data sets in COCO's layout."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from blendmask_lite.datasets.check import FolderCheck, SplitCheck, check_folder
from blendmask_lite.datasets.check.problems import KINDS, Findings
from blendmask_lite.datasets.coco_download import COCO_URL, SPLITS, STORE, download_coco
from blendmask_lite.datasets.labelme import convert_labelme
from blendmask_lite.files import require_apart, require_writable, write_atomically
from blendmask_lite.terminal import counted, counter, printable, table

__all__ = ["add_options"]

WIDTH = 100  # width of the text, characters
NUM_CLASSES = 20  # largest number of classes in the histogram
BAR = 40  # length of the longest bar, characters


def _add_check(subcommands: Any) -> None:
    parser: argparse.ArgumentParser = subcommands.add_parser(
        "check",
        help="say what is wrong with a folder in COCO's layout, and what it means",
        description="Check annotations, masks and images of a folder in COCO's layout, and list "
        "every kind of problem with what it means and what to do. The status is 1 if training or "
        "evaluation would go wrong (errors), and 0 if there are only warnings and notes.",
    )
    parser.add_argument("root", metavar="ROOT", help="folder in COCO's layout")
    parser.add_argument("--split", metavar="NAME", help="check this split only")
    parser.add_argument("--json", metavar="FILE", help="also write all findings as JSON")
    parser.add_argument(
        "--decode",
        action="store_true",
        help="read every image to its last pixel, find equal ones, and compare segment images with "
        "their JSON file; takes some milliseconds per image",
    )
    parser.set_defaults(run=_run_check)


def _run_check(options: argparse.Namespace) -> int:
    """Check a folder; print and write the result."""
    root = Path(options.root)
    if options.json is not None:
        require_apart([options.json], root.glob("annotations/**/*"), "an annotation file")
        require_writable(options.json)
    check = check_folder(root, options.split, decode=options.decode, progress=counter)
    if options.json is not None:
        images = (file for split in check.splits for file in split.files)
        require_apart([options.json], images, "one of the images")
    for split in check.splits:
        _print_split(split)
    if between := check.between.sorted():
        print(f"Several files  ({counted(len(between), 'kind')} of problems)\n")
        _print_findings(check.between)
    print(_summary(check))
    if options.json is not None:
        write_atomically(Path(options.json), json.dumps(check.to_plain(), indent=1).encode())
    return 1 if check.count("error") else 0


def _print_split(split: SplitCheck) -> None:
    print(f"{printable(split.split)}  {printable(split.annotation_file)}\n")
    if split.numbers:
        _print_numbers(split.numbers)
    _print_findings(split.findings)


def _print_numbers(numbers: dict[str, Any]) -> None:
    total = numbers["objects"] + numbers["crowds"]
    sizes = ", ".join(f"{count} {name}" for name, count in numbers["instances_by_size"].items())
    images, objects = counted(numbers["images"], "image"), counted(numbers["objects"], "object")
    most = counted(numbers["most_objects_in_an_image"], "object")
    num_classes = counted(len(numbers["classes"]), "class", "classes")
    share = 100 * numbers["crowds"] / max(total, 1)
    print(f"  {images}, {numbers['images_without_objects']} of them empty")
    print(f"  {objects} of {num_classes}: {sizes}")
    print(f"  {counted(numbers['crowds'], 'crowd')}, {share:.1f} %")
    print(f"  at most {most} in an image")
    if panoptic := numbers.get("panoptic"):
        print("  panoptic: " + ", ".join(f"{count} {name}" for name, count in panoptic.items()))
    print()
    classes = sorted(numbers["classes"], key=lambda each: -each["objects"])
    rows = [["class", "id", "objects", ""]]
    for row in classes[:NUM_CLASSES]:
        bar = "#" * round(BAR * row["objects"] / max(classes[0]["objects"], 1))
        rows.append([printable(row["name"]), str(row["id"]), str(row["objects"]), bar])
    if classes:
        print(*table(rows), sep="\n")
    if len(classes) > NUM_CLASSES:
        more = counted(len(classes) - NUM_CLASSES, "more class", "more classes")
        print(f"and {more}; --json lists all")
    print()


def _print_findings(findings: Findings) -> None:
    found = findings.sorted()
    if found:
        rows = [["severity", "count", "problem"]]
        rows += [[finding.severity, str(finding.count), finding.kind] for finding in found]
        print(*table(rows), "", sep="\n")
    for finding in found:
        meaning = KINDS[finding.kind].meaning
        print(textwrap.fill(f"{finding.severity}: {finding.kind}. {meaning}", WIDTH))
        for example in finding.examples:
            print(f"    {example}")
        if finding.count > len(finding.examples):
            print(f"    and {finding.count - len(finding.examples)} more")
        print()


def _summary(check: FolderCheck) -> str:
    counts = [counted(check.count(severity), severity) for severity in ("error", "warning", "note")]
    pixels = "" if check.is_decoded else "; pixels were not read, --decode does that"
    return f"{printable(check.root)}: {', '.join(counts)}{pixels}"


COCO_EPILOG = """examples:
  blendmask-lite data coco --split val2017 --images 500 --root coco
      500 of the 5,000 validation images, at random
  blendmask-lite data coco --split train2017 --categories person,dog --images 2000 --root coco
      images with a person or a dog; all their objects are kept
  blendmask-lite data coco --split val2017 --root coco
      the whole split; files that are there are not fetched again
"""


def _add_coco(subcommands: Any) -> None:
    parser: argparse.ArgumentParser = subcommands.add_parser(
        "coco",
        help="fetch COCO, or a part of it, from its official archives",
        description="Fetch images of COCO and their annotations, and only what is needed: the "
        "archives are read in parts. To continue after an interruption, call it again in the same "
        "way; a call for more images adds to those that are there.",
        epilog=COCO_EPILOG,
    )
    parser.add_argument("--split", required=True, choices=list(SPLITS))
    parser.add_argument("--root", required=True, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--images", type=int, help="number of images, chosen at random; default: all"
    )
    parser.add_argument(
        "--categories",
        metavar="NAME,NAME,...",
        help="fetch only images with an object of one of these categories; their other objects "
        "are kept",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice; default: 0")
    parser.add_argument("--panoptic", action="store_true", help="also fetch panoptic annotations")
    parser.add_argument(
        "--url", default=COCO_URL, metavar="BASE", help=f"address of a mirror; default: {COCO_URL}"
    )
    parser.set_defaults(run=_run_coco)


def _run_coco(options: argparse.Namespace) -> int:
    """Fetch COCO or a part of it, and print what the folder has now."""
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
        print("\ncall the same command to continue from here", file=sys.stderr)
        raise
    print(
        f"{found.root}: {found.num_images} of {found.num_all} images of {found.split} "
        f"({found.num_fetched} fetched now), {counted(found.num_objects, 'object')}"
    )
    kept = sum(path.stat().st_size for path in (found.root / STORE).iterdir() if path.is_file())
    if kept > 1_000_000:
        print(
            f"{found.root / STORE} keeps {kept / 1e6:.0f} MB for a call for more images; "
            "delete it if there will be none"
        )
    return 0


LABELME_EPILOG = """examples:
  blendmask-lite data labelme photos -o flowers
      photos/**/*.json and their images become flowers/train, with annotations
  blendmask-lite data labelme photos -o flowers --val 0.2
      about a fifth of the images becomes flowers/val
"""


def _add_labelme(subcommands: Any) -> None:
    parser: argparse.ArgumentParser = subcommands.add_parser(
        "labelme",
        help="turn labelme's files and their images into a folder in COCO's layout",
        description="Turn the JSON files of labelme in a folder, and the images that they name, "
        "into a folder in COCO's layout. Polygons, rectangles, circles and masks become objects; "
        "shapes of one label and one group id are one object. Nothing is written if a file or "
        "shape is damaged. Call it again after more labelling: it replaces what it has written.",
        epilog=LABELME_EPILOG,
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="folder of label files, searched with its subfolders"
    )
    parser.add_argument("-o", "--out", required=True, metavar="ROOT", help="folder to write into")
    parser.add_argument(
        "--val",
        type=float,
        metavar="SHARE",
        help="share of the images for the split val, such as 0.2; default: 0, all are in train",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the choice for val; default: 0"
    )
    parser.set_defaults(run=_run_labelme)


def _run_labelme(options: argparse.Namespace) -> int:
    """Convert labelme's files, and print what the folder has now."""
    found = convert_labelme(
        options.folder, options.out, val_share=options.val, seed=options.seed, progress=counter
    )
    for split, num_images in found.num_images.items():
        objects = counted(found.num_objects[split], "object")
        images = counted(num_images, "image")
        print(f"{printable(found.root)}: {split}, {images} with {objects}")
    counts = ", ".join(f"{name} ({num})" for name, num in found.classes.items())
    print(f"classes, and their objects: {printable(counts)}")
    if found.num_drafts:
        drafts = counted(found.num_drafts, "draft")
        print(f"left out: {drafts}; once one is right, untick its flag draft in labelme")
    if found.num_unlabelled:
        print(f"left out: {counted(found.num_unlabelled, 'image')} without a label file")
    if found.num_other:
        print(f"left out: {counted(found.num_other, 'JSON file')} that labelme did not write")
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    subcommands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    _add_coco(subcommands)
    _add_labelme(subcommands)
    _add_check(subcommands)
